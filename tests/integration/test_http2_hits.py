"""Hits over HTTP/2 are answered in one piece, before any other machinery: on a connection that had only hits,
and on one that mitmproxy has had since its first request of another kind. Both ways, and the ordinary way
(`split`), say the same.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import h2.settings
import pytest

from tests.support import answers
from tests.support.authority import Authority
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.http2 import HEADER_SIZE, Client, Lines, in_two
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import wait_until
from tests.support.wire import CacheStatus, proxy_authorization, tunnel

CODES = h2.settings.SettingCodes


@pytest.fixture(params=["the front", "mitmproxy"])
def owner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(server: Buffy, tls_origin: Origin, owner: str) -> Iterator[Client]:
    made = Client(server, tls_origin)
    give(made, owner)
    yield made
    made.close()


def give(client: Client, owner: str) -> None:
    """Sees to it who has the connection."""
    if owner == "mitmproxy":
        client.origin.on("/given", answers.fixed(b"given", {"Cache-Control": "no-store"}))
        stream = client.get("/given", split=True)
        assert client.bodies[stream] == b"given" and stream not in client.prompt
        client.acknowledge = False


def stored(server: Buffy, origin: Origin, path: str, body: bytes = b"0123456789", **fields: str) -> str:
    origin.on(path, answers.fixed(body, {"ETag": '"e"', **answers.FRESH, **fields}))
    wait_until(lambda: server.get(origin.url(path)).cache.hit)
    return path


def hit(client: Client, stream: int) -> bool:
    return CacheStatus.parse(client.heads[stream]["cache-status"]).hit


def test_hits_come_in_one_piece(server: Buffy, client: Client, path: str) -> None:
    stored(server, client.origin, path)
    for _ in range(3):
        stream = client.get(path)
        assert client.bodies[stream] == b"0123456789" and hit(client, stream) and stream in client.prompt
    assert client.origin.hits(path) == 1


def test_many_streams_at_a_time(server: Buffy, client: Client, path: str) -> None:
    """In one write, hits and misses mixed."""
    paths = [f"{path}/{number}" for number in range(100)]
    for number, one in enumerate(paths):
        client.origin.on(one, answers.fixed(b"%d" % number * 50, answers.FRESH))
        if number % 10:
            server.get(client.origin.url(one))
    pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", client.origin.authority)]
    asked = [client.written([*pseudo, (":path", one)]) for one in paths]
    client.sock.sendall(b"".join(data for _, data in asked))
    streams = [stream for stream, _ in asked]
    client.finish(*streams)
    for number, stream in enumerate(streams):
        assert client.bodies[stream] == b"%d" % number * 50
        assert hit(client, stream) is bool(number % 10)


def test_a_thousand_requests_on_one_connection(server: Buffy, client: Client, path: str) -> None:
    """Answers of both kinds, whose field blocks share one table, and requests whose blocks do."""
    for number in range(20):
        stored(server, client.origin, f"{path}/{number}", b"%d" % number, **{"X-Number": str(number)})
    client.origin.on(path + "/not", answers.fixed(b"not", {"Cache-Control": "no-store", "X-Not": "1"}))
    for number in range(1000):
        which = number % 20
        fields = [("user-agent", f"agent {number % 7}"), ("x-count", str(number)), ("accept", "*/*")]
        stream = client.get(f"{path}/{which}", fields)
        assert client.bodies[stream] == b"%d" % which and client.heads[stream]["x-number"] == str(which)
        if number % 100 == 50:
            other = client.get(path + "/not", fields)
            assert client.bodies[other] == b"not" and client.heads[other]["x-not"] == "1"


@pytest.mark.parametrize("window", [0, 1, 9])
def test_a_window_that_is_too_small(
    server: Buffy, tls_origin: Origin, owner: str, path: str, window: int
) -> None:
    stored(server, tls_origin, path)
    client = Client(server, tls_origin)
    give(client, owner)
    client.h2.update_settings({CODES.INITIAL_WINDOW_SIZE: window})
    client.flush()
    stream = client.request(path)
    client.read(0.3)
    assert client.bodies[stream] == b"0123456789"[:window] and stream not in client.ended
    if window == 0:
        client.h2.increment_flow_control_window(1, stream)
        client.flush()
    client.finish(stream)
    assert client.bodies[stream] == b"0123456789" and hit(client, stream)


def test_the_window_of_the_connection(server: Buffy, tls_origin: Origin, owner: str, path: str) -> None:
    """Five bodies of 20,000 bytes, and a window that takes three."""
    stored(server, tls_origin, path, b"x" * 20_000)
    client = Client(server, tls_origin, connection_window=0)
    give(client, owner)
    streams = [client.request(path) for _ in range(5)]
    client.read(1.0)
    spent = 5 if owner == "mitmproxy" else 0
    assert sum(len(client.bodies[stream]) for stream in streams) == 65_535 - spent
    client.h2.increment_flow_control_window(1 << 20)
    client.flush()
    client.finish(*streams)
    assert all(client.bodies[stream] == b"x" * 20_000 and hit(client, stream) for stream in streams)
    last = client.get(path)
    assert last in client.prompt and client.bodies[last] == b"x" * 20_000


def test_the_window_that_is_left_is_known_to_all(server: Buffy, client: Client, path: str) -> None:
    """Hits of one kind and the other use up one window; opened again, it is neither larger nor smaller."""
    stored(server, client.origin, path, b"x" * 10_000)
    for turn in range(20):
        client.get(path, split=turn % 2 == 1)
    used = 65_535 + (1 << 30) - client.h2.inbound_flow_control_window
    client.h2.increment_flow_control_window(used)
    client.flush()
    assert client.bodies[client.get(path)] == b"x" * 10_000


@pytest.mark.parametrize("size", [16_384, 16_385, 60_000])
def test_frames_are_no_longer_than_allowed(server: Buffy, client: Client, path: str, size: int) -> None:
    """The client's library refuses longer ones."""
    stored(server, client.origin, path, piece(7, 0, size))
    stream = client.get(path)
    assert client.bodies[stream] == piece(7, 0, size) and stream in client.prompt


