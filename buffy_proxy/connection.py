"""One HTTP/1.1 connection to an origin: h11 speaks the protocol, this module moves the bytes.

A connection is *idle* in the pool (any byte or EOF from the origin makes it useless), *busy* with one
exchange, or *closed*. Reading is paused while more than READ_AHEAD bytes wait to be taken, so memory stays
bounded whatever the size of a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11

from buffy_proxy.core.fields import first, framed
from buffy_proxy.core.model import Fields, Response
from buffy_proxy.errors import OriginError
from buffy_proxy.literals import address_text

READ_AHEAD = 512 * 1024
MAX_HEAD = 256 * 1024
IDLE_S = 30.0
MAX_INTERIM = 1000
"""Interim responses to one request; each restarts the clock, so without a limit they could go on for ever."""


class Stale(Exception):
    """The connection closed before a single byte of response."""


class Connection(asyncio.Protocol):
    """One connection and its h11 state machine."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._unread = 0
        self._heard = False
        self._closed = False
        self._paused = False
        self._idle_s = 60.0
        self._idle_since = 0.0
        self.idle = False
        self.extra_fields: Fields = ()
        self.on_interim: Callable[[Response], None] | None = None

    # -- asyncio.Protocol ---------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.idle:
            self.abort()
            return
        self._heard = True
        self._h11.receive_data(data)
        self._unread += len(data)
        if self._unread > READ_AHEAD and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._on_close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_close()

    def _on_close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self.idle:
                self._h11.receive_data(b"")
            self._wake()

    # -- life in the pool ---------------------------------------------------------------------------------
    def usable(self, now: float) -> bool:
        return not self._closed and now - self._idle_since < IDLE_S

    def recycle(self, now: float) -> bool:
        """Ready for the next request? Closes the connection if not."""
        if (
            self._closed
            or self._h11.our_state is not h11.DONE
            or self._h11.their_state is not h11.DONE
            or self._h11.trailing_data[0]
        ):
            self.abort()
            return False
        self._h11.start_next_cycle()
        self._resume()
        self.on_interim = None
        self._heard, self._unread, self.idle, self._idle_since = False, 0, True, now
        return True

    def restart(self, transport: asyncio.Transport) -> None:
        """Takes over a transport that was upgraded to TLS: the HTTP exchange with the proxy is over."""
        self._transport = transport
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._heard, self._unread = False, 0

    def abort(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # -- one exchange -------------------------------------------------------------------------------------
    def send(self, method: str, target: str, fields: Fields, body: bytes) -> None:
        """Raises OriginError(http_request_error) when the request cannot be written as valid HTTP/1.1."""
        self.idle = False
        assert self._transport is not None
        try:
            request = h11.Request(method=method, target=target, headers=[*fields, *self.extra_fields])
            data = self._h11.send(request) or b""
            if body:
                data += self._h11.send(h11.Data(data=body)) or b""
            data += self._h11.send(h11.EndOfMessage()) or b""
        except (h11.LocalProtocolError, UnicodeError) as error:
            raise OriginError("http_request_error", f"this request cannot be forwarded: {error}") from error
        if self._closed:
            raise Stale
        self._transport.write(data)

    async def head(self, first_byte_s: float, idle_s: float) -> tuple[Response, int | None]:
        """The head of the final response; interim (1xx) ones go to `on_interim` (RFC 9110 §15.2)."""
        self._idle_s = idle_s
        for _ in range(MAX_INTERIM + 1):
            event = await self._next(first_byte_s)
            if isinstance(event, h11.Response):
                fields = framed(event.status_code, tuple(event.headers.raw_items()))
                length = first(fields, b"content-length")
                size = None if length is None else int(length)
                return Response(event.status_code, bytes(event.reason), fields), size
            if not isinstance(event, h11.InformationalResponse):
                raise OriginError("http_protocol_error", "the origin sent no response head")
            self._pass_on(event)
        raise OriginError("http_protocol_error", f"the origin sent more than {MAX_INTERIM} interim responses")

    def _pass_on(self, event: h11.InformationalResponse) -> None:
        """To whoever asked for this. 100 is about a request that is sent already; 101 comes to nobody who did
        not ask for it (RFC 9110 §15.2)."""
        if self.on_interim is not None and event.status_code > 101:
            fields = framed(event.status_code, tuple(event.headers.raw_items()))
            self.on_interim(Response(event.status_code, bytes(event.reason), fields))

    async def body_chunk(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        while True:
            event = await self._next(self._idle_s)
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return b""
            else:
                raise OriginError("http_response_incomplete", "the origin closed the connection in mid-body")

    async def connect_through(self, host: str, port: int, authorization: Fields, timeout_s: float) -> None:
        """Asks an upstream proxy for a tunnel (RFC 9110 §9.3.6)."""
        authority = address_text((host, port))
        self.send("CONNECT", authority, ((b"Host", authority.encode()), *authorization), b"")
        response, _ = await self.head(timeout_s, timeout_s)
        if not 200 <= response.status < 300:
            raise OriginError(
                "connection_refused", f"the upstream proxy answered {response.status} to CONNECT {authority}"
            )

    async def _next(self, timeout_s: float) -> object:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise self._failure(error) from error
            if event is h11.NEED_DATA:
                if self._closed:  # aborted; after an end of the origin's h11 needs no more data
                    raise OriginError("connection_terminated", "the connection was dropped")
                self._unread = 0
                self._resume()
                await self._wait(timeout_s)
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise (
                    Stale
                    if not self._heard
                    else OriginError("connection_terminated", "the origin closed the connection")
                )
            else:
                return event

    def _failure(self, error: h11.RemoteProtocolError) -> Exception:
        if self._closed and not self._heard:
            return Stale()
        if self._closed:
            return OriginError(
                "http_response_incomplete", f"the origin closed the connection too early: {error}"
            )
        self.abort()
        return OriginError("http_protocol_error", f"the origin's answer is not valid HTTP: {error}")

    async def _wait(self, timeout_s: float) -> None:
        self._wakeup = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._wakeup
        except TimeoutError as error:
            self.abort()
            word = "connection_read_timeout" if self._heard else "http_response_timeout"
            raise OriginError(word, f"the origin sent nothing for {timeout_s:g} s") from error
        finally:
            self._wakeup = None

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._closed:
            self._paused = False
            self._transport.resume_reading()
