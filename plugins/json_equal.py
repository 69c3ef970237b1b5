"""JSON that differs only in a time is no new version.

    [plugins.json_equal]
    "https://api.example.org/**" = ["generated_at", "meta.request_id", "items[].age"]

For URLs that match a pattern (as in rules; the first that fits counts) the named fields are left out before
the new content is compared with the stored one. `a.b` goes into objects, `[]` into each element of a list,
`*` stands for any name; an empty list of fields compares values alone, whatever the order of keys and the
white space. Equal: the stored version stays and counts as confirmed, so that `changed` is told, and a version
kept, only for what matters.

What cannot be read as JSON, or is larger than `max_bytes` (8 MiB, before and after its content coding is
undone), is compared by its bytes, as ever. Numbers are compared as numbers and by all their digits; objects
that name a field twice are no JSON here, since readers differ about what they say.
"""

from __future__ import annotations

import importlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from buffy_proxy import CacheKey, StoredBody, hookimpl
from buffy_proxy.patterns import compile_glob

__version__ = "1.0"

MAX_BYTES: Final = 8 << 20
Path = tuple[str, ...]

_rules: tuple[tuple[re.Pattern[str], tuple[Path, ...]], ...] = ()
_max_bytes = MAX_BYTES


@hookimpl
def configure(settings: Mapping[str, Any]) -> None:
    global _rules, _max_bytes
    given = dict(settings)
    limit = given.pop("max_bytes", MAX_BYTES)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"max_bytes: must be a number of bytes, not {limit!r}")
    _max_bytes = limit
    _rules = tuple((_pattern(glob), _paths(glob, names)) for glob, names in given.items())


def _pattern(glob: str) -> re.Pattern[str]:
    try:
        return compile_glob(glob)
    except ValueError as error:
        raise ValueError(f'"{glob}": {error}') from error


def _paths(glob: str, names: object) -> tuple[Path, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'"{glob}": must be a list of fields such as ["generated_at", "items[].age"], not {names!r}'
        )
    return tuple(path_of(name) for name in names)


def path_of(text: str) -> Path:
    """ "items[].age" is ("items", "[]", "age")."""
    parts = tuple(part for part in re.split(r"\.|(\[\])", text) if part)
    if not parts or re.search(r"\.\.|^\.|\.$|\[(?!\])|(?<!\[)\]", text) or parts[-1] == "[]":
        raise ValueError(f"{text!r} is no field; write 'generated_at', 'meta.request_id' or 'items[].age'")
    return parts


@hookimpl
def is_new_version(key: CacheKey, old: StoredBody, new: StoredBody) -> bool | None:
    """False where they mean the same; no opinion about what is not JSON."""
    paths = next((paths for pattern, paths in _rules if pattern.match(key.url)), None)
    if paths is None or max(old.version.body.size, new.version.body.size) > _max_bytes:
        return None
    if old.version.status != new.version.status:
        return None
    try:
        before, after = value_of(old), value_of(new)
        for path in paths:
            remove(before, path)
            remove(after, path)
        return False if same(before, after) else None
    except (ValueError, ArithmeticError, RecursionError):
        return None


def value_of(body: StoredBody) -> Any:
    """The JSON value of a body, its content coding undone. ValueError where that cannot be done."""
    content = body.read()
    codings = [
        coding.strip().lower()
        for name, value in body.version.fields
        if name.lower() == b"content-encoding"
        for coding in value.split(b",")
    ]
    for coding in reversed(codings):
        content = decoded(content, coding)
    return json.loads(content, parse_int=Decimal, parse_float=Decimal, object_pairs_hook=_object)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a field is named twice")
    return made


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: `true` is not 1, as it is in Python."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# -- content codings ----------------------------------------------------------------------------------------

_FEED: Final = 64
"""Bytes at a time for brotli, which knows no limit of its own: some bytes of it may stand for megabytes."""


def decoded(content: bytes, coding: bytes) -> bytes:
    """ValueError where it is too large, broken, or in a coding that nothing installed here undoes."""
    match coding:
        case b"identity":
            return content
        case b"gzip" | b"x-gzip" | b"deflate":
            return _inflated(content, 15 if coding == b"deflate" else 31)
        case b"br":
            return _unbrotlied(content)
        case b"zstd":
            return _unzstandarded(content)
        case _:
            raise ValueError(f"the content coding {coding!r} is unknown")


def _inflated(content: bytes, window: int) -> bytes:
    """zlib's `window` bits say which wrapper is expected; gzip may have several members (RFC 1952 §2.2)."""
    made = b""
    while content:
        stream = zlib.decompressobj(window)
        try:
            made += stream.decompress(content, _max_bytes + 1 - len(made))
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(made) > _max_bytes or not stream.eof:
            raise ValueError("too large, or not whole")
        content = stream.unused_data
    return made


def _unbrotlied(content: bytes) -> bytes:
    try:
        brotli = importlib.import_module("brotli")  # comes with mitmproxy
    except ImportError as error:
        raise ValueError(str(error)) from error
    stream, made = brotli.Decompressor(), bytearray()
    try:
        for start in range(0, len(content), _FEED):
            made += stream.process(content[start : start + _FEED])
            if len(made) > _max_bytes:
                raise ValueError("too large")
    except brotli.error as error:
        raise ValueError(str(error)) from error
    if not stream.is_finished():
        raise ValueError("not whole")
    return bytes(made)


def _unzstandarded(content: bytes) -> bytes:
    """mitmproxy comes with one of three modules, by its age and Python's."""
    for name, undo in (
        ("compression.zstd", _by_python),
        ("backports.zstd", _by_python),
        ("zstandard", _by_c),
    ):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return undo(module, content)
        except module.ZstdError as error:
            raise ValueError(str(error)) from error
    raise ValueError("nothing installed undoes zstd")


def _by_python(zstd: Any, content: bytes) -> bytes:
    made = b""
    while content:
        stream = zstd.ZstdDecompressor()
        made += stream.decompress(content, max_length=_max_bytes + 1 - len(made))
        if len(made) > _max_bytes or not stream.eof:
            raise ValueError("too large, or not whole")
        content = stream.unused_data
    return made


def _by_c(zstandard: Any, content: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True)
    made = bytes(reader.read(_max_bytes + 1))
    if len(made) > _max_bytes:
        raise ValueError("too large")
    return made


# -- fields -------------------------------------------------------------------------------------------------


def remove(value: Any, path: Path) -> None:
    """Takes a field out of a value, wherever the path leads."""
    name, *rest = path
    if name == "[]":
        for element in value if isinstance(value, list) else ():
            remove(element, tuple(rest))
    elif isinstance(value, dict):
        for found in list(value) if name == "*" else [name] if name in value else []:
            if rest:
                remove(value[found], tuple(rest))
            else:
                del value[found]
