"""Requests, responses and versions made by hand, for the pure methods of strategies and for policy hooks.

Everything has a default; name only what the test is about.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from buffy_proxy.core.fields import format_http_date, names, normalise_url
from buffy_proxy.core.keys import cache_key
from buffy_proxy.core.model import (
    DEFAULT_GROUP,
    BodyRef,
    CacheKey,
    Fields,
    Request,
    Response,
    StoredBody,
    Version,
)
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http, Strategy
from buffy_proxy.core.versions import next_name
from buffy_proxy.testing.clock import Moment, posix

URL = "https://example.org/data"
STORED_AT = "2026-01-05T09:00:00Z"
"""When a version was stored unless the test says otherwise: a Monday, in office hours."""

_SECRET = b"a secret of tests"

Text = str | bytes
FieldsLike = Mapping[str, Text] | Iterable[tuple[Text, Text]]
"""HTTP fields as a dict, or as (name, value) pairs where a name occurs twice."""


def make_fields(fields: FieldsLike = ()) -> Fields:
    """The form in which plugins get fields: pairs of bytes, in order."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    return tuple((_bytes(name), _bytes(value)) for name, value in pairs)


def make_request(
    url: str = URL,
    *,
    method: str = "GET",
    fields: FieldsLike = (),
    body: bytes = b"",
    group: str = DEFAULT_GROUP,
    offline: bool = False,
) -> Request:
    """A request as hooks get it: its URL is normalised. Raises ValueError for a URL without host."""
    return Request(method, normalise_url(url), make_fields(fields), body, group, offline)


def make_response(status: int = 200, *, fields: FieldsLike = (), reason: str | None = None) -> Response:
    """The head of an origin's response; the usual reason phrase where none is given."""
    return Response(status, _reason(status, reason), make_fields(fields))


def make_version(
    body: bytes = b"content",
    *,
    at: Moment = STORED_AT,
    fields: FieldsLike = (),
    status: int = 200,
    reason: str | None = None,
    request_fields: FieldsLike = (),
    requested_at: Moment | None = None,
    received_at: Moment | None = None,
    cached_at: Moment | None = None,
    validated_at: Moment | None = None,
    fresh_until: Moment = math.inf,
    refresh_at: Moment | None = None,
    pinned_until: Moment | None = None,
    tags: Iterable[str] = (),
    name: str | None = None,
    resource_id: str | None = None,
) -> Version:
    """A version that was asked for, received, stored and validated `at` one moment, unless a time of its own
    is given. Date and Content-Length are added where `fields` have none."""
    stored = posix(at)
    return Version(
        resource_id=make_key().id if resource_id is None else resource_id,
        name=next_name(stored, None) if name is None else name,
        status=status,
        reason=_reason(status, reason),
        fields=_completed(make_fields(fields), stored, len(body)),
        body=BodyRef(hashlib.sha256(body).hexdigest(), len(body)),
        request_fields=make_fields(request_fields),
        requested_at=stored if requested_at is None else posix(requested_at),
        received_at=stored if received_at is None else posix(received_at),
        cached_at=stored if cached_at is None else posix(cached_at),
        validated_at=stored if validated_at is None else posix(validated_at),
        fresh_until=posix(fresh_until),
        refresh_at=None if refresh_at is None else posix(refresh_at),
        pinned_until=None if pinned_until is None else posix(pinned_until),
        tags=frozenset(tags),
    )


def make_stored_body(body: bytes = b"content", **version: Any) -> StoredBody:
    """A version with its content, as `is_new_version` compares them; takes what `make_version` takes."""
    return StoredBody(make_version(body, **version), lambda: body)


def make_policy(strategy: Strategy | None = None, **more: Any) -> Policy:
    """What applies to a request: `strategy` (else `http`), and further parts of `Policy` by name."""
    return Policy(Http() if strategy is None else strategy, **more)


def make_key(url: str = URL, **request: Any) -> CacheKey:
    """What names the resource of a request; takes what `make_request` takes."""
    return cache_key(make_request(url, **request), make_policy(), _SECRET)


def _completed(fields: Fields, stored: float, size: int) -> Fields:
    given = names(fields)
    added = ((b"Date", format_http_date(stored)), (b"Content-Length", b"%d" % size))
    return (*(line for line in added if line[0].lower() not in given), *fields)


def _reason(status: int, reason: str | None) -> bytes:
    usual = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    return (usual if reason is None else reason).encode("latin-1")


def _bytes(text: Text) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
