"""Target URIs: one spelling for each, nothing changed that an origin could tell apart."""

from __future__ import annotations

import re
from typing import Final

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host, port (RFC 9110 §4.3.1)."""

_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]*)(/[^?#]*)?(\?[^#]*)?(?:#.*)?", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\[\]:<>\"^`{|}]+")
_PORT = re.compile(r"[0-9]{0,5}", re.ASCII)


def normalise_url(url: str) -> str:
    """The absolute URL as it is keyed: scheme and host in lower case, default port, user info and fragment
    dropped, an empty path is "/"; percent-encoding, path and query stay as they are (RFC 9110 §4.2.3).

    Raises ValueError that says what is wrong: not http(s), no host, a bad port, spaces or control characters.
    """
    if bad := _FORBIDDEN.search(url):
        raise ValueError(f"URL has {bad[0]!r} at position {bad.start()}; percent-encode spaces and controls")
    match = _PARTS.fullmatch(url)
    if match is None:
        raise ValueError(f"not an absolute URL: {_shown(url)}; it must start with http:// or https://")
    scheme, authority, path, query = match[1].lower(), match[2], match[3] or "/", match[4] or ""
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"scheme {scheme!r} is not cached; only http and https are")
    host, port = _host_port(authority, scheme)
    suffix = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{host}{suffix}{path}{query}"


def _host_port(authority: str, scheme: str) -> tuple[str, int]:
    hostport = authority.rpartition("@")[2]
    host, colon, port = hostport.rpartition(":") if not hostport.endswith("]") else (hostport, "", "")
    if not colon:
        host, port = hostport, ""
    if not host:
        raise ValueError("URL has no host")
    if not _HOST.fullmatch(host):
        raise ValueError(f"URL has a malformed host: {_shown(host)}")
    if not _PORT.fullmatch(port) or (port and not 0 < int(port) < 65536):
        raise ValueError(f"URL has a bad port: {_shown(port)}; 1 to 65535 are allowed")
    return host.lower(), int(port) if port else DEFAULT_PORTS[scheme]


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an absolute http(s) URL. Raises ValueError like normalise_url."""
    scheme, _, rest = normalise_url(url).partition("://")
    host, port = _host_port(re.split(r"[/?]", rest, maxsplit=1)[0], scheme)
    return scheme, host, port


def authority_of(url: str) -> str:
    """The host, and the port where it is not the default: what a Host field holds. `url` is normalised."""
    return re.split(r"[/?]", url.partition("://")[2], maxsplit=1)[0]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
