"""What the cache hands to a door: a response head and a body that is whole, streamed or absent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Literal

from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import Fields, Request, Response, Version
from buffy_proxy.errors import OriginError


class Answer:
    """A response ready to be written. One of `content` and `stream` holds the body; both None: no body.

    fields        end-to-end fields, Cache-Status and Via included; framing is the door's business
    size          body length in bytes, None where only the end of the stream tells
    source        where the body's bytes come from, for the counters; who reads along costs the origin nothing
    version       the version of a plain hit, which the same request gets as long as the resource has this
                  `stamp` (Store.peek) and the version is fresh; None for all else
    origin_error  RFC 9209's word for what went wrong with the origin, if something did
    close()       must be called once, whether or not the stream was read to its end
    """

    def __init__(
        self,
        status: int,
        reason: bytes,
        fields: Fields,
        *,
        cache_status: bytes,
        content: bytes | None = None,
        stream: AsyncIterator[bytes] | None = None,
        size: int | None = None,
        source: Literal["cache", "origin", "buffy"] = "origin",
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.cache_status = cache_status
        self.content = content
        self.stream = stream
        self.size = len(content) if content is not None else size
        self.source = source
        self.resource_id: str | None = None
        self.version: Version | None = None
        self.stamp: bytes | None = None
        self.origin_error: str | None = None
        self._on_close = on_close

    @property
    def decision(self) -> str:
        """The word of RFC 9211 for what was done: `hit`, or why the request went forward."""
        word = self.cache_status.split(b";", 2)[1].strip()
        return word.removeprefix(b"fwd=").decode("ascii")

    @property
    def hit(self) -> bool:
        """RFC 9211 §2.1: satisfied by the cache."""
        return self.cache_status.startswith(b"buffy; hit")

    def close(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


def passed_fields(head: Response, cache_status: bytes) -> Fields:
    """The fields of an origin's response for the client: hop-by-hop ones gone, Via and Cache-Status added."""
    return (*f.via(f.end_to_end(head.fields)), (b"Cache-Status", cache_status))


def plain(status: int, text: str, cache_status: bytes, extra: Fields = ()) -> Answer:
    """An answer of Buffy's own, as text."""
    content = text.encode()
    fields: Fields = (
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(content)),
        (b"Cache-Control", b"no-store"),
        (b"Cache-Status", cache_status),
        *extra,
    )
    reason = HTTPStatus(status).phrase.encode()
    return Answer(status, reason, fields, cache_status=cache_status, content=content, source="buffy")


def last_recipient(request: Request, head: Response) -> Answer:
    """Buffy's own answer to a request that is to be forwarded no more (Max-Forwards)."""
    content = rules.trace(request) if request.method == "TRACE" else b""
    status = f.cache_status(fwd="bypass", detail="Max-Forwards: 0")
    fields = (*head.fields, (b"Content-Length", b"%d" % len(content)), (b"Cache-Status", status))
    return Answer(head.status, head.reason, fields, cache_status=status, content=content, source="buffy")


def proxy_status(error: OriginError) -> tuple[bytes, bytes]:
    """The field that says what went wrong with the origin (RFC 9209)."""
    return b"Proxy-Status", f"buffy; error={error.word}; details={f.sf_string(str(error))}".encode()


def gateway_error(url: str, fwd: f.Fwd, error: OriginError, hint: str) -> Answer:
    """502 or 504 that says what happened, in words and in Proxy-Status (RFC 9209), and what to do."""
    status = 504 if error.word.endswith("timeout") else 502
    text = f"Buffy could not get {url}: {error}. {hint}\n"
    answer = plain(status, text, f.cache_status(fwd=fwd, detail=error.word), (proxy_status(error),))
    answer.origin_error = error.word
    return answer
