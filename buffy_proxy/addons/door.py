"""mitmproxy's handler of one client connection; our own hooks are run here, without the addon chain."""

from __future__ import annotations

from mitmproxy.proxy import commands, mode_specs
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from buffy_proxy.addons.exchange import OwnHook

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
