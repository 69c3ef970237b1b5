"""Answers of plugins: which win, which make no sense, and what stands then. Pure: no server."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.core import rules
from buffy_proxy.core.model import BodyRef, Request, Response, Retention, StoredBody, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Never, Plan, Renewal
from buffy_proxy.plugins import PluginOptions, Plugins, load_plugins

NOW = 1_000_000.0
SECRET = b"s" * 32
URL = "http://origin.test/a?b=1"
GET = Request("GET", URL)
POLICY = Policy(Never())
KEY = rules.cache_key(GET, POLICY, SECRET)
HEAD = "import math\nfrom dataclasses import dataclass, replace\nfrom buffy_proxy import *\n@hookimpl\n"

Load = Callable[..., Plugins]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Plugins from sources, each one hook; the last one is asked first."""

    def make(*sources: str) -> Plugins:
        files = []
        for number, source in enumerate(sources):
            files.append(tmp_path / f"p{number}.py")
            files[-1].write_text(HEAD + source)
        return load_plugins(PluginOptions(files=tuple(files)))

    return make


def version(name: str = "1", **more: Any) -> Version:
    made = Version(
        resource_id=KEY.id,
        name=name,
        status=200,
        reason=b"OK",
        fields=(),
        body=BodyRef(f"{name:>064}", 3),
        request_fields=(),
        requested_at=NOW,
        received_at=NOW,
        cached_at=NOW,
        validated_at=NOW,
        fresh_until=math.inf,
    )
    return replace(made, **more)


OLD, NEW = version("1"), version("2")


def failures(plugins: Plugins) -> int:
    return plugins.failures.total


# -- who is asked, and who wins -----------------------------------------------------------------------------


def test_the_first_answer_that_is_not_none_wins(load: Load) -> None:
    plugins = load(
        "def storability(default):\n    return DoNotStore('first file')\n",
        "def storability(default):\n    return DoNotStore('second file')\n",
        "def storability(default):\n    return None\n",
    )
    verdict = plugins.storability(GET, Response(200, b"OK", ()), POLICY, KEY, NOW)
    assert verdict == rules.DoNotStore("second file")


def test_one_that_raises_takes_no_other_with_it(load: Load) -> None:
    plugins = load(
        "def storability(default):\n    return DoNotStore('still asked')\n",
        "def storability(default):\n    1 / 0\n",
    )
    verdict = plugins.storability(GET, Response(200, b"OK", ()), POLICY, KEY, NOW)
    assert verdict == rules.DoNotStore("still asked") and failures(plugins) == 1


def test_edits_go_through_all(load: Load) -> None:
    plugins = load(
        "def origin_request(fields):\n    return (*fields, (b'X-A', b'1'))\n",
        "def origin_request(fields):\n    return [*fields, (b'X-B', b'%d' % len(fields))]\n",
    )
    assert plugins.origin_fields("GET", URL, ()) == ((b"X-B", b"0"), (b"X-A", b"1"))


# -- answers that make no sense -----------------------------------------------------------------------------

WRONG = {
    "cache_key": ["'a text'", "replace(default, url=3)", "replace(default, credentials=(1,))", "1"],
    "storability": ["True", "'no'", "StoreError(math.nan)", "Store"],
    "select_version": ["3", "replace(versions[0], name='other')", "'2'"],
    "reuse": ["True", "Serve(replace(version, name='x'), False, '')", "Forward('method', 'x')", "'hit'"],
    "on_origin_error": ["True", "UseStored(replace(version, name='x'))", "version"],
    "is_new_version": ["0", "'yes'", "[]"],
    "retain": ["'12'", "['9']", "3", "[version.body for version in versions]"],
    "origin_request": [
        "'x'",
        "[('X-A', 'text')]",
        "[(b'X-A', b'a\\r\\nB: c')]",
        "[(b'X A', b'a')]",
        "(*fields, (b'Host', b'elsewhere'))",
        "(*fields, (b'Transfer-Encoding', b'chunked'))",
        "[pair for pair in fields if pair[0] != b'Host']",
    ],
}
ARGUMENTS = {
    "cache_key": "default",
    "storability": "default",
    "select_version": "versions",
    "reuse": "version",
    "on_origin_error": "version",
    "is_new_version": "default",
    "retain": "versions",
    "origin_request": "fields",
}


