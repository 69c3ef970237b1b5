"""The HTTP/1.1 client towards origins: one pool for proxied misses, validations and background work.

A response whose body was read to its end gives its connection back; anything else closes it. A request that
was sent on a pooled connection which then closes without a single response byte is sent once more on a new
one (RFC 9112 §9.3.1). Methods that are not idempotent must not be sent twice, so they never use a pooled
one. Everything runs in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass

from buffy_proxy.config import Address, Timeouts
from buffy_proxy.connection import Connection, Stale
from buffy_proxy.core.fields import origin_of
from buffy_proxy.core.model import Fields, Response
from buffy_proxy.dial import connect
from buffy_proxy.errors import OriginError
from buffy_proxy.upstream import UpstreamProxies, UpstreamProxy

MAX_IDLE_PER_ROUTE = 64
REAP_EVERY_S = 1.0
interim_sink: ContextVar[Callable[[Response], None] | None] = ContextVar("interim_sink", default=None)
"""Who hears of interim responses to what is asked in this context: the client that a flight was sent for.
Those who join the flight hear of the final response only."""
NO_WORDS = "it ended the connection at once (does it speak TLS?)"
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
        self, connection: Connection, head: Response, size: int | None, release: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._release = release
        self._released = False
        self.head = head
        self.size = size

    @property
    def arrived(self) -> bool:
        """Whether all of the body is here: reading it needs no waiting."""
        return self.size is not None and self._connection.waiting >= self.size

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
    """The pool. `fetch` is the only way out of Buffy's own code to an origin; `edit(method, url, fields)`
    has the last word about the fields of a request."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        timeouts: Timeouts | None = None,
        proxies: UpstreamProxies | None = None,
        own_addresses: frozenset[Address] = frozenset(),
        edit: Callable[[str, str, Fields], Fields] | None = None,
    ) -> None:
        self._tls = tls
        self._timeouts = timeouts or Timeouts()
        self._proxies = proxies or UpstreamProxies()
        self._own = own_addresses
        self._edit = edit
        self._idle: dict[Route, list[Connection]] = {}
        self._reap_at = 0.0

    async def fetch(self, method: str, url: str, fields: Fields, body: bytes = b"") -> OriginResponse:
        """Sends one request and waits for the head of the final response. Raises OriginError."""
        route = self._route(url)
        if self._edit is not None:
            fields = self._edit(method, url, fields)
        if method in IDEMPOTENT and (pooled := self._take(route)):
            try:
                return await self._exchange(pooled, route, method, url, fields, body)
            except Stale:
                pass
        connection = await self._connect(route)
        try:
            return await self._exchange(connection, route, method, url, fields, body)
        except Stale as stale:
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
        self, connection: Connection, route: Route, method: str, url: str, fields: Fields, body: bytes
    ) -> OriginResponse:
        try:
            connection.on_interim = interim_sink.get()
            connection.send(method, _target(url, route), fields, body)
            head, size = await connection.head(self._timeouts.first_byte_s, self._timeouts.idle_s)
        except BaseException:
            connection.abort()
            raise
        return OriginResponse(connection, head, size, lambda: self._give_back(route, connection))

    # -- pool ---------------------------------------------------------------------------------------------
    def _take(self, route: Route) -> Connection | None:
        connections = self._idle.get(route, [])
        while connections:
            connection = connections.pop()
            if connection.usable(time.monotonic()):
                return connection
            connection.abort()
        return None

    def _give_back(self, route: Route, connection: Connection) -> None:
        if not connection.recycle(time.monotonic()):
            return
        connections = self._idle.setdefault(route, [])
        connections.append(connection)
        if len(connections) > MAX_IDLE_PER_ROUTE:
            connections.pop(0).abort()
        self._reap()

    def _reap(self) -> None:
        """Now and then: closes what has idled too long. A pool without traffic holds at most
        MAX_IDLE_PER_ROUTE a route."""
        now = time.monotonic()
        if now < self._reap_at:
            return
        self._reap_at = now + REAP_EVERY_S
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

    async def _connect(self, route: Route) -> Connection:
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
        except Stale as error:
            raise OriginError(
                "connection_terminated", f"{_name(route)}: the proxy closed the connection"
            ) from error
        except (OSError, ExceptionGroup, UnicodeError) as error:
            raise OriginError(
                "destination_unavailable", f"cannot connect to {_name(route)}: {str(error) or NO_WORDS}"
            ) from error

    async def _open(self, route: Route) -> Connection:
        tls = self._tls if route.scheme == "https" else None
        if route.via is None:
            return (await connect(Connection, route.host, route.port, tls))[1]
        proxy = route.via
        proxy_tls = self._tls if proxy.scheme == "https" else None
        transport, connection = await connect(Connection, proxy.host, proxy.port, proxy_tls)
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
        loop = asyncio.get_running_loop()
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
