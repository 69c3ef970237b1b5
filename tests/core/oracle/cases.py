"""Cases for both caches: an exchange that may be stored, and a later request. Seeded, so always the same.

Most of a case is what real servers and clients send; odd spellings are rare, so that one oddity seldom hides
another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from buffy_proxy.core.fields import combined, first, names
from buffy_proxy.core.model import Fields
from tests.core.make import T, date, fields

Lines = tuple[str, ...]

FIRST_COUNTS: Final = frozenset(
    {b"age", b"authorization", b"etag", b"expires", b"if-modified-since", b"last-modified"}
)
"""Of these, node's parser keeps the first line only; others it joins with ", "."""


@dataclass(frozen=True, slots=True)
class Case:
    """`asked` and `said` are the exchange received at T, `presented` comes `elapsed` seconds later, and
    `confirmation` are the fields of a 304 that comes at that moment."""

    method: str
    asked: Fields
    status: int
    said: Fields
    presented_method: str
    presented: Fields
    elapsed: int
    confirmation: Fields

    @property
    def now(self) -> float:
        return T + self.elapsed

    @property
    def control(self) -> str:
        """The response's Cache-Control as text, "" where there is none."""
        return text(self.said, "cache-control")

    @property
    def wanted(self) -> str:
        """The later request's Cache-Control."""
        return text(self.presented, "cache-control")

    def as_json(self) -> dict[str, Any]:
        """As decide.js reads it."""
        return {
            "received": T,
            "now": self.now,
            "asked": {"method": self.method, "headers": as_node(self.asked), "url": "/data"},
            "response": {"status": self.status, "headers": as_node(self.said)},
            "presented": {
                "method": self.presented_method,
                "headers": as_node(self.presented),
                "url": "/data",
            },
            "confirmation": {"status": 304, "headers": as_node(self.confirmation)},
        }


def text(fields: Fields, name: str) -> str:
    return (combined(fields, name.encode()) or b"").decode("latin-1")


def as_node(fields: Fields) -> dict[str, str]:
    """Fields as node's parser would hand them over."""
    return {
        name.decode(): ((first if name in FIRST_COUNTS else combined)(fields, name) or b"").decode("latin-1")
        for name in names(fields)
    }


def cases(seed: int, count: int) -> Iterator[Case]:
    rng = random.Random(seed)
    return (_case(rng) for _ in range(count))


# -- the parts of a case ------------------------------------------------------------------------------------

SECONDS = ("0", "1", "10", "10", "60", "60", "60", "3600", "86400", "400000")
ODD_SECONDS = ("", "", "x", "-5", "1.5", "60x", '"60"', '"60', " 60", "99999999999")
SAID = ("max-age=", "max-age=", "max-age=", "s-maxage=", "public", "no-cache", "must-revalidate", "immutable")
RARELY_SAID = ("no-store", "private", "proxy-revalidate", "must-understand", "stale-if-error=", "x=")
WANTED = (
    "max-age=",
    "min-fresh=",
    "max-stale=",
    "max-stale=",
    "max-stale",
    "no-cache",
    "only-if-cached",
    "no-store",
)
ODD_DATES = ("0", "-1", "", "x", "2023-11-14T22:13:20Z", "Tue, 14 Nov 2023 22:13:20 +0100")
OLD_DATES = ("Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023")
STATUS = (200,) * 14 + (203, 204, 206, 299, 301, 302, 302, 308, 404, 404, 410, 412, 500, 503)
ETAGS = ('"a"', '"a"', 'W/"a"', '"b"')


def _case(rng: random.Random) -> Case:
    method = rng.choices(("GET", "HEAD", "POST"), (92, 4, 4))[0]
    asked, said, status = _asked(rng), _said(rng), rng.choice(STATUS)
    if status >= 400:  # what is missing has no Last-Modified
        said = tuple(line for line in said if not line.startswith("Last-Modified"))
    elapsed = rng.choice((0, 0, 1, 9, 10, 11, 20, 50, 60, 61, 70, 120, 3600, 90000))
    return Case(
        method,
        fields(*asked),
        status,
        fields(*said),
        "HEAD" if _one_in(rng, 12) else "GET",
        fields(*_presented(rng, asked)),
        elapsed,
        fields(*_confirmation(rng, said, T + elapsed)),
    )


def _one_in(rng: random.Random, n: int) -> bool:
    return rng.randrange(n) == 0


