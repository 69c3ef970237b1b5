"""Message heads: strict and fast parsers, and the words for what is wrong with a request's.

A parser says None for whatever is not plainly well-formed. What other parsers might read in two ways, or
pass on to others who might, has an objection: such a request is refused, not repaired (RFC 9112 §11.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from buffy_proxy.core.model import Fields

_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LENIENT_LINE: Final = re.compile(rb"(\S+) [!-~\x80-\xff]+ HTTP/(\d)\.\d")
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[!$%&'()*+,;=\-._~0-9A-Za-z]*)(:[0-9]*)?")
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
    first, *lines = data[:end].split(b"\r\n")
    request_line, fields = _REQUEST_LINE.fullmatch(first), _fields(lines)
    if request_line is None or fields is None:
        return None
    method, target = request_line[1].decode(), request_line[2].decode()
    return RequestHead(method, target, fields, end + 4, _simple(method, fields))


def _fields(lines: list[bytes]) -> Fields | None:
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        fields.append((field[1], field[2]))
    return tuple(fields)


# -- towards origins ----------------------------------------------------------------------------------------

_TARGET: Final = re.compile(r"[!-~]+")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)")
_FRAMING: Final = frozenset({b"transfer-encoding", b"upgrade", b"trailer"})
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`size` is the length of the head in bytes, its empty line included.

    `simple`: a final response with one Content-Length (`length`, bytes), on a connection that is to stay
    open.
    """

    status: int
    reason: bytes
    fields: Fields
    size: int
    length: int
    simple: bool


def parse_response_head(data: bytes) -> ResponseHead | None:
    """The head at the start of `data`, as above (RFC 9112 §4, §5)."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    status_line, fields = _STATUS_LINE.fullmatch(first), _fields(lines)
    if status_line is None or fields is None:
        return None
    status, length = int(status_line[1]), _length(fields)
    simple = length is not None and status != 204
    return ResponseHead(status, status_line[2], fields, end + 4, length or 0, simple)


def _length(fields: Fields) -> int | None:
    """The Content-Length, where it alone frames the message and the connection stays."""
    length: int | None = None
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length":
            if length is not None or not _DIGITS.fullmatch(value):
                return None
            length = int(value)
        elif lower in _FRAMING or (lower.endswith(b"connection") and value.lower() != b"keep-alive"):
            return None
    return length


def write_request_head(method: str, target: str, fields: Fields) -> bytes | None:
    """The bytes of a GET or HEAD without content; None where it is another, or not plainly valid."""
    if method not in ("GET", "HEAD") or not _TARGET.fullmatch(target):
        return None
    block = b"".join([b"%b: %b\r\n" % field for field in fields])
    lines = block.split(b"\r\n")
    if len(lines) != len(fields) + 1 or _fields(lines[:-1]) != fields:
        return None
    names = [name.lower() for name, _ in fields]
    if not _COMPLICATED.isdisjoint(names) or any(name.endswith(b"connection") for name in names):
        return None
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target.encode(), block)


# -- objections ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a request is not read at all, and the status that says so."""

    status: int
    text: str


def head_objection(data: bytes) -> Objection | None:
    """What is wrong with the head at the start of `data`; None if nothing is, or it is not complete yet.

    A lone LF passes as a line end (RFC 9112 §2.2): we write every line anew.
    """
    end = _HEAD_END.search(data)
    if end is None:
        return None
    first, *lines = re.split(rb"\r?\n", data[: end.start()].removesuffix(b"\r"))
    request_line = _LENIENT_LINE.fullmatch(first)
    if request_line is None:
        return Objection(400, "the request line is malformed (RFC 9112 §3)")
    if request_line[2] != b"1":
        return Objection(505, "only HTTP/1.1 and HTTP/1.0 are spoken here in clear text (RFC 9110 §15.6.6)")
    if any(line[:1] in (b" ", b"\t") for line in lines):
        return Objection(400, "a field line is folded, or starts with a space (RFC 9112 §5.2)")
    if any(b":" not in line for line in lines):
        return Objection(400, "a field line has no colon (RFC 9112 §5)")
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in lines)]
    if not any(name.lower() == b"host" for name, _ in fields) and _needs_host(first):
        return Objection(400, "an HTTP/1.1 request must have a Host field (RFC 9112 §3.2)")
    return request_objection(request_line[1], fields)


def _needs_host(request_line: bytes) -> bool:
    """CONNECT names its host in the target, and tools are known that send nothing else."""
    return request_line.endswith(b"HTTP/1.1") and not request_line.startswith(b"CONNECT ")


def request_objection(method: bytes, fields: Iterable[tuple[bytes, bytes]]) -> Objection | None:
    """What is wrong with a request in any version of HTTP."""
    if not _TOKEN.fullmatch(method):
        return Objection(400, "the method is not a token (RFC 9110 §9.1)")
    hosts = []
    for name, value in fields:
        if not _TOKEN.fullmatch(name):
            return Objection(400, f"{ascii(name)[1:]} is not a field name (RFC 9110 §5.1)")
        if _CONTROL.search(value):
            return Objection(400, f"the value of {name.decode()} has a control character (RFC 9110 §5.5)")
        if name.lower() == b"content-length" and len(value.strip()) > _LENGTH_DIGITS:
            return Objection(400, "the Content-Length is beyond all measure (RFC 9110 §8.6)")
        if name.lower() == b"host":
            hosts.append(value.strip(b" \t"))
    if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
        return Objection(400, "more than one Host, or one that is no host and port (RFC 9112 §3.2)")
    return None


_LENGTH_DIGITS: Final = 18
"""More decimal digits overflow 64 bits at some recipients, who would then see a short body."""


def _simple(method: str, fields: Fields) -> bool:
    hosts = 0
    for name, value in fields:
        lower = name.lower()
        if lower in _COMPLICATED or (lower.endswith(b"connection") and value.lower() != b"keep-alive"):
            return False
        if lower == b"host":
            hosts += 1 if _HOST.fullmatch(value) else 2
    return hosts == 1 and method in ("GET", "HEAD")
