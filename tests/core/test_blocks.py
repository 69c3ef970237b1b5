"""Field blocks of literals: any decoder reads them, and none remembers them (RFC 7541)."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.blocks import CONNECTION_SPECIFIC, field_block, literal_name, literal_value, status_line

NAMES = st.one_of(
    st.sampled_from([b"Age", b"content-type", b"Set-Cookie", b"X-Y", b"cache-status", b"www-authenticate"]),
    st.from_regex(rb"[A-Za-z0-9-]{1,40}", fullmatch=True),
)
VALUES = st.binary(max_size=300).map(bytes.strip)


def decoded(block: bytes, decoder: hpack.Decoder | None = None) -> list[tuple[bytes, bytes]]:
    lines = (decoder or hpack.Decoder()).decode(block, raw=True)
    return [(bytes(name), bytes(value)) for name, value in lines]


@given(status=st.integers(100, 999), fields=st.lists(st.tuples(NAMES, VALUES), max_size=20))
def test_what_went_in_comes_out(status: int, fields: list[tuple[bytes, bytes]]) -> None:
    decoder = hpack.Decoder()
    expected = [(name.lower(), value) for name, value in fields if name.lower() not in CONNECTION_SPECIFIC]
    assert decoded(field_block(status, tuple(fields)), decoder) == [(b":status", b"%d" % status), *expected]
    assert not decoder.header_table.dynamic_entries


@given(
    before=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=5),
)
def test_it_may_stand_among_blocks_with_a_table(
    before: list[tuple[bytes, bytes]], fields: list[tuple[bytes, bytes]]
) -> None:
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    for _ in range(2):
        assert decoded(encoder.encode(before), decoder) == before
        assert decoded(field_block(200, tuple(fields)), decoder)[0] == (b":status", b"200")


@pytest.mark.parametrize(
    "name", [b"Connection", b"KEEP-ALIVE", b"transfer-encoding", b"Upgrade", b"Proxy-Connection"]
)
def test_connection_specific_fields_stay_out(name: bytes) -> None:
    """RFC 9113 §8.2.2."""
    assert decoded(field_block(204, ((name, b"x"), (b"A", b" y ")))) == [(b":status", b"204"), (b"a", b"y")]


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 16_510, 16_511, 100_000])
def test_lengths_at_the_ends_of_an_octet(size: int) -> None:
    """RFC 7541 §5.1."""
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 20
    assert decoded(literal_name(b"x-y") + literal_value(b"v" * size), decoder) == [(b"x-y", b"v" * size)]


def test_statuses_of_the_static_table_are_one_octet() -> None:
    assert [len(status_line(status)) for status in (200, 204, 206, 304, 400, 404, 500)] == [1] * 7
    assert decoded(status_line(418)) == [(b":status", b"418")]
