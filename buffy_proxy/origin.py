"""The HTTP/1.1 client towards origins: one pool for proxied misses, validations and background work.

h11 speaks the protocol; this module moves the bytes. A connection is in one of three states: *idle* in the
pool (any byte or EOF from the origin makes it useless), *busy* with one exchange, or *closed*. A response
whose body was read to its end gives the connection back; anything else closes it. A request that was sent on
a pooled connection which then closes without a single response byte is sent once more on a new one
(RFC 9112 §9.3.1). Methods that are not idempotent must not be sent twice, so they never use a pooled one.

Reading is paused while more than READ_AHEAD bytes wait to be taken, so memory stays bounded whatever the
size of a body. Everything runs in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import h11

from buffy_proxy.config import Address, Timeouts
from buffy_proxy.core.fields import first, origin_of, without
from buffy_proxy.core.model import Fields, Response
from buffy_proxy.errors import OriginError
from buffy_proxy.upstream import UpstreamProxies, UpstreamProxy

READ_AHEAD = 512 * 1024
MAX_HEAD = 256 * 1024
IDLE_S = 30.0
MAX_IDLE_PER_ROUTE = 16
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 §9.2.2."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a pooled connection is good for."""

    scheme: str
    host: str
    port: int
    via: UpstreamProxy | None


class OriginResponse:
    """A response whose head has arrived. Read `chunks()` to the end or call `abort()`.

    `size` is the announced body length in bytes, None where only the end of the stream tells.
    """

    def __init__(
        self, connection: _Connection, head: Response, size: int | None, release: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._release = release
        self._released = False
        self.head = head
        self.size = size

    async def chunks(self) -> AsyncIterator[bytes]:
        """The wire bytes of the body (transfer coding undone, content coding kept). Raises OriginError when
        the body ends early (`http_response_incomplete`) or stalls (`connection_read_timeout`)."""
        while not self._released:
            if chunk := await self._connection.body_chunk():
                yield chunk
            else:
                self._released = True
                self._release()

    async def drain(self, limit: int = 64 * 1024) -> None:
        """Throws a body away: short ones are read so that the connection can be used again."""
        if self.size is None or self.size > limit:
            self.abort()
            return
        try:
            with contextlib.suppress(OriginError):
                async for _ in self.chunks():
                    pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Closes the connection, unless the response was read to its end and gave it back already."""
        if not self._released:
            self._connection.abort()


class Origins:
    """The pool. `fetch` is the only way out of Buffy's own code to an origin."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        timeouts: Timeouts | None = None,
        proxies: UpstreamProxies | None = None,
        own_addresses: frozenset[Address] = frozenset(),
    ) -> None:
        self._tls = tls
        self._timeouts = timeouts or Timeouts()
        self._proxies = proxies or UpstreamProxies()
        self._own = own_addresses
        self._idle: dict[Route, list[_Connection]] = {}

    async def fetch(self, method: str, url: str, fields: Fields, body: bytes = b"") -> OriginResponse:
        """Sends one request and waits for the head of the final response. Raises OriginError."""
        route = self._route(url)
        if method in IDEMPOTENT and (pooled := self._take(route)):
            try:
                return await self._exchange(pooled, route, method, url, fields, body)
            except _Stale:
                pass
        connection = await self._connect(route)
        try:
            return await self._exchange(connection, route, method, url, fields, body)
        except _Stale as stale:
            raise OriginError(
                "connection_terminated", f"{route.host} closed the connection without an answer"
            ) from stale

    async def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    # -- one exchange -------------------------------------------------------------------------------------
    async def _exchange(
        self, connection: _Connection, route: Route, method: str, url: str, fields: Fields, body: bytes
    ) -> OriginResponse:
        try:
            connection.send(method, _target(url, route), fields, body)
            head, size = await connection.head(self._timeouts.first_byte_s, self._timeouts.idle_s)
        except BaseException:
            connection.abort()
            raise
        return OriginResponse(connection, head, size, lambda: self._give_back(route, connection))

    # -- pool ---------------------------------------------------------------------------------------------
    def _take(self, route: Route) -> _Connection | None:
        connections = self._idle.get(route, [])
        while connections:
            connection = connections.pop()
            if connection.usable(time.monotonic()):
                return connection
            connection.abort()
        return None

    def _give_back(self, route: Route, connection: _Connection) -> None:
        if not connection.recycle(time.monotonic()):
            return
        connections = self._idle.setdefault(route, [])
        connections.append(connection)
        if len(connections) > MAX_IDLE_PER_ROUTE:
            connections.pop(0).abort()
        self._reap()

    def _reap(self) -> None:
        """Closes what has idled too long; a pool without traffic holds at most MAX_IDLE_PER_ROUTE a route."""
        now = time.monotonic()
        for route in list(self._idle):
            keep = [c for c in self._idle[route] if c.usable(now)]
            for connection in set(self._idle[route]) - set(keep):
                connection.abort()
            if keep:
                self._idle[route] = keep
            else:
                del self._idle[route]

    # -- connecting ---------------------------------------------------------------------------------------
    def _route(self, url: str) -> Route:
        scheme, host, port = origin_of(url)
        host = host.strip("[]")  # an IPv6 address
        if (host, port) in self._own:
            raise OriginError("proxy_loop_detected", f"{host}:{port} is this proxy itself")
        return Route(scheme, host, port, self._proxies.for_origin(scheme, host, port))

    async def _connect(self, route: Route) -> _Connection:
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                return await self._open(route)
        except TimeoutError as error:
            raise OriginError(
                "connection_timeout", f"no connection to {_name(route)} in {self._timeouts.connect_s:g} s"
            ) from error
        except socket.gaierror as error:
            raise OriginError(
                "dns_error", f"cannot resolve {_name(route)}: {error.strerror or error}"
            ) from error
        except ConnectionRefusedError as error:
            raise OriginError("connection_refused", f"{_name(route)} refused the connection") from error
        except ssl.SSLCertVerificationError as error:
            raise OriginError(
                "tls_certificate_error", f"certificate of {_name(route)}: {error.verify_message}"
            ) from error
        except ssl.SSLError as error:
            raise OriginError(
                "tls_protocol_error", f"TLS with {_name(route)}: {error.reason or error}"
            ) from error
        except _Stale as error:
            raise OriginError(
                "connection_terminated", f"{_name(route)}: the proxy closed the connection"
            ) from error
        except (OSError, ExceptionGroup, UnicodeError) as error:
            raise OriginError(
                "destination_unavailable", f"cannot connect to {_name(route)}: {error}"
            ) from error

    async def _open(self, route: Route) -> _Connection:
        loop = asyncio.get_running_loop()
        tls = self._tls if route.scheme == "https" else None
        if route.via is None:
            _, connection = await loop.create_connection(
                _Connection,
                route.host,
                route.port,
                ssl=tls,
                server_hostname=route.host if tls else None,
                happy_eyeballs_delay=0.25,
            )
            return connection
        proxy = route.via
        proxy_tls = self._tls if proxy.scheme == "https" else None
        transport, connection = await loop.create_connection(
            _Connection, proxy.host, proxy.port, ssl=proxy_tls
        )
        if tls is None:
            connection.extra_fields = proxy.authorization_fields
            return connection
        try:
            await connection.connect_through(
                route.host, route.port, proxy.authorization_fields, self._timeouts.connect_s
            )
        except BaseException:
            connection.abort()
            raise
        secured = await loop.start_tls(transport, connection, tls, server_hostname=route.host)
        assert secured is not None
        connection.restart(secured)
        return connection


