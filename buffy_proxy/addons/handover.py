"""Gives a connection to mitmproxy, in the middle of its life.

mitmproxy's handler wants a StreamReader and a StreamWriter. The reader is fed with what was read already and
all that comes; the writer writes through the transport, encrypted where TLS was done here.

A connection that spoke CONNECT and was not yet decrypted is played again from that CONNECT on, and the answer
to it, which the client has had, is swallowed. One that was decrypted begins in mitmproxy's HTTP layer.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

from mitmproxy import connection
from mitmproxy.proxy.layers import ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode

from buffy_proxy.addons.door import MODE, Handler
from buffy_proxy.addons.encrypted import Encrypted
from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.lane import Lane
from buffy_proxy.addons.layers import BuffyHttpLayer
from buffy_proxy.addons.master import BuffyMaster
from buffy_proxy.selectors import Selectors

_END = b"\r\n\r\n"
_tasks: set[asyncio.Task[None]] = set()


class Outlet(asyncio.Transport):
    """What mitmproxy writes to. `swallow`: one message head goes nowhere."""

    def __init__(self, transport: asyncio.Transport, tls: Encrypted | None, *, swallow: bool) -> None:
        super().__init__()
        self._transport = transport
        self._tls = tls
        self._swallow: bytes | None = b"" if swallow else None

    def write(self, data: Any) -> None:
        data = bytes(data)
        if self._swallow is not None:
            head, end, data = (self._swallow + data).partition(_END)
            if not end:
                self._swallow = head
                return
            self._swallow = None
        if not data or self._transport.is_closing():
            return
        if self._tls is None:
            self._transport.write(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self._transport.abort()

    def close(self) -> None:
        if self._tls is not None and not self._transport.is_closing():
            self._tls.close()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def can_write_eof(self) -> bool:
        return self._tls is None and self._transport.can_write_eof()

    def write_eof(self) -> None:
        self._transport.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()


def _keep(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class Given:
    """A connection that mitmproxy has. The front passes on what its transport tells."""

    def __init__(
        self, master: BuffyMaster, transport: asyncio.Transport, tls: Encrypted | None, *, swallow: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        outlet = Outlet(transport, tls, swallow=swallow)
        self._tls = tls
        self._reader = asyncio.StreamReader(loop=loop)
        self._protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        self._protocol.connection_made(outlet)
        writer = asyncio.StreamWriter(outlet, self._protocol, self._reader, loop)
        self._handler = Handler(master, self._reader, writer, master.options, MODE)
        self._master = master

    def from_the_start(self) -> None:
        """As a client that has just connected."""
        self._handler.layer = modes.HttpProxy(self._handler.layer.context)

    def inside(
        self,
        interceptor: Interceptor,
        address: tuple[str, int],
        session: Selectors,
        *,
        http: bool,
        lane: Lane | None = None,
    ) -> None:
        """As a client whose TLS, if any, is done. `http` False: both ends get their bytes. `lane`: it speaks
        HTTP/2, and has begun to."""
        context = self._handler.layer.context
        client = context.client
        context.server = connection.Server(address=address)
        if self._tls is not None:
            sni = self._tls.hello.sni
            client.tls, client.sni = True, sni
            client.alpn_offers = list(self._tls.hello.alpn)
            client.alpn = None if not http else b"http/1.1" if lane is None else b"h2"
            client.timestamp_tls_setup = time.time()
            context.server.tls = True
            context.server.sni = sni or address[0]
        interceptor.adopt(client, session)
        if http:
            self._handler.layer = BuffyHttpLayer(context, HTTPMode.transparent, interceptor, lane)
            return
        layer: Any = TCPLayer(context)
        if self._tls is not None:
            layer = ServerTLSLayer(context)
            layer.child_layer = TCPLayer(context)
        self._handler.layer = layer

    def start(self, data: bytes) -> None:
        if data:
            self._reader.feed_data(data)
        _keep(self._run())

    def stay_awake(self, until: Coroutine[Any, Any, None]) -> None:
        """The connection is not idle until then, even if mitmproxy has nothing to do with it."""

        async def wait() -> None:
            with self._handler.timeout_watchdog.disarm():
                await until

        _keep(wait())

    async def _run(self) -> None:
        with self._master.proxyserver.register_connection(self._handler.client.id, self._handler):
            await self._handler.handle_client()

    # -- what the transport tells -------------------------------------------------------------------------
    def feed(self, data: bytes) -> None:
        if self._tls is not None:
            try:
                data = self._tls.decrypt(data)
            except ssl.SSLError:
                self._reader.feed_eof()
                return
        if data:
            self._reader.feed_data(data)
        if self._tls is not None and self._tls.ended:
            self._reader.feed_eof()

    def eof(self) -> bool:
        self._reader.feed_eof()
        return self._tls is None

    def lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    @property
    def pause_writing(self) -> Callable[[], None]:
        return self._protocol.pause_writing

    @property
    def resume_writing(self) -> Callable[[], None]:
        return self._protocol.resume_writing