def ask(plugins: Plugins, hook: str) -> Any:
    versions = (NEW, OLD)
    stored = StoredBody(OLD, lambda: b"old"), StoredBody(NEW, lambda: b"new")
    failure = rules.OriginFailure("dns_error", "no such host")
    asked: dict[str, Callable[[], Any]] = {
        "cache_key": lambda: plugins.cache_key(GET, POLICY, SECRET),
        "storability": lambda: plugins.storability(GET, Response(200, b"OK", ()), POLICY, KEY, NOW),
        "select_version": lambda: plugins.decide(GET, versions, None, POLICY, NOW),
        "reuse": lambda: plugins.decide(GET, versions, None, POLICY, NOW),
        "on_origin_error": lambda: plugins.instead(GET, versions, POLICY, failure, NOW),
        "is_new_version": lambda: plugins.is_new_version(KEY, *stored),
        "retain": lambda: plugins.retained(KEY, versions, Retention(1, 1), NOW),
        "origin_request": lambda: plugins.origin_fields("GET", URL, ((b"Host", b"origin.test"),)),
    }
    return asked[hook]()


@pytest.mark.parametrize(("hook", "answer"), [(hook, each) for hook in WRONG for each in WRONG[hook]])
def test_the_default_stands_for_a_wrong_answer(load: Load, hook: str, answer: str) -> None:
    plugins = load(f"def {hook}({ARGUMENTS[hook]}):\n    return {answer}\n")
    assert ask(plugins, hook) == ask(load_plugins(PluginOptions(only=())), hook)
    assert failures(plugins) == 1


@pytest.mark.parametrize("hook", sorted(WRONG))
def test_the_default_stands_for_none(load: Load, hook: str) -> None:
    plugins = load(f"def {hook}():\n    return None\n")
    assert ask(plugins, hook) == ask(load_plugins(PluginOptions(only=())), hook)
    assert failures(plugins) == 0


# -- what no plugin can do ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "status"), [("GET", 206), ("GET", 304), ("GET", 103), ("HEAD", 200)])
def test_what_is_not_whole_is_never_stored(load: Load, method: str, status: int) -> None:
    plugins = load("def storability(default):\n    return Store()\n")
    request = Request(method, URL)
    verdict = plugins.storability(request, Response(status, b"", ()), POLICY, KEY, NOW)
    assert isinstance(verdict, rules.DoNotStore) and failures(plugins) == 1


def test_an_event_stream_may_be_stored_where_a_plugin_says_so(load: Load) -> None:
    plugins = load("def storability(default):\n    return Store()\n")
    stream = Response(200, b"OK", ((b"Content-Type", b"text/event-stream"),))
    assert plugins.storability(GET, stream, POLICY, KEY, NOW) == rules.Store()


@pytest.mark.parametrize(
    "request_",
    [replace(GET, offline=True), replace(GET, fields=((b"Cache-Control", b"only-if-cached"),))],
    ids=["offline", "only-if-cached"],
)
def test_an_origin_that_must_not_be_asked_is_not(load: Load, request_: Request) -> None:
    plugins = load("def reuse(default):\n    return Forward('request', 'anew')\n")
    assert isinstance(plugins.decide(request_, (), None, POLICY, NOW), rules.Unavailable)
    assert failures(plugins) == 1


def test_retain_cannot_drop_the_newest_nor_what_is_pinned_or_tagged(load: Load) -> None:
    plugins = load("def retain():\n    return []\n")
    pinned = version("3", pinned_until=math.inf)
    tagged = version("4", tags=frozenset({"good"}))
    versions = [version("5"), tagged, pinned, NEW, OLD]
    assert plugins.retained(KEY, versions, Retention(), NOW) == (NEW, OLD)


# -- keys ---------------------------------------------------------------------------------------------------


def test_a_key_without_a_parameter_is_one_for_all_its_values(load: Load) -> None:
    plugins = load("def cache_key(default):\n    return replace(default, url='http://origin.test/a')\n")
    keys = {plugins.cache_key(Request("GET", f"{URL}{n}"), POLICY, SECRET).id for n in range(3)}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "change", ["extra='de'", "body=b'x'", "credentials=(('who', 'me'),)", "url=default.url + '&x=1'"]
)
def test_each_part_makes_a_difference(load: Load, change: str) -> None:
    plugins = load(f"def cache_key(default):\n    return replace(default, {change})\n")
    assert plugins.cache_key(GET, POLICY, SECRET).id != KEY.id


def test_credentials_stay_in_the_key_and_out_of_the_record(load: Load) -> None:
    plugins = load("def cache_key(default):\n    return replace(default, extra='x')\n")
    keys = [
        plugins.cache_key(replace(GET, fields=((b"Authorization", value),)), POLICY, SECRET)
        for value in (b"Bearer one", b"Bearer two")
    ]
    assert keys[0].id != keys[1].id and "Bearer" not in repr(keys)


def test_secrets_in_a_url_of_a_plugins_making_are_redacted(load: Load) -> None:
    plugins = load("def cache_key(default):\n    return replace(default, url=default.url + '&token=hush')\n")
    assert "hush" not in plugins.cache_key(GET, POLICY, SECRET).url


