"""What may be stored: the table of RFC 9111 §3. All responses come at T."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from buffy_proxy.core.model import Request, Response
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.storing import DoNotStore, Store, StoreError, storability
from tests.core.make import HTTP, KEY, NEVER, T, date, request, response

MAX_AGE = "Cache-Control: max-age=60"
GET = request()
AUTHORISED = request("Authorization: Bearer a")
HEAD = request(method="HEAD")
POST = request(method="POST")
POSTING = replace(HTTP, methods=frozenset({"GET", "POST"}))

STORED: list[tuple[str, Request, Response, Policy]] = [
    ("§3 heuristically cacheable", GET, response(200), HTTP),
    ("§3 203", GET, response(203), HTTP),
    ("§3 204", GET, response(204), HTTP),
    ("§3 301", GET, response(301, "Location: /a"), HTTP),
    ("§3 308", GET, response(308, "Location: /a"), HTTP),
    ("§3 explicit max-age", GET, response(302, MAX_AGE), HTTP),
    ("§3 explicit Expires", GET, response(307, f"Expires: {date(T + 9)}"), HTTP),
    ("§3 public", GET, response(302, "Cache-Control: public"), HTTP),
    ("§3 an unknown status with max-age", GET, response(299, MAX_AGE), HTTP),
    ("§5.2.2.4 no-cache may be stored", GET, response(200, "Cache-Control: no-cache"), HTTP),
    ("§5.2.2.3 understood", GET, response(200, "Cache-Control: must-understand, no-store"), HTTP),
    ("§5.2.2.7 fields", GET, response(200, 'Cache-Control: private="a", max-age=9'), HTTP),
    ("RFC 9213", GET, response(200, "Cache-Control: no-store", "CDN-Cache-Control: max-age=9"), HTTP),
    ("§3.5 public", AUTHORISED, response(200, "Cache-Control: public"), HTTP),
    ("§3.5 s-maxage", AUTHORISED, response(200, "Cache-Control: s-maxage=9"), HTTP),
    ("§3.5 must-revalidate", AUTHORISED, response(200, "Cache-Control: must-revalidate"), HTTP),
    ("§7.3 Set-Cookie does not matter", GET, response(200, "Set-Cookie: a=1"), HTTP),
    ("§4.1 Vary", GET, response(200, "Vary: Accept"), HTTP),
    ("a whole answer to a Range", request("Range: bytes=0-1"), response(200), HTTP),
    ("a rule for POST", POST, response(200, MAX_AGE), POSTING),
    ("on demand: no-store", GET, response(200, "Cache-Control: no-store"), NEVER),
    ("on demand: private", AUTHORISED, response(200, "Cache-Control: private"), NEVER),
    ("on demand: Vary: *", GET, response(200, "Vary: *"), NEVER),
    ("on demand: no freshness", GET, response(302), NEVER),
    ("on demand: the client's no-store", request("Cache-Control: no-store"), response(200), NEVER),
]


@pytest.mark.parametrize(("why", "asked", "answer", "rule"), STORED, ids=[row[0] for row in STORED])
def test_stored(why: str, asked: Request, answer: Response, rule: Policy) -> None:
    assert storability(asked, answer, rule, KEY, T) == Store()


REFUSED: list[tuple[str, Request, Response, Policy, str]] = [
    ("§5.2.1.5", request("Cache-Control: no-store"), response(200), HTTP, "no-store in the request"),
    ("§5.2.2.5", GET, response(200, "Cache-Control: no-store, max-age=9"), HTTP, "no-store in the response"),
    (
        "§5.2.2.5 spelt oddly",
        GET,
        response(200, "Cache-Control: NO-STORE, x"),
        HTTP,
        "no-store in the response",
    ),
    ("§5.2.2.5 hidden", GET, response(200, 'Cache-Control: max-age="9, no-store'), HTTP, "no-store"),
    ("§5.2.2.3", GET, response(299, "Cache-Control: must-understand, max-age=9"), HTTP, "must-understand"),
    ("§5.2.2.3 not", GET, response(299, "Cache-Control: must-understand, no-store"), HTTP, "no-store"),
    ("§5.2.2.7", GET, response(200, "Cache-Control: private"), HTTP, "private"),
    ("§5.2.2.7 both", GET, response(200, 'Cache-Control: private="a", private'), HTTP, "private"),
    ("RFC 9213", GET, response(200, MAX_AGE, "CDN-Cache-Control: no-store"), HTTP, "no-store"),
    ("RFC 9213", GET, response(200, MAX_AGE, "CDN-Cache-Control: private"), HTTP, "private"),
    ("§3.5", AUTHORISED, response(200, MAX_AGE), HTTP, "Authorization"),
    ("§4.1", GET, response(200, MAX_AGE, "Vary: Accept, *"), HTTP, "Vary"),
    ("§3 302", GET, response(302, "Location: /a"), HTTP, "explicit freshness"),
    ("§3 an unknown status", GET, response(299), HTTP, "explicit freshness"),
    ("RFC 9110 §9.3.3", POST, response(200), POSTING, "explicit freshness"),
    ("§2", POST, response(200, MAX_AGE), HTTP, "method"),
    ("RFC 9110 §9.3.2", HEAD, response(200, MAX_AGE), HTTP, "HEAD"),
    ("§3.3 206", GET, response(206, MAX_AGE), HTTP, "part"),
    ("§4.3.3 304", GET, response(304, MAX_AGE), HTTP, "304"),
    ("RFC 9110 §15.2", GET, response(103, MAX_AGE), HTTP, "interim"),
    ("event stream", GET, response(200, MAX_AGE, "Content-Type: Text/Event-Stream; x"), HTTP, "event stream"),
    ("§3.3 206, on demand", GET, response(206), NEVER, "part"),
    ("§4.3.3 304, on demand", GET, response(304), NEVER, "304"),
    ("HEAD, on demand", HEAD, response(200), NEVER, "HEAD"),
    ("event stream, on demand", GET, response(200, "Content-Type: text/event-stream"), NEVER, "event stream"),
    ("error", GET, response(404), HTTP, "error"),
    ("error, on demand", GET, response(500), NEVER, "freshness"),
    ("§4.2.2 an error without a date", GET, response(404), HTTP, "error"),
    ("§4.2.2 not by heuristics", GET, response(403, f"Last-Modified: {date(0)}"), HTTP, "freshness"),
    ("error, stale on arrival", GET, response(404, MAX_AGE, "Age: 60"), HTTP, "error"),
    ("error, no-cache", GET, response(404, "Cache-Control: max-age=9, no-cache"), HTTP, "error"),
    ("error, no-store", GET, response(404, "Cache-Control: max-age=9, no-store"), NEVER, "no-store"),
    ("error, private", AUTHORISED, response(404, MAX_AGE), NEVER, "Authorization"),
    ("RFC 6585 §4", GET, response(429, MAX_AGE), HTTP, "this one request"),
    ("RFC 9110 §15.5.17", GET, response(416, MAX_AGE), HTTP, "this one request"),
]


@pytest.mark.parametrize(("why", "asked", "answer", "rule", "word"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(why: str, asked: Request, answer: Response, rule: Policy, word: str) -> None:
    verdict = storability(asked, answer, rule, KEY, T)
    assert isinstance(verdict, DoNotStore)
    assert word in verdict.reason


ERRORS: list[tuple[str, int, list[str], Any, float]] = [
    ("§4.2.1 max-age", 404, [MAX_AGE], HTTP, T + 60),
    ("§4.2.1 Expires", 410, [f"Expires: {date(T + 9)}", f"Date: {date()}"], HTTP, T + 9),
    ("§4.2.3 Age counts", 500, [MAX_AGE, "Age: 20"], HTTP, T + 40),
    ("§4.2.2 for minutes", 404, [f"Last-Modified: {date(0)}"], HTTP, T + 300),
    ("§4.2.2 a tenth", 404, [f"Last-Modified: {date(T - 100)}"], HTTP, T + 10),
    ("any status", 599, [MAX_AGE], HTTP, T + 60),
    ("on demand", 503, [MAX_AGE], NEVER, T + 60),
]


@pytest.mark.parametrize(("why", "status", "lines", "rule", "until"), ERRORS, ids=[row[0] for row in ERRORS])
def test_errors_the_origin_lets_repeat(
    why: str, status: int, lines: list[str], rule: Policy, until: float
) -> None:
    assert storability(GET, response(status, *lines), rule, KEY, T) == StoreError(until)
