"""`GET …/content`: the stored bytes, exactly, as a file of their own.

The URL names one version, so the answer is always 200 with a strong ETag, whatever status and validators the
origin gave; ranges and conditions are answered against those. Pages from the web must not act for the user
on this origin: they are sandboxed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from buffy_proxy import serving
from buffy_proxy.answer import Answer
from buffy_proxy.control_api.refusals import NotReady
from buffy_proxy.control_api.shelf import Entry
from buffy_proxy.core.model import Fields, Request, Version
from buffy_proxy.errors import NotFound
from buffy_proxy.store import Store

AS_STORED: Final = (b"content-type", b"content-disposition", b"content-encoding", b"content-language")
GUARDS: Final[Fields] = (
    (b"Accept-Ranges", b"bytes"),
    (b"Cache-Control", b"private, no-cache"),
    (b"Content-Security-Policy", b"sandbox"),
    (b"X-Content-Type-Options", b"nosniff"),
)


def answer_for(store: Store, entry: Entry, request: HttpRequest) -> Response:
    """Raises NotReady, NotFound for what has no content, BodyMissing."""
    version = with_content(entry)
    fields = _fields(version)
    shown = replace(version, status=200, reason=b"OK", fields=fields)
    asked = Request(request.method, version.resource_id, tuple(request.headers.raw))
    return Stored(serving.from_store(store, asked, shown, fields, b"buffy; hit"))


def with_content(entry: Entry) -> Version:
    """The version whose bytes an entry stands for."""
    if entry.version is not None:
        return entry.version
    if entry.pending:
        raise NotReady(f"Version {entry.name!r} is still being fetched.")
    error = entry.order.error if entry.order is not None else None
    raise NotFound(
        f"Version {entry.name!r} has no content, its download failed: {error or 'no reason known'}"
    )


def _fields(version: Version) -> Fields:
    kept = tuple((name, value) for name, value in version.fields if name.lower() in AS_STORED)
    return (*kept, (b"ETag", b'"%s"' % version.body.digest.encode()), *GUARDS)


class Stored(StreamingResponse):
    """Sends an Answer chunk by chunk, and closes it however that ends."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(_chunks(answer), answer.status)
        self._answer = answer
        self.raw_headers = [
            (name.lower(), value) for name, value in answer.fields if name.lower() != b"cache-status"
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()


async def _chunks(answer: Answer) -> AsyncIterator[bytes]:
    if answer.content:
        yield answer.content
    if answer.stream is not None:
        async for chunk in answer.stream:
            yield chunk
