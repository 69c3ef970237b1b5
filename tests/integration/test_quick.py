"""The short cut for hits and the ordinary way give the same bytes for the same request.

`Connection: close` makes a request go the ordinary way; everything else about the two is equal.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import time
from collections.abc import Callable, Iterable

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.http2 import Client
from tests.support.origin import Origin, Peer, Received, Step
from tests.support.wire import Connection, Reply, open_through, proxy_authorization, request_bytes, target_of

CONFIG = """
[[rule]]
match = "{http}/kept/**"
strategy = { strategy_name = "never" }
"""

Line = tuple[str, str]
MASKED_LOWER = re.compile(rb"(?m)^(age: |cache-status: .*?; ttl=|date: )[^;\r]+")
MASKED = re.compile(rb"(?m)^(Age: |Cache-Status: .*?; ttl=|Date: )[^;\r]+")
MODIFIED = "Mon, 06 Nov 2023 08:00:00 GMT"


async def by_language(request: Received, peer: Peer) -> None:
    language = request.get("accept-language") or "none"
    fields = {"Vary": "Accept-Language", "Content-Length": str(len(language)), **answers.FRESH}
    await peer.send(answers.head(200, fields) + language.encode())


def steps(*data: Step) -> answers.Handler:
    """Exactly these bytes; only the head in answer to HEAD."""

    async def script(request: Received, peer: Peer) -> None:
        if request.method == "HEAD":
            await peer.run([b"".join(part for part in data if isinstance(part, bytes)).split(END)[0] + END])
        else:
            await peer.run(data)

    return script


END = b"\r\n\r\n"
RESOURCES = {
    "/plain": answers.fixed(b"0123456789", {"ETag": '"e"', "Last-Modified": MODIFIED, **answers.FRESH}),
    "/weak": answers.fixed(b"0123456789", {"ETag": 'W/"e"', "Content-Type": "text/x", **answers.FRESH}),
    "/empty": answers.fixed(b"", answers.FRESH),
    "/large": answers.fixed(bytes(range(256)) * 800, {"ETag": '"e"', **answers.FRESH}),
    "/language": by_language,
    "/cookie": answers.fixed(b"c", {"Set-Cookie": "s=1; Path=/", **answers.FRESH}),
    "/undated": steps(answers.head(200, {"Content-Length": "2", **answers.FRESH}, dated=False), b"ok"),
    "/no-reason": steps(b"HTTP/1.1 203 \r\nContent-Length: 2\r\nCache-Control: max-age=999\r\n\r\nok"),
    "/gone": answers.fixed(b"gone", answers.FRESH, 410),
    "/moved": answers.redirect("/plain", 301, answers.FRESH),
    "/void": steps(answers.head(204, answers.FRESH)),
    "/chunks": steps(*answers.chunked([b"one", b"two"], answers.FRESH)),
    "/closed": steps(*answers.until_close(b"until the end", answers.FRESH)),
    "/kept/odd": answers.fixed(b"kept", {"Cache-Control": "no-store", "X-Odd": "caf\u00e9, \t x"}),
    "/kept/connection": answers.fixed(b"x", {"Connection": "X-Hop", "X-Hop": "1", "X-End": "2"}),
}
FIELDS: list[list[Line]] = [
    [],
    [("If-None-Match", '"e"')],
    [("If-None-Match", 'W/"e", "x"')],
    [("If-None-Match", "*")],
    [("If-None-Match", '"other"'), ("If-Modified-Since", MODIFIED)],
    [("If-Modified-Since", MODIFIED)],
    [("If-Match", '"other"')],
    [("Range", "bytes=2-4")],
    [("Range", "bytes=-3")],
    [("Range", "bytes=0-0,5-")],
    [("Range", "bytes=999999-")],
    [("Range", "lines=1-2")],
    [("Range", "bytes=1-2"), ("If-Range", '"e"')],
    [("Range", "bytes=1-2"), ("If-Range", '"other"')],
    [("Accept-Language", "de")],
    [("accept-language", "fr"), ("Accept-Encoding", "gzip")],
    [("Cache-Control", "only-if-cached")],
    [("Cache-Control", "max-stale, max-age=1000")],
    [("TE", "trailers"), ("X-Empty", "")],
]
WHO: list[list[Line]] = [
    [],
    [("Authorization", "Basic YTpi")],
    [("Cookie", "a=1; b=2")],
    [proxy_authorization("group=one")],
    [proxy_authorization("mode=offline")],
    [proxy_authorization("group=two+mode=offline")],
]


def answer(connection: Connection, method: str) -> bytes:
    """The bytes of one response; the numbers that the clock moves are masked."""
    head = connection.until(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: (\d+)", head)
    body = b""
    if method != "HEAD" and head[9:12] not in (b"204", b"304"):
        if b"chunked" in head:
            body = b"".join(connection.body_chunks(Reply(200, "", [("Transfer-Encoding", "chunked")])))
        else:
            assert length, head
            body = connection.exactly(int(length[1]))
    return MASKED.sub(rb"\1#", head) + body


def asked(method: str, url: str, fields: Iterable[Line]) -> bytes:
    target, host = target_of(url)
    return request_bytes(method, target, host, list(fields))


class Both:
    """The two ways to one server for one scheme."""

    def __init__(self, server: Buffy, origin: Origin) -> None:
        self.server, self.origin = server, origin
        for path, script in RESOURCES.items():
            origin.on(path, script)

    def connect(self) -> Connection:
        return open_through(self.server.proxy, self.origin.url("/"), self.server.trust())

    def settled(self, method: str, data: bytes) -> bytes:
        """The answer that does not change any more: whatever can be stored is stored."""
        before, now = b"", self.ordinary(method, data)
        while before != now:
            before, now = now, self.ordinary(method, data)
        return now

    def ordinary(self, method: str, data: bytes) -> bytes:
        with self.connect() as connection:
            connection.send(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            got = answer(connection, method)
            assert connection.recv() == b""
            return got


@pytest.fixture(params=["http", "https"])
def both(request: pytest.FixtureRequest, server: Buffy, origin: Origin, tls_origin: Origin) -> Both:
    return Both(server, origin if request.param == "http" else tls_origin)


def chosen(count: int) -> list[tuple[str, str, list[Line]]]:
    """(method, path, fields): every resource, then a random choice of everything with everything."""
    every = list(itertools.product(("GET", "GET", "HEAD"), RESOURCES, FIELDS, WHO))
    some = random.Random(int.from_bytes(b"quick")).sample(every, count)
    return [
        *(("GET", path, []) for path in RESOURCES),
        *((method, path, [*who, *fields]) for method, path, fields, who in some),
    ]


def requests(url: Callable[[str], str], count: int) -> list[tuple[str, bytes]]:
    """(method, bytes)."""
    return [(method, asked(method, url(path), fields)) for method, path, fields in chosen(count)]


def test_generated_requests(both: Both) -> None:
    """Three times the quick way: the second and third time what was answered before is said again. A commit
    that comes between the two ways changes the answer, so they are compared once more then."""
    with both.connect() as quick:
        for method, data in requests(both.origin.url, 250):
            for attempt in range(5):
                expected, said = both.settled(method, data), []
                for _ in range(3):
                    quick.send(data)
                    said.append(answer(quick, method))
                if said == [expected] * 3:
                    break
                time.sleep(0.1 * attempt)
            assert said == [expected] * 3, data


def in_http2(client: Client, method: str, path: str, fields: list[Line], *, split: bool) -> bytes:
    """The answer as HTTP/1.1 would have it: the same lines, their names in lower case, and the content."""
    lines = [(name.lower(), value) for name, value in fields]
    stream = client.request(path, method, lines, split=split)
    client.finish(stream)
    head = "".join(f"{name}: {value}\r\n" for name, value in client.fields[stream])
    status = client.heads[stream][":status"].encode()
    return status + b"\r\n" + MASKED_LOWER.sub(rb"\1#", head.encode("latin-1")) + client.bodies[stream]


def as_http2(data: bytes) -> bytes:
    """An answer of HTTP/1.1 in these words, without what is not allowed there (RFC 9113 §8.2.2)."""
    head, _, body = data.partition(END)
    first, *lines = head.split(b"\r\n")
    fields = [line.partition(b": ") for line in lines]
    hop = (b"connection", b"transfer-encoding")
    kept = [
        name.lower() + b": " + value.strip() + b"\r\n" for name, _, value in fields if name.lower() not in hop
    ]
    return first[9:12] + b"\r\n" + b"".join(kept) + body


def test_generated_requests_in_http2(server: Buffy, tls_origin: Origin) -> None:
    """On a connection that the front has, on one that mitmproxy has, in the ordinary way (a head in two
    frames), and in HTTP/1.1."""
    both = Both(server, tls_origin)
    given = Client(server, tls_origin)
    prompt = 0
    for method, path, fields in chosen(120):
        data = asked(method, tls_origin.url(path), fields)
        for attempt in range(5):
            expected = as_http2(both.settled(method, data))
            ordinary = in_http2(given, method, path, fields, split=True)
            said = [in_http2(given, method, path, fields, split=False) for _ in range(3)]
            fresh = Client(server, tls_origin)
            said += [in_http2(fresh, method, path, fields, split=False) for _ in range(2)]
            prompt += len(fresh.prompt)
            if {ordinary, *said} == {expected}:
                break
            time.sleep(0.1 * attempt)
        assert {ordinary, *said} == {expected}, (method, path, fields)
    assert prompt > 30


def test_pipelined_pairs(both: Both) -> None:
    """Two requests in one piece: quick ones, ordinary ones, and one of each."""
    every = requests(both.origin.url, 60)
    for method, data in every:
        both.settled(method, data)
    for (one, first), (two, second) in itertools.pairwise(every):
        with both.connect() as connection:
            connection.send(first + second)
            assert answer(connection, one) == both.ordinary(one, first), first
            assert answer(connection, two) == both.ordinary(two, second), second


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_head_in_two_pieces(both: Both, cut: int) -> None:
    data = asked("GET", both.origin.url("/plain"), [])
    expected = both.settled("GET", data)
    with both.connect() as connection:
        connection.send(data + data[:cut])
        assert answer(connection, "GET") == expected
        connection.send(data[cut:])
        assert answer(connection, "GET") == expected


def test_odd_targets(server: Buffy, origin: Origin) -> None:
    both = Both(server, origin)
    host = both.origin.authority
    targets = [
        f"http://{host}/plain",
        f"HTTP://{host}/plain",
        f"http://{host}/plain?",
        f"http://{host}/plain?a=b&c=%7e%2f",
        f"http://{host}/plain#fragment",
        f"http://user:secret@{host}/plain",
        f"http://{host}",
        f"http://{host}?q",
        f"http://{host}//plain/../plain/./",
        f"http://LOCALHOST:{both.origin.port}/plain",
        f"http://{host}/pl%61in",
        f'http://{host}/a|b^c"<>`{{}}\\',
        f"http://{host}:x/plain",
        "http:///plain",
        "http://[::1/plain",
        "/plain",
    ]
    both.origin.on("*", answers.fixed(b"anything", answers.FRESH))
    for target in targets:
        data = request_bytes("GET", target, "someone.else")
        expected = both.settled("GET", data)
        with both.connect() as quick:
            quick.send(data)
            assert answer(quick, "GET") == expected, target


def test_an_endless_head_is_refused(both: Both) -> None:
    """It would be kept in memory, and looked through again with every packet."""
    with both.connect() as connection:
        data = asked("GET", both.origin.url("/plain"), [("X-Large", "x" * 200_000)])
        connection.send(data)
        assert b" 200 OK" in answer(connection, "GET")
        with contextlib.suppress(BrokenPipeError):  # it may be refused before all of it is out
            connection.send(data[:-2] + b"X-More: " + b"x" * 70_000)
        refused = answer(connection, "GET")
        assert refused.startswith(b"HTTP/1.1 431 ") and b"256 KiB" in refused
        assert connection.recv() == b""
