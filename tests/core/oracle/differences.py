"""Where Buffy and http-cache-semantics 4.3.0 differ, and why: the RFC, or what either of them chose.

Each aspect of a case is compared only where those that it follows from agree (`NEEDS`), so that one
difference is not told many times. A row holds for one direction: `ours` and `npm` in it are the two values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from buffy_proxy.core.fields import get_all
from tests.core.oracle.cases import Case, text
from tests.core.oracle.signs import (
    LENIENT,
    SHOUTED,
    apparent_age,
    credentials_differ,
    empty,
    explicit,
    forbids_stale,
    immutable,
    max_age,
    max_stale,
    modified,
    must_revalidate,
    must_understand,
    no_store,
    odd_age,
    odd_date,
    only_in_304,
    proxy_revalidate,
    public,
    repeats,
    stale_by,
    stale_if_error,
    varies_in_space,
)

Decisions = dict[str, Any]

NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "storable": (),
    "age": ("storable",),
    "lifetime": ("storable",),
    "ttl": ("storable", "age", "lifetime"),
    "reuse": ("storable", "age", "lifetime"),
    "conditions": ("storable", "age", "lifetime", "reuse"),
    "failing": ("storable", "age", "lifetime"),
    "confirmed": ("storable",),
    "freshened": ("storable", "confirmed"),
    "freshened_age": ("storable", "confirmed"),
    "freshened_lifetime": ("storable", "lifetime", "confirmed", "freshened"),
}
"""What is compared, and which aspects must agree before it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """`explains` says whether this row accounts for a difference in its aspects."""

    aspects: tuple[str, ...]
    clause: str
    reason: str
    explains: Callable[[Case, Any, Any], bool]


# -- the rows -----------------------------------------------------------------------------------------------

_STORABLE = ("storable",)
_LIFETIME = ("lifetime", "freshened_lifetime")