def test_a_long_head(server: Buffy, client: Client, path: str) -> None:
    """Its block goes on in a second frame (RFC 9113 §6.10)."""
    many = {f"X-Field-{number}": "v" * 500 for number in range(60)}
    stored(server, client.origin, path, b"long", **many)
    stream = client.get(path)
    assert client.bodies[stream] == b"long" and stream in client.prompt
    assert len([name for name, _ in client.fields[stream] if name.startswith("x-field-")]) == 60


def test_a_smaller_table_of_the_client(server: Buffy, client: Client, path: str) -> None:
    """The next block says that the encoder heard of it (RFC 7541 §4.2), or the client cannot go on."""
    stored(server, client.origin, path)
    for size in (0, 4096, 100):
        client.h2.update_settings({CODES.HEADER_TABLE_SIZE: size})
        client.flush()
        assert client.get(path) in client.prompt
        assert client.get(path, split=True) not in client.prompt
        assert client.get(path) in client.prompt


def test_what_comes_byte_by_byte(server: Buffy, client: Client, path: str) -> None:
    stored(server, client.origin, path)
    pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", client.origin.authority)]
    asked = [client.written([*pseudo, (":path", path)]) for _ in range(2)]
    for byte in b"".join(data for _, data in asked):
        client.sock.sendall(bytes([byte]))
    client.finish(*(stream for stream, _ in asked))
    assert client.prompt >= {stream for stream, _ in asked}


def test_words_about_streams_that_are_over(server: Buffy, client: Client, path: str) -> None:
    """They were on their way when the answer came (RFC 9113 §5.1): nothing ends for their sake."""
    stored(server, client.origin, path)
    stream = client.get(path)
    window = b"\0\0\4\x08\0" + stream.to_bytes(4, "big") + (1000).to_bytes(4, "big")
    reset = b"\0\0\4\x03\0" + stream.to_bytes(4, "big") + (8).to_bytes(4, "big")
    priority = b"\0\0\5\x02\0" + stream.to_bytes(4, "big") + b"\0\0\0\0\x10"
    client.sock.sendall(window + reset + priority)
    client.h2.ping(b"12345678")
    client.flush()
    assert client.get(path) in client.prompt and client.left is None


