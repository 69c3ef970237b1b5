"""HTTP/2 clients that read slowly, stop, or leave: frame by frame, with windows under the test's control."""

from __future__ import annotations

import functools
import hashlib
import ssl
import time
from collections import defaultdict

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import wait_until
from tests.support.wire import tunnel


class Client:
    """Opens windows only when it is told to: `acknowledge` is False at first."""

    def __init__(self, server: Buffy, origin: Origin, window: int = 65_535) -> None:
        self.origin = origin
        context = ssl.create_default_context(cafile=str(server.ca_file))
        context.set_alpn_protocols(["h2"])
        raw = tunnel(server.proxy, "127.0.0.1", origin.port, timeout=20)
        self.sock = context.wrap_socket(raw.sock, server_hostname="127.0.0.1")
        assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.increment_flow_control_window(1 << 30)
        self.acknowledge = False
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.owed: defaultdict[int, int] = defaultdict(int)
        self.ended: set[int] = set()
        self.resets: set[int] = set()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def request(self, path: str, method: str = "GET") -> int:
        stream = self.h2.get_next_available_stream_id()
        names = {":method": method, ":scheme": "https", ":authority": self.origin.authority, ":path": path}
        self.h2.send_headers(stream, list(names.items()), end_stream=True)
        self.flush()
        return stream

    def read(self, seconds: float, until=lambda: False) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                return
            assert data, "the proxy closed the connection"
            for event in self.h2.receive_data(data):
                self._handle(event)
            self.flush()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.heads[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
            case h2.events.DataReceived():
                self.bodies[event.stream_id] += event.data
                self.owed[event.stream_id] += event.flow_controlled_length
                if self.acknowledge:
                    self.open(event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets.add(event.stream_id)

    def has(self, stream: int, size: int) -> bool:
        return len(self.bodies[stream]) >= size

    def open(self, stream: int) -> None:
        """Gives back the window that the stream's data used."""
        if stream not in self.ended and self.owed[stream]:
            self.h2.increment_flow_control_window(self.owed.pop(stream), stream)
            self.flush()

    def finish(self, *streams: int, seconds: float = 20) -> None:
        self.acknowledge = True
        for stream in streams:
            self.open(stream)
        self.read(seconds, lambda: self.ended >= set(streams))
        assert self.ended >= set(streams)


def scripted(origin: Origin, path: str, size: int, store: bool) -> str:
    origin.on(path, answers.big(size, 3, answers.FRESH if store else {"Cache-Control": "no-store"}))
    return path


def started(server: Buffy) -> int:
    """The memory of its processes, as soon as all have imported what they need."""
    before, now = 0, server.memory()
    for _ in range(20):
        if before == now:
            break
        time.sleep(0.3)
        before, now = now, server.memory()
    return now


async def until_gone(request: Received, peer: Peer) -> None:
    """The start of a large body; done when Buffy gives the connection up."""
    await peer.send(answers.head(200, {"Content-Length": str(100 << 20), "Cache-Control": "no-store"}))
    await peer.send(bytes(1 << 20))
    await peer.reader.read(1)


@pytest.mark.parametrize("kind", ["miss", "not stored", "hit"])
def test_a_closed_window_costs_no_memory_and_holds_up_nobody(
    server: Buffy, tls_origin: Origin, path: str, kind: str
) -> None:
    size = 120 << 20
    big = scripted(tls_origin, path, size, store=kind != "not stored")
    tls_origin.on(path + "/small", answers.fixed(b"small", answers.FRESH))
    if kind == "hit":
        assert len(server.get(tls_origin.url(big)).body) == size
    assert server.get(tls_origin.url(path + "/small")).status == 200
    before = started(server)
    client = Client(server, tls_origin)
    slow = client.request(big)
    client.read(0.5)
    assert len(client.bodies[slow]) == 65_535
    others = [client.request(path + "/small") for _ in range(3)]
    client.read(5, lambda: client.ended >= set(others))
    assert [bytes(client.bodies[each]) for each in others] == [b"small"] * 3
    assert server.memory() - before < 64 << 20
    assert slow not in client.ended
    client.finish(slow, seconds=60)
    assert hashlib.sha256(client.bodies[slow]).digest() == hashlib.sha256(piece(3, 0, size)).digest()


def test_a_stream_that_is_reset_lets_the_origin_go(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, until_gone)
    client = Client(server, tls_origin)
    for number in range(1, 4):
        stream = client.request(path)
        client.read(5, functools.partial(client.has, stream, 60_000))
        client.h2.reset_stream(stream, 8)
        client.flush()
        assert tls_origin.wait(path, number).done.wait(5)
    tls_origin.on(path + "/small", answers.fixed(b"small"))
    last = client.request(path + "/small")
    client.finish(last)
    assert client.bodies[last] == b"small"


def test_a_client_that_hangs_up_in_mid_body(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, until_gone)
    client = Client(server, tls_origin)
    streams = [client.request(path) for _ in range(3)]
    client.read(5, lambda: all(client.bodies[each] for each in streams))
    client.sock.close()
    assert tls_origin.hits(path) == 3
    wait_until(lambda: all(request.done.is_set() for request in tls_origin.seen(path)), 5)


def test_many_streams_share_one_connection(server: Buffy, tls_origin: Origin, path: str) -> None:
    """Windows smaller than a chunk, opened again and again."""
    size = 300_000
    client = Client(server, tls_origin, window=1000)
    paths = [scripted(tls_origin, f"{path}/{number % 10}", size, store=True) for number in range(30)]
    streams = [client.request(each) for each in paths]
    client.finish(*streams, seconds=40)
    assert all(client.bodies[each] == piece(3, 0, size) for each in streams)
    assert all(tls_origin.hits(each) == 1 for each in paths)


def test_a_truncated_body_resets_its_stream_only(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, answers.truncated(bytes(1000), 400_000))
    tls_origin.on(path + "/small", answers.fixed(b"small", answers.FRESH))
    client = Client(server, tls_origin)
    cut, small = client.request(path), client.request(path + "/small")
    client.read(10, lambda: client.resets >= {cut} and client.ended >= {small})
    assert client.resets == {cut} and client.bodies[small] == b"small"


def test_errors_of_our_own_are_valid_http2(server: Buffy, tls_origin: Origin, path: str) -> None:
    tls_origin.on(path, ["reset"])
    client = Client(server, tls_origin)
    get, head = client.request(path), client.request(path, "HEAD")
    client.finish(get, head)
    assert client.heads[get][":status"] == client.heads[head][":status"] == "502"
    assert client.bodies[get] and not client.bodies[head]
