"""Which differences matter."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from mitmproxy.net.encoding import encode

from buffy_proxy.errors import ConfigError
from buffy_proxy.testing import Origin, RunningBuffy, make_key, make_stored_body
from tests.plugins.kit import loaded, module, plugin_file

URL = "https://api.example.org/figures"
FIELDS = ["at", "meta.id", "items[].age", "by.*.seen"]


def is_new(old: Any, new: Any, *, fields: Any = FIELDS, coding: str = "", **settings: Any) -> bool:
    plugins = loaded("json_equal", **{"https://api.example.org/**": fields, **settings})
    bodies = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in (old, new)]
    headers = {"Content-Encoding": coding} if coding else {}
    stored = [make_stored_body(body, fields=headers) for body in bodies]
    answer = plugins.is_new_version(make_key(URL), *stored)
    assert plugins.failures.total == 0
    return answer


SAME = [
    ({"a": 1, "at": 1}, {"a": 1, "at": 2}),
    ({"a": 1, "at": 1}, {"a": 1}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (b'{"a":1}', b'{ "a": 1 }\n'),
    ({"meta": {"id": 1, "x": 2}}, {"meta": {"id": 3, "x": 2}}),
    ({"items": [{"age": 1, "n": 1}, {"n": 2}]}, {"items": [{"age": 2, "n": 1}, {"n": 2, "age": 9}]}),
    ({"by": {"a": {"seen": 1}, "b": {"seen": 2}}}, {"by": {"a": {"seen": 3}, "b": {}}}),
    ({"meta": [1]}, {"meta": [1]}),
    (b'{"a": 1.0}', b'{"a": 1}'),
]
DIFFERENT = [
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {"a": True}),  # equal in Python
    ({"a": [0]}, {"a": [False]}),
    (b'{"a": 12345678901234567.1}', b'{"a": 12345678901234567.2}'),  # equal as floats
    (b'{"a": 1e999}', b'{"a": 2e999}'),
    (b'{"a": 1, "a": 2}', b'{"a": 3, "a": 2}'),
    ({"a": 1}, {"a": True, "b": 1}),
    ({"meta": {"at": 1}}, {"meta": {"at": 2}}),  # another field of that name
    ({"items": [1, 2]}, {"items": [2, 1]}),
    ({"items": [{"n": 1}]}, {"items": [{"n": 1}, {"n": 1}]}),
    (b"not json", b"not json either"),
    (b'{"a": 1', b'{"a": 1, "at": 1'),
    (b"[" * 100_000, b"[" * 100_001),
    (b"\xff\xfe", b"\xff"),
    (b"", {"a": 1}),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_these_mean_the_same(old: Any, new: Any) -> None:
    assert is_new(old, new) is False


@pytest.mark.parametrize(("old", "new"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_these_do_not(old: Any, new: Any) -> None:
    assert is_new(old, new) is True


CODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "br": lambda content: encode(content, "br"),
    "zstd": lambda content: encode(content, "zstd"),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_content_codings_are_undone(coding: str) -> None:
    one, two = (CODINGS[coding](json.dumps({"a": 1, "at": n}).encode()) for n in (1, 2))
    assert is_new(one, two, coding=coding) is False
    assert is_new(one, CODINGS[coding](b'{"a": 2}'), coding=coding) is True


@pytest.mark.parametrize("coding", sorted(CODINGS.keys() - {"identity"}))
def test_broken_codings_and_such_that_swell_are_no_opinion(coding: str) -> None:
    one, two = (CODINGS[coding](json.dumps({"a": "x" * 100_000, "at": n}).encode()) for n in (1, 2))
    assert len(one) < 1000
    assert is_new(one, two, coding=coding) is False
    assert is_new(one, two, coding=coding, max_bytes=99_000) is True
    assert is_new(one, two[:-8], coding=coding) is True
    assert is_new(b'{"at": 1}', b'{"at": 2}', coding=coding) is True


def test_codings_upon_codings() -> None:
    twice = [gzip.compress(zlib.compress(json.dumps({"at": n}).encode())) for n in (1, 2)]
    assert is_new(*twice, coding="deflate, gzip") is False
    assert is_new(b'{"at": 1}', b'{"at": 2}', coding="compress") is True
    assert (
        is_new(*(gzip.compress(b'{"at":') + gzip.compress(b"%d}" % n) for n in (1, 2)), coding="gzip")
        is False
    )


def test_another_status_is_another_answer() -> None:
    plugins = loaded("json_equal", **{"https://api.example.org/**": ["at"]})
    bodies = make_stored_body(b'{"at": 1}'), make_stored_body(b'{"at": 2}', status=203)
    assert plugins.is_new_version(make_key(URL), *bodies) is True


def test_other_urls_and_large_bodies_are_left_alone() -> None:
    plugins = loaded("json_equal", **{"https://other.example.org/**": ["at"]})
    bodies = make_stored_body(b'{"at": 1}'), make_stored_body(b'{"at": 2}')
    assert plugins.is_new_version(make_key(URL), *bodies) is True
    assert is_new({"at": 1}, {"at": 2}, max_bytes=5) is True


REFUSED = [
    ({"https://api.example.org/**": "at"}, 'must be a list of fields such as \\["generated_at"'),
    ({"https://api.example.org/**": ["a..b"]}, "'a..b' is no field"),
    ({"https://api.example.org/**": ["items[]"]}, "'items\\[\\]' is no field"),
    ({"https://api.example.org/**": ["items[0].a"]}, "is no field"),
    ({"max_bytes": -1}, "max_bytes: must be a number of bytes"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded("json_equal", **settings)


def test_paths() -> None:
    assert module("json_equal").path_of("items[].a.b") == ("items", "[]", "a", "b")


def test_in_a_running_buffy(origin: Origin) -> None:
    """Ten answers that differ in a time are two versions, one a value; clients get what came."""
    config = """
[[rule]]
match = "**"
strategy = "when_requested"
max_cached_unpinned_versions = 50

[plugins.json_equal]
"http://127.0.0.1*/**" = ["at"]
"""
    route = origin.serve("/figures", b"", {"ETag": None})
    with RunningBuffy(config, plugins=[plugin_file("json_equal")]) as buffy:
        for n in range(10):
            route.body = json.dumps({"value": n // 8, "at": n}).encode()
            assert buffy.get(route.url).json()["at"] == n
        shown = json.loads(buffy.cli("show", "--json", route.url).stdout)
        assert len(shown[0]["versions"]) == 2
