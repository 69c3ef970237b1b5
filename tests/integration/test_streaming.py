"""Nothing is held back: bytes pass as they come, both ways, whatever they are."""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
import time
from collections.abc import Callable

import pytest

from tests.support import answers
from tests.support.authority import Authority
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.listeners import Listener, echo
from tests.support.origin import Origin, Step
from tests.support.wire import Connection, connect, request_bytes, start_tls, target_of, tunnel


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


@pytest.mark.parametrize("framing", [answers.chunked, answers.sized])
def test_the_first_byte_comes_before_the_origin_has_finished(
    server: Buffy,
    either: Origin,
    path: str,
    framing: Callable[[list[Step], dict[str, str]], list[Step]],
) -> None:
    gate = threading.Event()
    url = either.on(path, framing([b"first", gate, b"second"], answers.FRESH))
    with server.open(url, timeout=10) as connection:
        server.send(connection, "GET", url)
        chunks = connection.body_chunks(connection.head())
        assert next(chunks) == b"first"
        assert not either.seen(path)[0].done.is_set()
        gate.set()
        assert b"".join(chunks) == b"second"
    assert server.get(url).cache.hit


def test_server_sent_events_pass_one_by_one(server: Buffy, either: Origin, path: str) -> None:
    gates = [threading.Event() for _ in range(3)]
    url = either.on(path, answers.events(gates, answers.FRESH))
    with server.open(url, timeout=10) as connection:
        server.send(connection, "GET", url, [("Accept", "text/event-stream")])
        chunks = connection.body_chunks(connection.head())
        assert next(chunks) == b"data: 0\n\n"
        for number, gate in enumerate(gates, 1):
            gate.set()
            assert next(chunks) == f"data: {number}\n\n".encode()
    assert not server.get(url, [("Accept", "text/event-stream")]).cache.hit


def test_an_endless_stream_that_the_client_leaves_is_not_stored(
    server: Buffy, either: Origin, path: str
) -> None:
    drops: list[Step] = [0.05, b"y"] * 400
    url = either.on(path, answers.chunked([b"x" * 1000, *drops], answers.FRESH))
    with server.open(url) as connection:
        server.send(connection, "GET", url)
        next(connection.body_chunks(connection.head()))
    time.sleep(0.3)
    reply = server.get(url, user="mode=offline") if either.scheme == "http" else None
    assert reply is None or reply.status == 504


def test_uploads_stream_to_the_origin(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"thanks"))
    data = piece(7, 0, 8 << 20)
    target, host = target_of(url)
    with server.open(url, timeout=10) as connection:
        fields = [("Content-Length", str(len(data)))]
        connection.send(request_bytes("PUT", target, host, fields, data[:100_000]))
        assert either.wait(path).first_body_byte.wait(5)
        connection.send(data[100_000:])
        assert connection.read().body == b"thanks"
    assert either.seen(path)[0].digest == hashlib.sha256(data).hexdigest()


def test_chunked_uploads_stream_to_the_origin(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"thanks"))
    target, host = target_of(url)
    with server.open(url, timeout=10) as connection:
        fields = [("Transfer-Encoding", "chunked")]
        connection.send(request_bytes("POST", target, host, fields) + answers.chunk(b"one"))
        assert either.wait(path).first_body_byte.wait(5)
        connection.send(answers.chunk(b"two") + b"0\r\n\r\n")
        assert connection.read().body == b"thanks"
    assert either.seen(path)[0].body == b"onetwo"


def test_expect_100_continue(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"thanks"))
    target, host = target_of(url)
    with server.open(url, timeout=10) as connection:
        connection.send(
            request_bytes("PUT", target, host, [("Expect", "100-continue"), ("Content-Length", "4")])
        )
        assert connection.head().status == 100
        connection.send(b"body")
        assert connection.read().body == b"thanks"


def test_an_answer_before_the_upload_has_ended(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.early)
    target, host = target_of(url)
    with server.open(url, timeout=10) as connection:
        connection.send(request_bytes("PUT", target, host, [("Content-Length", "1000000")], b"start"))
        assert connection.head().status == 413


def frame(opcode: int, data: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    return bytes([0x80 | opcode, 0x80 | len(data)]) + mask + masked


def test_websockets_pass(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.websocket_echo)
    fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    with server.open(url, timeout=10) as connection:
        server.send(connection, "GET", url, fields)
        reply = connection.head()
        assert (reply.status, reply.get("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        for text in (b"one", b"two", bytes(range(100))):
            connection.send(frame(2, text))
            assert connection.exactly(2 + len(text))[2:] == text
        connection.send(frame(8, b"\x03\xe8"))
        assert connection.exactly(4)[2:] == b"\x03\xe8"


def says_hello(connection: Connection) -> None:
    """The listener speaks first, then echoes."""
    assert connection.exactly(6) == b"hello\n"
    connection.send(b"\x00\xff raw bytes \r\n\r\n")
    assert connection.exactly(17) == b"\x00\xff raw bytes \r\n\r\n"


def test_raw_tcp_through_connect_is_tunnelled(server: Buffy) -> None:
    with (
        Listener(echo) as listener,
        tunnel(server.proxy, "127.0.0.1", listener.port, timeout=10) as connection,
    ):
        says_hello(connection)


def test_a_client_that_speaks_another_protocol_first(server: Buffy) -> None:
    with Listener(lambda sock: sock.sendall(sock.recv(100))) as listener:
        with tunnel(server.proxy, "127.0.0.1", listener.port) as connection:
            connection.send(b"SSH-2.0-test\r\n")
            assert connection.exactly(14) == b"SSH-2.0-test\r\n"


def test_plain_http_inside_connect(server: Buffy, origin: Origin, path: str) -> None:
    origin.on(path, answers.fixed(b"inside", answers.FRESH))
    with tunnel(server.proxy, "127.0.0.1", origin.port) as connection:
        for _ in range(2):
            connection.send(request_bytes("GET", path, origin.authority))
            assert connection.read().body == b"inside"


def test_a_request_to_the_proxy_itself_gets_a_clear_answer(server: Buffy) -> None:
    host = f"{server.proxy[0]}:{server.proxy[1]}"
    for target in ("/", f"http://{host}/", f"http://localhost:{server.proxy[1]}/"):
        with connect(server.proxy, 10) as connection:
            connection.send(request_bytes("GET", target, host))
            reply = connection.read()
        assert reply.status >= 400 and reply.body
        assert reply.total_s < 5  # it does not ask itself, again and again


def test_a_slow_reader_does_not_cost_memory(server: Buffy, either: Origin, path: str) -> None:
    """Back-pressure reaches the origin: what it could send is what buffers of sockets hold."""
    url = either.on(path, answers.big(200 << 20, 5, {"Cache-Control": "no-store"}))
    before = server.memory()
    with server.open(url) as connection:
        server.send(connection, "GET", url)
        connection.head()
        time.sleep(2)
        assert server.memory() - before < 64 << 20
        assert not either.seen(path)[0].done.is_set()


def test_tls_inside_connect_with_a_server_of_another_protocol(server: Buffy, authority: Authority) -> None:
    """TLS that holds no HTTP: after our handshake both ends get their bytes."""
    with Listener(echo, authority.context()) as listener:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        context.load_verify_locations(str(authority.ca_file))
        with start_tls(
            tunnel(server.proxy, "localhost", listener.port, timeout=10), "localhost", context
        ) as inside:
            inside.send(b"\x00\x01not http\n")
            assert inside.exactly(6) == b"hello\n"
            assert inside.exactly(11) == b"\x00\x01not http\n"