def test_a_stream_number_that_was_used(server: Buffy, client: Client, path: str) -> None:
    """A connection error (RFC 9113 §5.1.1), and no second answer."""
    stored(server, client.origin, path)
    pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", client.origin.authority)]
    client.flush()
    stream, data = client.written([*pseudo, (":path", path)])
    client.sock.sendall(data)
    client.finish(stream)
    client.sock.sendall(data)
    client.read(5, lambda: client.left is not None)
    assert client.left


def test_reset_in_mid_body(server: Buffy, client: Client, path: str) -> None:
    big, small = path + "/big", stored(server, client.origin, path)
    client.origin.on(big, answers.big(20 << 20, 3, answers.FRESH))
    assert len(server.get(client.origin.url(big)).body) == 20 << 20
    for _ in range(3):
        stream = client.request(big)
        client.read(5, lambda: client.has(stream, 60_000))  # noqa: B023
        client.h2.reset_stream(stream, 8)
        client.flush()
        client.acknowledge = False
        last = client.request(small)
        client.read(5, lambda: last in client.ended)  # noqa: B023
        assert last in client.prompt and stream not in client.ended


def test_goodbye(server: Buffy, client: Client, path: str) -> None:
    """After a GOAWAY of the client the connection ends."""
    stored(server, client.origin, path)
    client.get(path)
    client.h2.close_connection()
    client.flush()
    client.sock.settimeout(5)
    while client.sock.recv(65536):
        pass


WRONG = {
    "settings": b"\0\0\5\4\0\0\0\0\0" + bytes(5),
    "ping": b"\0\0\1\6\0\0\0\0\0" + bytes(1),
    "window": b"\0\0\4\x08\0\0\0\0\0" + b"\x7f\xff\xff\xff",
    "longer than allowed": b"\xff\xff\xff\6\0\0\0\0\0" + bytes(0xFFFFFF),
    "push promise": b"\0\0\5\5\4\0\0\0\1" + bytes(5),
    "data before a request": b"\0\0\1\0\1\0\0\7\1" + b"x",
}
"""Frames after which the connection cannot go on."""


@pytest.mark.parametrize("kind", WRONG)
def test_frames_that_are_wrong(server: Buffy, tls_origin: Origin, owner: str, path: str, kind: str) -> None:
    """A GOAWAY that says so, and the end (RFC 9113 §5.4.1)."""
    stored(server, tls_origin, path)
    client = Client(server, tls_origin)
    give(client, owner)
    client.get(path)
    try:
        client.sock.sendall(WRONG[kind])
        client.read(5, lambda: client.left is not None)
    except (OSError, AssertionError):
        pass  # closed without a word
    else:
        assert client.left
    other = Client(server, tls_origin)
    assert other.get(path) in other.prompt


def test_a_request_in_the_middle_of_another(server: Buffy, tls_origin: Origin, owner: str, path: str) -> None:
    """Between the frames of one field block there may be nothing (RFC 9113 §4.3)."""
    stored(server, tls_origin, path)
    client = Client(server, tls_origin)
    give(client, owner)
    client.get(path)
    client.flush()
    pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", tls_origin.authority)]
    (_, first), (second, whole) = (client.written([*pseudo, (":path", path)]) for _ in range(2))
    begun = in_two(first)[: HEADER_SIZE + 1]
    client.sock.sendall(begun + whole)
    client.read(5, lambda: client.left is not None)
    assert client.left and second not in client.heads


def test_not_http2_after_all(server: Buffy, tls_origin: Origin, path: str) -> None:
    """It said h2, and speaks something else."""
    stored(server, tls_origin, path)
    context = server.trust()
    context.set_alpn_protocols(["h2"])
    plain = tunnel(server.proxy, tls_origin.host, tls_origin.port, timeout=10)
    with context.wrap_socket(plain.sock, server_hostname=tls_origin.host) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        came = b""
        while data := sock.recv(65536):
            came += data
        assert b"0123456789" not in came


