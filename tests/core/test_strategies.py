"""The built-in strategies: what they plan, and how they are written in JSON."""

from __future__ import annotations

import math
from typing import Any

import pytest

from buffy_proxy.core.strategies import (
    STRATEGIES,
    Age,
    Cron,
    Http,
    Never,
    Renewal,
    Strategy,
    WhenRemoteChanged,
    WhenRequested,
    from_json,
    next_cron_time,
    to_json,
)
from tests.core.make import T, date, version

# T is 2023-11-14T22:13:20Z.
MIDNIGHT = 1_700_006_400.0
ETAG, MODIFIED, SIZE = 'ETag: "a"', f"Last-Modified: {date(T - 1000)}", "Content-Length: 10"
PLANS: list[tuple[Strategy, list[str], float, float | None, Renewal]] = [
    (Never(), [], math.inf, None, Renewal.REFETCH),
    (Age(), [], T + 3600, T + 3600, Renewal.REFETCH),
    (Age(0), [], T, T, Renewal.REFETCH),
    (Cron(), [], MIDNIGHT, MIDNIGHT, Renewal.REFETCH),
    (Cron("14 22 * * *"), [], T + 40, T + 40, Renewal.REFETCH),
    (WhenRequested(), [ETAG], T, None, Renewal.REFETCH),
    (WhenRemoteChanged(), [ETAG], T + 21600, None, Renewal.VALIDATE),
    (WhenRemoteChanged(5), [MODIFIED], T + 5, None, Renewal.VALIDATE),
    (WhenRemoteChanged(5), [SIZE], T + 5, None, Renewal.COMPARE_SIZE),
    (WhenRemoteChanged(5), [SIZE, ETAG], T + 5, None, Renewal.VALIDATE),
    (WhenRemoteChanged(5), [], T + 86400, T + 86400, Renewal.REFETCH),
    (WhenRemoteChanged(5, 9), ["ETag: ", "Last-Modified: 0"], T + 9, T + 9, Renewal.REFETCH),
    (Http(), ["Cache-Control: max-age=60", "Age: 10", ETAG], T + 50, None, Renewal.VALIDATE),
    (Http(), ["Cache-Control: max-age=60"], T + 60, None, Renewal.REFETCH),
    (Http(), [MODIFIED], T + 100, None, Renewal.VALIDATE),
    (Http(), ["Cache-Control: no-cache"], T, None, Renewal.REFETCH),
]


@pytest.mark.parametrize(("strategy", "lines", "fresh_until", "refresh_at", "renewal"), PLANS)
def test_plans(
    strategy: Strategy, lines: list[str], fresh_until: float, refresh_at: float | None, renewal: Renewal
) -> None:
    plan = strategy.plan(version(*lines, cached_at=T - 99999), T + 3)
    assert (plan.fresh_until, plan.refresh_at, plan.renewal) == (fresh_until, refresh_at, renewal)
    assert plan.reason


def test_only_http_obeys_the_origin() -> None:
    assert {name for name, kind in STRATEGIES.items() if kind.obeys_origin} == {"http"}


def test_a_missed_cron_time_is_due_once() -> None:
    """Validated a month ago: due at the first missed time, and after that renewal not before the next one."""
    month_ago = version(validated_at=T - 30 * 86400)
    assert Cron().plan(month_ago, T).refresh_at == MIDNIGHT - 30 * 86400
    assert Cron().plan(version(validated_at=T), T).refresh_at == MIDNIGHT


CRON = [
    ("0 0 * * *", MIDNIGHT),
    ("*/5 * * * *", 1_700_000_100.0),
    ("@daily", MIDNIGHT),
    ("0 0 29 2 *", 1_709_164_800.0),
    ("0 12 * * mon", 1_700_481_600.0),
]


@pytest.mark.parametrize(("expression", "at"), CRON)
def test_cron_times_are_utc(expression: str, at: float) -> None:
    assert next_cron_time(expression, T) == at


BAD_CRON = ["", "x", "* * * *", "61 * * * *", "0 0 31 2 *", "* * * * * * * *", "R * * * *", "0 0 * * x", "\0"]


@pytest.mark.parametrize("expression", BAD_CRON)
def test_bad_cron_expressions_are_refused_at_once(expression: str) -> None:
    with pytest.raises(ValueError, match="cron"):
        Cron(expression)


DEFAULTS: list[dict[str, Any]] = [
    {"strategy_name": "never"},
    {"strategy_name": "age", "seconds": 3600},
    {"strategy_name": "cron", "cron": "0 0 * * *", "run_at_start": True},
    {"strategy_name": "when_requested"},
    {"strategy_name": "when_remote_changed", "check_interval_sec": 21600, "fallback_max_age_sec": 86400},
    {"strategy_name": "http"},
]


@pytest.mark.parametrize("json", DEFAULTS)
def test_json(json: dict[str, Any]) -> None:
    strategy = from_json({"strategy_name": json["strategy_name"]})
    assert to_json(strategy) == json
    assert from_json(json) == strategy
    assert type(strategy) is STRATEGIES[json["strategy_name"]]


def test_parameters_are_taken() -> None:
    assert from_json({"strategy_name": "age", "seconds": 0}) == Age(0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "None is unknown; allowed are age, cron, http"),
    ({"strategy_name": "nver"}, "'nver' is unknown; allowed are age"),
    ({"strategy_name": 3}, "3 is unknown"),
    ({"strategy_name": ["age"]}, "unknown"),
    ({"strategy_name": "age", "second": 3}, "'second' is unknown; allowed are: seconds"),
    ({"strategy_name": "never", "seconds": 3}, "'seconds' is unknown; allowed are: none"),
    ({"strategy_name": "age", "seconds": True}, "age.seconds: True is not of type int"),
    ({"strategy_name": "age", "seconds": "3"}, "'3' is not of type int"),
    ({"strategy_name": "age", "seconds": 3.0}, "3.0 is not of type int"),
    ({"strategy_name": "age", "seconds": None}, "None is not of type int"),
    ({"strategy_name": "age", "seconds": -1}, "-1 is negative"),
    ({"strategy_name": "cron", "cron": "x"}, "'x' is no usable cron expression"),
    ({"strategy_name": "cron", "run_at_start": 1}, "1 is not of type bool"),
    ({"strategy_name": "age", "": 1}, "'' is unknown"),
]


@pytest.mark.parametrize(("json", "message"), WRONG)
def test_what_is_wrong_is_said(json: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_json(json)
    assert message in str(caught.value)
