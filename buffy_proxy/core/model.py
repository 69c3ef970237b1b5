"""The nouns, as frozen values.

A *resource* is what one cache key names. It has *variants* (Vary), each with *versions*: immutable stored
responses. A *pin* protects a version and makes it answer; a *tag* is a movable name over versions; a
*group* is a sandbox of resources; a *body* is content named by its sha-256.

All times are POSIX seconds as floats, all sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_GROUP = "DEFAULT_GROUP"

Fields = tuple[tuple[bytes, bytes], ...]
"""HTTP fields in wire order and wire spelling: ((b"Content-Type", b"text/html"), …). Names compare
case-insensitively; a name may occur several times (RFC 9110 §5)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a door hands it to the cache.

    `url` is the absolute target URI, already normalised by `core.fields.normalise_url`. `fields` are all
    fields as received. `body` is whole: requests whose body is streamed never reach the cache.
    """

    method: str
    url: str
    fields: Fields = ()
    body: bytes = b""
    group: str = DEFAULT_GROUP
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """The head of a response as an origin sent it: `fields` as on the wire, hop-by-hop ones included."""

    status: int
    reason: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class BodyRef:
    """Content named by the lower-case hex sha-256 of its wire bytes (content codings are not undone)."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How many versions a resource keeps, for each variant (the names are those of the v1 API)."""

    max_cached_unpinned_versions: int = 2
    max_cached_pinned_versions: int = 10


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What names a resource: `id` is a digest over all the rest (core.rules.cache_key makes it).

    `partition` is "" for requests without credentials, else a keyed digest of them; never the credential.
    `body_digest` is "" but for methods whose key holds the request body. `url` is the target URI after the
    rule's key options, with secret-looking query values replaced by their keyed digest.
    """

    id: str
    group: str
    method: str
    url: str
    partition: str = ""
    body_digest: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One cache key and what is known about it apart from its versions.

    `requested_at` drives least-recently-used eviction and is coarse (written behind). `policy` is the
    cache configuration that an order set explicitly, in JSON form, or None: then the matching rule decides.
    `info` holds what the v1 API wants to give back (description, links …); the cache does not read it.
    """

    key: CacheKey
    created_at: float
    requested_at: float
    policy: Mapping[str, Any] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.key.id


@dataclass(frozen=True, slots=True)
class Version:
    """One stored response. Its bytes never change; its metadata may be freshened (RFC 9111 §4.3.4).

    name            compact, sortable by time, unique within its resource (core.versions.next_name)
    fields          end-to-end response fields, wire order and spelling, as last freshened
    request_fields  the request fields it answered, without credentials: for Vary and for re-fetching
    requested_at    when the last response that set the fields was asked for (RFC 9111 §4.2.3: request_time)
    received_at     when its head came (response_time)
    cached_at       when these bytes were first stored
    validated_at    when the origin last confirmed them (fetch or validation)
    fresh_until     until when it may answer without asking; -inf: invalidated, +inf: for ever
    refresh_at      when the background should renew it; None: never
    pinned_until    None: not pinned; +inf: pinned for ever; a time already past counts as not pinned
    """

    resource_id: str
    name: str
    status: int
    reason: bytes
    fields: Fields
    body: BodyRef
    request_fields: Fields
    requested_at: float
    received_at: float
    cached_at: float
    validated_at: float
    fresh_until: float
    refresh_at: float | None = None
    pinned_until: float | None = None
    tags: frozenset[str] = frozenset()

    def pinned(self, now: float) -> bool:
        return self.pinned_until is not None and self.pinned_until > now


# -- what plugins are told ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A version with its content: `read()` gives all the bytes as they came over the wire (content codings
    are not undone)."""

    version: Version
    read: Callable[[], bytes] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Served:
    """A request that was answered. `url` is without secrets, `cache_status` the field of RFC 9211,
    `sent_bytes` the content that went out, `resource_id` None where nothing stored was involved."""

    method: str
    url: str
    group: str
    status: int
    cache_status: str
    sent_bytes: int
    resource_id: str | None = None
