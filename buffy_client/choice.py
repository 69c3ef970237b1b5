"""Which version is meant: force first, then preferences as far as they go, then the server's choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from buffy_client.api import Api
from buffy_client.errors import BuffyForcedVersionError
from buffy_client.models import Response, Ticket


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants. Preferences give way, force does not; None and False wish nothing."""

    prefer_cached: bool = True
    prefer_pinned: bool | None = None
    prefer_version: str | None = None
    prefer_tag: str | None = None
    force_pinned: bool | None = None
    force_version: str | None = None
    force_tag: str | None = None

    @property
    def forced(self) -> bool:
        return bool(self.force_version or self.force_tag or self.force_pinned)

    @property
    def force(self) -> str:
        """What is forced, in words: "version 1a, pinned"."""
        parts = (
            f"version {self.force_version}" if self.force_version else "",
            f"tag {self.force_tag!r}" if self.force_tag else "",
            "pinned" if self.force_pinned else "",
        )
        return ", ".join(part for part in parts if part)


def choose(api: Api, ticket: Ticket, wishes: Wishes) -> Response | None:
    """The version to serve, possibly one that is still pending; None where the server has none at all.

    Raises BuffyForcedVersionError, BuffyServerError.
    """
    if wishes.forced:
        return _forced(api, ticket, wishes)
    return _preferred(api, ticket, wishes) or _current(api, ticket, wishes)


def _forced(api: Api, ticket: Ticket, wishes: Wishes) -> Response:
    if wishes.force_version:
        found = api.version(ticket, wishes.force_version)
    else:
        found = api.latest(ticket, tag=wishes.force_tag, pinned=wishes.force_pinned or None)
    if found is None or not _has(found, wishes):
        message = f"no version of {ticket.url} has what is forced ({wishes.force})"
        raise BuffyForcedVersionError(f"{message}: list_cached_response_versions() tells which there are")
    return found


def _has(found: Response, wishes: Wishes) -> bool:
    tagged = wishes.force_tag is None or wishes.force_tag in found.tags
    return tagged and (found.is_pinned or not wishes.force_pinned)


def _preferred(api: Api, ticket: Ticket, wishes: Wishes) -> Response | None:
    if wishes.prefer_version:
        found = api.version(ticket, wishes.prefer_version)
        if found is not None and found.status != "failed":
            return found
    for filters in _filters(wishes):
        found = api.latest(ticket, status="ready", **filters)
        if found is not None:
            return found
    return None


def _filters(wishes: Wishes) -> Iterator[dict[str, Any]]:
    """From strict to loose; `pinned` gives way before `tag`."""
    if wishes.prefer_tag and wishes.prefer_pinned:
        yield {"tag": wishes.prefer_tag, "pinned": True}
    if wishes.prefer_tag:
        yield {"tag": wishes.prefer_tag}
    if wishes.prefer_pinned:
        yield {"pinned": True}


def _current(api: Api, ticket: Ticket, wishes: Wishes) -> Response | None:
    """Without `prefer_cached` the newest, be it still on its way."""
    if not wishes.prefer_cached:
        return api.latest(ticket)
    if ticket.current_known and ticket.current is not None:
        return ticket.current
    return api.latest(ticket, status="ready") or api.latest(ticket)
