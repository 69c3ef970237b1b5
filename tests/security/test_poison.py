"""Attempts to make Buffy store one thing under the name of another, or for another (RFC 9111 §7.1)."""

from __future__ import annotations

import threading

import pytest

from tests.security.kit import PATIENCE_S, clear, others_are_served, shout
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.wire import request_bytes

HOSTS = [
    ("a foreign Host", "RFC 9112 §3.2.2", "evil.example"),
    ("a foreign port", "RFC 9112 §3.2.2", "127.0.0.1:1"),
    ("an empty Host", "RFC 9112 §3.2", ""),
    ("a Host in capitals", "RFC 9110 §4.2.3", "EVIL.EXAMPLE"),
]


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


async def mirror(request: Received, peer: Peer) -> None:
    """The commonest hole: an answer that shows an unkeyed field, and may be stored."""
    body = f"{request.get('host')}|{request.get('x-forwarded-host')}|{request.target}".encode()
    await peer.send(answers.head(200, {"Content-Length": str(len(body)), **answers.FRESH}) + body)


@pytest.mark.parametrize(("name", "section", "host"), HOSTS)
def test_host(server: Buffy, either: Origin, path: str, name: str, section: str, host: str) -> None:
    """The key and the Host that the origin sees come from the target, so no Host can part them."""
    url = either.on(path, mirror)
    first = server.get(url, [("Host", host)], timeout=PATIENCE_S)
    again = server.get(url, timeout=PATIENCE_S)
    assert first.body == again.body == f"{either.authority}|None|{path}".encode(), name
    assert again.cache.hit


def test_absolute_form_inside_a_tunnel(server: Buffy, tls_origin: Origin, origin: Origin, path: str) -> None:
    """RFC 9112 §3.2.2: the connection's own authority counts; a target elsewhere reaches nobody else."""
    tls_origin.on(path, mirror)
    data = request_bytes("GET", origin.url(path), origin.authority, [("Connection", "close")])
    came = shout(server.open(tls_origin.url(path), timeout=PATIENCE_S), data, finish=False)
    assert came.ended and origin.hits(path) == 0
    assert came.status >= 400 or came.body == f"{tls_origin.authority}|None|{path}".encode()
    assert server.get(tls_origin.url(path)).body == f"{tls_origin.authority}|None|{path}".encode()


def test_a_target_without_a_host_is_no_resource(server: Buffy, origin: Origin, path: str) -> None:
    """Origin-form towards a proxy, with the Host of an origin (RFC 9112 §3.2.2)."""
    origin.on(path, mirror)
    came = shout(clear(server), request_bytes("GET", path, origin.authority), finish=False)
    assert came.status == 400 and origin.hits(path) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("?a=1&b=2", "?b=2&a=1"),
        ("?a=1", "?a=1&"),
        ("?a=%31", "?a=1"),
        ("/x", "/x/"),
        ("/x", "/X"),
        ("/x", "//x"),
        ("/a/../x", "/x"),
        ("/x;v=1", "/x;v=2"),
        ("/x%2fy", "/x/y"),
        ("?a=1#b", "?a=1%23b"),
    ],
)
def test_targets_that_an_origin_could_tell_apart(
    server: Buffy, either: Origin, path: str, one: str, other: str
) -> None:
    """RFC 9111 §2: no normalisation that the origin does not do itself."""
    either.on(path + "*", mirror)
    bodies = [server.get(either.url(path + suffix)).body.decode() for suffix in (one, other)]
    assert [body.rpartition("|")[2] for body in bodies] == [path + one.partition("#")[0], path + other]


VARIES = [
    ("in one line", {"Vary": "X-One, X-Two"}),
    ("in odd case", {"vary": "x-ONE,X-two"}),
    ("with empty members", {"Vary": ",, X-One ,, X-Two ,"}),
]


