"""The listening side: one handler a client connection; own hooks are run here, without the addon chain."""

from __future__ import annotations

import asyncio
import socket

from mitmproxy.proxy import commands, mode_specs
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from buffy_proxy.addons.exchange import OwnHook
from buffy_proxy.addons.master import BuffyMaster

MODE = mode_specs.ProxyMode.parse("regular")


class Handler(ProxyConnectionHandler):
    """One client connection."""

    async def handle_hook(self, hook: commands.StartHook) -> None:
        if isinstance(hook, OwnHook):
            with self.timeout_watchdog.disarm():
                await hook.run(self._drain_client)
        else:
            await super().handle_hook(hook)

    async def _drain_client(self) -> None:
        """Waits until the client has taken most of what was written to it."""
        io = self.transports.get(self.client)
        if io is None or io.writer is None:
            raise ConnectionResetError("the connection is closed")
        await io.writer.drain()


async def listen(master: BuffyMaster, sock: socket.socket) -> asyncio.Server:
    """Accepts clients on a socket that is already bound."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = Handler(master, reader, writer, master.options, MODE)
        handler.layer = modes.HttpProxy(handler.layer.context)
        with master.proxyserver.register_connection(handler.client.id, handler):
            await handler.handle_client()

    return await asyncio.start_server(handle, sock=sock, backlog=1024)