DIFFERENCES: Final = (
    Row(
        ("storable", "lifetime", "freshened_lifetime", "reuse", "ttl"),
        "RFC 9111 §5.2",
        "names of directives are case-insensitive; npm takes MAX-AGE for an unknown one",
        lambda c, ours, npm: bool(SHOUTED.search(c.control) or SHOUTED.search(c.wanted)),
    ),
    # storable
    Row(
        _STORABLE,
        "RFC 9110 §9.3.2",
        "an answer to HEAD has no content, so Buffy makes no version of it; npm keeps the head",
        lambda c, ours, npm: c.method == "HEAD" and npm,
    ),
    Row(
        _STORABLE,
        "RFC 9110 §9.3.3",
        "Buffy stores answers to POST only where a rule says so; npm does with explicit freshness",
        lambda c, ours, npm: c.method == "POST" and npm,
    ),
    Row(
        _STORABLE,
        "RFC 9111 §4.1",
        "Vary: * never matches again, so Buffy does not store it; npm stores it and never uses it",
        lambda c, ours, npm: "*" in text(c.said, "vary") and npm,
    ),
    Row(
        _STORABLE,
        "RFC 9111 §5.2.2.3",
        "must-understand overrides no-store where the status is understood; npm does not know it",
        lambda c, ours, npm: must_understand(c.control) and no_store(c.control) and ours,
    ),
    Row(
        _STORABLE,
        "RFC 9111 §3",
        "Buffy repeats an error only while the origin says so; npm stores it to validate it later",
        lambda c, ours, npm: c.status >= 400 and npm,
    ),
    Row(
        _STORABLE,
        "RFC 9111 §3",
        "any final status may be stored with explicit freshness or public; npm has a closed list",
        lambda c, ours, npm: c.status in (299, 500, 503) and (explicit(c) or public(c.control)) and ours,
    ),
    Row(
        _STORABLE,
        "RFC 9111 §4.2.1",
        "an empty max-age or Expires is there, and invalid: stale; for npm it is not there",
        lambda c, ours, npm: empty(c) and ours,
    ),
    Row(
        _STORABLE,
        "server-sent events",
        "an event stream is never complete, so Buffy does not store it",
        lambda c, ours, npm: text(c.said, "content-type") == "text/event-stream" and npm,
    ),
    # age
    Row(
        ("age",),
        "RFC 9111 §4.2.3",
        "apparent_age: a Date in the past makes the response older; npm looks at Age only",
        lambda c, ours, npm: ours == apparent_age(c) + c.elapsed > npm,
    ),
    Row(
        ("age",),
        "RFC 9111 §5.1, §1.2.2",
        "an invalid Age is ignored, one beyond 2^31 counts as that; npm's parseInt takes what it can",
        lambda c, ours, npm: odd_age(c),
    ),
    # lifetime
    Row(
        _LIFETIME,
        "RFC 9111 §4.2.1",
        "of a repeated directive the first counts; for npm the last",
        lambda c, ours, npm: repeats(c.control),
    ),
    Row(
        _LIFETIME,
        "RFC 9111 §1.2.2, §4.2.1",
        "an invalid number means stale; npm's parseInt takes what it can, and white space around it",
        lambda c, ours, npm: bool(LENIENT.search(c.control)) and ours == 0,
    ),
    Row(
        _LIFETIME,
        "RFC 9111 §1.2.2",
        "more than 2^31 seconds count as that; npm takes any number",
        lambda c, ours, npm: ours == 2**31 < npm,
    ),
    Row(
        _LIFETIME,
        "RFC 9111 §5.2.2.8",
        "proxy-revalidate matters once the response is stale; npm takes it for max-age=0",
        lambda c, ours, npm: proxy_revalidate(c.control) and npm == 0,
    ),
    Row(
        _LIFETIME,
        "RFC 9111 §7.3",
        "Set-Cookie does not inhibit caching (Buffy stores it and does not replay it); npm wants public",
        lambda c, ours, npm: bool(get_all(c.said, b"set-cookie")) and npm == 0,
    ),
    Row(
        _LIFETIME,
        "RFC 8246 §2",
        "immutable is about reloads while fresh and adds no freshness; npm gives it a day (in ms for s)",
        lambda c, ours, npm: immutable(c.control) and npm == 86400_000 > ours,
    ),
    Row(
        _LIFETIME,
        "RFC 9111 §4.2.2",
        "Buffy's heuristic freshness ends at a day; npm's has no end",
        lambda c, ours, npm: not explicit(c) and ours == 86400 < npm,
    ),
    Row(
        _LIFETIME,
        "RFC 9111 §5.4",
        "Pragma means nothing in a response; npm takes it for no-cache",
        lambda c, ours, npm: "no-cache" in text(c.said, "pragma") and npm == 0,
    ),
    Row(
        _LIFETIME,
        "RFC 9110 §5.6.7, RFC 9111 §4.2",
        "what is none of the three date formats is invalid; npm takes what Date.parse takes",
        lambda c, ours, npm: odd_date(c),
    ),
    Row(
        ("freshened_lifetime",),
        "RFC 9111 §3.2",
        "a 304 without Date is dated when it came; npm keeps the old Date, and Expires counts from there",
        lambda c, ours, npm: bool(get_all(c.said, b"date")) and not get_all(c.confirmation, b"date"),
    ),
    Row(
        ("freshened_lifetime",),
        "RFC 9111 §3",
        "the request that had it validated does not decide whether it is stored; for npm it does",
        lambda c, ours, npm: (
            npm == 0 and (no_store(c.wanted) or bool(get_all(c.presented, b"authorization")))
        ),
    ),
    # ttl
    Row(
        ("ttl",),
        "RFC 5861 §4",
        "stale-if-error is leave to be stale, not freshness; npm adds it to timeToLive",
        lambda c, ours, npm: stale_if_error(c.control) and npm > ours,
    ),
    # reuse
    Row(
        ("reuse",),
        "RFC 9111 §5.2.2.2",
        "must-revalidate matters once the response is stale; npm always asks",
        lambda c, ours, npm: must_revalidate(c.control) and ours,
    ),
    Row(
        ("reuse",),
        "RFC 9110 §9.3.2",
        "a stored answer to GET answers HEAD; npm wants the same method",
        lambda c, ours, npm: c.presented_method == "HEAD" and ours,
    ),
    Row(
        ("reuse",),
        "RFC 9111 §5.4",
        "Pragma counts only where there is no Cache-Control; for npm always",
        lambda c, ours, npm: "no-cache" in text(c.presented, "pragma") and c.wanted != "" and ours,
    ),
    Row(
        ("reuse", "conditions"),
        "RFC 9111 §4.1",
        "white space around commas does not make another variant; npm compares byte for byte",
        lambda c, ours, npm: varies_in_space(c) and ours,
    ),
    Row(
        ("reuse",),
        "RFC 9111 §3.5",
        "Buffy keeps what was asked with credentials for those with the same; npm shares what may be shared",
        lambda c, ours, npm: credentials_differ(c) and npm,
    ),
    Row(
        ("reuse",),
        "RFC 9110 §13.1.1",
        "If-Match with another entity tag asks the origin; npm does not look",
        lambda c, ours, npm: bool(get_all(c.presented, b"if-match")) and npm,
    ),
    Row(
        ("reuse",),
        "RFC 9111 §4.2.4",
        "max-stale does not override what the origin forbids; npm only minds must-revalidate",
        lambda c, ours, npm: max_stale(c.wanted) and forbids_stale(c.control) and npm,
    ),
    Row(
        ("reuse",),
        "RFC 9111 §5.2.1.2",
        "stale by exactly max-stale seconds is no more than that; npm wants less",
        lambda c, ours, npm: re.search(rf"max-stale={stale_by(c)}\s*(,|$)", c.wanted) is not None and ours,
    ),
    Row(
        ("reuse",),
        "RFC 9111 §4.2.4",
        "an error is repeated while it is fresh and never stale; npm lets max-stale do so",
        lambda c, ours, npm: c.status >= 400 and max_stale(c.wanted) and npm,
    ),
    Row(
        ("reuse",),
        "RFC 8246 §2",
        "immutable: a reload does not ask while it is fresh; npm lets max-age of the request ask",
        lambda c, ours, npm: immutable(c.control) and max_age(c.wanted) and ours,
    ),
    Row(
        ("reuse",),
        "RFC 9111 §1.2.2",
        "an invalid number in a request directive demands and allows nothing; npm's parseInt finds one",
        lambda c, ours, npm: bool(LENIENT.search(c.wanted)),
    ),
    Row(
        ("reuse",),
        "RFC 9111 §4.2.1",
        "of a repeated request directive the first counts; for npm the last",
        lambda c, ours, npm: repeats(c.wanted),
    ),
    # conditions
    Row(
        ("conditions",),
        "RFC 9111 §4.3.1, §4.3.2",
        "Buffy validates its own version and answers the client's If-None-Match from it; npm sends both",
        lambda c, ours, npm: (
            npm.get("if-none-match", "").startswith(text(c.presented, "if-none-match"))
            and bool(get_all(c.presented, b"if-none-match"))
        ),
    ),
    Row(
        ("conditions",),
        "RFC 9110 §13.1.3",
        "an invalid Last-Modified is no validator; npm sends it",
        lambda c, ours, npm: odd_date(c) and "if-modified-since" in npm.keys() - ours.keys(),
    ),
    Row(
        ("conditions",),
        "RFC 9110 §13.2.2",
        "the client's If-Match is Buffy's to answer, so it changes no validation; npm drops weak validators",
        lambda c, ours, npm: bool(get_all(c.presented, b"if-match")) and npm.items() < ours.items(),
    ),
    Row(
        ("conditions",),
        "RFC 9111 §4.3.1",
        "an error is never validated: when it is no longer fresh, Buffy asks anew",
        lambda c, ours, npm: c.status >= 400 and ours == {},
    ),
    # failing
    Row(
        ("failing",),
        "RFC 9111 §4.2.4",
        "Buffy's promise: a stored version answers when the origin fails; npm wants stale-if-error",
        lambda c, ours, npm: ours and not forbids_stale(c.control),
    ),
    Row(
        ("failing",),
        "RFC 9111 §4.2.4",
        "stale-if-error does not override what the origin forbids; for npm it does",
        lambda c, ours, npm: npm and stale_if_error(c.control) and forbids_stale(c.control),
    ),
    # a 304
    Row(
        ("confirmed",),
        "RFC 9111 §4.3.4",
        "a 304 without validator answers the condition Buffy sent, which named one version; npm drops it",
        lambda c, ours, npm: ours and not get_all(c.confirmation, b"etag") and modified(c) is None,
    ),
    Row(
        ("confirmed",),
        "RFC 9110 §8.8.2.2",
        "an equal Last-Modified confirms a version without ETag though the 304 has one; npm wants an ETag",
        lambda c, ours, npm: ours and not get_all(c.said, b"etag") and modified(c) is True,
    ),
    Row(
        ("freshened",),
        "RFC 9111 §3.2",
        "fields that only the 304 has are added; npm drops them",
        lambda c, ours, npm: {n: v for n, v in ours.items() if n not in only_in_304(c)} == npm,
    ),
    Row(
        ("freshened_age",),
        "RFC 9111 §4.2.3",
        "the Age of the 304 counts; npm drops it where the stored response had none",
        lambda c, ours, npm: "age" in only_in_304(c) and npm == 0,
    ),
    Row(
        ("freshened_age",),
        "RFC 9111 §4.2.3",
        "a 304 without Age is new; npm keeps the Age of the stored response",
        lambda c, ours, npm: (
            ours == 0 and bool(get_all(c.said, b"age")) and not get_all(c.confirmation, b"age")
        ),
    ),
)
