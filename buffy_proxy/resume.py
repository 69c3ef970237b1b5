"""Going on with a body where it broke off, instead of starting again (RFC 9110 §14.2, §13.1.5).

Only a whole response (200) to a GET with a known length and a validator can be resumed: `If-Range` makes sure
that the rest belongs to the same representation. An origin that answers anything but the right part is taken
at its word that it cannot: then the first error stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import Request, Response
from buffy_proxy.errors import OriginError
from buffy_proxy.origin import OriginResponse, Origins

log = logging.getLogger("buffy.fetch")

TRIES = 8
"""In a row without a single byte of progress."""
PAUSE_S = 0.25
PAUSE_MAX_S = 10.0
RETRY_AFTER_MAX_S = 60.0


async def resuming(
    origins: Origins, request: Request, origin: OriginResponse, clock: Callable[[], float]
) -> AsyncGenerator[bytes, None]:
    """The chunks of a response's body, across as many connections as it takes. Raises OriginError."""
    rest = _Rest(origins, request, origin, clock)
    received, tries = 0, 0
    try:
        while True:
            try:
                async for chunk in origin.chunks():
                    received += len(chunk)
                    tries = 0
                    yield chunk
                return
            except OriginError as error:
                if not rest.possible or (tries := tries + 1) > TRIES:
                    raise
                log.info("%s after %d bytes: going on from there", error, received)
                origin.abort()
                origin = await rest.from_(received, tries, error)
    finally:
        origin.abort()


class _Rest:
    """How to ask for the rest of one response."""

    def __init__(
        self, origins: Origins, request: Request, whole: OriginResponse, clock: Callable[[], float]
    ) -> None:
        self._origins = origins
        self._request = request
        self._total = whole.size
        self._head = whole.head
        self._clock = clock

    @property
    def possible(self) -> bool:
        head = self._head
        return (
            self._request.method == "GET"
            and head.status == 200
            and bool(self._total)
            and _condition(head) is not None
            and (f.first(head.fields, b"accept-ranges") or b"").strip().lower() != b"none"
        )

    async def from_(self, offset: int, tries: int, error: OriginError) -> OriginResponse:
        """A response that continues at `offset`; waits as long as an origin that is busy asks for. Raises
        `error`, or the newest one, when the origin does not continue."""
        pause = PAUSE_S * 2 ** (tries - 1)
        for _ in range(TRIES):
            await asyncio.sleep(min(pause, PAUSE_MAX_S))
            try:
                rest = await self._ask(offset)
            except OriginError as again:
                error, pause = again, pause * 2
                continue
            if self._continues(rest.head, offset):
                return rest
            rest.abort()
            if rest.head.status != 429 and rest.head.status < 500:
                break
            asked = f.retry_after(rest.head.fields, self._clock())
            pause = pause * 2 if asked is None else min(max(asked, PAUSE_S), RETRY_AFTER_MAX_S)
        raise error

    async def _ask(self, offset: int) -> OriginResponse:
        condition = _condition(self._head)
        assert condition is not None
        fields = (
            *rules.forward_fields(self._request, drop_conditionals=True),
            (b"Range", b"bytes=%d-" % offset),
            (b"If-Range", condition),
        )
        return await self._origins.fetch(self._request.method, self._request.url, fields)

    def _continues(self, head: Response, offset: int) -> bool:
        total = self._total or 0
        wanted = f.content_range(offset, total - 1, total)
        return (
            head.status == 206 and (f.first(head.fields, b"content-range") or b"").strip().lower() == wanted
        )


def _condition(head: Response) -> bytes | None:
    """The validator for If-Range; a weak ETag is none (RFC 9110 §13.1.5)."""
    etag = f.parse_etag(f.first(head.fields, b"etag"))
    if etag is not None:
        return None if etag.weak else bytes(etag)
    return f.first(head.fields, b"last-modified")
