"""What the server answers, as frozen values. Fields that this client does not know are ignored.

Datetimes are naive and in UTC, as the v1 contract sends them; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from buffy_client.strategies import RequestCacheConfiguration

Model = TypeVar("Model")


def moment(text: str | None) -> datetime | None:
    """ISO 8601 to a naive datetime in UTC; None for None. An offset is honoured. Raises ValueError."""
    if text is None:
        return None
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo is None else parsed.astimezone(UTC).replace(tzinfo=None)


def pick(kind: type[Model], value: Mapping[str, Any], **converted: Any) -> Model:
    """The dataclass from those keys of `value` that it has, but for the `converted` ones."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: item for name, item in value.items() if name in known}, **converted})


@dataclass(frozen=True, slots=True)
class DownloadStats:
    """The server's download from the origin. `state` is init, downloading, failed or finished;
    `total_bytes_to_download` is None while unknown, `error` tells why it failed."""

    downloaded_bytes: int = 0
    avg_bytes_per_sec: int | None = None
    download_running_duration_sec: float | None = None
    download_start_time_unix_ts: float | None = None
    total_bytes_to_download: int | None = None
    state: str = "init"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ContentAttributes:
    """What the origin's response headers said. `filename` is None until they have arrived."""

    media_type: str | None = None
    etag: str | None = None
    content_size_bytes: int | None = None
    last_modified_datetime_utc: datetime | None = None
    filename: str | None = None
    content_disposition: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ContentAttributes:
        changed = moment(value.get("last_modified_datetime_utc"))
        return pick(cls, value, last_modified_datetime_utc=changed)


@dataclass(frozen=True, slots=True)
class Response:
    """One version. `status` is wait, in_progress, ready, failed or duplicate (of `previous_version`).

    `version` is its name, sortable by time; `content_hash_hex` is a digest of the stored bytes, of the kind
    that the request's `validation_hash_type` names.
    """

    request_id: str
    version: str
    status: str
    id: str | None = None
    previous_version: str | None = None
    next_version: str | None = None
    content_download_path: str | None = None
    cached_datetime_utc: datetime | None = None
    request_datetime_utc: datetime | None = None
    pinned: bool = False
    tags: tuple[str, ...] = ()
    download_stats: DownloadStats | None = None
    content_attributes: ContentAttributes = field(default_factory=ContentAttributes)
    content_hash_hex: str | None = None
    pinned_until_utc: datetime | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Response:
        stats = value.get("download_stats")
        return pick(
            cls,
            value,
            cached_datetime_utc=moment(value.get("cached_datetime_utc")),
            request_datetime_utc=moment(value.get("request_datetime_utc")),
            pinned_until_utc=moment(value.get("pinned_until_utc")),
            pinned=bool(value.get("pinned")),
            tags=tuple(value.get("tags") or ()),
            download_stats=pick(DownloadStats, stats) if stats else None,
            content_attributes=ContentAttributes.from_json(value.get("content_attributes") or {}),
        )

    @property
    def is_pinned(self) -> bool:
        """Pinned without end, or for a time that is not over."""
        until = self.pinned_until_utc
        return self.pinned or (until is not None and until > datetime.now(UTC).replace(tzinfo=None))

    @property
    def pending(self) -> bool:
        """The server is not done with it."""
        return self.status in ("wait", "in_progress")

    @property
    def reason(self) -> str:
        """Why its download failed, in the server's words."""
        return (self.download_stats and self.download_stats.error) or "the server gives no reason"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The server's record of a request, as an order answers it.

    `request_timestamp` names this very order. `current` is the version that answers it; None where there is
    none. `current_known` is False for servers that do not tell: those have to be asked.
    """

    id: str
    url: str
    cache_configuration: RequestCacheConfiguration
    request_timestamp: float | None = None
    validation_hash_type: str = "md5"
    current: Response | None = None
    current_known: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ticket:
        current = value.get("current_response")
        return pick(
            cls,
            value,
            cache_configuration=RequestCacheConfiguration.from_json(value["cache_configuration"]),
            validation_hash_type=value.get("validation_hash_type") or "md5",
            current=Response.from_json(current) if current else None,
            current_known="current_response" in value,
        )


@dataclass(frozen=True, slots=True)
class RequestIn:
    """What is ordered: the identity of a request (all but the last three), and what is said about it."""

    url: str
    http_method: str = "get"
    http_query_params: Mapping[str, Any] = field(default_factory=dict)
    http_request_body: Mapping[str, Any] | None = None
    http_header_fields: Mapping[str, str] = field(default_factory=dict)
    group_name: str | None = None
    description: str | None = None
    documentation_link: str | None = None
    cache_configuration: RequestCacheConfiguration | None = None

    def to_json(self) -> dict[str, Any]:
        names = (item.name for item in fields(self))
        out: dict[str, Any] = {name: getattr(self, name) for name in names}
        out["http_request_body"] = self.http_request_body or {}
        config = self.cache_configuration
        return {**out, "cache_configuration": config.to_json() if config else None}
