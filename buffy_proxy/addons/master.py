"""A mitmproxy master with just what an explicit proxy needs: the default addons cost more than all else."""

from __future__ import annotations

from pathlib import Path

from mitmproxy import master, options
from mitmproxy.addons import core, disable_h2c, proxyserver
from mitmproxy.utils import asyncio_utils

from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.next_layer import NextLayer
from buffy_proxy.addons.tls import LearnedTunnels, TlsConfig, TunnelHosts
from buffy_proxy.config import Config
from buffy_proxy.upstream import UpstreamProxies


class BuffyMaster(master.Master):
    """Needs a running event loop. `proxyserver` keeps the register of live connections, no listener."""

    def __init__(
        self, interceptor: Interceptor, config: Config, upstream: UpstreamProxies, trust: Path
    ) -> None:
        super().__init__(options.Options())
        self._legacy_log_events.uninstall()  # it would wake the event loop for each line logged
        self.tunnels = TunnelHosts(config.tunnel, LearnedTunnels(), learn=config.learn_tunnels)
        self.proxyserver = proxyserver.Proxyserver()
        self.addons.add(
            core.Core(),
            self.proxyserver,
            NextLayer(interceptor, self.tunnels, upstream),
            TlsConfig(config.data_dir, self.tunnels),
            disable_h2c.DisableH2C(),
            interceptor,
        )
        self.options.update(
            server=False,
            confdir=str(config.data_dir / "ca"),
            # Eager connections would contact the origin before the cache was asked.
            connection_strategy="lazy",
            upstream_cert=False,
            # Frames pass as bytes: mitmproxy's own WebSocket layer would take them apart.
            websocket=False,
            rawtcp=True,
            ssl_verify_upstream_trusted_ca=str(trust),
        )

    async def run(self) -> None:
        """As mitmproxy's, without servers to set up and without its eager task factory: Python 3.13.0's own
        asyncio (happy eyeballs) and uvloop stumble over that."""
        with asyncio_utils.install_exception_handler(self._asyncio_exception_handler):
            try:
                await self.running()
                await self.should_exit.wait()
            finally:
                await self.done()
