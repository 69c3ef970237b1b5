"""Origin -> Buffy -> client: what an origin may try, for what is cached (GET) and what is passed on (PUT)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

from tests.security.kit import PATIENCE_S, afterwards, clear, others_are_served, shout
from tests.support.buffy import Buffy
from tests.support.origin import CLOSE, Origin
from tests.support.procs import wait_until
from tests.support.wire import request_bytes


class Is(Enum):
    """What an answer is worth.

    WRONG   502, or a body that visibly breaks off; nothing is stored
    RIGHT   200 with the body "abcd", which may be stored
    EITHER  one of the two
    """

    WRONG = "wrong"
    RIGHT = "right"
    EITHER = "either"


@dataclass(frozen=True)
class Answer:
    name: str
    section: str
    data: bytes
    get: Is
    put: Is


def same(name: str, section: str, data: bytes, worth: Is) -> Answer:
    return Answer(name, section, data, worth, worth)


OK = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=99\r\n"
CL, TE, LAST = b"Content-Length: ", b"Transfer-Encoding: ", b"4\r\nabcd\r\n0\r\n\r\n"
FOUR = CL + b"4\r\n\r\nabcd"
CHUNKED = OK + TE + b"chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
SPLIT = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=99\r\nContent-Length: 4\r\n\r\nevil"

ANSWERS = (
    Answer("TE.CL", "RFC 9112 §6.3", OK + CL + b"2\r\n" + TE + b"chunked\r\n\r\n" + LAST, Is.RIGHT, Is.WRONG),
    same("two different lengths", "RFC 9112 §6.3", OK + CL + b"2\r\n" + FOUR, Is.WRONG),
    same("two equal lengths", "RFC 9112 §6.3", OK + CL + b"4\r\n" + FOUR, Is.EITHER),
    same("a list of different lengths", "RFC 9112 §6.3", OK + CL + b"2, 4\r\n\r\nabcd", Is.WRONG),
    same("negative length", "RFC 9110 §8.6", OK + CL + b"-4\r\n\r\nabcd", Is.WRONG),
    same("signed length", "RFC 9110 §8.6", OK + CL + b"+4\r\n\r\nabcd", Is.WRONG),
    same("empty length", "RFC 9110 §8.6", OK + CL + b"\r\n\r\nabcd", Is.WRONG),
    same("length beyond 64 bits", "RFC 9110 §8.6", OK + CL + b"18446744073709551620\r\n\r\nabcd", Is.WRONG),
    same("xchunked", "RFC 9112 §6.1", OK + TE + b"xchunked\r\n\r\n" + LAST, Is.WRONG),
    same("chunked twice", "RFC 9112 §6.1", OK + TE + b"chunked, chunked\r\n\r\n" + LAST, Is.WRONG),
    same(
        "in two lines", "RFC 9112 §6.1", OK + TE + b"chunked\r\n" + TE + b"identity\r\n\r\n" + LAST, Is.WRONG
    ),
    same("an unknown coding", "RFC 9112 §6.1", OK + TE + b"rot13, chunked\r\n\r\n" + LAST, Is.WRONG),
    same("chunk extensions", "RFC 9112 §7.1.1", CHUNKED + b'4;a="b"\r\nabcd\r\n0;c\r\n\r\n', Is.RIGHT),
    same("chunk with a negative size", "RFC 9112 §7.1", CHUNKED + b"-4\r\nabcd\r\n0\r\n\r\n", Is.WRONG),
    same("chunk beyond 64 bits", "RFC 9112 §7.1", CHUNKED + b"10000000000000004\r\nabcd\r\n", Is.WRONG),
    same("an endless chunk extension", "RFC 9112 §7.1.1", CHUNKED + b"4;" + b"x" * 3_000_000, Is.WRONG),
    same(
        "trailers that lie", "RFC 9110 §6.5.1", CHUNKED + LAST[:-2] + b"Content-Length: 1\r\n\r\n", Is.RIGHT
    ),
    same("endless trailers", "RFC 9112 §7.1.2", CHUNKED + LAST[:-2] + b"X: y\r\n" * 500_000, Is.WRONG),
    same(
        "bare line feeds", "RFC 9112 §2.2", (OK + CL + b"4\r\n\r\n").replace(b"\r", b"") + b"abcd", Is.EITHER
    ),
    same("folded", "RFC 9112 §5.2", OK + b"X-A: b\r\n c\r\n" + FOUR, Is.EITHER),
    same("space before the colon", "RFC 9112 §5.1", OK + b"Content-Length : 2\r\n" + FOUR, Is.WRONG),
    same("NUL in a value", "RFC 9110 §5.5", OK + b"X-A: b\x00c\r\n" + FOUR, Is.EITHER),
    same("bare CR in a value", "RFC 9110 §5.5", OK + b"X-A: b\rX-B: c\r\n" + FOUR, Is.EITHER),
    same("bare CR in the reason", "RFC 9112 §4", b"HTTP/1.1 200 O\rX-B: c\r\n" + FOUR, Is.EITHER),
    same("a status of four digits", "RFC 9112 §4", b"HTTP/1.1 2000 OK\r\n" + FOUR, Is.WRONG),
    same("a status below 100", "RFC 9110 §15", b"HTTP/1.1 099 OK\r\n" + FOUR, Is.WRONG),
    same("HTTP/0.9", "RFC 9112 §2.3", b"<html>abcd</html>", Is.WRONG),
    same("another protocol", "RFC 9112 §2.3", b"ICY 200 OK\r\n\r\nabcd", Is.WRONG),
    same("a second answer behind the first", "RFC 9112 §11.1", OK + FOUR + SPLIT, Is.RIGHT),
    same("101 unasked", "RFC 9110 §15.2.2", b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n" + OK + FOUR, Is.WRONG),
    same("many interim answers", "RFC 9110 §15.2", EARLY * 900 + OK + FOUR, Is.RIGHT),
    same("a storm of interim answers", "RFC 9110 §15.2", EARLY * 20_000 + OK + FOUR, Is.WRONG),
    same("only interim answers", "RFC 9110 §15.2", EARLY, Is.WRONG),
    same(
        "an interim answer with a length",
        "RFC 9110 §8.6",
        EARLY[:-2] + CL + b"9\r\n\r\n" + OK + FOUR,
        Is.RIGHT,
    ),
    same("100 unasked", "RFC 9110 §15.2.1", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + FOUR, Is.RIGHT),
    same(
        "a field of a megabyte", "RFC 9110 §5.4", OK + b"X-A: " + b"x" * 1_000_000 + b"\r\n" + FOUR, Is.WRONG
    ),
    same("a field that never ends", "RFC 9110 §5.4", OK + b"X-A: " + b"x" * 9_000_000, Is.WRONG),
    same("ten thousand fields", "RFC 9110 §5.4", OK + b"X: y\r\n" * 10_000 + FOUR, Is.RIGHT),
    same("a hundred thousand fields", "RFC 9110 §5.4", OK + b"X: y\r\n" * 100_000 + FOUR, Is.WRONG),
    same("closed at once", "RFC 9112 §9.5", b"", Is.WRONG),
    same("closed in the head", "RFC 9112 §8", OK, Is.WRONG),
    same("closed in the body", "RFC 9112 §8", OK + CL + b"9\r\n\r\nabcd", Is.WRONG),
    same("closed in a chunk", "RFC 9112 §8", CHUNKED + b"9\r\nabcd", Is.WRONG),
    same("closed before the last chunk", "RFC 9112 §8", CHUNKED + b"4\r\nabcd\r\n", Is.WRONG),
)


def ids(answer: Answer) -> str:
    return f"{answer.name} ({answer.section})"


@pytest.fixture(params=["GET", "PUT"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def broken_off(head: bytes, body: bytes) -> bool:
    """Whether a client sees that the body is not whole (RFC 9112 §8)."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return not body.endswith(b"0\r\n\r\n") or b"0\r\n\r\n\r\n" in body
    return len(body) < int(fields.get(b"content-length", b"0"))


