"""Between the values of Buffy and the models of the v1 API. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from buffy_proxy.control_api import schemas as s
from buffy_proxy.control_api.desk import Card, Desk
from buffy_proxy.control_api.digests import Digests
from buffy_proxy.control_api.filenames import filename
from buffy_proxy.control_api.shelf import Entry
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules, strategies
from buffy_proxy.core.keys import SECRET_PARAMETERS
from buffy_proxy.core.model import DEFAULT_GROUP, Fields, Resource, Version
from buffy_proxy.errors import BodyMissing
from buffy_proxy.orders import Order, Wanted, progress, wanted_of

REDACTED: Final = "********"
DEFAULT_HASH: Final = "md5"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- in -----------------------------------------------------------------------------------------------------


def wanted(wish: s.RequestIn) -> Wanted:
    """Null parameters are left out, as `requests` does."""
    params = {key: value for key, value in (wish.http_query_params or {}).items() if value is not None}
    return Wanted(
        url=wish.url,
        method=wish.http_method.upper(),
        params=params,
        header_fields={name: str(value) for name, value in (wish.http_header_fields or {}).items()},
        body=wish.http_request_body or {},
        group=wish.group_name or DEFAULT_GROUP,
    )


def card(wish: s.RequestIn) -> Card:
    given = "validation_hash_type" in wish.model_fields_set
    about = {
        "description": wish.description,
        "documentation_link": wish.documentation_link,
        "validation_hash_type": (wish.validation_hash_type or DEFAULT_HASH) if given else None,
    }
    configuration = wish.cache_configuration
    return Card(policy(configuration) if configuration is not None else None, about)


def policy(configuration: s.CacheConfigurationIn) -> dict[str, Any]:
    return {
        "recaching_strategy": configuration.recaching_strategy.model_dump(),
        "max_cached_unpinned_versions": configuration.max_cached_unpinned_versions,
        "max_cached_pinned_versions": configuration.max_cached_pinned_versions,
    }


# -- out ----------------------------------------------------------------------------------------------------


def utc_text(posix_s: float) -> str:
    """Naive ISO 8601 in UTC. Times beyond the calendar are its ends."""
    try:
        moment = _EPOCH + timedelta(seconds=posix_s)
    except OverflowError:
        moment = datetime.max if posix_s > 0 else datetime.min
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Translator:
    """What the routes need to answer; `secret` keys the digests that stand for secrets in URLs."""

    desk: Desk
    digests: Digests
    secret: bytes

    def configuration(self, resource: Resource) -> s.RequestCacheConfiguration:
        in_force = self.desk.policy(resource)
        stored: Mapping[str, Any] = resource.policy or {
            "recaching_strategy": {"strategy_name": "when_remote_changed"},
            "max_cached_unpinned_versions": in_force.retention.max_cached_unpinned_versions,
            "max_cached_pinned_versions": in_force.retention.max_cached_pinned_versions,
        }
        return s.RequestCacheConfiguration(
            request_id=resource.id,
            strategy_in_force=strategies.to_json(in_force.strategy),
            decided_by=in_force.source,
            **stored,
        )

    def request(self, resource: Resource) -> s.Request:
        return s.Request(**self._request(resource))

    def ordered(self, resource: Resource, current: Entry | None) -> s.OrderedRequest:
        response = None if current is None else self.response(resource, current)
        return s.OrderedRequest(**self._request(resource), current_response=response)

    def _request(self, resource: Resource) -> dict[str, Any]:
        what, info = wanted_of(resource), resource.info
        return {
            "id": resource.id,
            "url": rules.redact_url(what.url, self.secret),
            "http_method": what.method.lower(),
            "http_header_fields": {k: _shown(k, v) for k, v in what.header_fields.items()},
            "http_query_params": _without_secrets(what.params),
            "http_request_body": _without_secrets(what.body),
            "group_name": what.group,
            "description": info.get("description"),
            "documentation_link": info.get("documentation_link"),
            "validation_hash_type": hash_type(resource),
            "cache_configuration": self.configuration(resource),
            "request_timestamp": resource.requested_at,
            "inital_request_datetime_utc": utc_text(resource.created_at),
            "latest_request_datetime_utc": utc_text(resource.requested_at),
        }

    def response(self, resource: Resource, entry: Entry) -> s.Response:
        """Hashes the content where that was not done yet: not for the event loop."""
        now, version, order = time.time(), entry.version, entry.order
        requested_at = order.created_at if order is not None else None
        if version is not None and order is None:
            requested_at = version.requested_at
        until = version.pinned_until if version is not None and entry.pinned(now) else None
        return s.Response(
            id=f"{resource.id}-{entry.name}",
            request_id=resource.id,
            version=entry.name,
            previous_version=entry.previous,
            next_version=entry.next,
            status=entry.status,
            content_download_path=f"request/{resource.id}/response/v/{entry.name}/content",
            cached_datetime_utc=None if version is None else utc_text(version.cached_at),
            request_datetime_utc=None if requested_at is None else utc_text(requested_at),
            pinned=entry.pinned(now),
            pinned_until_utc=None if until is None or until == float("inf") else utc_text(until),
            tags=sorted(entry.tags),
            download_stats=_stats(entry, now),
            content_attributes=_attributes(resource, version, order),
            content_hash_hex=self._hash(resource, version),
        )

    def _hash(self, resource: Resource, version: Version | None) -> str | None:
        try:
            return None if version is None else self.digests.hex(version.body, hash_type(resource))
        except BodyMissing:
            return None


def hash_type(resource: Resource) -> str:
    return str(resource.info.get("validation_hash_type") or DEFAULT_HASH)


def _shown(name: str, value: object) -> str:
    secret = name.lower().encode("latin-1", "replace") in rules.SECRET_FIELDS
    return REDACTED if secret else str(value)


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: REDACTED if name.lower() in SECRET_PARAMETERS else value for name, value in values.items()}


_STATES: Final[Mapping[str, Any]] = {
    "wait": "init",
    "in_progress": "downloading",
    "ready": "finished",
    "duplicate": "finished",
    "failed": "failed",
}


def _stats(entry: Entry, now: float) -> s.DownloadStats:
    """From the order; a version whose order is forgotten, or that came through the proxy, has only sizes."""
    size = None if entry.version is None else entry.version.body.size
    stats = s.DownloadStats(
        state=_STATES[entry.status], downloaded_bytes=size or 0, total_bytes_to_download=size
    )
    if (order := entry.order) is None:
        return stats
    seconds, rate = progress(order, now)
    update = {
        "downloaded_bytes": order.downloaded if size is None else size,
        "avg_bytes_per_sec": round(rate),
        "download_running_duration_sec": seconds,
        "download_start_time_unix_ts": order.started_at,
        "total_bytes_to_download": order.total if size is None else size,
        "error": order.error,
    }
    return stats.model_copy(update=update)


def _attributes(resource: Resource, version: Version | None, order: Order | None) -> s.ContentAttributes:
    fields = version.fields if version is not None else _fields(order)
    if not fields and version is None:
        return s.ContentAttributes()
    media_type = (_text(fields, b"content-type") or "").partition(";")[0].strip().lower() or None
    disposition = _text(fields, b"content-disposition")
    modified = f.http_date(f.first(fields, b"last-modified") or b"")
    expected = order.total if order is not None else None
    return s.ContentAttributes(
        media_type=media_type,
        etag=_text(fields, b"etag"),
        content_size_bytes=expected if version is None else version.body.size,
        last_modified_datetime_utc=None if modified is None else utc_text(modified),
        filename=filename(disposition, wanted_of(resource).url, media_type),
        content_disposition=disposition,
    )


def _fields(order: Order | None) -> Fields:
    lines = order.fields if order is not None else ()
    return tuple(
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in lines
    )


def _text(fields: Fields, name: bytes) -> str | None:
    """UTF-8 where it is that (file names often are, against the RFC), else latin-1, which is always valid."""
    value = f.first(fields, name)
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
