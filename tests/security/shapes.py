"""Requests that two parsers may read in two ways, or that smuggle something: tables, one row a shape.

A row is (name, RFC section, bytes, what must happen). In the bytes, `{host}` is the origin's authority,
`{path}` a path of the test's own and `{evil}` the path that an attacker would like to reach the origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Must(Enum):
    """What Buffy owes the sender of a shape.

    REFUSE  4xx and the end of the connection; not a byte reaches the origin
    PASS    one request reaches the origin, framed without ambiguity, and its answer comes back
    EITHER  the RFC leaves both open; in no case does {evil} reach the origin
    """

    REFUSE = "refuse"
    PASS = "pass"
    EITHER = "either"


@dataclass(frozen=True)
class Shape:
    """`body`: what the origin must see as content where the request passes."""

    name: str
    section: str
    data: bytes
    must: Must
    body: bytes = b""


LINE = b"GET http://{host}{path} HTTP/1.1\r\n"
HOST = b"Host: {host}\r\n\r\n"
GET = LINE + b"Host: {host}\r\n"
PUT = b"PUT http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n"
EVIL = b"GET http://{host}{evil} HTTP/1.1\r\nHost: {host}\r\n\r\n"


def _rows(*rows: tuple[str, str, bytes, Must] | tuple[str, str, bytes, Must, bytes]) -> tuple[Shape, ...]:
    return tuple(Shape(*row) for row in rows)


_9112_6_1, _9112_6_3, _9112_7_1 = "RFC 9112 §6.1", "RFC 9112 §6.3", "RFC 9112 §7.1"
TE = b"Transfer-Encoding: "
CL = b"Content-Length: "
LAST = b"0\r\n\r\n"

FRAMING = _rows(
    ("CL.TE", _9112_6_3, PUT + CL + b"4\r\n" + TE + b"chunked\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("TE.CL", _9112_6_3, PUT + TE + b"chunked\r\n" + CL + b"4\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("GET with CL.TE", _9112_6_3, GET + CL + b"5\r\n" + TE + b"chunked\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("two equal lengths", _9112_6_3, PUT + CL + b"2\r\n" + CL + b"2\r\n\r\nab", Must.EITHER, b"ab"),
    ("two different lengths", _9112_6_3, PUT + CL + b"0\r\n" + CL + b"9\r\n\r\n" + EVIL, Must.REFUSE),
    ("a list of equal lengths", _9112_6_3, PUT + CL + b"2, 2\r\n\r\nab", Must.EITHER, b"ab"),
    ("a list of different lengths", _9112_6_3, PUT + CL + b"0, 9\r\n\r\n" + EVIL, Must.REFUSE),
    ("negative length", "RFC 9110 §8.6", PUT + CL + b"-1\r\n\r\n" + EVIL, Must.REFUSE),
    ("signed length", "RFC 9110 §8.6", PUT + CL + b"+2\r\n\r\nab" + EVIL, Must.REFUSE),
    ("hexadecimal length", "RFC 9110 §8.6", PUT + CL + b"0x2\r\n\r\nab" + EVIL, Must.REFUSE),
    ("length with an underscore", "RFC 9110 §8.6", PUT + CL + b"1_0\r\n\r\n" + EVIL, Must.REFUSE),
    ("length in other digits", "RFC 9110 §8.6", PUT + CL + "\u0662\r\n\r\n".encode() + EVIL, Must.REFUSE),
    ("empty length", "RFC 9110 §8.6", PUT + CL + b"\r\n\r\n" + EVIL, Must.REFUSE),
    ("length beyond 64 bits", "RFC 9110 §8.6", PUT + CL + b"18446744073709551618\r\n\r\nab", Must.REFUSE),
    ("xchunked", _9112_6_1, PUT + TE + b"xchunked\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("chunked, identity", _9112_6_1, PUT + TE + b"chunked, identity\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("chunked twice", _9112_6_1, PUT + TE + b"chunked, chunked\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("chunked in two lines", _9112_6_1, PUT + (TE + b"chunked\r\n") * 2 + b"\r\n" + LAST + EVIL, Must.REFUSE),
    ("identity", _9112_6_1, PUT + TE + b"identity\r\n\r\n" + EVIL, Must.REFUSE),
    ("gzip without chunked", _9112_6_1, PUT + TE + b"gzip\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("unknown coding, chunked", _9112_6_1, PUT + TE + b"rot13, chunked\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("quoted chunked", _9112_6_1, PUT + TE + b'"chunked"\r\n\r\n' + LAST + EVIL, Must.REFUSE),
    ("chunked with a parameter", _9112_6_1, PUT + TE + b"chunked;q=1\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("vertical tab before chunked", _9112_6_1, PUT + TE + b"\x0bchunked\r\n\r\n" + LAST + EVIL, Must.REFUSE),
    ("Kelvin sign", _9112_6_1, PUT + TE + "chun\u212aed\r\n\r\n".encode() + LAST + EVIL, Must.REFUSE),
    (
        "chunked in HTTP/1.0",
        _9112_6_1,
        PUT.replace(b"1.1", b"1.0") + TE + b"chunked\r\n\r\n" + LAST + EVIL,
        Must.REFUSE,
    ),
    ("CHUNKED", "RFC 9112 §7", PUT + TE + b"CHUNKED\r\n\r\n2\r\nab\r\n" + LAST, Must.PASS, b"ab"),
)

CHUNKED = PUT + TE + b"chunked\r\n\r\n"
CHUNKS = _rows(
    ("plain", _9112_7_1, CHUNKED + b"2\r\nab\r\n" + LAST, Must.PASS, b"ab"),
    ("an extension", "RFC 9112 §7.1.1", CHUNKED + b'2;a=b;c="d"\r\nab\r\n' + LAST, Must.PASS, b"ab"),
    (
        "an endless extension",
        "RFC 9112 §7.1.1",
        CHUNKED + b"2;" + b"a" * 400_000 + b"\r\nab\r\n" + LAST,
        Must.EITHER,
        b"ab",
    ),
    (
        "a bare LF in an extension",
        "RFC 9112 §7.1.1",
        CHUNKED + b"2;\nxx\r\nab\r\n" + LAST + EVIL,
        Must.REFUSE,
    ),
    ("leading zeros", _9112_7_1, CHUNKED + b"0002\r\nab\r\n" + LAST, Must.PASS, b"ab"),
    ("size beyond 64 bits", _9112_7_1, CHUNKED + b"10000000000000002\r\nab\r\n" + LAST + EVIL, Must.EITHER),
    ("size of a hundred digits", _9112_7_1, CHUNKED + b"f" * 100 + b"\r\nab\r\n" + LAST + EVIL, Must.REFUSE),
    ("negative size", _9112_7_1, CHUNKED + b"-2\r\nab\r\n" + LAST + EVIL, Must.REFUSE),
    ("size with 0x", _9112_7_1, CHUNKED + b"0x2\r\nab\r\n" + LAST + EVIL, Must.REFUSE),
    ("no size", _9112_7_1, CHUNKED + b"\r\nab\r\n" + LAST + EVIL, Must.REFUSE),
    ("bare LF after the size", "RFC 9112 §2.2", CHUNKED + b"2\nab\r\n" + LAST, Must.EITHER, b"ab"),
    ("no line end after the data", _9112_7_1, CHUNKED + b"2\r\nabxx" + LAST + EVIL, Must.REFUSE),
    ("more data than said", _9112_7_1, CHUNKED + b"2\r\nabc\r\n" + LAST + EVIL, Must.REFUSE),
)

SYNTAX = _rows(
    ("space before the colon", "RFC 9112 §5.1", GET + b"X-A : b\r\n\r\n", Must.REFUSE),
    (
        "space before the colon of a length",
        "RFC 9112 §5.1",
        PUT + b"Content-Length : 9\r\n\r\n" + EVIL,
        Must.REFUSE,
    ),
    (
        "space before Transfer-Encoding",
        "RFC 9112 §2.2",
        PUT + b" " + TE + b"chunked\r\n\r\n" + LAST + EVIL,
        Must.REFUSE,
    ),
    ("no name", "RFC 9110 §5.1", GET + b": b\r\n\r\n", Must.REFUSE),
    ("no colon", "RFC 9112 §5", GET + b"nonsense\r\n\r\n", Must.REFUSE),
    ("a name with NUL", "RFC 9110 §5.1", GET + b"X-\x00A: b\r\n\r\n", Must.REFUSE),
    ("a name that is no token", "RFC 9110 §5.1", GET + b"X(A): b\r\n\r\n", Must.REFUSE),
    ("NUL in a value", "RFC 9110 §5.5", GET + b"X-A: b\x00c\r\n\r\n", Must.REFUSE),
    ("bare CR in a value", "RFC 9110 §5.5", GET + b"X-A: b\rX-B: c\r\n\r\n", Must.REFUSE),
    ("NUL in an upload's value", "RFC 9110 §5.5", PUT + CL + b"1\r\nX-A: b\x00c\r\n\r\na", Must.REFUSE),
    (
        "bare CR in an upload's value",
        "RFC 9110 §5.5",
        PUT + CL + b"1\r\nX-A: b\rX-B: c\r\n\r\na",
        Must.REFUSE,
    ),
    ("bare LF as a line end", "RFC 9112 §2.2", GET + b"X-A: b\nX-B: c\r\n\r\n", Must.EITHER),
    ("folded", "RFC 9112 §5.2", GET + b"X-A: b\r\n c\r\n\r\n", Must.REFUSE),
    ("folded in an upload", "RFC 9112 §5.2", PUT + CL + b"1\r\nX-A: b\r\n c\r\n\r\na", Must.REFUSE),
    (
        "folded Transfer-Encoding",
        "RFC 9112 §5.2",
        PUT + TE + b"\r\n chunked\r\n\r\n" + LAST + EVIL,
        Must.REFUSE,
    ),
    ("folded Content-Length", "RFC 9112 §5.2", PUT + CL + b"\r\n 0\r\n\r\n" + EVIL, Must.REFUSE),
    ("CR in the target", "RFC 9112 §3", b"GET http://{host}{path}\rX HTTP/1.1\r\n" + HOST, Must.REFUSE),
    ("NUL in the target", "RFC 9112 §3.2", b"GET http://{host}{path}\x00 HTTP/1.1\r\n" + HOST, Must.REFUSE),
    ("space in the target", "RFC 9112 §3.2", b"GET http://{host}{path} x HTTP/1.1\r\n" + HOST, Must.REFUSE),
    (
        "tabs in the request line",
        "RFC 9112 §3",
        b"GET\thttp://{host}{path}\tHTTP/1.1\r\n" + HOST,
        Must.REFUSE,
    ),
    (
        "a method that is no token",
        "RFC 9110 §9.1",
        b"G(T http://{host}{path} HTTP/1.1\r\n" + HOST,
        Must.REFUSE,
    ),
    (
        "an upload with a method that is no token",
        "RFC 9110 §9.1",
        PUT.replace(b"PUT", b"P:T") + CL + b"1\r\n\r\na",
        Must.REFUSE,
    ),
    ("HTTP/1.2", "RFC 9112 §2.3", GET.replace(b"HTTP/1.1", b"HTTP/1.2") + b"\r\n", Must.PASS),
    ("HTTP/1.10", "RFC 9112 §2.3", GET.replace(b"HTTP/1.1", b"HTTP/1.10") + b"\r\n", Must.REFUSE),
    ("an empty line first", "RFC 9112 §2.2", b"\r\n" + GET + b"\r\n", Must.PASS),
    ("two Hosts", "RFC 9112 §3.2", GET + b"Host: other.example\r\n\r\n", Must.REFUSE),
    ("two equal Hosts", "RFC 9112 §3.2", GET + b"Host: {host}\r\n\r\n", Must.REFUSE),
    ("two Hosts in an upload", "RFC 9112 §3.2", PUT + CL + b"1\r\nHost: other.example\r\n\r\na", Must.REFUSE),
    ("no Host", "RFC 9112 §3.2", b"GET http://{host}{path} HTTP/1.1\r\n\r\n", Must.REFUSE),
    ("a Host with a path", "RFC 9112 §3.2", LINE + b"Host: a/b\r\n\r\n", Must.REFUSE),
    ("a Host with user info", "RFC 9112 §3.2", LINE + b"Host: a@{host}\r\n\r\n", Must.REFUSE),
    ("a Host with a port trick", "RFC 9112 §3.2", LINE + b"Host: {host}:80\r\n\r\n", Must.REFUSE),
    (
        "user info in the target",
        "RFC 9110 §4.2.4",
        b"GET http://a@{host}{path} HTTP/1.1\r\n" + HOST,
        Must.EITHER,
    ),
    (
        "a backslash before the host's end",
        "RFC 3986 §3.2",
        b"GET http://{host}\\@other.example{path} HTTP/1.1\r\n" + HOST,
        Must.REFUSE,
    ),
)