def _name(route: Route) -> str:
    via = f" through the proxy {route.via.host}:{route.via.port}" if route.via else ""
    return f"{route.host}:{route.port}{via}"


def _target(url: str, route: Route) -> str:
    """Origin-form, or absolute-form towards a proxy for plain http (RFC 9112 §3.2)."""
    if route.via is not None and route.scheme == "http":
        return url
    after = url.split("://", 1)[1]
    slash = after.find("/")
    return after[slash:] if slash >= 0 else "/"


class _Stale(Exception):
    """The connection closed before a single byte of response."""


class _Connection(asyncio.Protocol):
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
            raise _Stale
        self._transport.write(data)

    async def head(self, first_byte_s: float, idle_s: float) -> tuple[Response, int | None]:
        """The head of the final response; interim (1xx) ones are passed over (RFC 9110 §15.2)."""
        self._idle_s = idle_s
        while True:
            event = await self._next(first_byte_s)
            if isinstance(event, h11.Response):
                fields, size = _framed(tuple(event.headers.raw_items()))
                return Response(event.status_code, bytes(event.reason), fields), size
            if not isinstance(event, h11.InformationalResponse):
                raise OriginError("http_protocol_error", "the origin sent no response head")

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
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
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
                    _Stale
                    if not self._heard
                    else OriginError("connection_terminated", "the origin closed the connection")
                )
            else:
                return event

    def _failure(self, error: h11.RemoteProtocolError) -> Exception:
        if self._closed and not self._heard:
            return _Stale()
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


def _framed(fields: Fields) -> tuple[Fields, int | None]:
    """The fields and the announced length of the body. A Content-Length beside a Transfer-Encoding is void
    and must not travel on (RFC 9112 §6.3)."""
    names = {name.lower() for name, _ in fields}
    if b"transfer-encoding" in names:
        return without(fields, (b"content-length",)), None
    length = first(fields, b"content-length")
    return fields, None if length is None else int(length)
