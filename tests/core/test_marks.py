"""Cache-Status and Via as Buffy writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.marks import cache_status, sf_string, via
from tests.core.make import fields

STATUS: list[tuple[dict[str, Any], bytes]] = [  # RFC 9211 §2
    ({"hit": True}, b"buffy; hit"),
    ({"hit": True, "ttl": 59.9}, b"buffy; hit; ttl=59"),
    ({"hit": True, "ttl": -0.5, "detail": "offline"}, b'buffy; hit; ttl=-1; detail="offline"'),
    ({"hit": True, "ttl": float("inf")}, b"buffy; hit"),
    ({"hit": True, "ttl": 1e300}, b"buffy; hit; ttl=999999999999999"),
    ({"fwd": "uri-miss", "fwd_status": 200, "stored": True}, b"buffy; fwd=uri-miss; fwd-status=200; stored"),
    ({"fwd": "stale", "fwd_status": 304, "collapsed": True}, b"buffy; fwd=stale; fwd-status=304; collapsed"),
    ({"fwd": "miss", "hit": True}, b"buffy; fwd=miss"),  # §2.1: hit and fwd exclude each other
    (
        {"fwd": "miss", "key": "k", "detail": 'a "b" \\ é\r\n'},
        b'buffy; fwd=miss; key="k"; detail="a \\"b\\" \\\\ ???"',
    ),
    ({"hit": True, "detail": ""}, b"buffy; hit"),
]


@pytest.mark.parametrize(("parameters", "member"), STATUS)
def test_cache_status(parameters: dict[str, Any], member: bytes) -> None:
    assert cache_status(**parameters) == member


@given(st.text())
def test_strings_cannot_end_the_field(text: str) -> None:
    inside = sf_string(text)[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inside and "\\" not in inside
    assert all(" " <= c <= "~" for c in inside)


def test_via_rfc9110_7_6_3() -> None:
    assert via(fields("Via: 1.0 fred"), "HTTP/2") == fields("Via: 1.0 fred", "Via: 2 buffy")
    assert via((), "HTTP/1.0") == fields("Via: 1.0 buffy")
    assert via(()) == fields("Via: 1.1 buffy")
