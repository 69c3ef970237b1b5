"""An HTTP/1.1 client on raw sockets: sends exactly the bytes it is told, keeps exactly what it receives.

Nothing here retries, follows or repairs. `Connection.read()` reads one response by its framing (RFC 9112
§6.3); whoever wants to look between the bytes uses `head()` and `body_chunks()`.
"""

from __future__ import annotations

import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

Address = tuple[str, int]
Pairs = Sequence[tuple[str, str]]


class Incomplete(Exception):
    """The peer closed before the message was complete."""


@dataclass
class Reply:
    """One response. `fields` in wire order; `first_byte_s`/`total_s` since the request was sent."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    first_byte_s: float = 0.0
    total_s: float = 0.0

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def cache(self) -> CacheStatus:
        return CacheStatus.parse(", ".join(self.all("cache-status")))


@dataclass
class CacheStatus:
    """Buffy's own member of a Cache-Status field (RFC 9211): the last one, nearest to the client."""

    hit: bool = False
    params: dict[str, str] = field(default_factory=dict)
    raw: str = ""

    @classmethod
    def parse(cls, value: str) -> CacheStatus:
        member = split_quoted(value, ",")[-1].strip()
        name, *params = [part.strip() for part in split_quoted(member, ";")]
        if not name.lower().startswith("buffy"):
            return cls(raw=value)
        pairs = {key: text.strip('"') for key, _, text in (p.partition("=") for p in params)}
        return cls("hit" in pairs, pairs, value)

    @property
    def fwd(self) -> str | None:
        return self.params.get("fwd")

    @property
    def stored(self) -> bool:
        return "stored" in self.params

    @property
    def collapsed(self) -> bool:
        return "collapsed" in self.params

    @property
    def detail(self) -> str:
        return self.params.get("detail", "")


def split_quoted(text: str, separator: str) -> list[str]:
    """Splits outside of double quotes."""
    parts, quoted = [""], False
    for char in text:
        quoted ^= char == '"'
        if char == separator and not quoted:
            parts.append("")
        else:
            parts[-1] += char
    return parts


class Connection:
    """One TCP (or TLS) connection with a read buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.sent_at = time.monotonic()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sent_at = time.monotonic()
        self.sock.sendall(data)

    def recv(self, limit: int = 1 << 18) -> bytes:
        """What is there, at most `limit` bytes; b"" at the end of the connection."""
        if self.buffer:
            data, self.buffer = self.buffer[:limit], self.buffer[limit:]
            return data
        try:
            return self.sock.recv(limit)
        except (ConnectionResetError, ssl.SSLEOFError):
            return b""

    def exactly(self, size: int) -> bytes:
        parts = list(self._counted(size))
        return b"".join(parts)

    def until(self, mark: bytes, limit: int = 1 << 20) -> bytes:
        data = b""
        while mark not in data:
            more = self.recv()
            if not more or len(data) > limit:
                self.buffer = data
                raise Incomplete(f"the connection ended before {mark!r}; it held {data[:200]!r}")
            data += more
        head, _, self.buffer = data.partition(mark)
        return head + mark

    def _counted(self, size: int) -> Iterator[bytes]:
        while size:
            data = self.recv(min(size, 1 << 18))
            if not data:
                raise Incomplete(f"{size} bytes are missing")
            size -= len(data)
            yield data

    def head(self) -> Reply:
        """The next response head, 1xx heads included."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        _, status, *reason = lines[0].split(" ", 2)
        reply = Reply(int(status), reason[0] if reason else "", _pairs(lines[1:]))
        reply.first_byte_s = time.monotonic() - self.sent_at
        return reply

    def body_chunks(self, reply: Reply, method: str = "GET") -> Iterator[bytes]:
        """The body as it comes. Raises Incomplete where the framing says that bytes are missing."""
        if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
            return
        if "chunked" in (reply.get("transfer-encoding") or "").lower():
            yield from self._chunked(reply)
        elif (length := reply.get("content-length")) is not None:
            yield from self._counted(int(length))
        else:
            while data := self.recv():
                yield data

    def _chunked(self, reply: Reply) -> Iterator[bytes]:
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            yield from self._counted(size)
            self.exactly(2)
        while (line := self.until(b"\r\n")) != b"\r\n":
            reply.trailers += _pairs([line.decode("latin-1").strip()])

    def read(self, method: str = "GET") -> Reply:
        """One whole final response."""
        reply = self.head()
        while 100 <= reply.status < 200 and reply.status != 101:
            reply = self.head()
        reply.body = b"".join(self.body_chunks(reply, method))
        reply.total_s = time.monotonic() - self.sent_at
        return reply


def _pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    split = (line.partition(":") for line in lines if line)
    return [(name, value.strip(" \t")) for name, _, value in split]


def connect(address: Address, timeout: float = 30) -> Connection:
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(sock)


def proxy_authorization(user: str, password: str = "") -> tuple[str, str]:
    """The field a client makes of `http://user:password@proxy`: it undoes percent-encoding."""
    pair = f"{unquote(user)}:{password}".encode()
    return ("Proxy-Authorization", "Basic " + b64encode(pair).decode())


def request_bytes(method: str, target: str, host: str, fields: Pairs = (), body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1"]
    names = {name.lower() for name, _ in fields}
    if "host" not in names:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def tunnel(proxy: Address, host: str, port: int, user: str | None = None, timeout: float = 30) -> Connection:
    """CONNECT, without TLS inside yet. Raises AssertionError with the proxy's answer where it refuses."""
    connection = connect(proxy, timeout)
    fields = [proxy_authorization(user)] if user else []
    connection.send(request_bytes("CONNECT", f"{host}:{port}", f"{host}:{port}", fields))
    reply = connection.head()
    if reply.status != 200:
        reply.body = b"".join(connection.body_chunks(reply))
        connection.close()
        raise Refused(reply)
    return connection


class Refused(Exception):
    """CONNECT was not answered with 200."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"CONNECT was answered {reply.status} {reply.reason}: {reply.body[:200]!r}")
        self.reply = reply


def start_tls(connection: Connection, host: str, context: ssl.SSLContext) -> Connection:
    return Connection(context.wrap_socket(connection.sock, server_hostname=host))


def open_through(
    proxy: Address, url: str, context: ssl.SSLContext, user: str | None = None, timeout: float = 30
) -> Connection:
    """A connection on which requests for `url` can be sent (see `target_of`)."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        return connect(proxy, timeout)
    host = parts.hostname or ""
    return start_tls(tunnel(proxy, host, parts.port or 443, user, timeout), host, context)


def target_of(url: str) -> tuple[str, str]:
    """The request target as a proxy gets it (absolute form for http, RFC 9112 §3.2.2), and the Host field."""
    parts = urlsplit(url)
    origin_form = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return (url if parts.scheme == "http" else origin_form), parts.netloc
