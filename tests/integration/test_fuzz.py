"""Bytes that no client should send: the server answers or hangs up, lives on, and serves the others."""

from __future__ import annotations

import random
import re
import socket
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import connect, request_bytes, start_tls, tunnel

HUGE = b"x" * 300_000
BROKEN = {
    "nothing": b"\r\n\r\n",
    "not http": b"\x00\xff\xfe\r\n\r\n",
    "tls to a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET http://{host}/x\r\n\r\n",
    "http 9.9": b"GET http://{host}/x HTTP/9.9\r\nHost: {host}\r\n\r\n",
    "http 1.0": b"GET http://{host}/x HTTP/1.0\r\n\r\n",
    "no host": b"GET http:///x HTTP/1.1\r\n\r\n",
    "bad port": b"GET http://127.0.0.1:99999/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "letters as port": b"GET http://127.0.0.1:abc/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "other scheme": b"GET ftp://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "userinfo": b"GET http://user:pw@{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "bad brackets": b"GET http://[::1/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "nul in target": b"GET http://{host}/x\x00y HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "high bytes in target": b"GET http://{host}/\xe4\xf6 HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "connect to nothing": b"CONNECT HTTP/1.1\r\n\r\n",
    "connect without port": b"CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "connect port 0": b"CONNECT localhost:0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "connect bad port": b"CONNECT localhost:-1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "huge target": b"GET http://{host}/" + HUGE + b" HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "huge field": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nX-A: " + HUGE + b"\r\n\r\n",
    "huge method": HUGE + b" http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "many fields": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
    "no end": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nX-A: " + HUGE,
    "no colon": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nnonsense\r\n\r\n",
    "space before colon": b"GET http://{host}/x HTTP/1.1\r\nHost : {host}\r\n\r\n",
    "folded": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n c\r\n\r\n",
    "nul in value": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nX-A: \x00\r\n\r\n",
    "bare line feeds": b"GET http://{host}/x HTTP/1.1\nHost: {host}\n\n",
    "two hosts": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nHost: other\r\n\r\n",
    "two lengths": b"PUT http://{host}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\nab",
    "negative length": b"PUT http://{host}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\nabcde",
    "endless length": b"PUT http://{host}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: "
    + b"9" * 50
    + b"\r\n\r\nab",
    "length and chunked": b"PUT http://{host}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd coding": b"PUT http://{host}/x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, xx\r\n\r\nab",
    "bad chunk": b"PUT http://{host}/x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n"
    b"\r\nzz\r\nab\r\n",
    "bad credentials": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n"
    b"Proxy-Authorization: Basic !!!\r\n\r\n",
    "odd dates": b"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nIf-Modified-Since: Fri, 99 Foo 99999\r\n"
    b"If-Range: 0\r\nRange: bytes=9999999999999999999999-\r\nCache-Control: max-age=-1, max-stale="
    + b"9" * 99
    + b"\r\n\r\n",
}


def alive(server: Buffy, origin: Origin) -> None:
    """Others are served, hits and misses, and nothing has crashed."""
    url = origin.on("/alive", answers.fixed(b"alive", answers.FRESH))
    assert server.get(url, timeout=10).body == b"alive"
    fresh = origin.on(f"/alive/{random.random()}", answers.fixed(b"fresh"))
    assert server.get(fresh, timeout=10).body == b"fresh"
    assert server.process is not None and server.process.poll() is None
    assert "Traceback" not in server.log(), server.log()[-3000:]


