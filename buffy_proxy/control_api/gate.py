"""What every request to the control API passes before any route: an ASGI layer without fastapi.

In this order: the path is brought into one form; `Host` must be a name of this server (else a page could
reach it under a name of its own: DNS rebinding); the API's credentials, if it has any; pages of other sites
change nothing; a body that is written is read whole, up to a limit.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from buffy_proxy.config import Config, Credentials, is_loopback
from buffy_proxy.control_api import problems

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
ENVELOPE: Final = 64 * 1024
"""Bytes that an order may be larger than the request body in it."""
CHALLENGE: Final = (b"www-authenticate", b'Basic realm="Buffy", charset="UTF-8"')
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:@/\[\]]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    detail: str
    header: tuple[bytes, bytes] | None = None


class Gate:
    """Wraps the application. One object serves all requests and keeps nothing of them."""

    def __init__(self, app: App, config: Config) -> None:
        self._app = app
        self._config = config
        self._names = _own_names(config)
        self._limit = config.max_request_body + ENVELOPE

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["root_path"] = self._config.api_root_path
        scope["path"] = one_path(scope["path"], self._config.api_root_path)
        headers = _headers(scope)
        refusal = self._host(headers) or self._login(scope, headers) or _site(scope, headers)
        if refusal is None and scope["method"] not in READING:
            body = await _read(receive, self._limit)
            if body is None:
                refusal = _Refusal(413, f"The body is larger than {self._limit} bytes.")
            else:
                receive = _replay(body, receive)
                _take_for_json(scope)
        if refusal is not None:
            await _refuse(refusal, scope, send)
        else:
            await self._app(scope, receive, send)

    def _host(self, headers: dict[bytes, list[bytes]]) -> _Refusal | None:
        values = headers.get(b"host", [])
        match = _AUTHORITY.fullmatch(values[0].decode("latin-1")) if len(values) == 1 else None
        if match is None:
            return _Refusal(400, "The request must name one host in its Host field.")
        host, port = match[1].lower().rstrip("."), match[2]
        if self._is_ours(host, port):
            return None
        return _Refusal(
            421, f"This server is not {host!r}; if it should be, add that name to `api_hosts` in buffy.toml."
        )

    def _is_ours(self, host: str, port: str | None) -> bool:
        bare = host.strip("[]")
        if is_loopback(bare) or bare in self._names:
            return True
        if self._config.api[0] in ("0.0.0.0", "::", "") and _is_address(bare):
            return True  # listening everywhere: any address may be ours, and a page cannot rebind an address
        names = (host, f"{host}:{port}") if port else (host,)
        return any(fnmatchcase(name, pattern) for name in names for pattern in self._config.api_hosts)

    def _login(self, scope: MutableMapping[str, Any], headers: dict[bytes, list[bytes]]) -> _Refusal | None:
        wanted = self._config.api_credentials
        if wanted is None or scope["path"] == f"{self._config.api_root_path}/health":
            return None
        if any(_is_login(value, wanted) for value in headers.get(b"authorization", [])):
            return None
        return _Refusal(401, "This API asks for a user name and a password (HTTP Basic).", CHALLENGE)


def one_path(path: str, root: str) -> str:
    """`root` + path, whether or not the client (or a proxy in between) left the root out. The doubled slashes
    that old clients write before the root and before /v1 are one."""
    path = "/" + path.lstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = "/" + path.removeprefix(root).lstrip("/")
    return root + path


def _own_names(config: Config) -> frozenset[str]:
    return frozenset(name.lower() for name in (config.api[0].strip("[]"), socket.gethostname()))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _headers(scope: MutableMapping[str, Any]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _is_login(value: bytes, wanted: Credentials) -> bool:
    scheme, _, encoded = value.partition(b" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return False
    right = f"{wanted.user}:{wanted.password}".encode()
    return scheme.lower() == b"basic" and hmac.compare_digest(given, right)


def _site(scope: MutableMapping[str, Any], headers: dict[bytes, list[bytes]]) -> _Refusal | None:
    """Fetch metadata tells (every browser of today), else Origin does. Programs send neither."""
    if scope["method"] in READING:
        return None
    foreign = any(value in (b"cross-site", b"same-site") for value in headers.get(b"sec-fetch-site", []))
    host = headers[b"host"][0].lower()
    if foreign or any(_authority(origin) != host for origin in headers.get(b"origin", [])):
        return _Refusal(403, "Pages of other sites may not change anything here.")
    return None


def _authority(origin: bytes) -> bytes:
    """Host and port of an Origin, as a Host field would name them; `null` names nobody."""
    scheme, _, authority = origin.lower().partition(b"://")
    return authority.removesuffix({b"http": b":80", b"https": b":443"}.get(scheme, b"//"))


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body, None if it is longer than the limit. A client that leaves sent what it sent."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    parts = [body]

    async def again() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return again


def _take_for_json(scope: MutableMapping[str, Any]) -> None:
    """The API takes nothing but JSON. Old clients do not say so, `curl -d` says something else, and newer
    versions of fastapi would not read either."""
    others = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    scope["headers"] = [*others, (b"content-type", b"application/json")]


async def _refuse(refusal: _Refusal, scope: MutableMapping[str, Any], send: Send) -> None:
    body = problems.content(refusal.status, refusal.detail)
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        *([refusal.header] if refusal.header else []),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
