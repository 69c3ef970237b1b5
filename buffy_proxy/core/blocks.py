"""Field blocks of HTTP/2 responses; each field is a literal that no table remembers (RFC 7541 §6.2.2).

An encoder with a dynamic table would make them shorter, but different on each connection and each time. These
are the same everywhere, so that a block that was made once can be said again, and they may stand among blocks
of such an encoder. The block that comes first after the peer made its table smaller must tell that; that is
up to the encoder of the connection (§4.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hpack.table import HeaderTable

from buffy_proxy.core.model import Fields

CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
"""Fields that an HTTP/2 message must not have (RFC 9113 §8.2.2), lower-case."""

_NAMES: Final = {name: n for n, (name, _) in reversed([*enumerate(HeaderTable.STATIC_TABLE, 1)])}
_STATUSES: Final = {
    int(value): bytes([0x80 | n])
    for n, (name, value) in enumerate(HeaderTable.STATIC_TABLE, 1)
    if name == b":status"
}


def field_block(status: int, fields: Fields) -> bytes:
    """The whole block of a response; names become lower-case, connection-specific fields stay out."""
    return status_line(status) + field_lines(fields)


def status_line(status: int) -> bytes:
    return _STATUSES.get(status) or literal_name(b":status") + literal_value(b"%d" % status)


def field_lines(fields: Fields) -> bytes:
    """The lines of these fields, in their order."""
    return b"".join(literal_name(name) + literal_value(value) for name, value in _allowed(fields))


def field_list(status: int, fields: Fields) -> list[tuple[bytes, bytes]]:
    """The same as `field_block`, for an encoder that has a table."""
    return [(b":status", b"%d" % status), *_allowed(fields)]


def _allowed(fields: Fields) -> Iterator[tuple[bytes, bytes]]:
    for name, value in fields:
        if (lower := name.lower()) not in CONNECTION_SPECIFIC:
            yield lower, value.strip()


def literal_name(name: bytes) -> bytes:
    """How a line begins; its value follows. `name` is lower-case."""
    index = _NAMES.get(name)
    return b"\0" + _string(name) if index is None else _integer(index, 4)


def literal_value(value: bytes) -> bytes:
    return _string(value)


def _string(data: bytes) -> bytes:
    """As it is, without Huffman coding (RFC 7541 §5.2)."""
    return _integer(len(data), 7) + data


def _integer(value: int, bits: int) -> bytes:
    """With a prefix of `bits` bits, the ones before it zero (RFC 7541 §5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([value])
    value, octets = value - limit, [limit]
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])