def shout(server: Buffy, data: bytes, tls: Origin | None = None) -> bytes:
    """Sends bytes, half-closes, and reads what comes; the server must end the connection by itself."""
    connection = connect(server.proxy, 10)
    try:
        if tls is not None:
            connection = start_tls(tunnel(server.proxy, "127.0.0.1", tls.port), "127.0.0.1", server.trust())
        connection.sock.sendall(data)
        if tls is None:
            connection.sock.shutdown(socket.SHUT_WR)
        else:
            connection.sock.settimeout(1)
        answer = b""
        while more := connection.recv():
            answer += more
        return answer
    except (ConnectionError, TimeoutError, OSError):
        return b""
    finally:
        connection.close()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests(server: Buffy, origin: Origin, name: str) -> None:
    origin.on("/x", answers.fixed(b"x", answers.FRESH))
    data = BROKEN[name].replace(b"{host}", origin.authority.encode())
    answer = shout(server, data)
    assert answer == b"" or re.match(rb"HTTP/1\.[01] [1-5]\d\d ", answer), answer[:100]
    alive(server, origin)


@pytest.mark.parametrize(
    "name", ["huge target", "huge field", "no colon", "bad chunk", "two lengths", "nul in value"]
)
def test_broken_requests_inside_tls(server: Buffy, origin: Origin, tls_origin: Origin, name: str) -> None:
    data = BROKEN[name].replace(b"http://{host}", b"").replace(b"{host}", tls_origin.authority.encode())
    answer = shout(server, data, tls_origin)
    assert answer == b"" or re.match(rb"HTTP/1\.[01] [1-5]\d\d ", answer), answer[:100]
    alive(server, origin)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("bad port", 400),
        ("letters as port", 400),
        ("other scheme", 400),
        ("two lengths", 400),
        ("no host", 400),
    ],
)
def test_a_clear_error(server: Buffy, origin: Origin, name: str, status: int) -> None:
    with connect(server.proxy, 10) as connection:
        connection.send(BROKEN[name].replace(b"{host}", origin.authority.encode()))
        reply = connection.read()
    assert reply.status == status and reply.body


def test_random_mutations(server: Buffy, origin: Origin) -> None:
    rng = random.Random(20251101)
    origin.on("/x", answers.fixed(b"x", answers.FRESH))
    good = request_bytes(
        "GET", origin.url("/x"), origin.authority, [("Range", "bytes=0-1"), ("Accept", "*/*")]
    )
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(data))
            data[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        if b"127.0.0.1" in data:  # never towards another host
            shout(server, bytes(data) + b"\r\n\r\n")
    alive(server, origin)


def test_odd_answers_of_an_origin(server: Buffy, origin: Origin, path: str) -> None:
    heads = [
        b"HTTP/1.1 200 OK\r\nDate: yesterday\r\nExpires: never\r\n"
        b"Last-Modified: 0\r\nAge: -7\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=99999999999999999999\r\n"
        b"Age: 1e9\r\nContent-Length: 1\r\n\r\nx",
        b'HTTP/1.1 200 OK\r\nCache-Control: ,,=,"\x80\xff\r\n'
        b'Vary: ,,\r\nETag: "\r\nContent-Length: 1\r\n\r\nx',
        b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nExpires: Fri, 31 Feb 2026 25:61:61 GMT\r\nContent-Length: 01\r\n\r\nx",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 1\r\n\r\nx",
    ]
    bad = [
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + HUGE * 4 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    ]
    for number, head in enumerate(heads):
        url = origin.on(f"{path}/odd/{number}", [head, "close"])
        for _ in range(2):
            assert server.get(url, timeout=10).body == b"x", head
    for number, head in enumerate(bad):
        url = origin.on(f"{path}/bad/{number}", [head, "close"])
        with server.open(url, timeout=10) as connection:
            server.send(connection, "GET", url, [("Connection", "close")])
            answer = connection.recv()
        assert re.match(rb"HTTP/1\.1 (502|200) ", answer), (head[:60], answer[:100])
    alive(server, origin)


def test_connections_that_say_nothing_cost_nobody_anything(server: Buffy, origin: Origin) -> None:
    idle = [connect(server.proxy, 10) for _ in range(200)]
    for each in idle[::2]:
        each.send(b"GET http://")
    alive(server, origin)
    for each in idle:
        each.close()
    alive(server, origin)
    assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 500  # type: ignore[union-attr]
