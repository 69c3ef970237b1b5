"""Which protocol comes next on a client's connection: TLS to take apart, HTTP, or a tunnel to leave alone."""

from __future__ import annotations

import re

from mitmproxy import connection
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode, _upstream_proxy
from mitmproxy.proxy.layers.tls import HTTP_ALPNS, parse_client_hello

from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.layers import BuffyHttpLayer, PatientNextLayer
from buffy_proxy.addons.tls import TunnelHosts
from buffy_proxy.upstream import UpstreamProxies

METHOD = re.compile(rb"[A-Za-z-]{3,} ")


class NextLayer:
    """Answers mitmproxy's `next_layer` for a regular (explicit) proxy."""

    def __init__(
        self,
        interceptor: Interceptor,
        tunnels: TunnelHosts,
        upstream: UpstreamProxies,
    ) -> None:
        self._interceptor = interceptor
        self._tunnels = tunnels
        self._upstream = upstream

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        if isinstance(nextlayer, PatientNextLayer) and nextlayer.silent:
            nextlayer.layer = self._tunnel(nextlayer.context)
        else:
            nextlayer.layer = self._choose(nextlayer.context, nextlayer.data_client())

    def _choose(self, context: Context, data: bytes) -> layer.Layer | None:
        if len(context.layers) == 1 and isinstance(context.layers[0], modes.HttpProxy):
            return self._outermost(context, data)
        if starts_like_tls_record(data):
            return self._tls(context, data)
        if self._is_tunnelled(context, None):
            return self._tunnel(context)
        if context.client.alpn in HTTP_ALPNS or METHOD.match(data):
            return BuffyHttpLayer(context, HTTPMode.transparent, self._interceptor)
        if len(data) < 4 and data.isalpha():
            return None
        return TCPLayer(context) if context.client.tls else self._tunnel(context)

    def _outermost(self, context: Context, data: bytes) -> layer.Layer:
        """Clients speak HTTP to the proxy, or HTTP inside TLS (an `https://` proxy URL)."""
        stack = tunnel.LayerStack()
        if starts_like_tls_record(data):
            stack /= ClientTLSLayer(context)
        stack /= BuffyHttpLayer(context, HTTPMode.regular, self._interceptor)
        return stack[0]

    def _tls(self, context: Context, data: bytes) -> layer.Layer | None:
        try:
            hello = parse_client_hello(data)
        except ValueError:
            return self._tunnel(context)
        if hello is None:
            return None
        offers = set(hello.alpn_protocols)
        speaks_http = not offers or offers & set(HTTP_ALPNS)
        if not speaks_http or self._is_tunnelled(context, hello.sni):
            return self._tunnel(context)
        server_tls = ServerTLSLayer(context)
        server_tls.child_layer = ClientTLSLayer(context)
        return server_tls

    def _is_tunnelled(self, context: Context, sni: str | None) -> bool:
        address = context.server.address
        return address is not None and self._tunnels.cover((address[0], address[1]), sni)

    def _tunnel(self, context: Context) -> layer.Layer:
        """Raw bytes both ways, through the upstream proxy if there is one."""
        context.server.tls = False
        stack = tunnel.LayerStack()
        if via := self._via(context.server):
            context.server.via = via
            stack /= _upstream_proxy.HttpUpstreamProxy.make(context, True)[0]
        stack /= TCPLayer(context, ignore=True)
        return stack[0]

    def _via(self, server: connection.Server) -> ServerSpec | None:
        if server.address is None:
            return None
        proxy = self._upstream.for_origin("https", server.address[0], server.address[1])
        return None if proxy is None else (proxy.scheme, (proxy.host, proxy.port))
