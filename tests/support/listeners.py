"""Plain TCP (or TLS) listeners that are no HTTP origin: an echo, a silent port, and an upstream proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

Serve = Callable[[socket.socket], None]


class Listener:
    """Accepts on a free loopback port and gives every connection to `serve` in a thread; counts them."""

    def __init__(self, serve: Serve, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.serve, self.context = serve, context
        self.connections = 0
        self.sock = socket.create_server((host, 0))
        self.host, self.port = self.sock.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.sock.accept()
                self.connections += 1
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self.context is not None:
                client = self.context.wrap_socket(client, server_side=True)
            with client:
                self.serve(client)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def echo(client: socket.socket) -> None:
    """Sends a greeting (so that the server speaks first), then everything back."""
    client.sendall(b"hello\n")
    while data := client.recv(65536):
        client.sendall(data)


def silent(client: socket.socket) -> None:
    """Reads and never answers."""
    while client.recv(65536):
        pass


class Relay(Listener):
    """An upstream proxy: CONNECT and absolute-form requests.

    `hosts` maps names to addresses, so that a test may use names which no resolver knows; `asked` lists the
    authorities it was asked for.
    """

    def __init__(self, hosts: dict[str, tuple[str, int]] | None = None) -> None:
        self.hosts = hosts or {}
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        super().__init__(self._relay)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def _relay(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := client.recv(65536)):
                return
            head += data
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        authority = target if method == "CONNECT" else urlsplit(target).netloc
        self.asked.append(authority)
        with socket.create_connection(self._address(authority), 10) as origin:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                origin.sendall(head.replace(target.encode(), (urlsplit(target).path or "/").encode(), 1))
            there = threading.Thread(target=pump, args=(client, origin), daemon=True)
            there.start()
            pump(origin, client)
            there.join(10)

    def _address(self, authority: str) -> tuple[str, int]:
        host, _, port = authority.rpartition(":") if ":" in authority else (authority, "", "80")
        return self.hosts.get(host) or (host, int(port))


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copies until the source ends, then half-closes the target."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
