"""Which answers of plugins make sense. Each check says what is wrong, or None.

A plugin may change what is decided, never what is true: versions that are chosen must be among those offered,
a client that must not wait for the origin is not made to, and fields cannot break the framing of a message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from buffy_proxy.core import rules
from buffy_proxy.core.model import Request, Response, Version
from buffy_proxy.plugins.asking import Check

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
FRAMING: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"trailer", b"te", b"upgrade"}
)
"""Fields that belong to the connection (RFC 9112 §6, RFC 9110 §7.6.1)."""


def key_parts(answer: Any) -> str | None:
    match answer:
        case rules.KeyParts(url=str(), credentials=tuple() as pairs, body=bytes(), extra=str()):
            good = all(isinstance(n, str) and isinstance(v, str) for n, v in pairs)
            return None if good else "credentials are pairs of texts"
        case _:
            return f"{answer!r:.200} is no KeyParts; return `dataclasses.replace(default, …)`"


def storability(request: Request, response: Response) -> Check:
    def check(answer: Any) -> str | None:
        match answer:
            case rules.Store() | rules.StoreError() if not rules.is_whole(request, response):
                return f"an answer {response.status} to {request.method} is not whole and cannot be stored"
            case rules.Store() | rules.DoNotStore(reason=str()):
                return None
            case rules.StoreError(until=int() | float() as until) if not math.isnan(until):
                return None
            case _:
                return f"{answer!r:.200} is none of Store(), StoreError(until), DoNotStore(reason)"

    return check


def one_of(versions: Sequence[Version]) -> Check:
    def check(answer: Any) -> str | None:
        if any(answer is version or answer == version for version in versions):
            return None
        return f"{_named(answer)} is none of the versions that were offered"

    return check


def decision(request: Request, versions: Sequence[Version], default: rules.Decision) -> Check:
    """`versions` are those that match the request."""

    def check(answer: Any) -> str | None:
        match answer:
            case rules.Serve(version=Version() as version, stale=bool(), detail=str()):
                known = (*versions, *([default.version] if isinstance(default, rules.Serve) else []))
                return one_of(known)(version)
            case rules.Unavailable(reason=str()):
                return None
            case rules.Validate() | rules.Forward() if isinstance(default, rules.Unavailable):
                return "the origin must not be asked for this request (offline, only-if-cached)"
            case rules.Validate() | rules.Forward() if request.offline:
                return "the origin must not be asked for an offline client"
            case rules.Validate(version=Version() as version, reason=str()):
                return one_of(versions)(version)
            case rules.Forward(fwd="request" | "miss" | "uri-miss" | "vary-miss" | "bypass", reason=str()):
                return None
            case _:
                return f"{answer!r:.200} is none of Serve, Validate, Forward, Unavailable"

    return check


def instead(versions: Sequence[Version]) -> Check:
    def check(answer: Any) -> str | None:
        match answer:
            case rules.UseStored(version=Version() as version):
                return one_of(versions)(version)
            case rules.GiveUp(reason=str()):
                return None
            case _:
                return f"{answer!r:.200} is neither UseStored(version) nor GiveUp(reason)"

    return check


def is_bool(answer: Any) -> str | None:
    return None if isinstance(answer, bool) else f"{answer!r:.200} is neither True nor False"


def names_among(names: Collection[str]) -> Check:
    def check(answer: Any) -> str | None:
        if isinstance(answer, str) or not set(answer) <= set(names):
            return f"{answer!r:.200} is no collection of names of the versions that were offered"
        return None

    return check


def fields(before: Any) -> Check:
    """Framing fields must stay as they are."""
    framing = [pair for pair in before if pair[0].lower() in FRAMING]

    def check(answer: Any) -> str | None:
        if not isinstance(answer, tuple | list):
            return f"{answer!r:.200} is no sequence of (name, value)"
        for pair in answer:
            match pair:
                case (bytes() as name, bytes() as value):
                    if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                        return f"the field {name!r}: {value!r:.100} cannot be sent (RFC 9110 §5.5)"
                case _:
                    return f"{pair!r:.200} is no pair (name, value) of bytes"
        if [tuple(pair) for pair in answer if pair[0].lower() in FRAMING] != [tuple(p) for p in framing]:
            return "fields about the connection (Host, Content-Length …) cannot be changed"
        return None

    return check


def _named(answer: Any) -> str:
    return f"version {answer.name!r}" if isinstance(answer, Version) else f"{answer!r:.200}"