def _asked(rng: random.Random) -> Lines:
    lines = ["Host: example.org"]
    if _one_in(rng, 2):
        lines.append(f"Accept: {rng.choice(('text/html', 'a, b', '*/*'))}")
    if _one_in(rng, 5):
        lines.append(rng.choice(("Authorization: Bearer x", "Cookie: a=1")))
    if _one_in(rng, 25):
        lines.append("Cache-Control: no-store")
    return tuple(lines)


def _presented(rng: random.Random, asked: Lines) -> Lines:
    """Mostly the same request again, with more demands."""
    again = [line for line in asked[1:] if not line.startswith("Cache-Control") and not _one_in(rng, 12)]
    lines = [asked[0], *again]
    lines = ["Accept: a,b" if line.startswith("Accept") and _one_in(rng, 6) else line for line in lines]
    if _one_in(rng, 2):
        lines += _directives(rng, WANTED)
    if _one_in(rng, 14):
        lines.append("Pragma: no-cache")
    if _one_in(rng, 10):
        lines.append(f"If-None-Match: {rng.choice(ETAGS)}")
    if _one_in(rng, 30):
        lines.append('If-Match: "a"')
    return tuple(lines)


def _said(rng: random.Random) -> Lines:
    lines = [] if _one_in(rng, 6) else _directives(rng, SAID if rng.randrange(4) else RARELY_SAID)
    lines += _maybe(rng, 8, 10, "Date", rng.choice((0, 0, 0, -10, -3600, 5)))
    if _one_in(rng, 4):
        odd = ("x", "-5", "1.5", "7x", '"3"', "3, 9", "99999999999")
        lines += [f"Age: {rng.choice(odd if _one_in(rng, 4) else SECONDS)}"]
    lines += _maybe(rng, 3, 10, "Expires", rng.choice((-10, 0, 60, 3600, 200000)))
    lines += _maybe(rng, 4, 10, "Last-Modified", rng.choice((-10, -3600, -(10**6), -(10**8), 10)))
    if _one_in(rng, 2):
        lines.append(f"ETag: {rng.choice(ETAGS)}")
    if _one_in(rng, 4):
        lines.append(f"Vary: {rng.choice(('Accept', 'ACCEPT', 'X-A, Accept', 'Cookie', '*', 'X-A, *'))}")
    rare = ("Set-Cookie: a=1", "Pragma: no-cache", "Content-Type: text/event-stream", "Content-Length: 10")
    return (*lines, rng.choice(rare)) if _one_in(rng, 6) else tuple(lines)


def _confirmation(rng: random.Random, said: Lines, now: float) -> Lines:
    """The stored validators again, or others, or none."""
    lines = [] if _one_in(rng, 8) else [f"Date: {date(now)}"]
    lines += [line for line in said if line.startswith(("ETag", "Last-Mod")) and rng.randrange(4)]
    if _one_in(rng, 8):
        lines = [line for line in lines if not line.startswith("ETag")] + [f"ETag: {rng.choice(ETAGS)}"]
    if _one_in(rng, 8):
        lines = [line for line in lines if not line.startswith("Last-Mod")]
        lines.append(f"Last-Modified: {date(T - 77)}")
    more = ("Cache-Control: max-age=60", "X-New: 1", "Age: 5", "Content-Length: 0", "Content-Encoding: br")
    return (*lines, *(line for line in more if _one_in(rng, 6)))


def _directives(rng: random.Random, choices: Sequence[str]) -> list[str]:
    """One or two lines of Cache-Control."""
    members = [_directive(rng, rng.choice(choices)) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if len(members) > 1 and _one_in(rng, 6):
        return [f"Cache-Control: {members[0]}", f"cache-control: {', '.join(members[1:])}"]
    return [f"Cache-Control: {rng.choice((', ', ',', ' , ,')).join(members)}"]


def _directive(rng: random.Random, name: str) -> str:
    argument = rng.choice(ODD_SECONDS if _one_in(rng, 15) else SECONDS) if name.endswith("=") else ""
    return f"{name.upper() if _one_in(rng, 30) else name}{argument}"


def _maybe(rng: random.Random, chances: int, of: int, name: str, offset: int) -> list[str]:
    """A date field, with some luck, seldom in an odd spelling."""
    if rng.randrange(of) >= chances:
        return []
    odd = _one_in(rng, 12)
    return [f"{name}: {rng.choice(ODD_DATES + OLD_DATES) if odd else date(T + offset)}"]
