"""Reading and writing fields."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core import fields as f
from buffy_proxy.core.fields import ANY
from buffy_proxy.core.model import Fields
from tests.core.make import T, date, fields

LINES = fields("A: 1", "b: 2", "a: 3", "C:")


def test_access() -> None:
    assert f.get_all(LINES, b"A") == [b"1", b"3"]
    assert f.first(LINES, b"a") == b"1"
    assert f.first(LINES, b"c") == b""
    assert f.first(LINES, b"d") is None
    assert f.combined(LINES, b"a") == b"1, 3"
    assert f.combined(LINES, b"d") is None
    assert f.without(LINES, [b"A", b"c"]) == fields("b: 2")
    assert f.with_field(LINES, b"A", b"9") == fields("A: 9", "b: 2", "C:")
    assert f.with_field(LINES, b"D", b"9") == (*LINES, (b"D", b"9"))


BLOCKS = [
    (b"A: 1\r\nB:2\r\n", fields("A: 1", "B: 2")),
    (b"A: 1\nB: 2", fields("A: 1", "B: 2")),
    (b"A: 1\r\n\t 2\r\nB: 3\r\n", fields("A: 1 2", "B: 3")),  # RFC 9112 §5.2
    (b"A:\r\nno colon\r\n: no name\r\nB: 2:3\r\n", fields("A:", "B: 2:3")),
    (b"A: \xff\xfe\r\n", fields("A: ÿþ")),
    (b"", ()),
    (b"\r\n\r\n", ()),
]


@pytest.mark.parametrize(("block", "parsed"), BLOCKS)
def test_parse_block(block: bytes, parsed: Fields) -> None:
    assert f.parse_block(block) == parsed


NAMES = st.text("abcABC-_09", min_size=1).map(str.encode)
VALUES = st.binary().map(lambda v: v.replace(b"\n", b"").replace(b"\r", b"").strip(b" \t"))


@given(st.lists(st.tuples(NAMES, VALUES)).map(tuple))
def test_blocks_survive_writing_and_reading(lines: Fields) -> None:
    assert f.parse_block(f.serialise_block(lines)) == lines


DIRECTIVES: list[tuple[list[str], dict[str, str | None]]] = [  # RFC 9111 §5.2
    ([], {}),
    (["max-age=60"], {"max-age": "60"}),
    (["MAX-AGE=60, No-Store"], {"max-age": "60", "no-store": None}),
    (["max-age=60", "no-cache"], {"max-age": "60", "no-cache": None}),
    (['max-age="60"'], {"max-age": "60"}),
    (['private="set-cookie, x", public'], {"private": "set-cookie, x", "public": None}),
    ([r'ext="a\"b\\c"'], {"ext": r'a"b\c'}),
    (["max-age=1, max-age=2"], {"max-age": "1"}),  # §4.2.1: the first counts
    (["max-age=1", "max-age=2"], {"max-age": "1"}),
    ([",, ,no-store,"], {"no-store": None}),
    (["max-age="], {"max-age": ""}),
    (["max-age = 60"], {"max-age": " = 60"}),  # malformed, so no valid number
    (["no-store foo"], {"no-store": " foo"}),  # but a malformed prohibition still prohibits
    (['max-age="60, no-store'], {"max-age": '"60', "no-store": None}),
    (["=5, \xe9, @, ok"], {"ok": None}),
]


@pytest.mark.parametrize(("lines", "found"), DIRECTIVES)
def test_directives(lines: list[str], found: dict[str, Any]) -> None:
    assert f.directives(fields(*(f"Cache-Control: {line}" for line in lines))) == found


def test_directives_of_another_field() -> None:
    assert f.directives(fields("Pragma: no-cache"), b"pragma") == {"no-cache": None}


HOPS = [  # RFC 9110 §7.6.1
    (["Connection: close", "Keep-Alive: 5", "A: 1"], ["A: 1"]),
    (["Connection: A, x-b", "a: 1", "X-B: 2", "C: 3"], ["C: 3"]),
    (["Transfer-Encoding: chunked", "TE: trailers", "Trailer: X", "Upgrade: h2c", "A: 1"], ["A: 1"]),
    (["Proxy-Authorization: Basic eA==", "Proxy-Connection: close", "Proxy-Authenticate: Basic"], []),
    (["Connection: content-length, Host, cookie", "Content-Length: 3", "Host: h", "Cookie: c"],) * 2,
]


@pytest.mark.parametrize("row", HOPS)
def test_end_to_end(row: tuple[list[str], list[str]]) -> None:
    given, kept = row
    assert f.end_to_end(fields(*given)) == f.without(fields(*kept), [b"connection"])


VARY = [  # RFC 9110 §12.5.5
    (["Vary: Accept-Encoding, accept"], frozenset({b"accept-encoding", b"accept"})),
    (["Vary: A", "Vary: B"], frozenset({b"a", b"b"})),
    (["Vary: *"], ANY),
    (["Vary: A, *"], ANY),
    (["Vary: ,,"], frozenset()),
    ([], frozenset()),
]


@pytest.mark.parametrize(("lines", "names"), VARY)
def test_vary_names(lines: list[str], names: object) -> None:
    assert f.vary_names(fields(*lines)) == names


RETRY = [  # RFC 9110 §10.2.3
    ("Retry-After: 120", 120),
    (f"Retry-After: {date(T + 60)}", 60),
    (f"Retry-After: {date(T - 60)}", 0),
    ("Retry-After: soon", None),
    ("Retry-After: -1", None),
    ("X: 1", None),
]


@pytest.mark.parametrize(("line", "seconds"), RETRY)
def test_retry_after(line: str, seconds: float | None) -> None:
    assert f.retry_after(fields(line), T) == seconds


@given(
    st.lists(
        st.tuples(st.sampled_from([b"Cache-Control", b"Vary", b"Connection", b"Retry-After"]), st.binary())
    )
)
def test_parsers_never_raise(lines: list[tuple[bytes, bytes]]) -> None:
    given = tuple(lines)
    f.directives(given)
    f.vary_names(given)
    f.connection_options(given)
    f.end_to_end(given)
    f.retry_after(given, T)
    f.parse_block(f.serialise_block(given))


@given(st.binary())
def test_blocks_of_anything(block: bytes) -> None:
    parsed = f.parse_block(block)
    assert all(n.strip(b" \t") == n != b"" and b":" not in n for n, _ in parsed)
    assert all(b"\n" not in n + v for n, v in parsed)


@pytest.mark.parametrize("rubbish", [b'"', b"\\", b'"\\', b",", b'a="', b'"a"', b" ", b"=,"])
def test_hostile_lengths_take_no_time(rubbish: bytes) -> None:
    """64 KiB of it are parsed in linear time; quadratic would be minutes."""
    line = ((b"Cache-Control", rubbish * (65536 // len(rubbish))),)
    start = time.process_time()
    f.directives(line)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a\tb c", b"a\tb c"),
        (b"a\r\n b", b"a b"),
        (b"a\rX: b", b"a X: b"),
        (b"a\0\x0bb", b"a b"),
        (b"\xe9", b"\xe9"),
    ],
)
def test_printable(value: bytes, expected: bytes) -> None:
    """RFC 9110 §5.5, RFC 9112 §5.2."""
    assert f.printable(value) == expected


@pytest.mark.parametrize(
    ("status", "lines", "kept"),
    [
        (200, ["Content-Length: 4"], True),
        (304, ["Content-Length: 4"], True),
        (204, ["Content-Length: 4"], False),
        (200, ["Content-Length: 4", "Transfer-Encoding: chunked"], False),
    ],
)
def test_framed(status: int, lines: list[str], kept: bool) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.3."""
    fields = f.framed(status, f.parse_block("\r\n".join([*lines, ""]).encode()))
    assert (f.first(fields, b"content-length") is not None) is kept
