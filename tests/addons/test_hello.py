"""ClientHellos of real clients, whole, in pieces, cut off and mutilated."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.addons.hello import Hello, read_hello


def hello_bytes(host: str | None, alpn: tuple[str, ...] = (), **versions: ssl.TLSVersion) -> bytes:
    """What Python's client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for name, version in versions.items():
        setattr(context, name, version)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


CURL = hello_bytes("example.org", ("h2", "http/1.1"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (CURL, Hello("example.org", (b"h2", b"http/1.1"))),
        (hello_bytes("EXAMPLE.org"), Hello("example.org", ())),
        (hello_bytes(None, ("http/1.1",)), Hello(None, (b"http/1.1",))),
        (hello_bytes("127.0.0.1"), Hello(None, ())),  # RFC 6066 §3: addresses are not named
        (hello_bytes("xn--bcher-kva.example"), Hello("xn--bcher-kva.example", ())),
        (hello_bytes("a.b", ("x" * 255,)), Hello("a.b", (b"x" * 255,))),
        (hello_bytes("a.b", maximum_version=ssl.TLSVersion.TLSv1_2), Hello("a.b", ())),
    ],
)
def test_what_real_clients_say(data: bytes, expected: Hello) -> None:
    assert read_hello(data) == expected
    assert read_hello(data + b"what comes later") == expected


def test_a_hello_that_is_not_whole_yet() -> None:
    for size in range(len(CURL)):
        assert read_hello(CURL[:size]) is None


def records(message: bytes, size: int) -> bytes:
    """The handshake message in records of `size` bytes (RFC 8446 §5.1)."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("size", [1, 3, 4, 50, 300])
def test_a_hello_in_many_records(size: int) -> None:
    data = records(CURL[5:], size)
    assert read_hello(data) == Hello("example.org", (b"h2", b"http/1.1"))
    for end in (1, len(data) // 2, len(data) - 1):
        assert read_hello(data[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00",
        records(b"\x02" + CURL[6:], 5000),  # a ServerHello
        records(b"\x01\x00\x00\x00", 5000),
        records(b"\x01\x00\x00\x22" + bytes(34), 5000),
        CURL[:5] + b"\x01\x00\x00\x22" + bytes(33) + b"\xff",
    ],
)
def test_what_is_no_hello(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_hello(data)


def test_a_server_name_that_is_no_name() -> None:
    with pytest.raises(ValueError):
        read_hello(CURL.replace(b"example.org", b"ex\xe4mple.org"))


@given(at=st.integers(5, len(CURL) - 1), byte=st.integers(0, 255))
def test_a_byte_that_flipped(at: int, byte: int) -> None:
    """It reads something, wants more, or says ValueError."""
    try:
        read_hello(CURL[:at] + bytes([byte]) + CURL[at + 1 :])
    except ValueError:
        pass


@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    try:
        read_hello(b"\x16\x03\x01" + data)
    except ValueError:
        pass
