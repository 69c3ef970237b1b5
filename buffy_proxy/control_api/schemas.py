"""What the v1 API takes and gives, as pydantic models: the contract that clients of `DZDBuffy` rely on.

Datetimes are naive ISO 8601 texts in UTC with microseconds, since those clients compare them with naive
`utcnow()`. Models for input are strict (no "3600" for 3600) but ignore keys they do not know, so that what a
GET gave can be PUT back.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from buffy_proxy.control_api.digests import HASH_TYPES
from buffy_proxy.core import strategies
from buffy_proxy.core.model import DEFAULT_GROUP

Status = Literal["wait", "in_progress", "ready", "duplicate", "failed"]
YEAR_S = 365 * 86400
MAX_DEPTH = 100
Scalar = str | int | float | bool


def _whole(value: object) -> object:
    """1.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Seconds = Annotated[int, Field(ge=0, le=100 * YEAR_S), BeforeValidator(_whole)]
Duration = Annotated[int, Field(ge=1, le=100 * YEAR_S), BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(_whole)]

UtcText = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$",
        description="Naive ISO 8601 in UTC.",
        examples=["2026-11-23T22:30:00.123456"],
    ),
]


def _known_hash(name: str) -> str:
    if name not in HASH_TYPES:
        raise ValueError(f"{name!r} is no hash type; allowed are {', '.join(HASH_TYPES)}")
    return name


HashType = Annotated[str, AfterValidator(_known_hash), Field(json_schema_extra={"enum": list(HASH_TYPES)})]


