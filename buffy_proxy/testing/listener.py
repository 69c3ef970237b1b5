"""The HTTP/1.1 server below the kit's origin: reads requests, writes answers, can go away and come back."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from buffy_proxy.testing.messages import Answer, Received

Answerer = Callable[[Received], Answer | None]

IDLE_S = 60
"""How long a connection may be silent."""
BODILESS = frozenset({204, 304})


class Listener:
    """Listens on a free port of loopback from the start; `answer` is called in many threads."""

    def __init__(self, answer: Answerer, context: ssl.SSLContext | None) -> None:
        self._answer, self._context = answer, context
        self._server: _Server | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listens, on the port it had before if it had one; nothing happens if it listens."""
        if self._server is not None:
            return
        self._server = _Server(self.port, self._answer, self._context)
        self.port = self._server.server_address[1]
        run = self._server.serve_forever
        threading.Thread(target=run, args=(0.02,), name="origin of a test", daemon=True).start()

    def stop(self) -> None:
        """Refuses connections and drops those there are; nothing happens if it does not listen."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, answer: Answerer, context: ssl.SSLContext | None) -> None:
        self.answer, self.context = answer, context
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Without asking a resolver for our name, as HTTPServer does."""
        TCPServer.server_bind(self)

    def get_request(self) -> tuple[Any, Any]:
        """The handshake comes with the first read, in the connection's thread: a bad client stops nobody."""
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop(self) -> None:
        """Ends all connections; their threads end by that."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave when they like; an error of a function that makes a body is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def answer(self) -> None:
        fields = tuple((name, value) for name, value in self.headers.items())
        made = self.server.answer(Received(self.command, self.path, fields, self._body()))
        if made is None:
            self.close_connection = True
        else:
            self._write(made)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _write(self, made: Answer) -> None:
        self.send_response_only(made.status)
        given = {name.lower() for name in made.fields}
        length = {} if made.status in BODILESS else {"Content-Length": str(len(made.body))}
        for name, value in {"Date": formatdate(usegmt=True), **length}.items():
            if name.lower() not in given:
                self.send_header(name, value)
        for name, value in made.fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and made.status not in BODILESS:
            self.wfile.write(made.body[: len(made.body) // 2] if made.truncated else made.body)
        self.close_connection = self.close_connection or made.truncated

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `requests` tells."""
