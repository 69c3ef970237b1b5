"""Short ways to write requests, responses and versions in tables. Everything happens at time `T`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from buffy_proxy.core.fields import format_http_date
from buffy_proxy.core.model import BodyRef, CacheKey, Fields, Request, Response, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http, Never, Strategy

T = 1_700_000_000.0
URL = "https://example.org/data"
SECRET = b"s" * 32
BODY = b"0123456789"
HTTP = Policy(Http())
NEVER = Policy(Never())
KEY = CacheKey("k", "DEFAULT_GROUP", "GET", URL)


def fields(*lines: str) -> Fields:
    """`fields("Age: 3")`; values may hold obs-text."""
    return tuple(
        (n.encode(), v.strip().encode("latin-1")) for n, _, v in (line.partition(":") for line in lines)
    )


def date(at: float = T) -> str:
    """An IMF-fixdate."""
    return format_http_date(at).decode()


def request(*lines: str, method: str = "GET", url: str = URL, **more: Any) -> Request:
    return Request(method=method, url=url, fields=fields(*lines), **more)


def response(status: int, *lines: str) -> Response:
    return Response(status, b"", fields(*lines))


def version(*lines: str, status: int = 200, body: bytes = BODY, asked: Fields = (), **more: Any) -> Version:
    """A version that came at T, fresh for ever unless `fresh_until` is given, dated T unless Date is."""
    has_date = any(line.lower().startswith("date:") for line in lines)
    made = Version(
        resource_id=KEY.id,
        name="0" * 11,
        status=status,
        reason=b"",
        fields=fields(*lines, *(() if has_date else (f"Date: {date()}",))),
        body=BodyRef(hashlib.sha256(body).hexdigest(), len(body)),
        request_fields=asked,
        requested_at=T,
        received_at=T,
        cached_at=T,
        validated_at=T,
        fresh_until=float("inf"),
    )
    return replace(made, **more)


def policy(strategy: Strategy, **more: Any) -> Policy:
    return Policy(strategy, **more)
