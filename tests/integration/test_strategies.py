"""The documented strategies, chosen by rules: what answers, and what is renewed in the background."""

from __future__ import annotations

import json
import time

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until

CONFIG = """
[[rule]]
match = "{http}/first/never/**"
strategy = "never"

[[rule]]
match = "{http}/first/**"
strategy = "when_requested"

[[rule]]
match = "{http}/age/**"
strategy = { strategy_name = "age", seconds = 2 }

[[rule]]
match = "{http}/cron/**"
strategy = { strategy_name = "cron", cron = "* * * * * */2", run_at_start = false }

[[rule]]
match = "{http}/changed/**"
strategy = { strategy_name = "when_remote_changed", check_interval_sec = 2, fallback_max_age_sec = 1 }

[[rule]]
match = "{http}/query/**"
strategy = "never"
ignore_query = ["utm_*", "s"]

[[rule]]
match = "{http}/post/**"
strategy = "never"
methods = ["GET", "HEAD", "POST"]

[[rule]]
match = "{http}/three/**"
strategy = "when_requested"
max_cached_unpinned_versions = 3
"""


def versions(server: Buffy, url: str) -> list[object]:
    """What `buffy show --json` lists, wherever it puts the versions."""
    shown = json.loads(server.cli("show", url, "--json").stdout)
    if isinstance(shown, list):
        return [v for each in shown for v in each["versions"]] if "versions" in shown[0] else shown
    return list(shown["versions"])


def test_the_first_rule_that_matches_decides(server: Buffy, origin: Origin) -> None:
    kept = origin.on("/first/never/x", answers.fixed(b"x", {"Cache-Control": "no-store"}))
    asked = origin.on("/first/x", answers.fixed(b"x", answers.FRESH))
    for _ in range(3):
        server.get(kept)
        server.get(asked)
    assert origin.hits("/first/never/x") == 1
    assert origin.hits("/first/x") == 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Cache-Control": "no-store"},
        {"Cache-Control": "private"},
        {"Expires": "0"},
        {"Pragma": "no-cache"},
    ],
)
def test_never_keeps_whatever_the_origin_says(server: Buffy, origin: Origin, fields: dict[str, str]) -> None:
    name = f"/first/never/{abs(hash(str(fields)))}"
    url = origin.on(name, answers.fixed(b"x", fields))
    assert [server.get(url).cache.hit for _ in range(3)] == [False, True, True]
    assert server.get(url, [("Cache-Control", "no-cache"), ("Pragma", "no-cache")]).cache.hit
    assert origin.hits(name) == 1


