"""The transport in front of mitmproxy: most connections never get further.

    bytes ─> head ─> CONNECT ──> "200", TLS with a leaf for the host ─┐
               │                                                      │ (decrypted) bytes
               ├─> GET, HEAD: a hit now ──> one write                 │
               │              a hit or miss that takes time ──> task  │
               │                                                      v
               └─> anything else ──> given to mitmproxy, with all that was read, for good

What is simple is answered here with the same `Cache` and the same `Interceptor` that mitmproxy's layers use,
so the answers are the same. What is not (uploads, upgrades, HTTP/2, tunnels, other protocols, odd syntax,
refused credentials) is handed over untouched: nothing was consumed but a CONNECT that was answered, and that
is played to mitmproxy again, with its second "200" swallowed.

States: `plain` ─CONNECT─> `opened` ─> `greeting` ─> `shaking` ─> `inside`, or from `opened` back to `plain`;
and from each of them `passed_on`, for good. One request at a time: while a task answers, what comes meanwhile
waits in the buffer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable
from typing import Final

from h2.events import Event, RequestReceived, StreamReset
from h2.exceptions import ProtocolError

from buffy_proxy.addons.body import Http1Body
from buffy_proxy.addons.encrypted import Encrypted
from buffy_proxy.addons.handover import Given
from buffy_proxy.addons.hello import HANDSHAKE, Hello, read_hello
from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.lane import Desk, Lane
from buffy_proxy.addons.leaves import Leaves
from buffy_proxy.addons.master import BuffyMaster
from buffy_proxy.addons.next_layer import METHOD
from buffy_proxy.addons.streams import Streams
from buffy_proxy.addons.tls import TunnelHosts
from buffy_proxy.core import fields as f
from buffy_proxy.core.head import RequestHead, parse_request_head
from buffy_proxy.core.model import Request, Response
from buffy_proxy.literals import address_text
from buffy_proxy.lookup import Looked
from buffy_proxy.origin import interim_sink
from buffy_proxy.selectors import Selectors, parse_proxy_authorization

log = logging.getLogger("buffy.proxy")

MAX_HEAD: Final = 64 * 1024
"""A longer head is mitmproxy's to judge."""
MAX_WAITING: Final = 256 * 1024
"""Bytes of pipelined requests that wait while one is answered."""
IDLE_S: Final = 300.0
"""A kept-alive connection on which nothing comes for one to two times as long is closed."""
SILENCE_S: Final = 0.5
"""A client that says nothing for so long after its CONNECT waits for a server that greets first."""
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