class _In(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


# -- strategies ---------------------------------------------------------------------------------------------


class _Strategy(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Never(_Strategy):
    """Fetched once, then served for ever."""

    strategy_name: Literal["never"]


class Age(_Strategy):
    """Re-fetched in the background once the newest version is older than `seconds`."""

    strategy_name: Literal["age"]
    seconds: Seconds = 3600


class Cron(_Strategy):
    """Re-fetched in the background at the times of a cron expression, in UTC."""

    strategy_name: Literal["cron"]
    cron: str = Field(default="0 0 * * *", max_length=200)
    run_at_start: bool = Field(default=True, description="Also once when the server starts.")

    @field_validator("cron")
    @classmethod
    def _usable(cls, value: str) -> str:
        strategies.next_cron_time(value, 0.0)
        return value


class WhenRequested(_Strategy):
    """Re-fetched at each order or proxied request; the stored version is the fallback when that fails."""

    strategy_name: Literal["when_requested"]


class WhenRemoteChanged(_Strategy):
    """At most once per interval the origin is asked whether it changed, and only then re-fetched. Where it
    gives no validator: like `age` with `fallback_max_age_sec`."""

    strategy_name: Literal["when_remote_changed"]
    check_interval_sec: Seconds = 21600
    fallback_max_age_sec: Seconds = 86400


class Http(_Strategy):
    """What the origin's own headers say (RFC 9111). Not part of the documented five: only answered to those
    who set it. Its rare parameters (docs/http-semantics.md) are checked where strategies are made, and shown
    where they are set."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "properties": {
                "strategy_name": {"type": "string", "const": "http", "title": "Strategy Name"},
                "targets": {
                    "type": "array",
                    "items": {"type": "string", "pattern": r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"},
                    "description": "Names of targeted fields, in order of preference (RFC 9213).",
                },
                "strict": {"type": "boolean", "description": "Stale only where the origin allows it."},
            },
            "additionalProperties": False,
        },
    )

    strategy_name: Literal["http"]


class PluginStrategy(_In):
    """A strategy of a plugin, with that strategy's own parameters (`buffy plugins` lists them)."""

    model_config = ConfigDict(extra="allow")

    strategy_name: str


def _kind(value: object) -> str:
    """The tag of a built-in strategy, else "plugin": whether there is one is for the desk to say."""
    key = "strategy_name"
    name = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
    return name if isinstance(name, str) and name in strategies.STRATEGIES else "plugin"


ReCachingStrategy = Annotated[
    Annotated[Never, Tag("never")]
    | Annotated[Age, Tag("age")]
    | Annotated[Cron, Tag("cron")]
    | Annotated[WhenRequested, Tag("when_requested")]
    | Annotated[WhenRemoteChanged, Tag("when_remote_changed")]
    | Annotated[Http, Tag("http")]
    | Annotated[PluginStrategy, Tag("plugin")],
    Discriminator(_kind),
]


class CacheConfigurationIn(_In):
    """How a request is cached: when it is fetched again, and how many versions are kept."""

    recaching_strategy: ReCachingStrategy = Field(
        default_factory=lambda: WhenRemoteChanged(strategy_name="when_remote_changed"),
        description="By default `when_remote_changed`.",
        examples=[{"strategy_name": "age", "seconds": 3601}],
    )
    max_cached_unpinned_versions: Count = 2
    max_cached_pinned_versions: Count = 10


class RequestCacheConfiguration(CacheConfigurationIn):
    """The cache configuration of a request, as it is stored.

    For a request that nobody configured, `recaching_strategy` is the documented default, and
    `strategy_in_force` is what really applies: a rule of buffy.toml, or what the origin's headers say.
    """

    request_id: str = Field(examples=["mzxw6ytboi4dcmrt"])
    strategy_in_force: dict[str, Any] = Field(examples=[{"strategy_name": "age", "seconds": 3601}])
    decided_by: str = Field(description="`its order`, a rule, or `default`.", examples=["its order"])


# -- requests -----------------------------------------------------------------------------------------------


class RequestIn(_In):
    """A wish for a resource of the web. Identity is group, URL with query parameters, method, header fields
    and body; the order of keys does not matter."""

    url: str = Field(min_length=1, max_length=32768, examples=["https://example.org/data.csv"])
    http_method: Literal["get", "post", "put"] = "get"
    http_header_fields: dict[str, str | int | float] | None = Field(
        default_factory=dict, examples=[{"Accept": "text/csv"}]
    )
    http_query_params: dict[str, Scalar | list[Scalar] | None] | None = Field(
        default_factory=dict, examples=[{"year": 2026, "column": ["a", "b"]}]
    )
    http_request_body: dict[str, Any] | None = Field(
        default_factory=dict,
        description="Sent with post and put: as JSON, or as a form if the header fields say so.",
        examples=[{}],
    )
    group_name: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description=f"A sandbox of requests; null or empty: `{DEFAULT_GROUP}`.",
        examples=[DEFAULT_GROUP],
    )
    description: str | None = Field(default=None, max_length=65536, examples=["the yearly figures"])
    documentation_link: str | None = Field(
        default=None, max_length=32768, examples=["https://example.org/about"]
    )
    validation_hash_type: HashType | None = Field(default="md5", description="null: md5")
    cache_configuration: CacheConfigurationIn | None = Field(
        default=None, description="null: as it is, or `when_remote_changed` for a new request."
    )

    @model_validator(mode="after")
    def _is_text(self) -> RequestIn:
        """The body holds anything; it must still be JSON that can be sent."""
        if _deeper_than(MAX_DEPTH, self.http_request_body):
            raise ValueError(f"http_request_body is nested deeper than {MAX_DEPTH} levels")
        try:
            json.dumps(self.http_request_body, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise ValueError(f"http_request_body is not JSON that can be sent: {error}") from None
        return self


def _deeper_than(levels: int, value: object) -> bool:
    """Level by level: recursion would fail on what this is to find."""
    layer = [value]
    for _ in range(levels):
        inner = [tuple(v.values()) if isinstance(v, dict) else v for v in layer if isinstance(v, dict | list)]
        layer = [item for items in inner for item in items]
    return bool(layer)


class Request(BaseModel):
    """A known request. Values of secret header fields and parameters are replaced."""

    id: str = Field(examples=["mzxw6ytboi4dcmrt"])
    url: str = Field(examples=["https://example.org/data.csv"])
    http_method: str = Field(
        description="`get`, `post` or `put`; others only where a rule caches them.", examples=["get"]
    )
    http_header_fields: dict[str, str]
    http_query_params: dict[str, Any]
    http_request_body: dict[str, Any]
    group_name: str = Field(examples=[DEFAULT_GROUP])
    description: str | None
    documentation_link: str | None
    validation_hash_type: str = Field(examples=["md5"])
    cache_configuration: RequestCacheConfiguration
    request_timestamp: float = Field(
        description="Of the latest order, POSIX s.", examples=[1795559400.123456]
    )
    inital_request_datetime_utc: UtcText  # spelled so by the contract
    latest_request_datetime_utc: UtcText


class RegistrationStatus(BaseModel):
    """Whether an order has reached the store."""

    status: Literal["registered", "not_registered", "not_existent"]


# -- responses ----------------------------------------------------------------------------------------------


class DownloadStats(BaseModel):
    """How the download of a version went, or goes."""

    downloaded_bytes: int = 0
    avg_bytes_per_sec: int | None = None
    download_running_duration_sec: float | None = None
    download_start_time_unix_ts: float | None = None
    total_bytes_to_download: int | None = Field(default=None, description="null: the origin does not say")
    state: Literal["init", "downloading", "failed", "finished"]
    error: str | None = None


class ContentAttributes(BaseModel):
    """What the response headers say about the content; all null until they are known."""

    media_type: str | None = Field(default=None, examples=["text/csv"])
    etag: str | None = Field(default=None, description="Of the origin.")
    content_size_bytes: int | None = None
    last_modified_datetime_utc: UtcText | None = None
    filename: str | None = Field(default=None, examples=["data.csv"])
    content_disposition: str | None = None


class Response(BaseModel):
    """A version of what a request names: stored, or announced by an order."""

    id: str
    request_id: str
    version: str = Field(description="Sorts by time.", examples=["1htc2v5h2a0"])
    previous_version: str | None = Field(description="The next older one with content.")
    next_version: str | None = Field(description="The next newer one with content.")
    status: Status
    content_download_path: str = Field(
        description="Relative to `/v1/`.",
        examples=["request/mzxw6ytboi4dcmrt/response/v/1htc2v5h2a0/content"],
    )
    cached_datetime_utc: UtcText | None
    request_datetime_utc: UtcText | None
    pinned: bool
    pinned_until_utc: UtcText | None = Field(description="null: not pinned, or for ever")
    tags: list[str]
    download_stats: DownloadStats
    content_attributes: ContentAttributes
    content_hash_hex: str | None = Field(
        description="By the request's `validation_hash_type` (shake_128: 32 bytes, shake_256: 64 bytes)."
    )


class OrderedRequest(Request):
    """The request, and what answers it now: a version that may be used, or the order that will bring one.
    null: nothing is stored and nothing may be fetched (offline)."""

    current_response: Response | None


class PinClaim(_In):
    """Pins a version, for ever or for `duration_sec` seconds from now, or unpins it."""

    request_id: str | None = Field(default=None, description="Ignored: the path says it.")
    response_version: str | None = Field(default=None, description="Ignored: the path says it.")
    value: bool
    duration_sec: Duration | None = Field(default=None, examples=[3600])


class TagClaim(_In):
    """Adds a tag to a version (moving it there from another one), or removes it."""

    request_id: str | None = Field(default=None, description="Ignored: the path says it.")
    response_version: str | None = Field(default=None, description="Ignored: the path says it.")
    value: str = Field(pattern=r"^[A-Za-z0-9_-]{2,64}$", examples=["worked-for-me"])
    delete: bool = False
