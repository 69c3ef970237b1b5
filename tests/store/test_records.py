"""Records round-trip exactly; damaged ones are refused, never misread."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.model import BodyRef, CacheKey, Resource, Version
from buffy_proxy.store.records import (
    FRESH_UNTIL_AT,
    REFRESH_AT_AT,
    Entry,
    RecordError,
    body_of,
    decode_fields,
    decode_resource,
    decode_version,
    encode_fields,
    encode_resource,
    encode_version,
    get_time,
    key_time,
    put_time,
    time_key,
)
from tests.store.kit import version

octets = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b" "))
fields = st.lists(st.tuples(octets, octets), max_size=8).map(tuple)
times = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_characters="\0"), max_size=20)
versions = st.builds(
    Version,
    resource_id=st.just("id"),
    name=st.just("name"),
    status=st.integers(0, 65535),
    reason=st.binary(max_size=30),
    fields=fields,
    body=st.builds(
        BodyRef, digest=st.binary(min_size=32, max_size=32).map(bytes.hex), size=st.integers(0, 2**63)
    ),
    request_fields=fields,
    requested_at=times,
    received_at=times,
    cached_at=times,
    validated_at=times,
    fresh_until=times,
    refresh_at=st.none() | times,
    pinned_until=st.none() | times,
    tags=st.frozensets(texts.filter(bool), max_size=4),
)
json_values = st.dictionaries(
    st.text(max_size=9), st.integers() | st.text(max_size=9) | st.none() | st.booleans()
)
entries = st.builds(
    Entry,
    resource=st.builds(
        Resource,
        key=st.builds(CacheKey, st.just("id"), st.text(), st.text(), st.text(), st.text(), st.text()),
        created_at=times,
        requested_at=times,
        policy=st.none() | json_values,
        info=json_values,
    ),
    seq=st.integers(0, 2**64 - 1),
    lru_at=times,
)


@given(versions)
def test_versions_round_trip(value: Version) -> None:
    record = encode_version(value)
    assert decode_version("id", "name", record) == value
    assert body_of(record) == (bytes.fromhex(value.body.digest), value.body.size)
    assert get_time(record, FRESH_UNTIL_AT) == value.fresh_until
    assert struct.unpack_from("<d", record)[0] == value.fresh_until


@given(entries)
def test_resources_round_trip(value: Entry) -> None:
    assert decode_resource("id", encode_resource(value)) == value


@given(versions, st.none() | times)
def test_splicing_changes_one_time_only(value: Version, at: float | None) -> None:
    spliced = decode_version("id", "name", put_time(encode_version(value), REFRESH_AT_AT, at))
    assert spliced.refresh_at == at
    assert encode_version(spliced)[16:] == encode_version(value)[16:]


@given(times, times)
def test_keys_of_times_sort_as_times(a: float, b: float) -> None:
    assert key_time(time_key(a)) == a
    assert (time_key(a) < time_key(b)) == (a < b)


@given(st.binary(max_size=300))
def test_noise_is_refused_or_decodes_to_what_it_says(record: bytes) -> None:
    for decode in (lambda: decode_version("id", "n", record), lambda: decode_resource("id", record)):
        with pytest.raises(RecordError):
            decode()


@given(versions, st.data())
def test_cut_records_are_refused(value: Version, data: st.DataObject) -> None:
    record = encode_version(value)
    cut = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(RecordError):
        decode_version("id", "name", record[:cut])
    with pytest.raises(RecordError):
        decode_version("id", "name", record + b"x")


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ((b"", b""),),
        ((b"A", b""), (b"", b"B")),
        ((b"Set-Cookie", b"a"), (b"set-cookie", b"b"), (b"SET-COOKIE", b"a")),
        ((b"X", b"\x80\xff \t"), (b"Y", b"a\r\n b")),
    ],
)
def test_fields_keep_order_spelling_and_duplicates(pairs: tuple[tuple[bytes, bytes], ...]) -> None:
    assert decode_fields(encode_fields(pairs)) == pairs


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": ((b"A", b"x\0y"),)},
        {"request_fields": ((b"A\0", b""),)},
        {"tags": frozenset({""})},
        {"tags": frozenset({"a\0b"})},
        {"fresh_until": math.nan},
        {"cached_at": math.nan},
        {"status": -1},
        {"status": 70000},
        {"body": BodyRef("xyz", 1)},
        {"body": BodyRef("00" * 32, -1)},
    ],
)
def test_what_a_record_cannot_hold(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_version(version(**changes))


def test_a_record_of_a_newer_format_says_so() -> None:
    record = bytearray(encode_version(version()))
    record[struct.calcsize("<7dQ32sH")] = 2
    with pytest.raises(RecordError, match="newer Buffy"):
        decode_version("id", "name", bytes(record))
