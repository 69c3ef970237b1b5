"""What a TLS client says first: for whom, and which protocols it speaks (RFC 8446 §4.1.2, RFC 6066, 7301).

Read before the handshake begins, since who handles a connection, and with which certificate, depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

HANDSHAKE: Final = 0x16
CLIENT_HELLO: Final = 1
SERVER_NAME, ALPN = 0, 16


@dataclass(frozen=True, slots=True)
class Hello:
    """`sni` is lower-case, None where the client names no host; `alpn` is in its order of preference."""

    sni: str | None
    alpn: tuple[bytes, ...]


def read_hello(data: bytes) -> Hello | None:
    """None while the message is not complete. Raises ValueError for what is no ClientHello."""
    message = _handshake(data)
    if message is None:
        return None
    if message[0] != CLIENT_HELLO:
        raise ValueError("the first TLS message is no ClientHello")
    sni: str | None = None
    alpn: tuple[bytes, ...] = ()
    try:
        for kind, body in _extensions(message):
            if kind == SERVER_NAME:
                sni = _server_name(body)
            elif kind == ALPN:
                alpn = tuple(_strings(body[2:]))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("the ClientHello is cut off") from error
    return Hello(sni, alpn)


def _handshake(data: bytes) -> bytes | None:
    """The first handshake message, joined from its records."""
    message, at = b"", 0
    while True:
        if len(data) < at + 5:
            return None
        if data[at] != HANDSHAKE or data[at + 1] != 3:
            raise ValueError("this is no TLS handshake")
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            return message
        if len(data) < at:
            return None


def _extensions(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = 4 + 2 + 32
    at += 1 + message[at]  # session id
    at += 2 + int.from_bytes(message[at : at + 2], "big")  # cipher suites
    at += 1 + message[at]  # compression methods
    end = at + 2 + int.from_bytes(message[at : at + 2], "big")
    at += 2
    while at + 4 <= end:
        length = int.from_bytes(message[at + 2 : at + 4], "big")
        yield int.from_bytes(message[at : at + 2], "big"), message[at + 4 : at + 4 + length]
        at += 4 + length


def _server_name(body: bytes) -> str | None:
    """The list may hold one host_name (RFC 6066 §3)."""
    if len(body) < 5 or body[2] != 0:
        return None
    return body[5 : 5 + int.from_bytes(body[3:5], "big")].decode("ascii").lower() or None


def _strings(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