METHOD, SCHEME, PATH = (":method", "GET"), (":scheme", "https"), (":path", "{path}")
AUTHORITY = (":authority", "{authority}")
USUAL = [METHOD, SCHEME, AUTHORITY, PATH]
ODD: dict[str, Lines] = {
    "another order": [PATH, AUTHORITY, SCHEME, METHOD],
    "no authority": [METHOD, SCHEME, PATH],
    "an empty authority": [METHOD, SCHEME, (":authority", ""), PATH],
    "a foreign authority": [METHOD, SCHEME, (":authority", "elsewhere.example"), PATH],
    "no authority, but Host": [METHOD, SCHEME, PATH, ("host", "{authority}")],
    "authority and Host": [*USUAL, ("host", "{authority}")],
    "two paths": [*USUAL, PATH],
    "no path": [METHOD, SCHEME, AUTHORITY],
    "an empty path": [METHOD, SCHEME, AUTHORITY, (":path", "")],
    "a path that is none": [METHOD, SCHEME, AUTHORITY, (":path", "x{path}")],
    "a fragment": [METHOD, SCHEME, AUTHORITY, (":path", "{path}#part")],
    "bytes in the path": [METHOD, SCHEME, AUTHORITY, (":path", "{path}\xe4")],
    "no method": [SCHEME, AUTHORITY, PATH],
    "a small method": [(":method", "get"), SCHEME, AUTHORITY, PATH],
    "CONNECT": [(":method", "CONNECT"), AUTHORITY],
    "the other scheme": [METHOD, (":scheme", "http"), AUTHORITY, PATH],
    "no scheme": [METHOD, AUTHORITY, PATH],
    "an unknown pseudo field": [*USUAL, (":protocol", "websocket")],
    "a status": [*USUAL, (":status", "200")],
    "a pseudo field at the end": [METHOD, SCHEME, AUTHORITY, ("accept", "*/*"), PATH],
    "a large letter": [*USUAL, ("Accept", "*/*")],
    "no name": [*USUAL, ("", "x")],
    "a space in a name": [*USUAL, ("x y", "z")],
    "a line end": [*USUAL, ("x-y", "a\nb: c")],
    "NUL": [*USUAL, ("x-y", "a\0b")],
    "space around": [*USUAL, ("x-y", " a ")],
    "high bytes": [*USUAL, ("x-y", "caf\xe9")],
    "te": [*USUAL, ("te", "trailers")],
    "te of another kind": [*USUAL, ("te", "gzip")],
    "connection": [*USUAL, ("connection", "close")],
    "keep-alive": [*USUAL, ("keep-alive", "timeout=5")],
    "upgrade": [*USUAL, ("upgrade", "websocket")],
    "expect": [*USUAL, ("expect", "100-continue")],
    "a length": [*USUAL, ("content-length", "0")],
    "a length that lies": [*USUAL, ("content-length", "5")],
    "proxy-authorization": [*USUAL, ("proxy-authorization", "Basic Z3JvdXA9eDo=")],
    "crumbs of a cookie": [*USUAL, ("cookie", "a=1"), ("cookie", "b=2")],
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_fares_no_better(
    server: Buffy, tls_origin: Origin, owner: str, path: str, name: str
) -> None:
    """The same outcome as in the ordinary way, whatever that is, with the plain request fresh in memory."""
    stored(server, tls_origin, path)
    filled = [
        (key.format(), value.format(path=path, authority=tls_origin.authority)) for key, value in ODD[name]
    ]
    outcomes = []
    for split in (True, True, False, False):
        client = Client(server, tls_origin)
        give(client, owner)
        client.get(path)
        stream = client.request_lines(filled, split=split)
        try:
            client.read(5, lambda: bool(client.left or stream in client.ended | client.resets))  # noqa: B023
        except (AssertionError, OSError):
            client.left = client.left or -1
        head = {key: value for key, value in client.heads.get(stream, {}).items() if key != "date"}
        lines = re.sub(r"ttl=\d+|'age': '\d+'", "#", str(head))
        over = bool(client.left or stream in client.resets)
        outcomes.append((lines, bytes(client.bodies[stream]), over))
        client.close()
    _, ordinary, first, second = outcomes  # before the first, what it asks for may not have been stored
    assert ordinary == first == second
    assert ordinary[0] != "{}" or ordinary[2]


def test_sessions_do_not_mix(server: Buffy, tls_origin: Origin, owner: str, path: str) -> None:
    tls_origin.on(path, answers.fixed(b"x", answers.FRESH))
    for user in ("group=one", "group=one+mode=offline", "group=two"):
        client = Client(server, tls_origin, user=user)
        if "offline" not in user:
            give(client, owner)
        first, second, third = (client.get(path) for _ in range(3))
        assert hit(client, first) is ("offline" in user)
        assert hit(client, second) and hit(client, third) and third in client.prompt
    assert tls_origin.hits(path) == 2
    name, value = proxy_authorization("group=three")
    assert not hit(client, client.get(path, [(name.lower(), value)]))


def test_offline_without_a_version(server: Buffy, tls_origin: Origin, path: str) -> None:
    client = Client(server, tls_origin, user="mode=offline")
    assert client.heads[client.get(path)][":status"] == "504"


def test_what_changes_is_seen_by_the_next_request(server: Buffy, client: Client, path: str) -> None:
    resource = answers.Changing(b"one", answers.FRESH)
    client.origin.on(path, resource)
    for _ in range(3):
        assert client.bodies[client.get(path)] == b"one"
    resource.body = b"two"
    server.request("POST", client.origin.url(path), [("Content-Length", "0")])
    assert client.bodies[client.get(path)] == b"two"


def test_counts_and_lines_are_those_of_any_hit(server: Buffy, client: Client, path: str) -> None:
    stored(server, client.origin, path)

    def hits() -> float:
        text = server.api_get("/metrics")[1]
        found = re.search(r'(?m)^buffy_decisions_total\{decision="hit"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    def lines() -> list[str]:
        return [line for line in server.log().splitlines() if f"{path} 200 10 buffy; hit" in line]

    wait_until(lambda: len(lines()) == 1, 5)
    time.sleep(0.5)
    before = hits()
    for _ in range(4):
        assert client.get(path) in client.prompt
    wait_until(lambda: len(lines()) == 5, 5)
    wait_until(lambda: hits() == before + 4, 5)


def test_a_client_that_asks_and_does_not_read(
    server: Buffy, tls_origin: Origin, owner: str, path: str
) -> None:
    """It is not heard until it takes what it asked for; others are served, and in the end it gets all."""
    stored(server, tls_origin, path, b"x" * 60_000)
    client = Client(server, tls_origin, window=1 << 30)
    give(client, owner)
    client.get(path)
    before = server.memory()
    streams = [client.request(path) for _ in range(90)]
    time.sleep(0.5)
    assert server.memory() - before < 40 << 20
    assert server.get(tls_origin.url(path)).cache.hit
    client.finish(*streams, seconds=30)
    assert all(client.bodies[stream] == b"x" * 60_000 for stream in streams)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)],
)
def test_which_protocol_is_agreed_on(
    server: Buffy, tls_origin: Origin, offered: list[str], agreed: str | None
) -> None:
    context = server.trust()
    if offered:
        context.set_alpn_protocols(offered)
    plain = tunnel(server.proxy, tls_origin.host, tls_origin.port, timeout=10)
    with context.wrap_socket(plain.sock, server_hostname=tls_origin.host) as sock:
        assert sock.selected_alpn_protocol() == agreed


