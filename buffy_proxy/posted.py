"""Answers to POST that are what a GET of the same URL would give: RFC 9110 §9.3.3.

mitmproxy forwards requests with bodies itself, so what is kept is recorded while it passes by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from buffy_proxy.config import Config
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import BodyRef, Request, Response, Version
from buffy_proxy.errors import StoreError
from buffy_proxy.keeping import Come, Keeper
from buffy_proxy.lookup import Looked, look_up
from buffy_proxy.store import BodyWriter, Store

log = logging.getLogger("buffy.cache")

MAX_POSTED = 1 << 20
"""Bytes: longer answers are passed on only, since they are written in the event loop."""


class Recording:
    """One answer on its way; give it all chunks, then `commit`, or `abort`."""

    def __init__(self, keeper: Keeper, looked: Looked, draft: Version, writer: BodyWriter) -> None:
        self._keeper = keeper
        self._looked = looked
        self._draft = draft
        self._writer: BodyWriter | None = writer

    def feed(self, chunk: bytes) -> None:
        """Never raises: a version that cannot be kept costs the client nothing."""
        if self._writer is None:
            return
        try:
            if self._writer.size + len(chunk) > MAX_POSTED:
                self.abort()
            else:
                self._writer.write(chunk)
        except StoreError:
            self.abort()

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()
            self._writer.close()
            self._writer = None

    async def commit(self) -> None:
        """The answer came whole. Never raises."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            version = replace(self._draft, body=await asyncio.to_thread(writer.finish))
            come = Come(self._looked.key, version, writer, self._looked.policy.retention, self._planned)
            await self._keeper.keep(come)
        except StoreError as error:
            log.debug("an answer to POST %s is not stored: %s", self._looked.key.url, error)
        finally:
            writer.close()

    def _planned(self, version: Version, now: float) -> Version:
        return rules.planned(version, self._looked.policy, self._looked.key, now)


def record(
    store: Store,
    config: Config,
    keeper: Keeper,
    clock: Callable[[], float],
    request: Request,
    head: Response,
    requested_at: float,
) -> Recording | None:
    """A recording of the answer to a POST, where a later GET may have it; else None. Raises StoreError."""
    if not rules.answers_get(request, head):
        return None
    now, get = clock(), rules.as_get(request)
    looked = look_up(store, config, get)
    allowed = config.plugins.storability(get, head, looked.policy, looked.key, now)
    if not looked.policy.strategy.obeys_origin or not isinstance(allowed, rules.Store):
        return None
    draft = Version(
        resource_id=looked.key.id,
        name="",
        status=head.status,
        reason=head.reason,
        fields=rules.without_named(f.end_to_end(head.fields), looked.policy.targets),
        body=BodyRef("", 0),
        request_fields=rules.without_secrets(get.fields),
        requested_at=requested_at,
        received_at=now,
        cached_at=now,
        validated_at=now,
        fresh_until=now,
    )
    draft = rules.planned(draft, looked.policy, looked.key, now)
    return Recording(keeper, looked, draft, store.new_body()) if draft.fresh_until > now else None
