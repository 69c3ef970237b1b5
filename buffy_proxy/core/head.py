"""A strict and fast parser for request heads. It says None for whatever is not plainly well-formed: those who
need to be lenient, or to explain what is wrong, parse again with more patience."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from buffy_proxy.core.model import Fields

_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_COMPLICATED: Final = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`size` is the length of the head in bytes, its empty line included.

    `simple`: a GET or HEAD that has no body, expects nothing and upgrades nothing, with one Host, on a
    connection that is to stay open.
    """

    method: str
    target: str
    fields: Fields
    size: int
    simple: bool


def parse_request_head(data: bytes) -> RequestHead | None:
    """The head at the start of `data`; None if it is not complete, not HTTP/1.1, or not plainly valid
    (RFC 9112 §3, §5; obsolete line folding and bare line ends are not)."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(lines[0])
    if request_line is None:
        return None
    fields = []
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        fields.append((field[1], field[2]))
    method, target = request_line[1].decode(), request_line[2].decode()
    return RequestHead(method, target, tuple(fields), end + 4, _simple(method, fields))


def _simple(method: str, fields: list[tuple[bytes, bytes]]) -> bool:
    hosts = 0
    for name, value in fields:
        lower = name.lower()
        if lower in _COMPLICATED or (lower.endswith(b"connection") and value.lower() != b"keep-alive"):
            return False
        hosts += lower == b"host"
    return hosts == 1 and method in ("GET", "HEAD")
