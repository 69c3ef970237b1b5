"""Cache keys: what is the same resource, and who may have it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.keys import cache_key, redact_url, without_secrets
from buffy_proxy.core.model import CacheKey, Request
from buffy_proxy.core.policy import Policy
from tests.core.make import HTTP, SECRET, URL, fields, request

SHARED = replace(HTTP, shared=True)


def key(asked: Request, policy: Policy = HTTP) -> CacheKey:
    return cache_key(asked, policy, SECRET)


def q(query: str) -> str:
    return f"{URL}?{query}"


def test_a_plain_key() -> None:
    made = key(request())
    assert made == CacheKey(made.id, "DEFAULT_GROUP", "GET", URL)
    assert re.fullmatch("[a-z2-7]{24}", made.id)


SAME = [
    ("RFC 9111 §4: HEAD", request(), request(method="HEAD")),
    ("other fields", request("Accept: a"), request("Accept: b", "User-Agent: c")),
    ("RFC 9113 §8.2.3: cookie crumbs", request("Cookie: a=1; b=2"), request("cookie: a=1", "cookie: b=2")),
    ("the proxy's own credentials", request(), request("Proxy-Authorization: Basic eA==")),
    ("offline", request(), request(offline=True)),
]


@pytest.mark.parametrize(("why", "one", "other"), SAME, ids=[row[0] for row in SAME])
def test_the_same_resource(why: str, one: Request, other: Request) -> None:
    assert key(one) == key(other)


DIFFERENT = [
    ("URL", request(), request(url=q("a=1"))),
    ("order of parameters", request(url=q("a=1&b=2")), request(url=q("b=2&a=1"))),
    ("group", request(), request(group="g")),
    ("method", request(), request(method="POST")),
    ("body", request(method="POST", body=b"a"), request(method="POST", body=b"b")),
    ("Authorization", request(), request("Authorization: Bearer a")),
    ("whose Authorization", request("Authorization: Bearer a"), request("authorization: Bearer b")),
    ("Cookie", request("Cookie: a"), request("Cookie: b")),
    ("which field", request("Cookie: a"), request("Authorization: a")),
    ("X-Api-Key", request("X-Api-Key: a"), request("X-Api-Key: b")),
    ("signature", request(url=q("sig=a")), request(url=q("sig=b"))),
    ("where one ends", request("Authorization: a", "Cookie: b"), request("Authorization: ab")),
    ("group and URL run together", request(group="g"), request(group="gGET", method="")),
]


@pytest.mark.parametrize(("why", "one", "other"), DIFFERENT, ids=[row[0] for row in DIFFERENT])
def test_different_resources(why: str, one: Request, other: Request) -> None:
    assert key(one).id != key(other).id


def test_digests_are_keyed() -> None:
    asked = request("Authorization: Bearer a")
    assert cache_key(asked, HTTP, b"1").partition != cache_key(asked, HTTP, b"2").partition


def test_only_a_rule_merges_partitions() -> None:
    mine, yours = request("Authorization: Bearer a"), request("Authorization: Bearer b")
    assert key(mine, SHARED) == key(yours, SHARED) == key(request(), SHARED)


IGNORED = [  # fnmatch patterns on decoded names
    ("utm_source=a&x=1&utm_medium=b", ("utm_*",), "x=1"),
    ("utm%5Fsource=a&x=1", ("utm_*",), "x=1"),
    ("x=1&y&x=2", ("x",), "y"),
    ("b=1&a=2&c", ("z",), "b=1&a=2&c"),
    ("x=1", ("*",), ""),
    ("X=1", ("x",), "X=1"),
]


@pytest.mark.parametrize(("query", "patterns", "kept"), IGNORED)
def test_ignore_query(query: str, patterns: tuple[str, ...], kept: str) -> None:
    made = key(request(url=q(query)), replace(HTTP, ignore_query=patterns))
    assert made.url == (q(kept) if kept else URL)


def test_an_ignored_credential_still_partitions_unless_shared() -> None:
    ignoring = replace(HTTP, ignore_query=("X-Amz-*",))
    one, other = request(url=q("X-Amz-Signature=a")), request(url=q("X-Amz-Signature=b"))
    assert key(one, ignoring).url == key(other, ignoring).url == URL
    assert key(one, ignoring).partition != key(other, ignoring).partition
    assert key(one, replace(ignoring, shared=True)) == key(other, replace(ignoring, shared=True))


SECRETS = [
    "X-Amz-Signature",
    "x-amz-security-token",
    "X-Goog-Signature",
    "sig",
    "Signature",
    "TOKEN",
    "access%5Ftoken",
]


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_never_show(name: str) -> None:
    made = key(request("Authorization: hush-hush", "Cookie: hush-hush", url=q(f"a=1&{name}=hush-hush&b=2")))
    assert "hush" not in repr(made)
    assert re.fullmatch(re.escape(q(f"a=1&{name}=~")) + "[0-9a-f]{16}&b=2", made.url)
    assert made.partition


@pytest.mark.parametrize("query", ["a=1", "token", "token=", "tokens=1", "code=DE"])
def test_plain_parameters_are_left_alone(query: str) -> None:
    assert redact_url(q(query), SECRET) == q(query)
    assert key(request(url=q(query))).partition == ""


def test_user_info_is_redacted() -> None:
    assert redact_url("http://me:pass@example.org/@?a", SECRET) == "http://example.org/@?a"


@given(st.text(), st.text(), st.binary())
def test_redaction_is_stable(name: str, value: str, secret: bytes) -> None:
    once = redact_url(q(f"{name}={value}&sig={value}"), secret)
    assert redact_url(once, secret) == once


@given(st.text(), st.binary())
def test_keys_of_anything(query: str, credential: bytes) -> None:
    asked = Request("GET", q(query), ((b"Authorization", credential),))
    assert len(key(asked).id) == 24


def test_without_secrets() -> None:
    lines = fields("Accept: a", "authorization: b", "COOKIE: c", "Proxy-Authorization: d", "X-Api-Key: e")
    assert without_secrets(lines) == fields("Accept: a")
