"""A web server on loopback with a throw-away CA: plain files over HTTPS, and a note of who asked for them."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from buffy_proxy.throwaway import HOST, certificates


@dataclass(slots=True)
class Origin:
    """What is served, by path, and for each request its path and whether a Via field shows it was proxied."""

    url: str
    ca_file: Path
    goods: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, bool]] = field(default_factory=list)

    def asked(self, prefix: str) -> tuple[int, int]:
        """Requests for paths below `prefix`: how many came through a proxy, how many directly."""
        proxied = [via for path, via in self.seen if path.startswith(prefix)]
        return sum(proxied), len(proxied) - sum(proxied)


@contextlib.contextmanager
def origin(directory: Path) -> Iterator[Origin]:
    """Serves HTTPS on a free port of localhost while open; its keys go to `directory`."""
    ca_file, chain = certificates(directory, "Buffy doctor, throw-away CA")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.context = context
    server.origin = Origin(f"https://{HOST}:{server.server_port}", ca_file)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="doctor origin", daemon=True)
    thread.start()
    try:
        yield server.origin
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    origin: Origin
    context: ssl.SSLContext

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that breaks off has its reasons, and the doctor asks the client for them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def setup(self) -> None:
        """The handshake happens here, in the connection's own thread, so that a bad client stops nobody."""
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.origin.seen.append((path, "Via" in self.headers))
        body = self.server.origin.goods.get(path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", _media_type(path))
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("Cache-Control", "max-age=60")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body or b"")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the doctor tells what matters."""


def _media_type(path: str) -> str:
    types: Mapping[str, str] = {"/": "text/html", "json": "application/json", "txt": "text/plain"}
    return next((kind for end, kind in types.items() if path.endswith(end)), "application/octet-stream")
