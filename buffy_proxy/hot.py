"""Hits that were answered before, by the very bytes of their request.

Most requests of a busy cache come again and again, byte for byte: a tool asks for a URL as it always does.
The answer to such a request differs only in Age and in the ttl of Cache-Status, as long as nothing changes
that the decision was made from. For that the store keeps a *stamp* for each resource: it changes with each
write to its versions, its error response or its policy, by whichever process. So a hit here is:

    request bytes ──> entry ──> one look into the store ──> same stamp, and still fresh ──> head + content
                                                            else: decided anew, as if there were no entry

What depends on more than that makes no entry: pins (they end), requests with Cache-Control or ranges, ends of
versions, plugins that want to be asked each time. Their memory is bounded, whatever the store holds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from buffy_proxy.answer import Answer
from buffy_proxy.core import fields as f
from buffy_proxy.core.blocks import field_lines, literal_name, literal_value, status_line
from buffy_proxy.core.fields import names
from buffy_proxy.core.freshness import current_age
from buffy_proxy.core.model import Fields, Request, Version
from buffy_proxy.selectors import Selectors

BYTES_MAX: Final = 128 << 20
OVERHEAD: Final = 512
"""Bytes that all entries of all workers may take, and what one takes beside its key and its head, about."""
HEAD_MAX: Final = 2048
"""Bytes of a request that may become a key."""

UNSTEADY: Final = frozenset({b"cache-control", b"pragma", b"range", b"if-range", b"expect", b"upgrade"})
"""Request fields whose meaning depends on the time, or whose answer is not the whole content."""
_HIT: Final = b"buffy; hit"
_TTL: Final = b"buffy; hit; ttl="
_MAX_TTL: Final = 999_999_999_999_999  # RFC 9651 §3.3.1


@dataclass(slots=True)
class Entry:
    """The answer to one request. `resource` and `digest` are keys of the store; `parts` is the head around
    Age and ttl (two parts where there is no ttl); `born` is the time at which its age was zero."""

    resource: bytes
    digest: bytes | None
    stamp: bytes
    made_at: float
    fresh_until: float
    born: float
    parts: tuple[bytes, ...]
    size: int
    session: Selectors
    resource_id: str
    method: str
    url: str
    status: int

    @staticmethod
    def cut(answer: Answer, before: Fields, after: Fields, ttl: bool) -> tuple[bytes, ...]:
        """The parts of a head with these fields before and after its Age, and Cache-Status at its end."""
        first = b"HTTP/1.1 %d %b\r\n%bAge: " % (answer.status, answer.reason, f.serialise_block(before))
        middle = b"\r\n%bCache-Status: " % f.serialise_block(after)
        return (first, middle + _TTL, b"\r\n\r\n") if ttl else (first, middle + _HIT + b"\r\n\r\n")

    def head(self, now: float) -> bytes:
        parts = self.parts
        age = int(now - self.born)
        if len(parts) == 2:
            return b"%b%d%b" % (parts[0], age, parts[1])
        return b"%b%d%b%d%b" % (parts[0], age, parts[1], math.floor(self.fresh_until - now), parts[2])

    def cache_status(self, now: float) -> str:
        """As in the head, for the log."""
        if len(self.parts) == 2:
            return "buffy; hit"
        return f"buffy; hit; ttl={math.floor(self.fresh_until - now)}"


class BlockEntry(Entry):
    """For HTTP/2: the head is a field block (RFC 7541), in which each value has its length before it."""

    __slots__ = ()

    @staticmethod
    def cut(answer: Answer, before: Fields, after: Fields, ttl: bool) -> tuple[bytes, ...]:
        first = status_line(answer.status) + field_lines(before) + literal_name(b"age")
        middle = field_lines(after) + literal_name(b"cache-status")
        return (first, middle, _TTL) if ttl else (first, middle + literal_value(_HIT))

    def head(self, now: float) -> bytes:
        parts = self.parts
        age = b"%d" % int(now - self.born)
        if len(parts) == 2:
            return b"%b%c%b%b" % (parts[0], len(age), age, parts[1])
        status = b"%b%d" % (parts[2], math.floor(self.fresh_until - now))
        return b"%b%c%b%b%c%b" % (parts[0], len(age), age, parts[1], len(status), status)


class HotAnswers:
    """Entries by request; the oldest go first. One object a process."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._bytes_max = bytes_max
        self.bytes = 0
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: bytes, entry: Entry) -> None:
        self.drop(key)
        self._entries[key] = entry
        self.bytes += _cost(key, entry)
        while self.bytes > self._bytes_max:
            self.bytes -= _cost(*self._entries.popitem(last=False))

    def drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= _cost(key, entry)


def _cost(key: bytes, entry: Entry) -> int:
    return len(key) + sum(map(len, entry.parts)) + OVERHEAD


def entry_of(
    request: Request,
    answer: Answer,
    now: float,
    session: Selectors,
    shown_url: str,
    kind: type[Entry] = Entry,
) -> Entry | None:
    """What may be said again, if this answer may: a plain hit, of the whole content or of none."""
    version, stamp = answer.version, answer.stamp
    if version is None or stamp is None or not UNSTEADY.isdisjoint(names(request.fields)):
        return None
    content = answer.content or b""
    whole = bool(content) and len(content) == version.body.size
    if content and not whole:
        return None
    parts = _parts(answer, version, kind)
    if parts is None or now >= version.fresh_until:
        return None
    return kind(
        version.resource_id.encode(),
        bytes.fromhex(version.body.digest) if content else None,
        stamp,
        now,
        version.fresh_until,
        version.received_at - current_age(version, version.received_at),
        parts,
        len(content),
        session,
        version.resource_id,
        request.method,
        shown_url,
        answer.status,
    )


def _parts(answer: Answer, version: Version, kind: type[Entry]) -> tuple[bytes, ...] | None:
    """The head, cut at the two numbers that change. None where it looks other than expected."""
    fields = answer.fields
    ages = [n for n, (name, _) in enumerate(fields) if name == b"Age"]
    if len(ages) != 1 or fields[-1] != (b"Cache-Status", answer.cache_status):
        return None
    before, after = fields[: ages[0]], fields[ages[0] + 1 : -1]
    if version.fresh_until == math.inf:
        return kind.cut(answer, before, after, ttl=False) if answer.cache_status == _HIT else None
    number = answer.cache_status.removeprefix(_TTL)
    if not answer.cache_status.startswith(_TTL) or not number.isdigit():
        return None
    if version.fresh_until - version.received_at > _MAX_TTL:
        return None
    return kind.cut(answer, before, after, ttl=True)
