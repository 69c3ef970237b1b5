"""JSON that differs only in a time is no new version.

    [plugins.json_equal]
    "https://api.example.org/**" = ["generated_at", "meta.request_id", "items[].age"]

For URLs that match a pattern (as in rules; the first that fits counts) the named fields are left out before
the new content is compared with the stored one. `a.b` goes into objects, `[]` into each element of a list,
`*` stands for any name; an empty list of fields compares values alone, whatever the order of keys and the
white space. Equal: the stored version stays and counts as confirmed, so that `changed` is told, and a version
kept, only for what matters.

What cannot be read as JSON, or is larger than `max_bytes` (8 MiB), is compared by its bytes, as ever.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping
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
    try:
        before, after = value_of(old), value_of(new)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error):
        return None
    for path in paths:
        remove(before, path)
        remove(after, path)
    return None if before != after else False


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
    return json.loads(content)


def decoded(content: bytes, coding: bytes) -> bytes:
    match coding:
        case b"identity":
            return content
        case b"gzip" | b"x-gzip":
            return gzip.decompress(content)
        case b"deflate":
            return zlib.decompress(content)
        case b"br":
            import brotli  # comes with mitmproxy

            return bytes(brotli.decompress(content))
        case b"zstd":
            import zstandard  # comes with mitmproxy

            return bytes(zstandard.ZstdDecompressor().stream_reader(content).read())
        case _:
            raise ValueError(f"the content coding {coding!r} is unknown")


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