_CONNECT: Final = re.compile(rb"CONNECT (?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5}) HTTP/1\.1\r\n")
_STARTS_LIKE_HTTP: Final = re.compile(rb"[A-Z]{1,16}(?: |$)")
_LOWER_CASE: Final = ord("a")
_FIELD: Final = re.compile(rb"\r\nproxy-authorization:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)


class FrontParts:
    """What all connections of a process share."""

    def __init__(
        self, master: BuffyMaster, interceptor: Interceptor, leaves: Leaves, tunnels: TunnelHosts
    ) -> None:
        self.master = master
        self.interceptor = interceptor
        self.leaves = leaves
        self.tunnels = tunnels
        self.loop = asyncio.get_running_loop()
        self.connections: set[Front] = set()
        self._sweeping = self.loop.call_later(IDLE_S, self._sweep)

    def _sweep(self) -> None:
        for connection in list(self.connections):
            connection.sweep()
        self._sweeping = self.loop.call_later(IDLE_S, self._sweep)

    def close(self) -> None:
        """At shutdown: whoever is still connected is not any more."""
        self._sweeping.cancel()
        for connection in list(self.connections):
            connection.abort()


class Front(asyncio.Protocol):
    """One client's connection. `_receive` is what becomes of the next bytes: the state."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts
        self._interceptor = parts.interceptor
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._receive: Callable[[bytes], None] = self._plain
        self._buffer = b""
        self._hot = parts.interceptor.hot
        self._now = parts.interceptor.cache.now
        self._key = b""  # what the bytes of a request do not tell: its tunnel, and its session
        self._base = ""  # scheme and authority inside a CONNECT, "" outside
        self._session: Selectors | None = None
        self._connect = b""  # the CONNECT as it came, for mitmproxy to hear again
        self._address: tuple[str, int] = ("", 0)
        self._tls: Encrypted | None = None
        self._lane: Lane | None = None
        self._streams: Streams | None = None
        self._given: Given | None = None
        self._task: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._write: Callable[[bytes], None] = lambda data: None
        self._paused = False
        self._reading = True
        self._waiting = False  # for the head of an answer
        self._heard = True

    # -- the transport's side -----------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._write = self._transport.write
        self._parts.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._receive(data)

    def sweep(self) -> None:
        """Called now and then: who says nothing from one time to the next, and waits for nothing, is gone.
        mitmproxy looks after those that it was given."""
        if not self._heard and self._task is None and self._given is None and not self._streams:
            self._say_goodbye()
            self._transport.close()
        self._heard = False

    def eof_received(self) -> bool:
        """A client that is gone and one that only closed its side look alike; nobody works for the first."""
        return self._given.eof() if self._given is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        self._parts.connections.discard(self)
        self._quiet()
        if self._given is not None:
            self._given.lost(exc)
        if self._task is not None:
            self._task.cancel()
        if self._streams is not None:
            self._streams.close()
        self._wake()

    def pause_writing(self) -> None:
        """The client does not take what it asked for: it gets no more, and is not heard, until it does."""
        self._paused = True
        if self._given is not None:
            self._given.pause_writing()
        elif self._task is None:
            self._stop_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()
        if self._lane is not None:
            self._lane.moved.set()
        if self._given is not None:
            self._given.resume_writing()
        elif self._task is None:
            self._go_on()

    def _stop_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def _drain(self) -> None:
        """Waits until the client has taken most of what was written. Raises ConnectionResetError."""
        if self._paused and not self._transport.is_closing():
            self._writable = self._parts.loop.create_future()
            await self._writable
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")

    def abort(self) -> None:
        """At shutdown."""
        self._transport.abort()

    # -- what comes, by state -----------------------------------------------------------------------------
    def _plain(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._take_requests()

    def _opened(self, data: bytes) -> None:
        """What does the client speak inside its CONNECT?"""
        self._quiet()
        self._buffer += data
        if self._buffer[0] == HANDSHAKE:
            self._receive = self._greeting
            self._greeting(b"")
        elif _STARTS_LIKE_HTTP.match(self._buffer):
            self._set_base("http")
            self._receive = self._plain
            self._take_requests()
        else:
            self._hand_over()

    def _greeting(self, data: bytes) -> None:
        """Until the ClientHello is whole; then TLS begins here, or somewhere else."""
        self._buffer += data
        try:
            hello = read_hello(self._buffer)
            if hello is None and len(self._buffer) <= MAX_HEAD:
                return
            if hello is None or not self._is_ours(hello):
                self._hand_over()
                return
            context = self._parts.leaves.context(hello.sni or self._address[0])
        except (ValueError, OSError) as error:
            log.debug("no TLS for %s in the front: %s", self._address[0], error)
            self._hand_over()
            return
        self._tls = Encrypted(self._transport, context, hello)
        self._receive = self._shaking
        data, self._buffer = self._buffer, b""
        self._shaking(data)

    def _is_ours(self, hello: Hello) -> bool:
        http = not hello.alpn or b"h2" in hello.alpn or b"http/1.1" in hello.alpn
        return http and not self._parts.tunnels.cover(self._address, hello.sni)

    def _shaking(self, data: bytes) -> None:
        assert self._tls is not None
        try:
            if not self._tls.handshake(data):
                return
        except ssl.SSLError as error:
            self._tls_failed(error)
            return
        self._set_base("https")
        self._write = self._tls.write
        self._receive = self._inside
        if self._tls.protocol == "h2":
            self._begin_http2()
        self._inside(b"")

    def _inside(self, data: bytes) -> None:
        assert self._tls is not None
        try:
            plain = self._tls.decrypt(data)
        except ssl.SSLError as error:
            self._tls_failed(error)
            return
        if plain and self._lane is not None:
            self._lane.feed(plain)
            self._take_frames(self._lane)
        elif plain:
            self._buffer = self._buffer + plain if self._buffer else plain
            self._take_requests()
        if self._tls.ended and self._given is None:
            self._transport.close()

    def _set_base(self, scheme: str) -> None:
        """From now on requests come in origin-form, for this origin."""
        assert self._session is not None
        self._base = f"{scheme}://{address_text(self._address)}"
        self._key = f"{self._base} {self._session!r} ".encode()

    def _tls_failed(self, error: ssl.SSLError) -> None:
        """TLS 1.3 clients reject a certificate after the handshake has ended for us."""
        assert self._tls is not None
        self._parts.tunnels.note_failure(self._tls.hello.sni or self._address[0], str(error))
        self._transport.close()

    def _passed_on(self, data: bytes) -> None:
        assert self._given is not None
        self._given.feed(data)

    # -- requests, to the proxy or inside a CONNECT -------------------------------------------------------
    def _take_requests(self) -> None:
        """Answers what can be answered of the buffer, in order."""
        while self._buffer and self._task is None and not self._paused:
            key = self._key + self._buffer if self._key else self._buffer
            # Keys with a tunnel begin with its scheme: no bytes that come outside of one may look like that.
            entry = self._hot.get(key) if self._key or key[0] < _LOWER_CASE else None
            if entry is not None:
                answer = self._interceptor.say_again(entry, self._now())
                if answer is not None:
                    self._buffer = b""
                    self._write(answer)
                    return
                self._interceptor.hot.drop(key)
            head = parse_request_head(self._buffer)
            if head is None or not head.simple:
                if not self._take_other(head):
                    return
            elif not self._answer(head, key):
                self._hand_over()
                return
        if len(self._buffer) > MAX_WAITING:
            self._stop_reading()

    def _take_other(self, head: RequestHead | None) -> bool:
        """A head that is incomplete, or not simple. True: look at the buffer again."""
        buffer = self._buffer
        complete = head is not None or b"\n\r\n" in buffer or b"\n\n" in buffer
        if not complete and len(buffer) < MAX_HEAD and _STARTS_LIKE_HTTP.match(buffer):
            return False
        if self._base or not self._open_tunnel():
            self._hand_over()
        return False

    def _answer(self, head: RequestHead, key: bytes) -> bool:
        """Answers a simple request, or begins to. False: it is mitmproxy's, and nothing was consumed. `key`
        names all that is in the buffer: it may be remembered where that is this request alone."""
        url = self._target_uri(head)
        session = None if url is None else self._session_of(head)
        if url is None or session is None:
            return False
        alone = head.size == len(self._buffer)
        self._buffer = self._buffer[head.size :]
        interceptor = self._interceptor
        request = interceptor.request_of(session, head, url)
        answer = (
            interceptor.answer_and_remember(request, session, key)
            if alone
            else interceptor.answer_now(request, session)
        )
        if isinstance(answer, bytes):
            self._write(answer)
        else:
            self._task = self._parts.loop.create_task(self._answer_later(request, session, answer))
        return True

    def _target_uri(self, head: RequestHead) -> str | None:
        """Absolute-form to the proxy, origin-form inside a CONNECT or to a reverse proxy; else None."""
        target, reverse = head.target, self._interceptor.config.reverse
        try:
            if reverse:
                return f.normalise_url(reverse + target) if target.startswith("/") else None
            if self._base:
                return f.normalise_url(self._base + target) if target.startswith("/") else None
            authority, slash, _ = target[7:].partition("/")
            plain = target.startswith("http://") and slash and "@" not in authority and "?" not in authority
            return f.normalise_url(target) if plain else None
        except ValueError:
            return None

    def _session_of(self, head: RequestHead) -> Selectors | None:
        """None where the client must be refused."""
        value = f.first(head.fields, b"proxy-authorization")
        if self._session is not None and value is None:
            return self._session
        return self._session_from(value)

    def _session_from(self, value: bytes | None) -> Selectors | None:
        try:
            session = parse_proxy_authorization(value)
        except ValueError:
            return None
        return session if session.allowed_by(self._interceptor.config.credentials) else None

    # -- HTTP/2 -------------------------------------------------------------------------------------------
    def _begin_http2(self) -> None:
        assert self._session is not None
        self._lane = Lane(Desk(self._interceptor, self._base, self._session))
        self._streams = Streams(self._interceptor, self._lane, self._write, lambda: self._paused)
        self._lane.h2.initiate_connection()
        self._write(self._lane.h2.data_to_send())

    def _take_frames(self, lane: Lane) -> None:
        """Answers GETs and HEADs; the first frame that concerns another stream is mitmproxy's."""
        while not self._paused and not self._transport.is_closing():
            if said := lane.answers():
                self._write(said)
            elif asked := lane.question():
                self._begin_stream(lane, *asked)
            elif frames := lane.frames():
                if not lane.quiet:
                    self._buffer = frames + lane.rest()
                    self._hand_over()
                    return
                self._hear_frames(lane, frames)
            else:
                return

    def _say_goodbye(self) -> None:
        if self._lane is not None and not self._lane.closed:
            self._lane.h2.close_connection()
            self._write(self._lane.h2.data_to_send())

    def _begin_stream(self, lane: Lane, stream: int, request: Request, frame: bytes) -> None:
        assert self._streams is not None and self._session is not None
        events = self._hear_frames(lane, frame)
        if any(isinstance(event, RequestReceived) for event in events):
            self._streams.begin(stream, request, self._session)

    def _hear_frames(self, lane: Lane, frames: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            events = lane.h2.receive_data(frames)
        except ProtocolError as error:
            log.debug("HTTP/2 from a client of %s: %s", self._base, error)
        for event in events:
            if isinstance(event, StreamReset):
                lane.drop(event.stream_id)
        lane.moved.set()
        if data := lane.h2.data_to_send():
            self._write(data)
        if lane.closed:
            self._transport.close()
        return events

    # -- answers that take time ---------------------------------------------------------------------------
    async def _answer_later(self, request: Request, session: Selectors, looked: Looked | None) -> None:
        interim_sink.set(self._hear)
        self._waiting = True
        try:
            answer = await self._interceptor.cache.open(request, looked)
        except Exception:
            log.exception("no answer for %s", request.url)
            self._transport.abort()
            return
        self._waiting = False
        body = Http1Body(answer, request, self._write, self._drain)
        try:
            await body.send()
        finally:
            answer.close()
            self._interceptor.note(answer, body.sent, session, request, early=not body.whole)
            self._task = None
        if not body.whole:
            # The head is out, the body is not whole: the client must see that (RFC 9112 §8).
            self._transport.abort()
        else:
            self._go_on()

    def _hear(self, head: Response) -> None:
        """An interim response (RFC 9110 §15.2)."""
        if self._waiting and not self._transport.is_closing():
            fields = f.serialise_block(f.end_to_end(head.fields))
            self._write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, fields))

    def _go_on(self) -> None:
        if self._paused:
            self._stop_reading()
            return
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
        if self._lane is not None:
            self._take_frames(self._lane)
        elif self._buffer:
            self._take_requests()

    # -- CONNECT ------------------------------------------------------------------------------------------
    def _open_tunnel(self) -> bool:
        """Answers a CONNECT that is ours to answer; True if it was."""
        match = _CONNECT.match(self._buffer)
        end = self._buffer.find(b"\r\n\r\n")
        if match is None or end < 0 or self._interceptor.config.reverse:
            return False
        address = (match[1] or match[2]).decode().lower(), int(match[3])
        field = _FIELD.search(self._buffer, 0, end + 2)
        session = self._session_from(field[1] if field else None)
        if session is None or not 0 < address[1] < 65536 or self._parts.tunnels.cover(address, None):
            return False
        self._connect, rest = self._buffer[: end + 4], self._buffer[end + 4 :]
        self._buffer = b""
        self._session, self._address = session, address
        self._transport.write(ESTABLISHED)
        self._receive = self._opened
        self._silence = self._parts.loop.call_later(SILENCE_S, self._hand_over)
        if rest:
            self._opened(rest)
        return True

    # -- handing over -------------------------------------------------------------------------------------
    def _quiet(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _hand_over(self) -> None:
        """mitmproxy goes on from here."""
        self._quiet()
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
        data, self._buffer = self._buffer, b""
        swallow = bool(self._connect) and not self._base
        given = Given(self._parts.master, self._transport, self._tls, swallow=swallow)
        if self._base:
            assert self._session is not None
            http = self._lane is not None or _is_http(data)
            given.inside(self._interceptor, self._address, self._session, http=http, lane=self._lane)
        else:
            given.from_the_start()
            data = self._connect + data
        self._given, self._receive = given, self._passed_on
        given.start(data)
        if self._streams is not None:
            given.stay_awake(self._streams.ended())
        if self._paused:
            given.pause_writing()


def _is_http(data: bytes) -> bool:
    """Whether this may become a request; else it is another protocol."""
    return bool(METHOD.match(data)) or (len(data) < 4 and data.isalpha())


async def listen(
    master: BuffyMaster, interceptor: Interceptor, leaves: Leaves, tunnels: TunnelHosts, sock: socket.socket
) -> tuple[asyncio.Server, FrontParts]:
    """Accepts clients on a socket that is already bound."""
    parts = FrontParts(master, interceptor, leaves, tunnels)
    server = await parts.loop.create_server(lambda: Front(parts), sock=sock, backlog=1024)
    return server, parts