def upload(client: Client, path: str, *parts: bytes, trailer: bool = False) -> int:
    """A PUT without a length; gives its stream."""
    pseudo = [(":method", "PUT"), (":scheme", "https"), (":authority", client.origin.authority)]
    stream = client.h2.get_next_available_stream_id()
    lines = [(name.encode(), value.encode()) for name, value in [*pseudo, (":path", path)]]
    client.h2.send_headers(stream, lines)
    for part in parts:
        client.h2.send_data(stream, part)
    if trailer:
        client.h2.send_headers(stream, [(b"x-sum", b"12")], end_stream=True)
    else:
        client.h2.end_stream(stream)
    client.flush()
    return stream


def test_what_the_origin_of_an_upload_is_offered(server: Buffy, authority: Authority) -> None:
    """What the client offered: an origin of gRPC speaks HTTP/2 only."""
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    agreed: list[str | None] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def accept() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as sock:
                agreed.append(sock.selected_alpn_protocol())

        origin = threading.Thread(target=accept)
        origin.start()
        port = listener.getsockname()[1]
        where = SimpleNamespace(port=port, authority=f"127.0.0.1:{port}")
        client = Client(server, where)  # type: ignore[arg-type]
        upload(client, "/", b"data")
        origin.join(10)
    assert agreed == ["h2"]