@pytest.mark.parametrize(("name", "vary"), VARIES)
def test_vary(server: Buffy, either: Origin, path: str, name: str, vary: dict[str, str]) -> None:
    """RFC 9111 §4.1: an answer made for one value is not given to another, absent and empty included."""

    async def script(request: Received, peer: Peer) -> None:
        body = f"{request.all('x-one')}{request.all('x-two')}".encode()
        fields = {"Content-Length": str(len(body)), **vary, **answers.FRESH}
        await peer.send(answers.head(200, fields) + body)

    url = either.on(path, script)
    asked = [
        [("X-One", "1"), ("X-Two", "2")],
        [("X-One", "1, 2")],
        [("X-One", "1"), ("X-One", "2")],
        [("X-Two", "1")],
        [("X-One", "2"), ("X-Two", "1")],
        [],
    ]
    for _ in range(2):
        for fields in asked:
            one, two = ([value for name, value in fields if name == which] for which in ("X-One", "X-Two"))
            seen = server.get(url, fields).body.decode()
            joined = seen.replace("', '", ", ")
            assert joined == f"{[', '.join(one)] if one else []}{[', '.join(two)] if two else []}"


def test_vary_star_is_never_repeated(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"once", {"Vary": "X-A, *", **answers.FRESH}))
    assert [server.get(url).cache.hit for _ in range(3)] == [False] * 3


def test_a_variant_does_not_leak_to_those_who_wait_with_it(server: Buffy, origin: Origin, path: str) -> None:
    """Collapsed requests of another variant go on by themselves (RFC 9111 §4, §4.1)."""
    asked, go = threading.Semaphore(0), threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        asked.release()
        await peer.wait(go)
        body = (request.get("x-one") or "none").encode()
        fields = {"Content-Length": str(len(body)), "Vary": "X-One", **answers.FRESH}
        await peer.send(answers.head(200, fields) + body)

    url = origin.on(path, script)
    got: dict[str, bytes] = {}

    def one(value: str) -> None:
        got[value] = server.get(url, [("X-One", value)], timeout=PATIENCE_S).body

    threads = [threading.Thread(target=one, args=(value,)) for value in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    assert asked.acquire(timeout=PATIENCE_S)
    go.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert got == {"a": b"a", "b": b"b", "c": b"c"}


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("RFC 9110 §7.6.1", [("Connection", "Host"), ("X-Poison", "1")]),
        ("RFC 9110 §7.6.1", [("Connection", "Authorization, Cookie, X-Poison"), ("X-Poison", "1")]),
        ("RFC 9110 §7.6.1", [("Connection", "X-Poison"), ("X-Poison", "1"), ("Cookie", "a=b")]),
    ],
)
def test_connection_does_not_hide_what_matters(
    server: Buffy, either: Origin, path: str, section: str, fields: list[tuple[str, str]]
) -> None:
    """Naming Host or credentials in Connection does not make an anonymous, shared answer of one's own."""
    url = either.on(path, mirror)
    secret = [*fields, ("Authorization", "Basic YTpi")]
    assert server.get(url, secret).status == 200
    assert either.seen(path)[0].get("host") == either.authority
    assert either.seen(path)[0].get("authorization") == "Basic YTpi"
    assert not server.get(url).cache.hit


def test_an_error_for_one_is_no_answer_for_all(server: Buffy, either: Origin, path: str) -> None:
    """A request made to fail (an oversized or odd field) must not leave its error behind (CPDoS)."""

    async def script(request: Received, peer: Peer) -> None:
        bad = (request.get("x-odd") or "") + (request.get("x-http-method-override") or "")
        status, body = (400, b"bad") if bad else (200, b"right")
        await peer.send(answers.head(status, {"Content-Length": str(len(body))}) + body)

    url = either.on(path, script)
    for odd in (("X-Odd", "x" * 50_000), ("X-HTTP-Method-Override", "POST")):
        assert server.get(url, [odd]).status == 400
        assert (server.get(url).status, server.get(url).body) == (200, b"right")


def test_injection_through_what_is_mirrored(server: Buffy, origin: Origin, path: str) -> None:
    """Nothing that a client can send comes back as a field of Buffy's own answers (RFC 9110 §17.13)."""
    origin.on(path, answers.fixed(b"x"))
    evil = "%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a<script>"
    dead = f"http://127.0.0.1:1/{evil}"
    for target in (dead, f"ftp://{evil}/", f"http://{evil}/"):
        came = shout(
            clear(server), request_bytes("GET", target, "a", [("Connection", "close")]), finish=False
        )
        assert came.ended and came.status in (400, 502, 504), came
        assert b"\nset-cookie" not in came.head.lower()
    others_are_served(server, origin)
