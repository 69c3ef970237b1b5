"""Proxies between Buffy and the origins: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY named at start."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from buffy_proxy.core.model import Fields
from buffy_proxy.errors import ConfigError

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """An HTTP proxy; `scheme` is how to talk to the proxy itself."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    authorization_fields: Fields = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class UpstreamProxies:
    """Which proxy an origin is reached through; `no_proxy`: lower-case host suffixes, "*" means no proxy."""

    http: UpstreamProxy | None = None
    https: UpstreamProxy | None = None
    no_proxy: tuple[str, ...] = ()

    def for_origin(self, scheme: str, host: str, port: int) -> UpstreamProxy | None:
        proxy = self.https if scheme == "https" else self.http
        return None if proxy is None or self._bypassed(host.lower(), port) else proxy

    def _bypassed(self, host: str, port: int) -> bool:
        return any(
            entry == "*" or host == entry or host.endswith("." + entry) or f"{host}:{port}" == entry
            for entry in self.no_proxy
        )


def from_environment(environ: Mapping[str, str], override: str | None = None) -> UpstreamProxies:
    """Reads the usual variables (lower case wins, as in curl); `override` is `upstream_proxy` of the config.

    Raises ConfigError for a proxy URL that cannot be used.
    """
    if override is not None:
        proxy = parse_proxy_url(override, "upstream_proxy")
        return UpstreamProxies(proxy, proxy, _no_proxy(environ))

    def named(*names: str) -> UpstreamProxy | None:
        for name in names:
            if value := environ.get(name, "").strip():
                return parse_proxy_url(value, name)
        return None

    # HTTP_PROXY in capitals is ignored where a CGI set it from a request's Proxy field (httpoxy).
    plain = ("http_proxy",) if "REQUEST_METHOD" in environ else ("http_proxy", "HTTP_PROXY")
    everything = ("all_proxy", "ALL_PROXY")
    return UpstreamProxies(
        named(*plain, *everything), named("https_proxy", "HTTPS_PROXY", *everything), _no_proxy(environ)
    )


def parse_proxy_url(url: str, where: str) -> UpstreamProxy:
    """`http://user:password@host:port`; a missing scheme means http."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == -1:
        raise ConfigError(
            f"{where}: {_hidden(url)!r} is no usable proxy; write http://host:port (SOCKS is not supported)"
        )
    fields: Fields = ()
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        fields = ((b"Proxy-Authorization", b"Basic " + base64.b64encode(pair)),)
    return UpstreamProxy(scheme, parts.hostname, port or DEFAULT_PORTS[scheme], fields)


def _hidden(url: str) -> str:
    return url.rsplit("@", 1)[-1]


def _no_proxy(environ: Mapping[str, str]) -> tuple[str, ...]:
    value = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    return tuple(
        entry.strip().lower().removeprefix("*.").lstrip(".") for entry in value.split(",") if entry.strip()
    )
