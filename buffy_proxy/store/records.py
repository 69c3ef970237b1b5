"""How resources and versions stand in the index: a fixed head, then the sections whose lengths it gives.

    version   fresh_until refresh_at pinned_until requested_at received_at cached_at validated_at: 7 × float64
              size uint64, digest 32 bytes, status uint16, format uint8, 4 × uint32 lengths
              reason, fields, request_fields, tags
    resource  requested_at lru_at created_at: 3 × float64, seq uint64, format uint8, 7 × uint32 lengths
              group, method, url, partition, body_digest, policy, info

The floats that are rewritten without touching the rest come first, so that a hit may compare `fresh_until`
without decoding anything and `touch` costs one slice. A time that is None stands as NaN. The id and the
name of a version are its key in the index and are not repeated in the record.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from buffy_proxy.core.model import BodyRef, CacheKey, Fields, Resource, Version
from buffy_proxy.errors import StoreError

RECORD_FORMAT: Final = 1
FRESH_UNTIL_AT: Final = 0
REFRESH_AT_AT: Final = 8
REQUESTED_AT_AT: Final = 0
LRU_AT_AT: Final = 8

_FLOAT: Final = struct.Struct("<d")
_VERSION: Final = struct.Struct("<7dQ32sHB4I")
_RESOURCE: Final = struct.Struct("<3dQB7I")
_KEY_TIME: Final = struct.Struct(">d")
_KEY_BITS: Final = struct.Struct(">Q")
_SIGN: Final = 1 << 63
_NAN: Final = float("nan")


class RecordError(StoreError):
    """A record in the index does not decode: damage, or written by a newer Buffy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource with its place in the index: `seq` in order of creation, `lru_at` in order of eviction."""

    resource: Resource
    seq: int
    lru_at: float


# -- fields -------------------------------------------------------------------------------------------------


def encode_fields(fields: Fields) -> bytes:
    """Names and values in turn, separated by NUL: the one byte a field can never hold (RFC 9110 §5.5).

    Everything else round-trips: order, spelling, duplicates, empty values, obs-text, obs-fold.
    Raises ValueError for a NUL.
    """
    if not fields:
        return b""
    block = b"\0".join([part for pair in fields for part in pair])
    if block.count(b"\0") != 2 * len(fields) - 1:
        raise ValueError("a field with a NUL byte cannot be stored (RFC 9110 §5.5)")
    return block


def decode_fields(block: bytes) -> Fields:
    if not block:
        return ()
    parts = iter(block.split(b"\0"))
    return tuple(zip(parts, parts, strict=True))


# -- versions -----------------------------------------------------------------------------------------------


def encode_version(version: Version) -> bytes:
    """Raises ValueError for what a record cannot hold (NUL in a field or tag, a NaN time, a bad digest)."""
    fields = encode_fields(version.fields)
    request_fields = encode_fields(version.request_fields)
    tags = "\0".join(sorted(version.tags)).encode("utf-8", "surrogatepass")
    times = (
        version.fresh_until,
        _or_nan(version.refresh_at),
        _or_nan(version.pinned_until),
        version.requested_at,
        version.received_at,
        version.cached_at,
        version.validated_at,
    )
    if any(map(math.isnan, (times[0], *times[3:]))):
        raise ValueError("a time is NaN")
    if "" in version.tags or any("\0" in tag for tag in version.tags):
        raise ValueError("a tag is empty or holds a NUL")
    lengths = (len(version.reason), len(fields), len(request_fields), len(tags))
    digest = bytes.fromhex(version.body.digest)
    try:
        head = _VERSION.pack(*times, version.body.size, digest, version.status, RECORD_FORMAT, *lengths)
    except struct.error as error:
        raise ValueError(f"not storable: {error}") from error
    return b"".join((head, version.reason, fields, request_fields, tags))


def decode_version(resource_id: str, name: str, record: bytes) -> Version:
    """Raises RecordError."""
    try:
        (
            fresh_until, refresh_at, pinned_until, requested_at, received_at, cached_at, validated_at,
            size, digest, status, form, n_reason, n_fields, n_request, n_tags,
        ) = _VERSION.unpack_from(record)  # fmt: skip
        fields_at = _VERSION.size + n_reason
        request_at = fields_at + n_fields
        tags_at = request_at + n_request
        if form != RECORD_FORMAT or tags_at + n_tags != len(record):
            raise RecordError(_complaint(resource_id, name, form))
        return Version(
            resource_id,
            name,
            status,
            record[_VERSION.size : fields_at],
            decode_fields(record[fields_at:request_at]),
            BodyRef(digest.hex(), size),
            decode_fields(record[request_at:tags_at]),
            requested_at,
            received_at,
            cached_at,
            validated_at,
            fresh_until,
            None if refresh_at != refresh_at else refresh_at,
            None if pinned_until != pinned_until else pinned_until,
            _decode_tags(record[tags_at:]) if n_tags else frozenset(),
        )
    except (struct.error, ValueError) as error:
        raise RecordError(_complaint(resource_id, name, None)) from error


def body_of(record: bytes) -> tuple[bytes, int]:
    """The raw digest and the size of the body that a version's record names. Raises RecordError."""
    try:
        head = _VERSION.unpack_from(record)
    except struct.error as error:
        raise RecordError("a version's record is too short") from error
    return head[8], head[7]


