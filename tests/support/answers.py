"""The usual answers of an origin, as scripts for `Origin.on`."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from email.utils import formatdate

from tests.support.bodies import slices
from tests.support.origin import CLOSE, Peer, Received, Step

Handler = Callable[[Received, Peer], Awaitable[None]]
REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 304: "Not Modified", 404: "Not Found"}
FRESH = {"Cache-Control": "max-age=3600"}
STALE = {"Cache-Control": "max-age=0"}


def head(status: int, fields: dict[str, str], dated: bool = True) -> bytes:
    """A response head; Date is added unless the fields hold one or `dated` is false."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Some Reason')}"]
    if dated and "Date" not in fields:
        lines.append(f"Date: {formatdate(usegmt=True)}")
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def fixed(body: bytes = b"ok", fields: dict[str, str] | None = None, status: int = 200) -> Handler:
    """The same body each time; none for HEAD."""

    async def script(request: Received, peer: Peer) -> None:
        start = head(status, {"Content-Length": str(len(body)), **(fields or {})})
        await peer.send(start + (b"" if request.method == "HEAD" else body))

    return script


class Changing:
    """A resource whose `body` the test may change; a strong ETag of the body, 304 where it still matches.

    `status` other than 200 makes it fail with that; `validators` ("etag", "date", "") is what it offers.
    """

    def __init__(
        self, body: bytes, fields: dict[str, str] | None = None, validators: str = "etag", modified: float = 0
    ) -> None:
        self.body, self.fields, self.validators, self.status = body, dict(fields or {}), validators, 200
        self.modified = modified or time.time() - 86400
        self.extra: dict[str, str] = {}

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'

    def _validator(self) -> dict[str, str]:
        if self.validators == "etag":
            return {"ETag": self.etag}
        return {"Last-Modified": formatdate(self.modified, usegmt=True)} if self.validators == "date" else {}

    def _unchanged(self, request: Received) -> bool:
        if self.validators == "etag":
            return self.etag in (request.get("if-none-match") or "")
        since = request.get("if-modified-since")
        return self.validators == "date" and since == formatdate(self.modified, usegmt=True)

    async def __call__(self, request: Received, peer: Peer) -> None:
        fields = {**self.fields, **self._validator(), **self.extra}
        if self.status != 200:
            await peer.send(head(self.status, {"Content-Length": "5", **self.extra}) + b"oops\n")
        elif self._unchanged(request):
            await peer.send(head(304, fields))
        else:
            start = head(200, {"Content-Length": str(len(self.body)), **fields})
            await peer.send(start + (b"" if request.method == "HEAD" else self.body))


def zipped(body: bytes, fields: dict[str, str] | None = None) -> tuple[Handler, bytes]:
    """A gzip-coded answer, and the coded bytes as they go over the wire."""
    wire = gzip.compress(body, mtime=0)
    return fixed(wire, {"Content-Encoding": "gzip", "Vary": "Accept-Encoding", **(fields or {})}), wire


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(
    parts: Iterable[Step], fields: dict[str, str] | None = None, trailers: Sequence[tuple[str, str]] = ()
) -> list[Step]:
    """Chunked coding; every bytes of `parts` is one chunk, other steps happen in between."""
    last = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    body = [chunk(part) if isinstance(part, bytes) else part for part in parts]
    return [head(200, {"Transfer-Encoding": "chunked", **(fields or {})}), *body, f"0\r\n{last}\r\n".encode()]


def sized(
    parts: Sequence[Step], fields: dict[str, str] | None = None, length: int | None = None
) -> list[Step]:
    """Content-Length framing with other steps in between; `length` other than the truth makes it a lie."""
    total = sum(len(part) for part in parts if isinstance(part, bytes)) if length is None else length
    return [head(200, {"Content-Length": str(total), **(fields or {})}), *parts]


def truncated(body: bytes, claimed: int, fields: dict[str, str] | None = None) -> list[Step]:
    """Promises `claimed` bytes, sends `body`, closes."""
    return [*sized([body], fields, claimed), CLOSE]


def truncated_chunks(body: bytes, fields: dict[str, str] | None = None) -> list[Step]:
    """A chunked answer whose last chunk never comes."""
    return [*chunked([body], fields)[:-1], CLOSE]


def until_close(body: bytes, fields: dict[str, str] | None = None) -> list[Step]:
    """No framing: the body ends with the connection."""
    return [head(200, {"Connection": "close", **(fields or {})}), body, CLOSE]


def redirect(location: str, status: int = 302, fields: dict[str, str] | None = None) -> Handler:
    return fixed(b"", {"Location": location, **(fields or {})}, status)


def events(release: Sequence[threading.Event | float], fields: dict[str, str] | None = None) -> list[Step]:
    """Server-sent events: one at once, one more after each step, then the end."""
    parts: list[Step] = [b"data: 0\n\n"]
    for number, step in enumerate(release, 1):
        parts += [step, f"data: {number}\n\n".encode()]
    return chunked(parts, {"Content-Type": "text/event-stream", **(fields or {})})


def big(size: int, seed: int, fields: dict[str, str] | None = None) -> Handler:
    """A body from `support.bodies`, sent in blocks, with an ETag and single ranges."""
    etag = f'"{seed}-{size}"'

    async def script(request: Received, peer: Peer) -> None:
        first, stop, status = 0, size, 200
        extra = {"ETag": etag, "Accept-Ranges": "bytes", **(fields or {})}
        wanted = request.get("range")
        if wanted and request.get("if-range") in (None, etag):
            left, _, right = wanted.removeprefix("bytes=").partition("-")
            first, stop, status = int(left), int(right or size - 1) + 1, 206
            extra["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
        await peer.send(head(status, {"Content-Length": str(stop - first), **extra}))
        if request.method != "HEAD":
            for part in slices(seed, first, stop):
                await peer.send(part)

    return script


async def echo(request: Received, peer: Peer) -> None:
    """Answers with the request's head and body, so that a test sees what arrived."""
    body = request.head + request.body
    await peer.send(head(200, {"Content-Length": str(len(body)), "Cache-Control": "no-store"}) + body)


async def websocket_echo(request: Received, peer: Peer) -> None:
    """RFC 6455 handshake, then the bytes of every frame back, unmasked, until the client leaves."""
    key = (request.get("sec-websocket-key") or "").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key).digest()).decode()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    await peer.send(head(101, fields))
    while True:
        first, length = await peer.reader.readexactly(2)
        mask = await peer.reader.readexactly(4)
        data = await peer.reader.readexactly(length & 0x7F)
        plain = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        await peer.send(bytes([first, len(plain)]) + plain)
        if first & 0x0F == 8:
            return await peer.close()


async def early(request: Received, peer: Peer) -> None:
    """Answers 413 before it has read the body, then closes."""
    await peer.send(head(413, {"Content-Length": "0", "Connection": "close"}))
    await asyncio.sleep(0.2)
    await peer.close()


early.reads_body = True  # type: ignore[attr-defined]
