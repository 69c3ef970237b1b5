"""The client towards origins, against a scripted one that sends exactly the bytes it is told."""

from __future__ import annotations

import asyncio
import socket

import pytest

from buffy_proxy.config import Timeouts
from buffy_proxy.connection import READ_AHEAD
from tests.support import answers
from tests.support.authority import Authority
from tests.support.bodies import piece
from tests.support.listeners import Listener, echo, silent
from tests.support.origin import CLOSE, Origin, Peer, Received, Step
from tests.support.procs import free_port
from tests.support.shell import fetch, origins_client, raw, read, run, word

OK, CHUNKED = "HTTP/1.1 200 OK", "Transfer-Encoding: chunked"
FINE = {
    "1xx": (raw("HTTP/1.1 103 Early Hints", "Link: </x>") + raw(OK, "Content-Length: 2", body=b"ok"), 2),
    "trailers": (raw(OK, CHUNKED, body=b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"), None),
    "repeated length": (raw("HTTP/1.1 200 OK", "Content-Length: 2, 2", body=b"ok"), 2),
    "until close": (raw("HTTP/1.1 200 OK", "Connection: close", body=b"ok"), None),
    "both framings": (raw(OK, "Content-Length: 50", CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"), None),
}


@pytest.mark.parametrize("name", FINE)
def test_framings(origin: Origin, path: str, name: str) -> None:
    data, size = FINE[name]
    url = origin.on(path, [data, CLOSE])

    async def test() -> None:
        async with origins_client() as origins:
            response = await fetch(origins, url)
            assert (response.head.status, response.size) == (200, size)
            announced = [value for key, value in response.head.fields if key.lower() == b"content-length"]
            assert announced == ([] if size is None else [b"2"])
            assert await read(response) == b"ok"

    run(test())


BAD: dict[str, tuple[list[Step], str | None]] = {
    "truncated length": (answers.truncated(b"half", 100), "http_response_incomplete"),
    "truncated chunks": (answers.truncated_chunks(b"half"), "http_response_incomplete"),
    "cut head": ([b"HTTP/1.1 200 OK\r\nContent-", CLOSE], "http_response_incomplete"),
    "reset in the body": ([*answers.sized([b"half"], length=9), 0.05, "reset"], "http_response_incomplete"),
    "two lengths": ([raw("HTTP/1.1 200 OK", "Content-Length: 2", "Content-Length: 3", body=b"ok")], None),
    "no number": ([raw("HTTP/1.1 200 OK", "Content-Length: -2", body=b"ok")], None),
    "unknown coding": ([raw("HTTP/1.1 200 OK", "Transfer-Encoding: gzip", body=b"ok")], None),
    "unasked upgrade": ([raw("HTTP/1.1 101 Switching Protocols", "Upgrade: x")], None),
    "other protocol": ([b"220 smtp.example.org ready\r\n\r\n"], None),
    "endless head": ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"x" * 65536 + b"\r\n"] * 8], None),
}


@pytest.mark.parametrize("name", BAD)
def test_broken_answers(origin: Origin, path: str, name: str) -> None:
    script, expected = BAD[name]
    url = origin.on(path, script)

    async def test() -> None:
        async with origins_client() as origins:
            assert await word(origins, url) == (expected or "http_protocol_error")

    run(test())


def test_timeouts(origin: Origin, path: str) -> None:
    quick = Timeouts(connect_s=0.2, first_byte_s=0.2, idle_s=0.2)
    mute = origin.on(path + "/mute", [1.0])
    stalls = origin.on(path + "/stalls", [*answers.sized([b"half"], length=9), 1.0])
    alive = origin.on(path + "/alive", answers.sized([b"a", 0.12, b"b", 0.12, b"c"]))

    async def test() -> None:
        async with origins_client(timeouts=quick) as origins:
            assert await word(origins, mute) == "http_response_timeout"
            assert await word(origins, stalls) == "connection_read_timeout"
            assert await read(await fetch(origins, alive)) == b"abc"

    run(test())


def test_a_port_that_does_not_answer() -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = full.getsockname()
    waiting = [socket.socket() for _ in range(4)]
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(address)

    async def test() -> None:
        async with origins_client(timeouts=Timeouts(0.3, 1.0, 1.0)) as origins:
            assert await word(origins, f"http://127.0.0.1:{address[1]}/") == "connection_timeout"
            assert await word(origins, f"http://127.0.0.1:{free_port()}/") == "connection_refused"
            assert await word(origins, "http://no-such-host.invalid/") == "dns_error"

    run(test())
    for sock in [*waiting, full]:
        sock.close()


def test_tls(tls_origin: Origin, authority: Authority, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"safe"))
    stranger = Origin(authority.stranger())

    async def test() -> None:
        async with origins_client(authority.ca_file) as origins:
            assert await read(await fetch(origins, url)) == b"safe"
            assert await word(origins, stranger.url("/")) == "tls_certificate_error"
        with Listener(silent) as mute, Listener(echo) as plain:
            async with origins_client(timeouts=Timeouts(0.3, 1.0, 1.0)) as origins:
                assert await word(origins, f"https://127.0.0.1:{mute.port}/") == "connection_timeout"
                assert await word(origins, f"https://127.0.0.1:{plain.port}/") == "tls_protocol_error"

    run(test())
    stranger.shut_down()


@pytest.mark.parametrize("secure", [False, True])
def test_reading_pauses_while_nobody_takes_the_bytes(
    origin: Origin, tls_origin: Origin, authority: Authority, path: str, secure: bool
) -> None:
    size, sent = 64 << 20, [0]

    async def pour(request: Received, peer: Peer) -> None:
        await peer.send(answers.head(200, {"Content-Length": str(size)}))
        while sent[0] < size:
            await peer.send(piece(7, sent[0], sent[0] + (1 << 18)))
            sent[0] += 1 << 18

    url = (tls_origin if secure else origin).on(path, pour)

    async def test() -> None:
        async with origins_client(authority.ca_file) as origins:
            response = await fetch(origins, url)
            await asyncio.sleep(0.3)
            assert response._connection._unread < READ_AHEAD + (1 << 20)
            assert sent[0] < size // 2
            total = 0
            async for chunk in response.chunks():
                assert chunk == piece(7, total, total + len(chunk))
                total += len(chunk)
            assert total == size

    run(test())


def test_an_ipv6_address(path: str) -> None:
    try:
        origin = Origin(host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    origin.on(path, answers.fixed(b"six"))

    async def test() -> None:
        async with origins_client() as origins:
            assert await read(await fetch(origins, f"http://[::1]:{origin.port}{path}")) == b"six"

    run(test())
    origin.shut_down()
