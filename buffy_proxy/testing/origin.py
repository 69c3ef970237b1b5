"""A web server on loopback that does what a test says: what it serves, how it fails, who asked for what.

    with Origin() as origin:
        data = origin.serve("/data", b"one", {"Cache-Control": "max-age=60"})
        …                       # ask for data.url through Buffy
        data.body = b"two"      # the origin has changed
        data.fail(503)          # and now it fails
        assert data.count == 1

Every request is answered in a thread of its own.
"""

from __future__ import annotations

import functools
import hashlib
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from buffy_proxy.testing.listener import Listener
from buffy_proxy.testing.messages import Answer, Received
from buffy_proxy.testing.waiting import wait_until
from buffy_proxy.throwaway import HOST, certificates

Failure = int | Literal["close", "truncate"]
Body = bytes | Callable[[Received], bytes]


@dataclass
class Route:
    """What the origin answers at one path. All of it may be changed at any time.

    body        the content, or a function that makes it from the request
    fields      response fields; Content-Length and Date come by themselves, and an ETag of the content unless
                one is given here (None stands for "no such field")
    failure     None, a status, "close" (no answer at all) or "truncate" (half of the content)
    requests    what was asked for, oldest first
    """

    url: str
    body: Body = b""
    fields: dict[str, str | None] = field(default_factory=dict)
    status: int = 200
    failure: Failure | None = None
    requests: list[Received] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How often it was asked for."""
        return len(self.requests)

    def fail(self, failure: Failure = 503) -> None:
        """Fails from now on."""
        self.failure = failure

    def recover(self) -> None:
        """Answers again as before `fail`."""
        self.failure = None

    def wait(self, count: int, timeout_s: float = 10.0) -> Received:
        """The request number `count` (from 1), as soon as it is there; AssertionError if it does not come."""
        wait_until(lambda: self.count >= count, timeout_s, f"{count} requests for {self.url}")
        return self.requests[count - 1]

    def answer(self, request: Received) -> Answer | None:
        """What goes out for this request; None: the connection is closed."""
        self.requests.append(request)
        match self.failure:
            case "close":
                return None
            case int() as status:
                return Answer(status, {}, b"the origin fails, as the test wants\n")
            case _:
                return self._content(request, truncated=self.failure == "truncate")

    def _content(self, request: Received, *, truncated: bool) -> Answer:
        body = self.body(request) if callable(self.body) else self.body
        fields = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"', **self.fields}
        given = {name: value for name, value in fields.items() if value is not None}
        if self.status == 200 and _unchanged(request, given):
            return Answer(304, given, b"")
        return Answer(self.status, given, body, truncated)


class Origin:
    """An HTTP origin on a free port, or an HTTPS one whose authority every `RunningBuffy` trusts."""

    def __init__(self, *, tls: bool = False) -> None:
        self.requests: list[Received] = []
        self._routes: dict[str, Route] = {}
        self._listener = Listener(self._answer, _server_context() if tls else None)
        self._base = f"http{'s' if tls else ''}://{HOST if tls else '127.0.0.1'}:{self._listener.port}"

    def serve(
        self,
        path: str,
        body: Body = b"",
        fields: Mapping[str, str | None] | None = None,
        *,
        status: int = 200,
    ) -> Route:
        """Answers at `path`, whatever the query, and gives the route, whose `url` is what to ask for."""
        route = Route(self.url(path), body, dict(fields or {}), status)
        self._routes[path] = route
        return route

    def url(self, path: str) -> str:
        """The URL of a path; where nothing is served it is answered 404."""
        return self._base + path

    def stop(self) -> None:
        """Refuses connections, and drops those there are."""
        self._listener.stop()

    def start(self) -> None:
        """Listens again, on the same port."""
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, request: Received) -> Answer | None:
        self.requests.append(request)
        route = self._routes.get(request.path)
        return Answer(404, {}, b"nothing here\n") if route is None else route.answer(request)


def _unchanged(request: Received, fields: Mapping[str, str]) -> bool:
    """RFC 9110 §13.2.2: If-None-Match comes first, If-Modified-Since counts only without it."""
    if request.method not in ("GET", "HEAD"):
        return False
    lower = {name.lower(): value for name, value in fields.items()}
    if (known := request.get("If-None-Match")) is not None:
        return "etag" in lower and lower["etag"] in known
    since = request.get("If-Modified-Since")
    return since is not None and since == lower.get("last-modified")


# -- TLS ----------------------------------------------------------------------------------------------------


@functools.cache
def _files() -> tuple[tempfile.TemporaryDirectory[str], Path, Path]:
    """One authority for all origins of a process. The directory goes with the process."""
    directory = tempfile.TemporaryDirectory(prefix="buffy-origins-")
    return directory, *certificates(Path(directory.name), "Buffy testing, throw-away CA")


def authority_file() -> Path:
    """The certificate (PEM) of the authority of all `Origin(tls=True)`."""
    return _files()[1]


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_files()[2])
    context.set_alpn_protocols(["http/1.1"])
    return context