# -- resources ----------------------------------------------------------------------------------------------


def encode_resource(entry: Entry) -> bytes:
    """Raises ValueError or TypeError when `policy` or `info` is not JSON."""
    resource, key = entry.resource, entry.resource.key
    texts = (key.group, key.method, key.url, key.partition, key.body_digest)
    sections = [text.encode("utf-8", "surrogatepass") for text in texts]
    sections += [_encode_json(resource.policy), _encode_json(resource.info or None)]
    times = (resource.requested_at, entry.lru_at, resource.created_at)
    head = _RESOURCE.pack(*times, entry.seq, RECORD_FORMAT, *map(len, sections))
    return b"".join((head, *sections))


def has_policy(record: bytes) -> bool:
    """Whether a resource's record holds a policy; one that is too short does not."""
    return len(record) >= _RESOURCE.size and _RESOURCE.unpack_from(record)[10] > 0


def decode_resource(resource_id: str, record: bytes) -> Entry:
    """Raises RecordError."""
    try:
        requested_at, lru_at, created_at, seq, form, *lengths = _RESOURCE.unpack_from(record)
        if form != RECORD_FORMAT or _RESOURCE.size + sum(lengths) != len(record):
            raise RecordError(_complaint(resource_id, "", form))
        sections, at = [], _RESOURCE.size
        for length in lengths:
            sections.append(record[at : at + length])
            at += length
        group, method, url, partition, digest = (s.decode("utf-8", "surrogatepass") for s in sections[:5])
        policy, info = map(_decode_json, sections[5:])
    except (struct.error, ValueError) as error:
        raise RecordError(_complaint(resource_id, "", None)) from error
    key = CacheKey(resource_id, group, method, url, partition, digest)
    return Entry(Resource(key, created_at, requested_at, policy, info or {}), seq, lru_at)


# -- splicing, and times as keys ----------------------------------------------------------------------------


def get_time(record: bytes, at: int) -> float | None:
    value: float = _FLOAT.unpack_from(record, at)[0]
    return None if value != value else value


def put_time(record: bytes, at: int, value: float | None) -> bytes:
    """The record with one of its leading floats replaced."""
    return record[:at] + _FLOAT.pack(_or_nan(value)) + record[at + 8 :]


def time_key(value: float) -> bytes:
    """Eight bytes that sort as the floats do, infinities and negative ones included."""
    (bits,) = _KEY_BITS.unpack(_KEY_TIME.pack(value + 0.0))
    return _KEY_BITS.pack(bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits & _SIGN else _SIGN))


def key_time(key: bytes) -> float:
    (bits,) = _KEY_BITS.unpack_from(key)
    plain = bits ^ (_SIGN if bits & _SIGN else 0xFFFF_FFFF_FFFF_FFFF)
    value: float = _KEY_TIME.unpack(_KEY_BITS.pack(plain))[0]
    return value


def _or_nan(value: float | None) -> float:
    return _NAN if value is None else value


def _decode_tags(block: bytes) -> frozenset[str]:
    return frozenset(block.decode("utf-8", "surrogatepass").split("\0"))


def _encode_json(value: Mapping[str, Any] | None) -> bytes:
    return b"" if value is None else json.dumps(value, separators=(",", ":")).encode()


def _decode_json(block: bytes) -> dict[str, Any] | None:
    return json.loads(block) if block else None


def _complaint(resource_id: str, name: str, form: int | None) -> str:
    what = f"version {name} of {resource_id}" if name else f"resource {resource_id}"
    if form is not None and form > RECORD_FORMAT:
        return f"{what} was written by a newer Buffy (record format {form}); use that one"
    return f"the record of {what} is damaged; `buffy store check --repair` drops it"


# -- stamps -------------------------------------------------------------------------------------------------

STAMP_SIZE: Final = 4
STAMPS: Final = 448
STAMPS_SIZE: Final = STAMPS * STAMP_SIZE
"""One value of the database `meta`, which every write changes anyway: noting a change needs no other page,
and deleting on a full disk none that is not there. Resources share stamps, by hash of their id."""


def stamp_at(rid: bytes) -> int:
    """Where the stamp of a resource begins."""
    return zlib.crc32(rid) % STAMPS * STAMP_SIZE
