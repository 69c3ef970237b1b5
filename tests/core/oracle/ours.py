"""What Buffy's core decides in a case, in the words of decide.js; None where there is nothing to decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from buffy_proxy.core.conditional import conditional_fields, confirms, freshen
from buffy_proxy.core.fields import end_to_end
from buffy_proxy.core.freshness import has_validator
from buffy_proxy.core.model import Request, Response, Version
from buffy_proxy.core.rules import (
    Decision,
    DoNotStore,
    Forward,
    Serve,
    StoreError,
    Validate,
    cache_key,
    current_age,
    decide,
    freshness_lifetime,
    may_serve_stale,
    planned,
    storability,
    without_secrets,
)
from buffy_proxy.core.strategies import Renewal
from tests.core.make import HTTP, KEY, SECRET, URL, T, version
from tests.core.oracle.cases import Case, as_node


def decisions(case: Case) -> dict[str, Any]:
    asked = Request(case.method, URL, case.asked)
    verdict = storability(asked, Response(case.status, b"", case.said), HTTP, KEY, T)
    if isinstance(verdict, DoNotStore):
        return {"storable": False}
    stored = _stored(case, verdict.until if isinstance(verdict, StoreError) else None)
    presented = Request(case.presented_method, URL, case.presented)
    same = cache_key(asked, HTTP, SECRET) == cache_key(presented, HTTP, SECRET)
    decision = _decision(presented, stored, case.now) if same else None
    return {
        "storable": True,
        "age": current_age(stored, case.now),
        "lifetime": freshness_lifetime(stored)[0],
        "reuse": isinstance(decision, Serve),
        "conditions": _conditions(decision),
        **({} if case.status >= 400 else _of_versions(case, stored, presented)),
    }


def _of_versions(case: Case, stored: Version, presented: Request) -> dict[str, Any]:
    """What an error that is kept beside the versions is not asked."""
    return {
        "ttl": max(0.0, stored.fresh_until - case.now),
        "failing": may_serve_stale(presented, stored, HTTP, case.now),
        **_validated(case, stored),
    }


def _stored(case: Case, error_until: float | None) -> Version:
    made = replace(
        version(status=case.status, asked=without_secrets(case.asked)), fields=end_to_end(case.said)
    )
    return planned(made, HTTP, KEY, T) if error_until is None else replace(made, fresh_until=error_until)


def _decision(presented: Request, stored: Version, now: float) -> Decision:
    if stored.status >= 400:
        return decide(presented, [], stored, HTTP, now)
    return decide(presented, [stored], None, HTTP, now)


def _conditions(decision: Decision | None) -> dict[str, str] | None:
    match decision:
        case Validate(stored, Renewal.VALIDATE):
            return as_node(conditional_fields(stored))
        case Validate() | Forward():
            return {}
        case _:
            return None


def _validated(case: Case, stored: Version) -> dict[str, Any]:
    """A 304 only ever comes to those who sent a condition."""
    response = Response(304, b"", case.confirmation)
    if not has_validator(stored.fields):
        return {}
    if not confirms(stored, response):
        return {"confirmed": False}
    fresh = freshen(stored, response, case.now, case.now)
    return {
        "confirmed": True,
        "freshened": as_node(fresh.fields),
        "freshened_age": current_age(fresh, case.now),
        "freshened_lifetime": freshness_lifetime(fresh)[0],
    }