def test_what_has_a_key_of_a_plugins_making_is_not_renewed_in_the_background(load: Load) -> None:
    from buffy_proxy.core.strategies import Age

    plugins = load("def cache_key(default):\n    return replace(default, url='http://origin.test/a')\n")
    key = plugins.cache_key(GET, POLICY, SECRET)
    aged = Policy(Age(60))
    assert rules.planned(OLD, aged, key, NOW).refresh_at is None
    assert rules.planned(OLD, aged, KEY, NOW).refresh_at == NOW + 60


# -- strategies ---------------------------------------------------------------------------------------------

STRATEGY = """def register_strategies():
    return [Odd]

@dataclass(frozen=True)
class Odd(BaseStrategy):
    strategy_name = "odd"
    def plan(self, version, now, url=""):
        return {plan}
"""


@pytest.mark.parametrize(
    "plan",
    ["1 / 0", "None", "Plan('x', None, Renewal.REFETCH, '')", "Plan(math.nan, None, Renewal.REFETCH, '')",
     "Plan(1.0, None, 'refetch', '')", "Plan(1.0, None, Renewal.REFETCH, None)"],
)  # fmt: skip
def test_a_strategy_that_fails_plans_like_http(load: Load, plan: str) -> None:
    plugins = load(STRATEGY.replace("{plan}", plan))
    made = plugins.strategy({"strategy_name": "odd"})
    got = made.plan(OLD, NOW, URL)
    assert got.fresh_until <= NOW and "the plugin p0 failed" in got.reason and failures(plugins) == 1


def test_a_strategy_that_plans(load: Load) -> None:
    plugins = load(STRATEGY.replace("{plan}", "Plan(now + 5, None, Renewal.REFETCH, 'so')"))
    assert plugins.strategy({"strategy_name": "odd"}).plan(OLD, NOW) == Plan(
        NOW + 5, None, Renewal.REFETCH, "so"
    )


# -- failures and slowness ----------------------------------------------------------------------------------


def test_a_failure_is_logged_once_and_counted_always(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    plugins = load("def cache_key(default):\n    1 / 0\n")
    counted: dict[str, int] = {}
    plugins.failures.count = counted.update
    for _ in range(5):
        plugins.cache_key(GET, POLICY, SECRET)
    plugins.failures.flush()
    assert counted == {"p0.cache_key": 5}
    told = [record for record in caplog.records if "plugin p0 failed in cache_key" in record.getMessage()]
    assert len(told) == 1 and told[0].exc_info is not None


def test_a_slow_hook_on_the_way_to_a_hit_is_named(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plugins = load("def select_version(default):\n    import time\n    time.sleep(0.005)\n")
    for _ in range(3):
        plugins.decide(GET, (OLD,), None, POLICY, NOW)
    told = [text for record in caplog.records if " is slow: " in (text := record.getMessage())]
    assert len(told) == 1 and told[0].startswith("plugin p0 is slow: select_version took ")


def test_a_hook_that_nobody_implements_is_not_called() -> None:
    plugins = load_plugins(PluginOptions(only=()))
    assert not plugins.deciding and not plugins.key_hook
    assert not any(plugins.hook(name) for name in WRONG)


# -- events -------------------------------------------------------------------------------------------------


def test_events_come_in_order_and_a_slow_plugin_delays_no_other(load: Load, tmp_path: Path) -> None:
    log = tmp_path / "log"
    plugins = load(
        "def stored(version):\n    import time\n    time.sleep(0.3)\n",
        f"def stored(version):\n    open({str(log)!r}, 'a').write(version.name)\n",
    )
    plugins.events.open()
    for number in range(5):
        plugins.events.post("stored", key=KEY, version=version(str(number)))
    deadline = time.monotonic() + 5
    while not (log.exists() and len(log.read_text()) == 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log.read_text() == "01234"
    plugins.events.close(5.0)


def test_events_are_told_only_in_a_server(load: Load) -> None:
    plugins = load("def stored(version):\n    raise AssertionError\n")
    plugins.events.post("stored", key=KEY, version=OLD)
    plugins.events.close(1.0)
    assert failures(plugins) == 0 and not plugins.events.wanted("stored")


def test_served_events_are_dropped_where_a_plugin_does_not_keep_up(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffy_proxy.plugins.events.QUEUE_MAX", 10)
    plugins = load("def served(event):\n    import time\n    time.sleep(0.5)\n")
    plugins.events.open()
    for _ in range(50):
        plugins.events.post("served", event=None)
    assert 30 < plugins.events.dropped < 40
    plugins.events.close(0.0)
