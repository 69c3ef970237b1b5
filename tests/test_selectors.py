"""Selectors in the proxy URL's user name."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.config import Credentials
from buffy_proxy.core.model import DEFAULT_GROUP
from buffy_proxy.selectors import Selectors, parse_proxy_authorization, username

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


def basic(text: str) -> bytes:
    return b"Basic " + b64encode(text.encode())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("", Selectors()),
        (":", Selectors()),
        ("group=a:", Selectors(group="a")),
        ("group=a", Selectors(group="a")),
        ("mode=offline:", Selectors(offline=True)),
        ("group=a+mode=offline:", Selectors(group="a", offline=True)),
        (
            "mode=offline+group=a.b-c_d+run=r1:x",
            Selectors(password="x", group="a.b-c_d", offline=True, run="r1"),
        ),
        ("group%3Da%2Bmode%3Doffline:", Selectors(group="a", offline=True)),
        ("group%3da%2bmode=offline:", Selectors(group="a", offline=True)),
        ("alice:secret", Selectors("alice", "secret")),
        ("alice:se:cr:et", Selectors("alice", "se:cr:et")),
        ("alice+group=x:secret", Selectors("alice", "secret", group="x")),
        ("alice%2Bgroup%3Dx:secret", Selectors("alice", "secret", group="x")),
        ("älice:p", Selectors("älice", "p")),
    ],
)
def test_what_is_read(sent: str, expected: Selectors) -> None:
    assert parse_proxy_authorization(basic(sent)) == expected


def test_no_field_means_the_defaults() -> None:
    assert parse_proxy_authorization(None) == Selectors(group=DEFAULT_GROUP, offline=False, run=None)


@pytest.mark.parametrize("scheme", [b"basic ", b"BASIC  ", b" Basic "])
def test_the_scheme_is_case_insensitive(scheme: bytes) -> None:
    assert parse_proxy_authorization(scheme + b64encode(b"group=a:") + b" ").group == "a"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "Basic scheme"),
        (b"Bearer abc", "Basic scheme"),
        (b"Basic !!!", "base64"),
        (b"Basic YQ", "base64"),
        (b"Basic \xff\xfe", "base64"),
        (basic("color=red:"), "unknown selector 'color=red'"),
        (basic("group=a+alice:"), "unknown selector 'alice'"),
        (basic("alice+:"), "unknown selector ''"),
        (basic("group=a+group=b:"), "group occurs twice"),
        (basic("mode=online:"), "mode=offline"),
        (basic("group=:"), "group '' is no valid name"),
        (basic("group=a/b:"), "group 'a/b'"),
        (basic("group=" + "a" * 65), "is no valid name"),
        (basic("group=a\n:"), "is no valid name"),
        (basic("run=ä:"), "run 'ä'"),
    ],
)
def test_what_is_wrong_is_said(value: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_proxy_authorization(value)


@given(st.binary(max_size=80))
def test_any_bytes_are_selectors_or_a_value_error(value: bytes) -> None:
    for field in (value, b"Basic " + value, b"Basic " + b64encode(value)):
        try:
            parse_proxy_authorization(field)
        except ValueError:
            pass


@given(NAMES, st.booleans(), st.none() | NAMES, st.booleans())
def test_username_is_read_back_raw_and_percent_encoded(
    group: str, offline: bool, run: str | None, encode: bool
) -> None:
    name = username(group, offline, run)
    sent = basic((quote(name, safe="") if encode else name) + ":")
    assert parse_proxy_authorization(sent) == Selectors(group=group, offline=offline, run=run)


def test_username_of_nothing_is_empty_and_bad_names_are_refused() -> None:
    assert username() == ""
    for arguments in ({"group": "a b"}, {"group": ""}, {"run": "a+b"}):
        with pytest.raises(ValueError, match="no valid name"):
            username(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        ("alice:p%ss wörd", True),
        ("alice:" + quote("p%ss wörd"), True),
        ("alice+group=x:p%ss wörd", True),
        ("alice:wrong", False),
        ("alice:", False),
        ("bob:p%ss wörd", False),
        ("group=x:p%ss wörd", False),
        ("", False),
    ],
)
def test_credentials(sent: str, allowed: bool) -> None:
    selectors = parse_proxy_authorization(basic(sent))
    assert selectors.allowed_by(Credentials("alice", "p%ss wörd")) is allowed
    assert selectors.allowed_by(None) is True


def test_passwords_do_not_show() -> None:
    assert "hush" not in repr(parse_proxy_authorization(basic("alice:hush")))
