"""HTTP/2 clients towards HTTP/1 origins: what HTTP/2 allows on the wire and HTTP/1 must not see."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import pytest

from tests.security.kit import PATIENCE_S, others_are_served
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import tunnel

Fields = list[tuple[bytes, bytes]]


@dataclass
class Got:
    """`status` 0: the stream was reset or the connection ended instead of an answer."""

    status: int = 0
    body: bytes = b""
    trailers: Fields = field(default_factory=list)


def speak(
    server: Buffy, origin: Origin, fields: Fields, body: bytes = b"", trailers: Fields | None = None
) -> Got:
    """One request without any check on our side."""
    context = server.trust()
    context.set_alpn_protocols(["h2"])
    plain = tunnel(server.proxy, origin.host, origin.port, timeout=PATIENCE_S)
    with context.wrap_socket(plain.sock, server_hostname=origin.host) as sock:
        assert sock.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        connection.send_headers(1, fields, end_stream=not body and trailers is None)
        if body:
            connection.send_data(1, body, end_stream=trailers is None)
        if trailers is not None:
            connection.send_headers(1, trailers, end_stream=True)
        sock.sendall(connection.data_to_send())
        return listen(sock, connection)


def listen(sock: ssl.SSLSocket, connection: h2.connection.H2Connection) -> Got:
    got = Got()
    try:
        while data := sock.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    got.status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    got.body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.TrailersReceived):
                    got.trailers = list(event.headers)
                elif isinstance(
                    event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated
                ):
                    return got
            sock.sendall(connection.data_to_send())
    except TimeoutError as error:
        raise AssertionError("no answer") from error
    except OSError:
        pass
    return got


def pseudo(origin: Origin, path: str, method: bytes = b"GET") -> Fields:
    authority = origin.authority.encode()
    target = [(b":path", path.encode()), (b":scheme", b"https"), (b":authority", authority)]
    return [(b":method", method), *target]


ODD: list[tuple[str, str, Fields]] = [
    ("CRLF in a value", "RFC 9113 §8.2.1", [(b"x-a", b"b\r\nx-evil: 1")]),
    ("LF in a value", "RFC 9113 §8.2.1", [(b"x-a", b"b\nx-evil: 1")]),
    ("a request in a value", "RFC 9113 §10.3", [(b"x-a", b"b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n")]),
    ("NUL in a value", "RFC 9113 §8.2.1", [(b"x-a", b"b\x00c")]),
    ("CRLF in a name", "RFC 9113 §8.2.1", [(b"x-a: b\r\nx-evil", b"1")]),
    ("a colon in a name", "RFC 9113 §8.2.1", [(b"x-evil:", b"1")]),
    ("a space in a name", "RFC 9113 §8.2.1", [(b"x evil", b"1")]),
    ("Transfer-Encoding", "RFC 9113 §8.2.2", [(b"transfer-encoding", b"chunked")]),
    ("Connection", "RFC 9113 §8.2.2", [(b"connection", b"x-evil"), (b"x-evil", b"1")]),
    ("two lengths", "RFC 9113 §8.1.1", [(b"content-length", b"0"), (b"content-length", b"5")]),
    ("a length that lies", "RFC 9113 §8.1.1", [(b"content-length", b"500")]),
    ("a foreign Host", "RFC 9113 §8.3.1", [(b"host", b"evil.example")]),
    ("two Hosts", "RFC 9113 §8.3.1", [(b"host", b"a.example"), (b"host", b"b.example")]),
]


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
@pytest.mark.parametrize(("name", "section", "fields"), ODD)
def test_odd_fields(
    server: Buffy, tls_origin: Origin, path: str, name: str, section: str, fields: Fields, method: bytes
) -> None:
    """Refused, or passed on in a form that HTTP/1 cannot misread."""
    tls_origin.on(path, answers.fixed(b"answered", answers.FRESH))
    body = b"" if method == b"GET" else b"12345"
    got = speak(server, tls_origin, pseudo(tls_origin, path, method) + fields, body)
    assert got.status in (0, 200, 400, 502), got
    for seen in tls_origin.seen(path):
        assert seen.get("x-evil") is None and seen.get("host") == tls_origin.authority, seen.head
        assert len(seen.all("content-length")) <= 1 and seen.body == body
    assert tls_origin.hits("/evil") == 0
    others_are_served(server, tls_origin)


TARGETS: list[tuple[str, str, bytes, bytes]] = [
    ("CRLF in the path", "RFC 9113 §8.3.1", b"{path} HTTP/1.1\r\nX-Evil: 1\r\n\r\n", b"GET"),
    ("a space in the path", "RFC 9113 §8.3.1", b"{path} x", b"GET"),
    ("CRLF in an upload's path", "RFC 9113 §8.3.1", b"{path} HTTP/1.1\r\nX-Evil: 1\r\n\r\n", b"PUT"),
    ("a space in an upload's path", "RFC 9113 §8.3.1", b"{path} x", b"PUT"),
    ("CRLF in the method", "RFC 9113 §8.3.1", b"{path}", b"GET /evil HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET"),
    ("a space in the method", "RFC 9113 §8.3.1", b"{path}", b"PUT /evil"),
]


@pytest.mark.parametrize(("name", "section", "target", "method"), TARGETS)
def test_odd_targets(
    server: Buffy, tls_origin: Origin, path: str, name: str, section: str, target: bytes, method: bytes
) -> None:
    tls_origin.on(path, answers.fixed(b"answered", answers.FRESH))
    fields = pseudo(tls_origin, path, method)
    fields[1] = (b":path", target.replace(b"{path}", path.encode()))
    got = speak(server, tls_origin, fields, b"12345" if b"PUT" in method else b"")
    assert got.status in (0, 400)
    assert tls_origin.hits(path) == tls_origin.hits("/evil") == 0
    others_are_served(server, tls_origin)


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_body_without_a_length_is_no_second_request(
    server: Buffy, tls_origin: Origin, path: str, method: bytes
) -> None:
    """RFC 9113 §8.1.1 needs no length; HTTP/1 does (RFC 9112 §6), or the body is the next request."""
    tls_origin.on(path, answers.fixed(b"answered", answers.FRESH))
    evil = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    got = speak(server, tls_origin, pseudo(tls_origin, path, method), evil)
    assert (got.status, got.body) == (200, b"answered")
    assert [seen.body for seen in tls_origin.seen(path)] == [evil]
    assert tls_origin.hits("/evil") == 0


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_trailers_of_a_request(server: Buffy, tls_origin: Origin, path: str, method: bytes) -> None:
    """RFC 9113 §8.1: they may come; a proxy may drop them (RFC 9110 §6.5.1), but must not stumble."""
    tls_origin.on(path, answers.fixed(b"answered", answers.FRESH))
    fields = pseudo(tls_origin, path, method)
    got = speak(server, tls_origin, fields, b"12345", trailers=[(b"x-sum", b"15")])
    assert (got.status, got.body) == (200, b"answered")
    assert [seen.body for seen in tls_origin.seen(path)] == [b"12345"]
    others_are_served(server, tls_origin)


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_trailers_of_an_answer(server: Buffy, tls_origin: Origin, path: str, method: bytes) -> None:
    tls_origin.on(path, answers.chunked([b"one", b"two"], answers.FRESH, [("X-Sum", "6")]))
    got = speak(server, tls_origin, pseudo(tls_origin, path, method), b"" if method == b"GET" else b"x")
    assert (got.status, got.body) == (200, b"onetwo")


def test_too_many_fields(server: Buffy, tls_origin: Origin, path: str) -> None:
    """RFC 9113 §10.5.1: an error of some kind, and the others are served."""
    tls_origin.on(path, answers.fixed(b"answered"))
    many = [(b"x-%d" % number, b"y" * 30) for number in range(3000)]
    got = speak(server, tls_origin, pseudo(tls_origin, path) + many)
    assert got.status in (0, 200, 400, 431)
    others_are_served(server, tls_origin)
