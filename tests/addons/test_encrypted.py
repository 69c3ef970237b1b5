"""TLS by hand, against a real client in memory."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from buffy_proxy.addons.encrypted import Encrypted
from buffy_proxy.addons.hello import read_hello
from buffy_proxy.addons.leaves import Leaves
from buffy_proxy.addons.tls import ensure_ca
from buffy_proxy.trust import ca_files


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.writes = 0

    def write(self, data: object) -> None:
        self.sent += bytes(data)  # type: ignore[call-overload]
        self.writes += 1

    def taken(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    ensure_ca(directory)
    return directory


@pytest.fixture(scope="module")
def context(data_dir: Path) -> ssl.SSLContext:
    return Leaves(data_dir).context("example.org")


class Pair:
    """A client, and what serves it."""

    def __init__(
        self, data_dir: Path, context: ssl.SSLContext, *alpn: str, version: ssl.TLSVersion | None = None
    ) -> None:
        client_context = ssl.create_default_context(cafile=str(ca_files(data_dir)[1]))
        if alpn:
            client_context.set_alpn_protocols(list(alpn))
        if version is not None:
            client_context.maximum_version = version
        self.up, self.down, self.wire = ssl.MemoryBIO(), ssl.MemoryBIO(), Wire()
        self.client = client_context.wrap_bio(self.down, self.up, server_hostname="example.org")
        self.step()
        first = self.up.read()
        hello = read_hello(first)
        assert hello is not None
        self.first = first
        self.served = Encrypted(self.wire, context, hello)

    def step(self) -> bool:
        """The client goes on with its handshake; True when it is done."""
        try:
            self.client.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def shake(self, piece: int = 100_000) -> None:
        data, done = self.first, False
        while not done:
            for at in range(0, len(data), piece):
                done = self.served.handshake(data[at : at + piece])
            self.down.write(self.wire.taken())
            self.step()
            data = self.up.read()
        self.rest = data

    def read(self) -> bytes:
        self.down.write(self.wire.taken())
        data = b""
        try:
            while part := self.client.read(1 << 16):
                data += part
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return data


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion(request.param)


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_there_and_back(data_dir: Path, context: ssl.SSLContext, version: ssl.TLSVersion, piece: int) -> None:
    pair = Pair(data_dir, context, version=version)
    pair.shake(piece)
    pair.client.write(b"a question")
    data = pair.rest + pair.up.read()
    assert (
        b"".join(pair.served.decrypt(data[at : at + piece]) for at in range(0, len(data), piece))
        == b"a question"
    )
    pair.served.write(b"an answer")
    assert pair.read() == b"an answer"
    assert not pair.served.ended


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [((), None), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"), (("x",), None)],
)
def test_the_protocol(
    data_dir: Path, context: ssl.SSLContext, offered: tuple[str, ...], agreed: str | None
) -> None:
    pair = Pair(data_dir, context, *offered)
    assert pair.served.protocol is None
    pair.shake()
    assert pair.served.protocol == pair.client.selected_alpn_protocol() == agreed


def test_much_at_once(data_dir: Path, context: ssl.SSLContext) -> None:
    """More than a record holds, and more than one read takes; one write to the network."""
    pair = Pair(data_dir, context)
    pair.shake()
    data = bytes(range(256)) * 4000
    pair.client.write(data)
    assert pair.served.decrypt(pair.rest + pair.up.read()) == data
    before = pair.wire.writes
    pair.served.write(data)
    assert pair.wire.writes == before + 1
    assert pair.read() == data


def test_goodbyes(data_dir: Path, context: ssl.SSLContext) -> None:
    """close_notify both ways (RFC 8446 §6.1); what came before it counts."""
    pair = Pair(data_dir, context)
    pair.shake()
    pair.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    assert pair.served.decrypt(pair.rest + pair.up.read()) == b"last words"
    assert pair.served.ended
    pair.served.close()
    pair.down.write(pair.wire.taken())
    pair.client.unwrap()


def test_a_goodbye_alone(data_dir: Path, context: ssl.SSLContext) -> None:
    pair = Pair(data_dir, context)
    pair.shake()
    pair.served.decrypt(pair.rest)
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    assert pair.served.decrypt(pair.up.read()) == b"" and pair.served.ended
    pair.served.close()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n" * 5, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"]
)
def test_garbage_instead_of_a_handshake(data_dir: Path, context: ssl.SSLContext, garbage: bytes) -> None:
    pair = Pair(data_dir, context)
    with pytest.raises(ssl.SSLError):
        pair.served.handshake(garbage)


def test_garbage_later(data_dir: Path, context: ssl.SSLContext) -> None:
    pair = Pair(data_dir, context)
    pair.shake()
    pair.served.decrypt(pair.rest)
    with pytest.raises(ssl.SSLError):
        pair.served.decrypt(b"\x17\x03\x03\x00\x20" + bytes(32))


def test_a_client_that_does_not_trust_us(data_dir: Path, context: ssl.SSLContext) -> None:
    """It says so in an alert, which is told in OpenSSL's words."""
    pair = Pair(data_dir, context)
    stranger = ssl.create_default_context()
    pair.client = stranger.wrap_bio(pair.down, pair.up, server_hostname="example.org")
    pair.step()
    pair.served.handshake(pair.up.read())
    pair.down.write(pair.wire.taken())
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.client.do_handshake()
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        pair.served.handshake(pair.up.read())
