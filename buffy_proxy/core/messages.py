"""What a proxy owes both sides: the fields for the origin and those for the client (RFC 9110 §7.6).

Neither function sets the framing of an answer (Content-Length, Content-Range): who sends the bytes knows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from buffy_proxy.core.conditional import CONDITIONS
from buffy_proxy.core.fields import (
    HOP_BY_HOP,
    authority_of,
    delta_seconds,
    end_to_end,
    first,
    format_http_date,
    normalise_url,
    origin_of,
    serialise_block,
    via,
    with_field,
    without,
)
from buffy_proxy.core.freshness import current_age, explicit_lifetime
from buffy_proxy.core.keys import has_secret_parameters, without_secrets
from buffy_proxy.core.model import Fields, Request, Response, Version

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"})
"""Methods that change nothing (the IANA registry of RFC 9110 §16.1.1); unknown ones are taken as unsafe."""


def forward_fields(request: Request, *, drop_conditionals: bool) -> Fields:
    """The request fields for the origin: Host from the target URI and first (RFC 9112 §3.2.2 – a foreign Host
    would poison the cache), hop-by-hop fields gone, Via added.

    `drop_conditionals`: also without Range and the client's conditions, so that the answer can be stored
    whole. A body that came chunked and is in `request` gets its Content-Length; who streams one frames it.
    """
    kept = without(
        end_to_end(request.fields), (b"host", b"range", *CONDITIONS) if drop_conditionals else (b"host",)
    )
    if request.body and first(request.fields, b"transfer-encoding") is not None:
        kept = with_field(kept, b"Content-Length", b"%d" % len(request.body))
    kept = _forwards_one_less(request, kept)
    host = authority_of(request.url).encode("utf-8", "surrogateescape")
    return via(((b"Host", host), *kept))


def answer_fields(
    version: Version, now: float, cache_status: bytes, *, replay_cookies: bool = False
) -> Fields:
    """The response fields for a client: as stored, with Age (RFC 9111 §5.1), a Date where the origin sent
    none (RFC 9110 §6.6.1), Via, and `cache_status` as the last member of Cache-Status (RFC 9211 §2).

    Set-Cookie goes only to those who were meant: `replay_cookies` where the partition is the client's own.
    """
    hidden = _OURS if replay_cookies else _OURS | _COOKIES
    kept = [line for line in version.fields if line[0].lower() not in hidden]
    if first(version.fields, b"date") is None:
        kept.append((b"Date", format_http_date(version.received_at)))
    age = b"%d" % int(current_age(version, now))
    return (*kept, (b"Age", age), *via(()), (b"Cache-Status", cache_status))


_OURS: Final = HOP_BY_HOP | {b"age"}
_COOKIES: Final = frozenset({b"set-cookie", b"set-cookie2"})


def shared_fields(fields: Fields, *, replay_cookies: bool) -> Fields:
    """The fields of a response that came for another client just now, for those who waited along with it."""
    return fields if replay_cookies else without(fields, _COOKIES)


def answers_itself(request: Request) -> Response | None:
    """The answer to an OPTIONS or TRACE that is to go no further (Max-Forwards: 0, RFC 9110 §7.6.2); its
    content is what `trace` gives."""
    if request.method not in ("OPTIONS", "TRACE") or _max_forwards(request) != 0:
        return None
    if request.method == "TRACE":
        return Response(200, b"OK", ((b"Content-Type", b"message/http"),))
    return Response(200, b"OK", ((b"Allow", b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE"),))


def trace(request: Request) -> bytes:
    """The request as it came, without fields and queries that hold secrets (RFC 9110 §9.3.8)."""
    secret = has_secret_parameters(request.url)
    url = urlsplit(request.url)._replace(query="").geturl() if secret else request.url
    head = f"{request.method} {url} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    return head + serialise_block(without_secrets(request.fields)) + b"\r\n"


def _max_forwards(request: Request) -> int | None:
    return delta_seconds((first(request.fields, b"max-forwards") or b"").decode("latin-1"))


def _forwards_one_less(request: Request, fields: Fields) -> Fields:
    """Max-Forwards counts for OPTIONS and TRACE only; others ignore it (RFC 9110 §7.6.2)."""
    left = _max_forwards(request) if request.method in ("OPTIONS", "TRACE") else None
    return fields if not left else with_field(fields, b"Max-Forwards", b"%d" % (left - 1))


REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


def redirected(request: Request, response: Response) -> Request | None:
    """The request that follows a redirect (RFC 9110 §15.4); None where there is nothing to follow.

    303, and 301 or 302 after POST, turn into a GET without body. Credentials stay with their origin.
    """
    location = first(response.fields, b"location")
    if response.status not in REDIRECTS or location is None:
        return None
    try:
        url = normalise_url(urljoin(request.url, location.decode("utf-8", "surrogateescape")))
    except ValueError:
        return None
    method, body, fields = request.method, request.body, request.fields
    if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
        method, body = "GET", b""
        fields = without(fields, (b"content-type", b"content-length", b"content-encoding"))
    if origin_of(url) != origin_of(request.url):
        fields = without_secrets(fields)
    return replace(request, method=method, url=url, body=body, fields=fields)


def invalidated_urls(request: Request, response: Response) -> list[str]:
    """What a successful unsafe request makes invalid: its target, and Location and Content-Location where
    they have the same origin (RFC 9111 §4.4). Normalised, each once; [] for safe methods and for errors."""
    if request.method in SAFE or not 200 <= response.status < 400:
        return []
    found = [request.url]
    for name in (b"location", b"content-location"):
        reference = first(response.fields, name)
        url = _same_origin(request.url, reference) if reference is not None else None
        if url is not None and url not in found:
            found.append(url)
    return found


def answers_get(request: Request, response: Response) -> bool:
    """Whether the answer to a POST is what a GET of its target would give: a 200 that says so in
    Content-Location, with an explicit lifetime (RFC 9110 §9.3.3)."""
    location = first(response.fields, b"content-location")
    if request.method != "POST" or response.status != 200 or location is None:
        return False
    explicit = explicit_lifetime(response.fields, 0.0)
    return explicit is not None and _same_origin(request.url, location) == request.url


def as_get(request: Request) -> Request:
    """The GET for the target of a request with content."""
    described = [name for name, _ in request.fields if name.lower().startswith(b"content-")]
    return replace(request, method="GET", body=b"", fields=without(request.fields, described))


def _same_origin(base: str, reference: bytes) -> str | None:
    try:
        url = normalise_url(urljoin(base, reference.decode("utf-8", "surrogateescape")))
        return url if origin_of(url) == origin_of(base) else None
    except ValueError:
        return None
