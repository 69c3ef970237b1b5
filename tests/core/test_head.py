"""The strict head parser: whatever it accepts, mitmproxy's lenient one reads the same."""

from __future__ import annotations

import h11._receivebuffer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy.net.http.http1 import read_request_head

from buffy_proxy.core.head import RequestHead, head_objection, parse_request_head, request_objection

HOST = "Host: x.org"


def parse(*lines: str, rest: bytes = b"") -> RequestHead | None:
    return parse_request_head("\r\n".join([*lines, "", ""]).encode("latin-1") + rest)


def read_by_mitmproxy(data: bytes):  # type: ignore[no-untyped-def]
    """The request and what is left of the data, as mitmproxy's HTTP/1 server takes it from its buffer."""
    buffer = h11._receivebuffer.ReceiveBuffer()
    buffer += data
    lines = buffer.maybe_extract_lines()
    assert lines
    return read_request_head([bytes(line) for line in lines]), bytes(buffer)


@pytest.mark.parametrize(
    ("lines", "simple"),
    [
        (("GET / HTTP/1.1", HOST), True),
        (("HEAD http://x.org/a?b HTTP/1.1", "host:x.org", "X-Empty:"), True),
        (("GET / HTTP/1.1", HOST, "Connection: keep-alive", "Proxy-Connection: Keep-Alive"), True),
        (("GET / HTTP/1.1", HOST, "Connection: close"), False),
        (("GET / HTTP/1.1", HOST, "Proxy-Connection: close"), False),
        (("GET / HTTP/1.1", HOST, "Connection: X-Mine"), False),
        (("GET / HTTP/1.1", HOST, "Content-Length: 0"), False),
        (("GET / HTTP/1.1", HOST, "TRANSFER-ENCODING: chunked"), False),
        (("GET / HTTP/1.1", HOST, "Expect: 100-continue"), False),
        (("GET / HTTP/1.1", HOST, "Upgrade: websocket"), False),
        (("GET / HTTP/1.1",), False),
        (("GET / HTTP/1.1", HOST, HOST), False),
        (("GET / HTTP/1.1", "Host: a@x.org"), False),
        (("POST / HTTP/1.1", HOST), False),
        (("CONNECT x.org:443 HTTP/1.1", HOST), False),
    ],
)
def test_what_is_simple(lines: tuple[str, ...], simple: bool) -> None:
    found = parse(*lines)
    assert found is not None and found.simple is simple


@pytest.mark.parametrize(
    "lines",
    [
        ("GET / HTTP/1.0", HOST),
        ("GET / HTTP/2.0", HOST),
        ("GET  / HTTP/1.1", HOST),
        ("GET / HTTP/1.1 ", HOST),
        ("get / HTTP/1.1", HOST),
        ("GET /\x80 HTTP/1.1", HOST),
        ("GET / HTTP/1.1", HOST, " folded"),
        ("GET / HTTP/1.1", HOST, "X : space before the colon"),
        ("GET / HTTP/1.1", HOST, ": no name"),
        ("GET / HTTP/1.1", HOST, "no colon"),
        ("GET / HTTP/1.1", HOST, "X: a\nY: bare line feed"),
        ("GET / HTTP/1.1", HOST, "X: a\rb"),
        ("GET / HTTP/1.1", HOST, "X: a\0b"),
        ("", "GET / HTTP/1.1", HOST),
    ],
)
def test_what_is_left_to_others(lines: tuple[str, ...]) -> None:
    assert parse(*lines) is None


def test_an_incomplete_head_is_none_and_the_rest_stays() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: x.org\r\n\r\n"
    assert all(parse_request_head(whole[:end]) is None for end in range(len(whole)))
    found = parse_request_head(whole * 2)
    assert found is not None and found.size == len(whole)
    assert found.fields == ((b"Host", b"x.org"),)


def test_space_around_values_is_no_part_of_them() -> None:
    found = parse("GET / HTTP/1.1", "Host: \t x.org \t ", "X: a \t b", "Y: é")
    assert found is not None
    assert found.fields == ((b"Host", b"x.org"), (b"X", b"a \t b"), (b"Y", b"\xe9"))


NAMES = st.sampled_from(
    ["Host", "X-A", "Accept", "cookie", "Connection", "Content-Length", "bad name", "", "É"]
)
VALUES = st.text(st.sampled_from('ab :;,=\t"\\\r\n\0\x7f\x85\xa0ÿ'), max_size=8)
LINES = st.builds("{}{}{}".format, NAMES, st.sampled_from([":", ": ", " :", ""]), VALUES)
ENDS = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r"])
FIRST = st.builds(
    "{} {} HTTP/1.{}".format,
    st.sampled_from(["GET", "HEAD", "POST", "G\tT", "get"]),
    st.sampled_from(["/", "http://x.org/", "*", "/a b", "/é", "//x", "http://[::1]:80/?q#f", ""]),
    st.sampled_from("1110"),
)
HEADS = st.builds(
    lambda first, lines, ends: first + "".join(e + n for n, e in zip(lines, ends, strict=False)),
    FIRST,
    st.lists(LINES, max_size=5),
    st.lists(ENDS, min_size=5, max_size=5),
).map(lambda text: text.encode("latin-1") + b"\r\n\r\nGET /next")