def content(head: bytes, body: bytes) -> bytes:
    chunked = b"transfer-encoding: chunked" in head.lower()
    return b"".join(body.split(b"\r\n")[1::2]) if chunked else body


@pytest.mark.parametrize("answer", ANSWERS, ids=ids)
def test_an_answer(server: Buffy, origin: Origin, path: str, method: str, answer: Answer) -> None:
    url = origin.on(path, [answer.data, CLOSE])
    body = b"" if method == "GET" else b"xy"
    data = request_bytes(method, url, origin.authority, [("Connection", "close")], body)
    came = shout(clear(server), data, finish=False)
    assert came.ended, came.data[:300]
    right = came.status == 200 and not broken_off(came.head, came.body)
    worth = answer.get if method == "GET" else answer.put
    if worth is Is.RIGHT or (worth is Is.EITHER and right):
        assert right and content(came.head, came.body) == b"abcd", came.data[:300]
    else:
        broken = came.status == 200 and broken_off(came.head, came.body)
        assert came.status == 502 or broken, came.data[:300]
    assert b"\x00" not in came.head and b"\r" not in came.head.replace(b"\r\n", b"")
    assert b"\nHTTP/1.1 " not in came.final and b"evil" not in came.data
    assert b"content-length" not in came.interim.lower()
    now = afterwards(server, origin, path)
    assert now.body == (b"abcd" if right and method == "GET" and now.cache.hit else b"the truth")
    others_are_served(server, origin)


