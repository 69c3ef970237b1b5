"""Own HTTP layers: a request that concerns the cache is answered by it; no server connection is opened.

`BuffyStream` steps in where mitmproxy would open a connection to the origin. Requests with a body that is
streamed, and upgrades, go on through mitmproxy's own machinery. Bodies go out chunk by chunk, each after the
client took the one before, so memory stays bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

import h2.events
from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    Http2Server,
    HttpLayer,
    HTTPMode,
    HttpStream,
    RegisterHttpConnection,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from buffy_proxy.addons.exchange import AskHook, ChunkHook, Exchange
from buffy_proxy.addons.http1 import replace_client
from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.lane import Desk, Lane
from buffy_proxy.addons.quick import BuffyHttp1Server
from buffy_proxy.answer import Answer
from buffy_proxy.core import fields as f
from buffy_proxy.literals import address_text

NOT_A_WEB_SERVER = (
    "this is a proxy, not a web server: name it in HTTPS_PROXY and HTTP_PROXY (`buffy env`), or look at the "
    "control API on its own port"
)

SILENCE_S = 1.0
"""A client that says nothing for so long inside a CONNECT speaks a protocol in which the server greets first
(SMTP, FTP, MySQL …): it gets a raw tunnel."""

CommandGenerator = Generator[commands.Command, Any, Any]


class BuffyHttpLayer(HttpLayer):
    """mitmproxy's HTTP layer with our streams in it."""

    def __init__(
        self, context: Context, mode: HTTPMode, interceptor: Interceptor, lane: Lane | None = None
    ) -> None:
        """`lane`: an HTTP/2 connection that the front began."""
        super().__init__(context, mode)
        self.interceptor = interceptor
        self._lane = lane

    def _handle_event(self, event: events.Event) -> CommandGenerator:
        if isinstance(event, events.Start):
            h2 = self.context.client.alpn == b"h2"
            context = self.context.fork()
            self.connections[self.context.client] = (
                self._http2(context) if h2 else BuffyHttp1Server(context, self)
            )
        yield from super()._handle_event(event)

    def _http2(self, context: Context) -> BuffyHttp2Server:
        if self._lane is not None:
            return BuffyHttp2Server(context, self._lane, begun=True)
        address, session = context.server.address, self.interceptor.session_of(context.client)
        if self.mode is not HTTPMode.transparent or address is None or session is None:
            return BuffyHttp2Server(context, None)
        base = f"https://{address_text((address[0], address[1]))}"
        return BuffyHttp2Server(context, Lane(Desk(self.interceptor, base, session)))

    def make_stream(self, stream_id: int) -> CommandGenerator:
        stream = BuffyStream(self.context.fork(), stream_id, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> CommandGenerator:
        """What comes here has a body or changes something, and must not be sent twice. A kept HTTP/1
        connection may be about to close, so each request gets a new one (RFC 9112 §9.3.1)."""
        matching = (one for one in self.connections if event.connection_spec_matches(one))
        reuse = reuse and any(one.alpn == b"h2" for one in matching)
        yield from super().get_connection(event, reuse=reuse)

    def register_connection(self, command: RegisterHttpConnection) -> CommandGenerator:
        if command.err is None:
            replace_client(self.connections[command.connection])
        yield from super().register_connection(command)

    async def window_open(self, stream_id: int) -> None:
        """Waits until an HTTP/2 client has room for more of this stream; HTTP/1 has no such window."""
        connection = self.connections.get(self.context.client)
        if isinstance(connection, BuffyHttp2Server):
            await connection.window_open(stream_id)


class BuffyHttp2Server(Http2Server):
    """Answers hits in a lane, if there is one, and tells when the flow-control window of a stream let out
    what was buffered (RFC 9113 §5.2)."""

    def __init__(self, context: Context, lane: Lane | None, *, begun: bool = False) -> None:
        """`begun`: the connection preface was sent."""
        super().__init__(context)
        self._moved = asyncio.Event() if lane is None else lane.moved
        self._lane = lane
        self._begun = begun
        if lane is not None:
            self.h2_conn = lane.h2

    def _handle_event(self, event: events.Event) -> CommandGenerator:
        if isinstance(event, events.DataReceived) and self._lane is not None:
            yield from self._take(event.data, self._lane)
        elif not (self._begun and isinstance(event, events.Start)):
            yield from super()._handle_event(event)
        if isinstance(event, events.DataReceived | events.ConnectionClosed):
            self._moved.set()

    def handle_h2_event(self, event: h2.events.Event) -> Generator[commands.Command, Any, bool]:
        if isinstance(event, h2.events.StreamReset) and self._lane is not None:
            self._lane.drop(event.stream_id)
        return (yield from super().handle_h2_event(event))

    def _take(self, data: bytes, lane: Lane) -> CommandGenerator:
        lane.feed(data)
        while not lane.closed:
            if said := lane.answers():
                yield commands.SendData(self.conn, said)
            elif frames := lane.frames():
                yield from super()._handle_event(events.DataReceived(self.conn, frames))
            else:
                return

    async def window_open(self, stream_id: int) -> None:
        while self.h2_conn.stream_buffers.get(stream_id) and not self.is_closed(stream_id):
            self._moved.clear()
            await self._moved.wait()


class PatientNextLayer(layer.NextLayer):
    """Inside a CONNECT: `silent` tells the one who chooses that the client waits for the server to speak."""

    silent = False

    def _handle_event(self, event: events.Event) -> CommandGenerator:
        if isinstance(event, events.Wakeup):
            self.silent = not self.data_client()
            yield from self._ask()
        else:
            yield from super()._handle_event(event)


class BuffyStream(HttpStream):
    """One request and its answer."""

    def __init__(self, context: Context, stream_id: int, http_layer: BuffyHttpLayer) -> None:
        super().__init__(context, stream_id)
        self._layer = http_layer
        self._exchange: Exchange | None = None
        self._origin_form = False
        self._silence: commands.RequestWakeup | None = None

    def handle_event(self, event: events.Event) -> CommandGenerator:
        if isinstance(event, RequestProtocolError) and self._exchange is not None:
            self._exchange.abandon()
        yield from super().handle_event(event)

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        request = event.request
        self._layer.interceptor.retarget(request)
        self._origin_form = self.mode is HTTPMode.regular and not request.host and request.method != "CONNECT"
        yield from super().state_wait_for_request_headers(event)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Called when the request is whole, or when its body is about to be streamed (then False makes the
        caller swallow the rest of it)."""
        interceptor = self._layer.interceptor
        whole = self.client_state == self.state_done
        ours = whole and not interceptor.is_upgrade(self.flow)
        if self._origin_form:
            yield from self._send_whole(interceptor.bad_request(NOT_A_WEB_SERVER))
        elif refusal := interceptor.refusal(self.flow, forwarding=not ours):
            yield from self._send_whole(refusal)
        elif ours:
            yield from self._answer(interceptor)
        else:
            interceptor.prepare_forwarding(self.flow)
            connected = yield from super().make_server_connection()
            return bool(connected)
        return False

    # -- CONNECT ------------------------------------------------------------------------------------------
    def handle_connect_regular(self) -> CommandGenerator:
        self.child_layer = PatientNextLayer(self.context)
        yield from self.handle_connect_finish()
        if self.flow.response is not None and self.flow.response.status_code < 300:
            self._silence = commands.RequestWakeup(SILENCE_S)
            yield self._silence

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup) and event.command is self._silence:
            undecided = isinstance(self.child_layer, PatientNextLayer) and self.child_layer.layer is None
            if not undecided:
                return
        yield from super().passthrough(event)

    # -- answering ----------------------------------------------------------------------------------------
    def _answer(self, interceptor: Interceptor) -> CommandGenerator:
        try:
            exchange = self._exchange = interceptor.exchange(self.flow)
        except ValueError as error:
            yield from self._send_whole(interceptor.bad_request(str(error)))
            return
        while exchange.answer is None and not exchange.abandoned and exchange.failure is None:
            yield AskHook(self.flow, exchange)
            yield from self._interim(exchange)
        answer = exchange.answer
        try:
            if answer is None or exchange.abandoned:
                yield from self._break_off(exchange)
            elif answer.stream is None:
                yield from self._send_whole(answer)
                exchange.sent = len(answer.content or b"")
            else:
                yield from self._send_streamed(exchange, answer)
        finally:
            exchange.close()
            interceptor.finished(self.flow, exchange)

    def _interim(self, exchange: Exchange) -> CommandGenerator:
        """Passes interim responses on, but to HTTP/1.0 clients, who know none (RFC 9110 §15.2)."""
        for head in exchange.heard():
            if self.flow.request.http_version != "HTTP/1.0" and not exchange.abandoned:
                fields = http.Headers(list(f.end_to_end(head.fields)))
                response = http.Response(b"HTTP/1.1", head.status, head.reason, fields, None, None, 0.0, 0.0)
                yield SendHttp(ResponseHeaders(self.stream_id, response, False), self.context.client)

    def _send_whole(self, answer: Answer) -> CommandGenerator:
        content = b"" if self.flow.request.method == "HEAD" else answer.content
        yield self._head(answer, end_stream=not content)
        if content:
            yield SendHttp(ResponseData(self.stream_id, content), self.context.client)
        yield from self._end()

    def _send_streamed(self, exchange: Exchange, answer: Answer) -> CommandGenerator:
        if self.flow.request.method == "HEAD" or answer.status in (204, 304):
            yield ChunkHook(self.flow, exchange, self._window_open)
            yield self._head(answer, end_stream=True)
            yield from self._end()
            return
        yield self._head(answer, end_stream=False)
        while True:
            yield ChunkHook(self.flow, exchange, self._window_open)
            if exchange.abandoned or exchange.failure is not None:
                yield from self._break_off(exchange)
                return
            if not exchange.chunk:
                break
            yield SendHttp(ResponseData(self.stream_id, exchange.chunk), self.context.client)
        yield from self._end()

    async def _window_open(self) -> None:
        await self._layer.window_open(self.stream_id)

    def _head(self, answer: Answer, *, end_stream: bool) -> SendHttp:
        fields = list(answer.fields)
        request = self.flow.request
        unknown = answer.stream is not None and answer.size is None and not end_stream
        if unknown and request.http_version == "HTTP/1.1":
            fields.append((b"Transfer-Encoding", b"chunked"))
        now = time.time()
        response = http.Response(
            b"HTTP/1.1", answer.status, answer.reason, http.Headers(fields), None, None, now, now
        )
        self.flow.response = response
        return SendHttp(ResponseHeaders(self.stream_id, response, end_stream), self.context.client)

    def _end(self) -> CommandGenerator:
        self.flow.live = False
        self.client_state = self.server_state = self.state_done
        yield DropStream(self.stream_id)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def _break_off(self, exchange: Exchange) -> CommandGenerator:
        """The head is out, the body is not whole: the client must see that it is not (RFC 9112 §8)."""
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        message = exchange.failure or "the client is gone"
        yield SendHttp(
            ResponseProtocolError(self.stream_id, message, ResponseProtocolError.code), self.context.client
        )
        yield DropStream(self.stream_id)