@settings(max_examples=600, deadline=None)
@given(
    st.one_of(
        HEADS, st.binary(max_size=80).map(lambda data: b"GET / HTTP/1.1\r\nHost: x\r\n" + data + b"\r\n\r\n")
    )
)
@example(b"GET / HTTP/1.1\r\nHost: x\r\nX:\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: x\r\nX: \xa0a\x85\r\n\r\n")
def test_what_it_accepts_is_read_the_same_by_mitmproxy(data: bytes) -> None:
    found = parse_request_head(data)
    if found is None:
        return
    request, rest = read_by_mitmproxy(data)
    assert rest == data[found.size :]
    assert (request.method, request.http_version) == (found.method, "HTTP/1.1")
    assert request.headers.fields == found.fields
    if found.method != "CONNECT" and found.target.startswith("/"):
        assert request.path == found.target


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_it_never_raises(data: bytes) -> None:
    for each in (data, b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"):
        found = parse_request_head(each)
        assert found is None or 0 < found.size <= len(each)


OBJECTIONS = [
    ("GET / HTTP/1.1", [HOST], None, "RFC 9112 §3"),
    ("GET / HTTP/1.0", [], None, "RFC 9112 §3.2: only HTTP/1.1 must have a Host"),
    ("GET / HTTP/1.2", [HOST], None, "RFC 9112 §2.3"),
    ("CONNECT x.org:443 HTTP/1.1", [], None, "tools are known that send no more"),
    ("GET http://x.org/\u00e9 HTTP/1.1", [HOST], None, "percent-encoded later"),
    ("GET / HTTP/1.1", [HOST, "X: a\nY: b"], None, "RFC 9112 §2.2: a lone LF"),
    ("GET / HTTP/1.1", ["Host: [::1]:8080"], None, "RFC 3986 §3.2.2"),
    ("GET / HTTP/1.1", ["Host:"], None, "RFC 9110 §7.2: empty where the target has no authority"),
    ("GET / HTTP/1.1", [], 400, "RFC 9112 §3.2"),
    ("GET / HTTP/1.1", [HOST, HOST], 400, "RFC 9112 §3.2"),
    ("GET / HTTP/1.1", ["Host: a@x.org"], 400, "RFC 9110 §7.2"),
    ("GET / HTTP/1.1", ["Host: x.org:80:80"], 400, "RFC 9110 §7.2"),
    ("GET / HTTP/1.1", ["Host: x.org/a"], 400, "RFC 9110 §7.2"),
    ("GET / HTTP/2.0", [HOST], 505, "RFC 9110 §15.6.6"),
    ("GET / HTTP/0.9", [HOST], 505, "RFC 9110 §15.6.6"),
    ("GET / HTTP/1.10", [HOST], 400, "RFC 9112 §2.3"),
    ("GET /", [HOST], 400, "RFC 9112 §3"),
    ("GET  / HTTP/1.1", [HOST], 400, "RFC 9112 §3"),
    ("GET\t/ HTTP/1.1", [HOST], 400, "RFC 9112 §3"),
    ("GET /a b HTTP/1.1", [HOST], 400, "RFC 9112 §3.2"),
    ("G(T / HTTP/1.1", [HOST], 400, "RFC 9110 §9.1"),
    ("GET / HTTP/1.1", [" X: a", HOST], 400, "RFC 9112 §2.2"),
    ("GET / HTTP/1.1", [HOST, "X: a", "\tb"], 400, "RFC 9112 §5.2"),
    ("GET / HTTP/1.1", [HOST, "X : a"], 400, "RFC 9112 §5.1"),
    ("GET / HTTP/1.1", [HOST, ": a"], 400, "RFC 9110 §5.1"),
    ("GET / HTTP/1.1", [HOST, "nonsense"], 400, "RFC 9112 §5"),
    ("GET / HTTP/1.1", [HOST, "X: a\0b"], 400, "RFC 9110 §5.5"),
    ("GET / HTTP/1.1", [HOST, "X: a\rb"], 400, "RFC 9110 §5.5"),
    ("GET / HTTP/1.1", [HOST, "Transfer-Encoding: \x0bchunked"], 400, "RFC 9110 §5.5"),
    ("PUT / HTTP/1.1", [HOST, "Content-Length: 18446744073709551618"], 400, "RFC 9110 §8.6"),
]


@pytest.mark.parametrize(("first", "lines", "status", "why"), OBJECTIONS)
def test_objections(first: str, lines: list[str], status: int | None, why: str) -> None:
    data = "\r\n".join([first, *lines, "", ""]).encode("latin-1")
    found = head_objection(data)
    assert (None if found is None else found.status) == status, why
    assert head_objection(data[:-2]) is None, "not complete yet"


@settings(max_examples=600, deadline=None)
@given(st.one_of(HEADS, st.binary(max_size=200).map(lambda data: data + b"\r\n\r\n")))
def test_what_is_simple_has_no_objection(data: bytes) -> None:
    """So the short cut and the ordinary way refuse the same requests."""
    found = parse_request_head(data)
    if found is not None and found.simple:
        assert head_objection(data) is None


@given(st.binary(max_size=20), st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4))
def test_no_line_of_http1_is_ever_two(method: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """What passes can be written as one line a field, whatever HTTP version it came in."""
    if request_objection(method, fields) is None:
        written = method + b"".join(name + b":" + value for name, value in fields)
        assert not set(written) & set(b"\r\n\0")
