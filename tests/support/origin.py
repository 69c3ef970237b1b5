"""A scripted origin: full control of every byte it sends, and a memory of every byte it received.

It runs in a thread of its own. A *script* answers the requests for one path; it is an async callable
`(request, peer)` or a row of steps: bytes are sent, a number sleeps that many seconds, a `threading.Event` is
waited for, CLOSE and RESET end the connection. `support.answers` makes the usual ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

CLOSE, RESET = "close", "reset"
KEPT_BODY = 1 << 20

Result = TypeVar("Result")
Step = bytes | float | int | threading.Event | str
Script = Callable[..., Awaitable[None]] | Iterable[Step]


@dataclass
class Received:
    """A request as it came. `body` holds its first MiB, `size` and `digest` tell of all of it.

    `connection` numbers the TCP connections, `first_body_byte` is set as soon as one is there, `done` when
    the script has ended.
    """

    method: str
    target: str
    head: bytes
    fields: list[tuple[str, str]]
    connection: int
    at: float = field(default_factory=time.monotonic)
    body: bytes = b""
    size: int = 0
    digest: str = ""
    first_body_byte: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


class Peer:
    """The connection as a script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.open = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait(self, event: threading.Event) -> None:
        while not event.is_set():
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.open = False
        self.writer.close()

    async def reset(self) -> None:
        """Ends the connection with RST: no FIN, no TLS close."""
        self.open = False
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case bytes():
                    await self.send(step)
                case threading.Event():
                    await self.wait(step)
                case "close":
                    await self.close()
                case "reset":
                    await self.reset()
                case int() | float():
                    await asyncio.sleep(step)
                case _:
                    raise TypeError(f"no such step: {step!r}")


class Origin:
    """`on(path, script)` for one path, `on(prefix + "*", script)` for all below it; the longest wins."""

    def __init__(self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.scheme = "https" if context else "http"
        self.host, self.port = host, 0
        self.connections = 0
        self.received: list[Received] = []
        self._context = context
        self._scripts: dict[str, Script] = {}
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin", daemon=True)
        self._thread.start()
        self.start()

    # -- for tests -------------------------------------------------------------------------------------------
    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    def url(self, path: str, host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"

    def on(self, path: str, script: Script) -> str:
        """Scripts a path and gives its URL."""
        self._scripts[path] = script
        return self.url(path.rstrip("*"))

    def seen(self, path: str) -> list[Received]:
        return [request for request in list(self.received) if request.path == path]

    def hits(self, path: str) -> int:
        return len(self.seen(path))

    def wait(self, path: str, count: int = 1, timeout: float = 10) -> Received:
        """The `count`-th request for `path`, as soon as its head is there."""
        deadline = time.monotonic() + timeout
        while self.hits(path) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.hits(path)} requests for {path} after {timeout} s, not {count}")
            time.sleep(0.005)
        return self.seen(path)[count - 1]

    def start(self) -> None:
        """Listens (again), on the same port as before."""
        self._server = self._call(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Refuses connections and drops the ones there are; `start` brings it back."""
        self._call(self._drop())

    def shut_down(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # -- inside its thread -----------------------------------------------------------------------------------
    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(
            self._accept, self.host, self.port, ssl=self._context, limit=1 << 20, backlog=512
        )

    async def _drop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError, EOFError):
                await self._serve(Peer(reader, writer), self.connections)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, peer: Peer, number: int) -> None:
        while peer.open:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            request = _parse(head, number)
            script = self._script(request.path)
            self.received.append(request)
            try:
                if not getattr(script, "reads_body", False):
                    await self._read_body(peer, request)
                await (script(request, peer) if callable(script) else peer.run(script))
            except BaseException as failure:
                request.failure = failure
                raise
            finally:
                request.done.set()
            if (request.get("connection") or "").lower() == "close":
                return

    def _script(self, path: str) -> Script:
        if path in self._scripts:
            return self._scripts[path]
        prefixes = [p for p in self._scripts if p.endswith("*") and path.startswith(p[:-1])]
        return self._scripts[max(prefixes, key=len)] if prefixes else NOTHING_HERE

    async def _read_body(self, peer: Peer, request: Received) -> None:
        digest = hashlib.sha256()
        if (request.get("expect") or "").lower() == "100-continue":
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for chunk in _body(peer.reader, request):
            request.first_body_byte.set()
            request.size += len(chunk)
            request.body += chunk[: KEPT_BODY - len(request.body)]
            digest.update(chunk)
        request.digest = digest.hexdigest()


NOTHING_HERE: tuple[Step, ...] = (b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nnot here\r\n",)


def _parse(head: bytes, connection: int) -> Received:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Received(method, target, head, pairs, connection)


async def _body(reader: asyncio.StreamReader, request: Received) -> AsyncIterator[bytes]:
    if "chunked" in (request.get("transfer-encoding") or "").lower():
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return
    left = int(request.get("content-length") or 0)
    while left:
        chunk = await reader.read(min(left, 1 << 18))
        if not chunk:
            raise EOFError
        left -= len(chunk)
        yield chunk