def test_when_requested_asks_each_time_and_falls_back(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=3600"})
    url = origin.on("/first/fallback", resource)
    assert server.get(url).body == b"one"
    resource.body = b"two"
    assert server.get(url).body == b"two"
    resource.status = 503
    reply = server.get(url)
    assert (reply.status, reply.body) == (200, b"two")
    assert reply.cache.params.get("fwd-status") == "503" or "503" in reply.cache.raw


def test_age_is_renewed_in_the_background(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", validators="")
    url = origin.on("/age/x", resource)
    assert server.get(url).body == b"one"
    assert server.get(url).cache.hit
    resource.body = b"two"
    origin.wait("/age/x", 2, 10)  # nobody asked for it
    wait_until(lambda: server.get(url).body == b"two", 5)
    assert server.get(url).cache.hit


def test_cron_is_renewed_at_its_times(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", validators="")
    url = origin.on("/cron/x", resource)
    server.get(url)
    resource.body = b"two"
    origin.wait("/cron/x", 2, 10)
    wait_until(lambda: server.get(url).body == b"two", 5)
    assert server.get(url).cache.hit


def test_when_remote_changed_asks_once_per_interval(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", answers.STALE)
    url = origin.on("/changed/etag", resource)
    assert [server.get(url).cache.hit for _ in range(3)] == [False, True, True]
    time.sleep(2.1)
    server.get(url)
    assert origin.hits("/changed/etag") == 2
    assert resource.etag in (origin.seen("/changed/etag")[-1].get("if-none-match") or "")
    assert server.get(url).cache.hit  # the 304 began a new interval
    resource.body = b"two"
    time.sleep(2.1)
    assert server.get(url).body == b"two"
    assert origin.hits("/changed/etag") == 3


def test_when_remote_changed_by_date(server: Buffy, origin: Origin) -> None:
    url = origin.on("/changed/date", answers.Changing(b"one", validators="date"))
    server.get(url)
    time.sleep(2.1)
    assert server.get(url).body == b"one"
    assert origin.seen("/changed/date")[-1].get("if-modified-since")


def test_when_remote_changed_by_size(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"one", validators="")
    url = origin.on("/changed/size", resource)
    server.get(url)
    time.sleep(2.1)
    assert server.get(url).body == b"one"
    assert [request.method for request in origin.seen("/changed/size")] == ["GET", "HEAD"]
    resource.body = b"longer"
    time.sleep(2.1)
    assert server.get(url).body == b"longer"


def test_when_remote_changed_without_validators_is_an_age(server: Buffy, origin: Origin) -> None:
    parts = [b"one"]
    url = origin.on("/changed/none", answers.chunked(parts))
    server.get(url)
    assert server.get(url).cache.hit
    origin.on("/changed/none", answers.chunked([b"two"]))
    wait_until(lambda: server.get(url).body == b"two", 6)


def test_ignored_query_parameters_leave_the_key(server: Buffy, origin: Origin) -> None:
    url = origin.on("/query/x", answers.fixed(b"x"))
    server.get(f"{url}?a=1&utm_source=here&s=9")
    assert server.get(f"{url}?a=1&utm_medium=there").cache.hit
    assert server.get(f"{url}?utm_x=1&a=1").cache.hit
    assert not server.get(f"{url}?a=2").cache.hit


def test_post_where_a_rule_says_so(server: Buffy, origin: Origin) -> None:
    url = origin.on("/post/x", answers.echo)
    one = server.request("POST", url, body=b"query one")
    again = server.request("POST", url, body=b"query one")
    assert again.cache.hit and again.body == one.body
    other = server.request("POST", url, body=b"query two")
    assert not other.cache.hit and other.body.endswith(b"query two")
    assert not server.get(url).cache.hit


@pytest.mark.parametrize(("path", "kept"), [("/first/count", 2), ("/three/count", 3)])
def test_retention_and_identical_bytes(server: Buffy, origin: Origin, path: str, kept: int) -> None:
    resource = answers.Changing(b"0", validators="")
    url = origin.on(path, resource)
    for number in range(5):
        resource.body = b"%d" % number
        server.get(url)
        server.get(url)  # identical bytes freshen, they are no version
    assert len(versions(server, url)) == kept


def restarting(buffy: Factory, origin: Origin, strategy: str) -> Buffy:
    return buffy(config=f'[[rule]]\nmatch = "{origin.url("")}/**"\nstrategy = {strategy}\n')


def test_a_renewal_that_was_missed_happens_once_after_a_restart(
    buffy: Factory, origin: Origin, path: str
) -> None:
    url = origin.on(path, answers.fixed(b"x"))
    server = restarting(buffy, origin, '{ strategy_name = "age", seconds = 4 }')
    server.get(url)
    server.stop()
    time.sleep(5)
    assert origin.hits(path) == 1
    server.start()
    origin.wait(path, 2, 8)
    time.sleep(1)
    assert origin.hits(path) == 2


@pytest.mark.parametrize(("at_start", "requests"), [("true", 2), ("false", 1)])
def test_cron_with_run_at_start(
    buffy: Factory, origin: Origin, path: str, at_start: str, requests: int
) -> None:
    url = origin.on(path, answers.fixed(b"x"))
    server = restarting(
        buffy, origin, f'{{ strategy_name = "cron", cron = "0 0 1 1 *", run_at_start = {at_start} }}'
    )
    server.get(url)
    server.restart()
    if requests > 1:
        origin.wait(path, requests, 8)
    time.sleep(1.5)
    assert origin.hits(path) == requests


def test_background_failures_back_off_and_never_replace(buffy: Factory, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"good", validators="")
    url = origin.on(path, resource)
    server = restarting(buffy, origin, '{ strategy_name = "age", seconds = 1 }')
    server.get(url)
    resource.status, resource.extra = 503, {"Retry-After": "30"}
    origin.wait(path, 2, 10)
    time.sleep(4)
    assert origin.hits(path) == 2  # Retry-After is honoured
    assert server.get(url).body == b"good"


def test_background_downloads_are_one_per_host(buffy: Factory, origin: Origin, path: str) -> None:
    active, most = [0], [0]

    async def slow(request, peer):  # type: ignore[no-untyped-def]
        active[0] += 1
        most[0] = max(most[0], active[0])
        await peer.run([0.1 if request.get("x-first") is None else 0.0])
        active[0] -= 1
        await answers.fixed(b"x")(request, peer)

    server = restarting(buffy, origin, '{ strategy_name = "age", seconds = 2 }')
    urls = [origin.on(f"{path}/{n}", slow) for n in range(5)]
    for url in urls:
        server.get(url, [("X-First", "1")])
    most[0] = 0
    for number in range(5):
        origin.wait(f"{path}/{number}", 2, 15)
    assert most[0] == 1


def test_refresh_renews_at_once(server: Buffy, origin: Origin) -> None:
    url = origin.on("/first/never/refresh", answers.Changing(b"one", validators=""))
    server.get(url)
    assert server.cli("refresh", url).returncode == 0
    origin.wait("/first/never/refresh", 2, 10)
