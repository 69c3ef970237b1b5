"""One HTTP/1.1 connection to an origin: http1.py speaks the protocol, this module moves the bytes.

A connection is *idle* in the pool (any byte or EOF from the origin makes it useless), *busy* with one
exchange, or *closed*. Reading is paused while more than READ_AHEAD bytes wait to be taken, so memory stays
bounded whatever the size of a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from buffy_proxy.core.model import Fields, Response
from buffy_proxy.errors import OriginError
from buffy_proxy.http1 import (
    CLOSED,
    END,
    NEED_DATA,
    Content,
    Event,
    Head,
    Http1,
    Interim,
    Malformed,
    Unwritable,
)
from buffy_proxy.literals import address_text

READ_AHEAD = 512 * 1024
IDLE_S = 30.0
MAX_INTERIM = 1000
"""Interim responses to one request; each restarts the clock, so without a limit they could go on for ever."""


class Stale(Exception):
    """The connection closed before a single byte of response."""


class Connection(asyncio.Protocol):
    """One connection and its state machine."""

    def __init__(self) -> None:
        self._http = Http1()
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
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.idle:
            self.abort()
            return
        self._heard = True
        self._http.receive(data)
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
                self._http.receive(b"")
            self._wake()

    # -- life in the pool ---------------------------------------------------------------------------------
    def usable(self, now: float) -> bool:
        return not self._closed and now - self._idle_since < IDLE_S

    def recycle(self, now: float) -> bool:
        """Ready for the next request? Closes the connection if not."""
        if self._closed or not self._http.next_exchange():
            self.abort()
            return False
        self._resume()
        self.on_interim = None
        self._heard, self._unread, self.idle, self._idle_since = False, 0, True, now
        return True

    def restart(self, transport: asyncio.Transport) -> None:
        """Takes over a transport that was upgraded to TLS: the HTTP exchange with the proxy is over."""
        self._transport = transport
        self._http = Http1()
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
            data = self._http.request(method, target, (*fields, *self.extra_fields), body)
        except Unwritable as error:
            raise OriginError("http_request_error", f"this request cannot be forwarded: {error}") from error
        if self._closed:
            raise Stale
        self._transport.write(data)

    async def head(self, first_byte_s: float, idle_s: float) -> tuple[Response, int | None]:
        """The head of the final response; interim (1xx) ones go to `on_interim` (RFC 9110 §15.2)."""
        self._idle_s = idle_s
        for _ in range(MAX_INTERIM + 1):
            event = await self._next(first_byte_s)
            if isinstance(event, Head):
                return event.response, event.size
            if not isinstance(event, Interim):
                raise OriginError("http_protocol_error", "the origin sent no response head")
            self._pass_on(event.response)
        raise OriginError("http_protocol_error", f"the origin sent more than {MAX_INTERIM} interim responses")

    def _pass_on(self, response: Response) -> None:
        """To whoever asked for this. 100 is about a request that is sent already; 101 comes to nobody who did
        not ask for it (RFC 9110 §15.2)."""
        if self.on_interim is not None and response.status > 101:
            self.on_interim(response)

    @property
    def waiting(self) -> int:
        """Bytes of content that are here, where the exchange is a plain one; else 0."""
        return self._http.waiting

    async def body_chunk(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        event = await self._next(self._idle_s)
        if isinstance(event, Content):
            return event.data
        if event is END:
            return b""
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

    async def _next(self, timeout_s: float) -> Event:
        while True:
            try:
                event = self._http.next_event()
            except Malformed as error:
                raise self._failure(error) from error
            if event is NEED_DATA:
                if self._closed:  # aborted; after an end of the origin's nothing more is needed
                    raise OriginError("connection_terminated", "the connection was dropped")
                self._unread = 0
                self._resume()
                await self._wait(timeout_s)
            elif event is CLOSED:
                raise (
                    Stale
                    if not self._heard
                    else OriginError("connection_terminated", "the origin closed the connection")
                )
            else:
                return event

    def _failure(self, error: Malformed) -> Exception:
        if self._closed and not self._heard:
            return Stale()
        if self._closed:
            return OriginError(
                "http_response_incomplete", f"the origin closed the connection too early: {error}"
            )
        self.abort()
        return OriginError("http_protocol_error", f"the origin's answer is not valid HTTP: {error}")

    async def _wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._wakeup = loop.create_future()
        alarm = loop.call_later(timeout_s, self._fall_silent, timeout_s)
        try:
            await self._wakeup
        finally:
            alarm.cancel()
            self._wakeup = None

    def _fall_silent(self, timeout_s: float) -> None:
        word = "connection_read_timeout" if self._heard else "http_response_timeout"
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_exception(OriginError(word, f"the origin sent nothing for {timeout_s:g} s"))
        self.abort()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._closed:
            self._paused = False
            self._transport.resume_reading()
