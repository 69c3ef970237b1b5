"""HTTP/1.1 as mitmproxy speaks it, without its traps for what it forwards itself (uploads, upgrades).

It takes an interim response (1xx) for the final one, and it crashes on trailer fields of any HTTP version;
either way the client waits for ever. Here interim responses are passed over, up to a limit, and trailers are
dropped (RFC 9110 §15.2, §6.5.1). Heads and chunk lines have a limit; a client with a malformed body hears so.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import (
    Http1Client,
    Http1Server,
    HttpEvent,
    ReceiveHttp,
    RequestHeaders,
    RequestTrailers,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http1 import Http1Connection

from buffy_proxy.answer import plain
from buffy_proxy.core.fields import serialise_block

MAX_LINES: Final = 64 * 1024
"""Bytes of a chunk's size line with its extensions, or of all trailer fields."""

MAX_INTERIM: Final = 1000
"""Interim responses to one request; the client towards origins (`connection.py`) has the same limit."""

MAX_HEAD: Final = 256 * 1024

_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
_STATUS: Final = re.compile(rb"HTTP/\d\.\d [1-9]\d\d[ \r\n]")
_SWITCHING: Final = re.compile(rb"HTTP/1\.[01] 101[ \r\n]")
_HEAD_END: Final = re.compile(rb"\n\r?\n")

CommandGenerator = Generator[commands.Command, Any, None]


def closing_answer(status: int, text: str) -> bytes:
    """The bytes of an answer to a request that cannot be read, after which the connection ends."""
    answer = plain(status, f"{text}\n", b"buffy; fwd=bypass", ((b"Connection", b"close"),))
    head = b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, answer.reason, serialise_block(answer.fields))
    return head + (answer.content or b"")


class _Chunks:
    """mitmproxy's reader of chunked bodies: trailer fields left out, lines bounded, and the line end after a
    chunk's data looked at, which h11 below 0.16 does not do (RFC 9112 §7.1)."""

    def __init__(self, reader: ChunkedReader) -> None:
        self._reader = reader
        self.read_eof = reader.read_eof
        self._line_end = b""

    def __call__(self, buf: ReceiveBuffer) -> h11.Event | None:
        if self._line_end and not self._skip_line_end(buf):
            return None
        event = self._reader(buf)
        if event is None and len(buf) > MAX_LINES:
            raise h11.RemoteProtocolError("a chunk's size line or the trailer fields are too long")
        if isinstance(event, h11.Data) and event.chunk_end:
            self._line_end, self._reader._bytes_to_discard = b"\r\n", _nothing(self._reader)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event

    def _skip_line_end(self, buf: ReceiveBuffer) -> bool:
        """Whether the line end after a chunk's data is there whole."""
        found = bytes(buf.maybe_extract_at_most(len(self._line_end)) or b"")
        if not self._line_end.startswith(found):
            raise h11.RemoteProtocolError(f"a chunk's data is followed by {found!r}, not by a line end")
        self._line_end = self._line_end[len(found) :]
        return not self._line_end


def _nothing(reader: ChunkedReader) -> Any:
    """No bytes to discard, as this version of h11 counts them: a number, or the bytes themselves."""
    return type(reader._bytes_to_discard)()


class WithoutTrailers(Http1Connection):
    """For both sides."""

    def send(self, event: HttpEvent) -> CommandGenerator:
        if not isinstance(event, RequestTrailers | ResponseTrailers):
            yield from super().send(event)

    def read_body(self, event: events.Event) -> CommandGenerator:
        if isinstance(self.body_reader, ChunkedReader):
            self.body_reader = _Chunks(self.body_reader)  # type: ignore[assignment]
        yield from super().read_body(event)


class PlainSpoken(WithoutTrailers, Http1Server):
    """mitmproxy's HTTP/1 server, which tells a client once why its body cannot be read."""

    _told = False

    def read_body(self, event: events.Event) -> CommandGenerator:
        for command in super().read_body(event):
            failed = isinstance(command, commands.CloseConnection) and self.response is None
            if failed and isinstance(event, events.DataReceived) and not self._told:
                self._told = True  # what was sent before it hears of that may still come
                yield commands.SendData(self.conn, closing_answer(400, _BAD_BODY))
            yield command


_BAD_BODY: Final = "the chunked body is malformed (RFC 9112 §7.1)"


def _unframed(event: RequestHeaders) -> bool:
    """Whether a body follows that does not say where it ends."""
    names = {name.lower() for name in event.request.headers}
    return not event.end_stream and not names & {"content-length", "transfer-encoding"}


class BuffyHttp1Client(WithoutTrailers, Http1Client):
    """mitmproxy's HTTP/1 client, for one exchange; patient with interim responses, not with nonsense."""

    _interim = 0

    def send(self, event: HttpEvent) -> CommandGenerator:
        if isinstance(event, RequestHeaders) and _unframed(event):
            # It came in HTTP/2, which needs no length. Here the body would be read as the next request.
            event.request.headers["Transfer-Encoding"] = "chunked"
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator:
        while _INTERIM.match(bytes(self.buf)[:16]) and self.buf.maybe_extract_lines():
            self._interim += 1
        objection = self._objection(bytes(self.buf))
        if objection is None or self.stream_id is None:
            yield from super().read_headers(event)
        else:
            yield commands.CloseConnection(self.conn)
            text = f"the origin's answer is not valid HTTP: {objection}"
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, text, ResponseProtocolError.code))

    def mark_done(self, *, request: bool = False, response: bool = False) -> CommandGenerator:
        yield from super().mark_done(request=request, response=response)
        if self.state == self.read_headers and self.stream_id is None:
            yield commands.CloseConnection(self.conn)  # the next request gets a connection of its own
            self.state = self.done

    def _objection(self, data: bytes) -> str | None:
        if self._interim > MAX_INTERIM:
            return f"more than {MAX_INTERIM} interim responses"
        if len(data) > MAX_HEAD and not _HEAD_END.search(data, 0, MAX_HEAD):
            return "its head is longer than 256 KiB"
        if b"\n" in data and not _STATUS.match(data):
            return "the status line is malformed (RFC 9112 §4)"
        if _SWITCHING.match(data) and self.request and "upgrade" not in self.request.headers:
            return "it switches protocols unasked (RFC 9110 §15.2.2)"
        return None


def replace_client(stack: Any) -> None:
    """Puts our client where mitmproxy put its own; `stack` are the layers of a connection that was just
    established (TLS, an upstream proxy …). HTTP/2 origins keep mitmproxy's."""
    while not isinstance(stack, http.HttpClient):
        stack = stack.child_layer
    if isinstance(stack.child_layer, Http1Client):
        client = BuffyHttp1Client(stack.context)
        for _ in client.handle_event(events.Start()):
            pass  # it only says that heads come next
        stack.child_layer = client
        stack._handle_event = client.handle_event