def test_a_stream_that_goes_on_when_mitmproxy_gets_the_connection(
    server: Buffy, tls_origin: Origin, path: str
) -> None:
    go = threading.Event()
    parts = [b"x" * 100_000, go, b"y" * 100_000]
    tls_origin.on(path, answers.sized(parts, {"Cache-Control": "no-store"}))
    tls_origin.on(path + "/up", answers.fixed(b"thanks"))
    client = Client(server, tls_origin)
    slow = client.request(path)
    client.read(5, lambda: client.has(slow, 65_535))
    up = upload(client, path + "/up", b"data")
    client.read(5, lambda: up in client.ended)
    assert client.bodies[up] == b"thanks" and slow not in client.ended
    go.set()
    client.finish(slow)
    assert client.bodies[slow] == b"x" * 100_000 + b"y" * 100_000


@pytest.mark.parametrize("how", ["reset", "hang up"])
def test_a_stream_that_is_given_up_after_that(server: Buffy, tls_origin: Origin, path: str, how: str) -> None:
    """Whoever has the connection, the origin is let go."""

    async def until_gone(request: Received, peer: Peer) -> None:
        await peer.send(answers.head(200, {"Content-Length": "1000000", "Cache-Control": "no-store"}) + b"x")
        await peer.reader.read(1)

    tls_origin.on(path, until_gone)
    tls_origin.on(path + "/up", answers.fixed(b"thanks"))
    client = Client(server, tls_origin)
    slow = client.request(path)
    client.read(5, lambda: client.has(slow, 1))
    up = upload(client, path + "/up", b"data")
    client.read(5, lambda: up in client.ended)
    assert not tls_origin.seen(path)[0].done.is_set()
    if how == "reset":
        client.h2.reset_stream(slow, 8)
        client.flush()
    else:
        client.close()
    assert tls_origin.wait(path, 1).done.wait(5)


def test_interim_responses(server: Buffy, client: Client, path: str) -> None:
    """RFC 9110 §15.2: they are passed on as they come, those after the final head are not there."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: close\r\n\r\n"
    final = answers.head(200, {"Content-Length": "2", "Cache-Control": "no-store"}) + b"ok"
    client.origin.on(path, [early, 0.05, early, 0.05, final])
    for split in (False, True):
        stream = client.get(path, split=split)
        assert client.bodies[stream] == b"ok"
        assert client.interim[stream] == [[(":status", "103"), ("link", "</a>; rel=preload")]] * 2


def test_uploads_and_hits_on_one_connection(server: Buffy, client: Client, path: str) -> None:
    stored(server, client.origin, path)
    client.origin.on(path + "/up", answers.echo)
    for _ in range(3):
        assert client.get(path) in client.prompt
        stream = upload(client, path + "/up", b"first ", b"second", trailer=True)
        client.finish(stream)
        assert client.bodies[stream].endswith(b"first second")
    assert [seen.body for seen in client.origin.seen(path + "/up")] == [b"first second"] * 3