def test_no_length_in_a_204(server: Buffy, origin: Origin, path: str, method: str) -> None:
    """RFC 9110 §8.6: who believes it waits for four bytes, or takes the next answer for them."""
    fields = b"Cache-Control: max-age=99\r\nContent-Length: 4\r\n\r\nabcd"
    url = origin.on(path, [b"HTTP/1.1 204 No Content\r\n" + fields, CLOSE])
    for _ in range(2):
        reply = server.request(method, url, body=b"" if method == "GET" else b"x", timeout=PATIENCE_S)
        assert (reply.status, reply.get("content-length"), reply.body) == (204, None, b"")


def test_a_client_that_asks_to_close_an_upload(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9112 §9.6: the answer says close, and the connection ends."""
    url = origin.on(path, [OK + FOUR])
    data = request_bytes("PUT", url, origin.authority, [("Connection", "close")], b"xy")
    came = shout(clear(server), data, finish=False)
    assert came.ended and came.body == b"abcd" and b"connection: close" in came.head.lower()


def test_a_storm_that_never_ends(server: Buffy, origin: Origin, path: str, method: str) -> None:
    """An origin that sends interim answers for ever keeps nobody waiting for ever."""

    async def script(request: object, peer: object) -> None:
        while True:
            await peer.send(EARLY * 50)  # type: ignore[attr-defined]

    url = origin.on(path, script)
    reply = server.request(method, url, body=b"" if method == "GET" else b"x", timeout=PATIENCE_S)
    assert reply.status == 502
    others_are_served(server, origin)


def test_an_origin_that_closes_without_a_word(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9112 §9.3.1: what must not be sent twice goes over a new connection, so none is lost to one that is
    just closing; and none is left open."""
    url = origin.on(path, [OK + FOUR, CLOSE])
    data = request_bytes("POST", url, origin.authority, body=b"xy")
    with server.open(url, timeout=PATIENCE_S) as connection:
        for _ in range(20):
            connection.send(data)
            reply = connection.read()
            assert (reply.status, reply.body) == (200, b"abcd")
    assert len({seen.connection for seen in origin.seen(path)}) == len(origin.seen(path)) == 20


def test_uploads_leave_no_connection_behind(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, [OK + FOUR])
    data = request_bytes("POST", url, origin.authority, body=b"xy")
    before = open_files(server)
    with server.open(url, timeout=PATIENCE_S) as connection:
        for _ in range(40):
            connection.send(data)
            assert connection.read().body == b"abcd"
        wait_until(lambda: open_files(server) < before + 10, PATIENCE_S)


def open_files(server: Buffy) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.pids())


@pytest.mark.parametrize(
    "answer", [CHUNKED + LAST, OK.replace(b"1.1", b"1.0") + FOUR], ids=["chunked", "1.0"]
)
def test_versions_do_not_mix(server: Buffy, origin: Origin, path: str, method: str, answer: bytes) -> None:
    """RFC 9112 §6.1: no chunked coding towards an HTTP/1.0 client; RFC 9110 §2.5: the version is our own."""
    for version in ("1.0", "1.1"):
        url = origin.on(f"{path}/{version}", [answer, CLOSE])
        data = request_bytes(
            method, url, origin.authority, [("Connection", "close")], b"x" * (method == "PUT")
        )
        came = shout(clear(server), data.replace(b"HTTP/1.1", f"HTTP/{version}".encode()), finish=False)
        assert came.ended and came.data.startswith(b"HTTP/1.1 200 ")
        chunked = b"transfer-encoding" in came.head.lower()
        assert content(came.head, came.body) == b"abcd" and not (chunked and version == "1.0")
