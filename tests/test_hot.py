"""What may be said again, and how much of it is remembered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from buffy_proxy.answer import Answer
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.blocks import field_block
from buffy_proxy.core.model import Request, Version
from buffy_proxy.hot import OVERHEAD, BlockEntry, Entry, HotAnswers, entry_of
from buffy_proxy.selectors import Selectors
from buffy_proxy.testing import make_request, make_version

NOW = 1_000_000.0
BODY = b"content"
FRESH = make_version(BODY, at=NOW, fresh_until=NOW + 100, fields={"Age": "7", "ETag": '"1"'})


def answered(version: Version, now: float, request: Request) -> Answer:
    """As `Cache.open_now` makes it."""
    status = f.cache_status(hit=True, ttl=version.fresh_until - now)
    fields = rules.answer_fields(version, now, status)
    content = None if request.method == "HEAD" else BODY
    answer = Answer(version.status, version.reason, fields, cache_status=status, content=content)
    answer.version, answer.stamp = version, b"1234"
    return answer


def remembered(of: Version = FRESH, request: Request | None = None, **changes: Any) -> Entry | None:
    request = request or make_request()
    answer = answered(of, NOW, request)
    for name, value in changes.items():
        setattr(answer, name, value)
    return entry_of(request, answer, NOW, Selectors(), request.url)


@pytest.mark.parametrize("later", [0.0, 0.4, 1.0, 12.7, 99.9])
@pytest.mark.parametrize("until", [NOW + 100, math.inf])
def test_it_says_what_the_cache_would_say(later: float, until: float) -> None:
    version = replace(FRESH, fresh_until=until)
    entry = remembered(version)
    assert entry is not None
    answer = answered(version, NOW + later, make_request())
    expected = b"HTTP/1.1 %d %b\r\n%b\r\n" % (
        answer.status,
        answer.reason,
        f.serialise_block(answer.fields),
    )
    assert entry.head(NOW + later) == expected
    assert entry.cache_status(NOW + later).encode() == answer.cache_status


def test_head_has_no_content() -> None:
    entry = remembered(request=make_request(method="HEAD"))
    assert entry is not None and entry.digest is None and entry.size == 0


UNSTEADY = ["Cache-Control", "Pragma", "Range", "If-Range"]


@pytest.mark.parametrize("name", UNSTEADY)
def test_requests_that_depend_on_the_time_make_no_entry(name: str) -> None:
    assert remembered(request=make_request(fields={name: "x"})) is None
    assert remembered(request=make_request(fields={"Accept": "x"})) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"stamp": None},
        {"version": None},
        {"content": BODY[:3]},
        {"cache_status": b"buffy; hit; ttl=100; detail=pinned"},
        {"cache_status": b"buffy; fwd=stale"},
    ],
)
def test_other_answers_make_no_entry(changes: dict[str, Any]) -> None:
    assert remembered(**changes) is None


def test_a_stale_version_makes_no_entry() -> None:
    assert remembered(replace(FRESH, fresh_until=NOW)) is None


def test_the_oldest_go_when_there_are_too_many_bytes() -> None:
    entry = remembered()
    assert entry is not None
    hot = HotAnswers(bytes_max=10 * (OVERHEAD + 400))
    for number in range(100):
        hot.put(b"%03d" % number, entry)
        assert hot.bytes <= 10 * (OVERHEAD + 400)
    assert hot.get(b"000") is None and hot.get(b"099") is entry and 5 < len(hot) < 20
    for number in range(100):
        hot.put(b"099", entry)
        hot.drop(b"%03d" % number)
    assert (len(hot), hot.bytes) == (0, 0)


@pytest.mark.parametrize("later", [0.0, 0.4, 12.7, 99.9])
@pytest.mark.parametrize("until", [NOW + 100, math.inf])
def test_a_block_says_what_the_cache_would_say(later: float, until: float) -> None:
    version = replace(FRESH, fresh_until=until)
    request = make_request()
    entry = entry_of(request, answered(version, NOW, request), NOW, Selectors(), request.url, BlockEntry)
    assert entry is not None
    answer = answered(version, NOW + later, request)
    assert entry.head(NOW + later) == field_block(answer.status, answer.fields)
    assert entry.cache_status(NOW + later).encode() == answer.cache_status
