"""How single values are read: one table each for what is taken, one for what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy import literals
from buffy_proxy.settings import SETTINGS

TAKEN: list[tuple[Callable[[object], Any], object, object]] = [
    (literals.size, 500, 500),
    (literals.size, "500", 500),
    (literals.size, "500 B", 500),
    (literals.size, "500MB", 500_000_000),
    (literals.size, "20 GiB", 20 * 2**30),
    (literals.size, "20g", 20 * 2**30),
    (literals.size, "1.5 kib", 1536),
    (literals.duration, 15, 15.0),
    (literals.duration, "15", 15.0),
    (literals.duration, "15s", 15.0),
    (literals.duration, "2m", 120.0),
    (literals.duration, "1h30m", 5400.0),
    (literals.duration, "500 ms", 0.5),
    (literals.duration, "2 d", 172800.0),
    (literals.address, "127.0.0.1:8080", ("127.0.0.1", 8080)),
    (literals.address, ":8080", ("0.0.0.0", 8080)),
    (literals.address, "8080", ("127.0.0.1", 8080)),
    (literals.address, 8080, ("127.0.0.1", 8080)),
    (literals.address, "[::1]:0", ("::1", 0)),
    (literals.address, ("::1", 80), ("::1", 80)),
    (literals.address, "my-host.example:1", ("my-host.example", 1)),
    (literals.boolean, True, True),
    (literals.boolean, "Yes", True),
    (literals.boolean, "0", False),
    (literals.integer(1), "3", 3),
    (literals.share, 0, 0.0),
    (literals.share, "0.25", 0.25),
    (literals.path, "/x/y", Path("/x/y")),
    (literals.log_level, "WARNING", "warning"),
    (literals.workers, 2, 2),
    (literals.workers, " 64 ", 64),
    (literals.workers, "AUTO", min(64, len(os.sched_getaffinity(0)))),
    (literals.host_patterns, "*.Example.org, [::1]:8443,", ("*.example.org", "[::1]:8443")),
    (literals.host_patterns, ["10.0.0.?:*"], ("10.0.0.?:*",)),
    (literals.credentials, "alice:a:b", ("alice", "a:b")),
    (literals.credentials, {"user": "alice", "password": "p"}, ("alice", "p")),
    (literals.origin_url, "https://Example.org", "https://example.org:443"),
    (literals.origin_url, "http://[::1]:8000/", "http://[::1]:8000"),
    (literals.origin_url, "", ""),
    (literals.proxy_url, "http://u:p@proxy.example:3128/", "http://u:p@proxy.example:3128"),
]

REFUSED: dict[Callable[[object], Any], list[object]] = {
    literals.size: [True, -1, 1.5, "", "big", "5 XB", "-5", "1e9", "9" * 400, 2**62, None, []],
    literals.positive_size: [0, "0 MiB"],
    literals.duration: [
        True,
        0,
        -1,
        float("inf"),
        float("nan"),
        "",
        "1x",
        "1m 30",
        "m",
        "9" * 400,
        10**400,
        None,
    ],
    literals.address: [True, "", "host", "host:", "host:65536", "::1:80", "a b:1", -1, [1]],
    literals.boolean: [1, "maybe", None, ""],
    literals.integer(1): [0, "0", "x", 1.0, True, "9" * 30],
    literals.workers: [0, -1, "0", "many", "", 1.0, True, None, 65, "9" * 30],
    literals.share: [-0.1, 1.1, "x", float("nan"), 10**400, True, None],
    literals.path: ["", 5, "a\0b", "~no_such_user_of_this_machine/x"],
    literals.log_level: ["loud", 5],
    literals.texts: [5, ["a", 5], {"a": 1}],
    literals.host_patterns: ["http://x", "a/b", "a b", "host:port", "a:1:2"],
    literals.credentials: ["alice", "alice:", ":p", "a+b:p", "a=b:p", "a b:p", {"user": "a"}, 5],
    literals.origin_url: ["example.org", "ftp://a.example", "http://", "http://a/x", "http://a/?q", 5, None],
    literals.proxy_url: ["proxy:3128", "socks5://p:1", "http://", "http://p:0", "http://p/x", "http://[", 5],
}


@pytest.mark.parametrize(("read", "written", "value"), TAKEN)
def test_taken(read: Callable[[object], Any], written: object, value: object) -> None:
    assert read(written) == value


@pytest.mark.parametrize(
    ("read", "written"), [(read, bad) for read, all_bad in REFUSED.items() for bad in all_bad]
)
def test_refused_with_what_is_allowed(read: Callable[[object], Any], written: object) -> None:
    with pytest.raises(ValueError, match=r"^(must|may) "):
        read(written)


@pytest.mark.parametrize("bad", ["alice+x:hush-hush", {"user": "alice", "password": "hush-hush", "x": 1}])
def test_a_refused_password_is_not_quoted(bad: object) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        literals.credentials(bad)
    assert "hush-hush" not in str(caught.value)


@given(
    st.sampled_from(sorted(SETTINGS)),
    st.text(max_size=30) | st.integers() | st.floats() | st.lists(st.none()),
)
def test_readers_return_or_raise_value_error(key: str, written: object) -> None:
    try:
        SETTINGS[key](written)
    except ValueError:
        pass


@given(st.ip_addresses().map(str), st.integers(0, 65535))
def test_address_text_is_read_back(host: str, port: int) -> None:
    assert literals.address(literals.address_text((host, port))) == (host, port)
