"""`/v1/request/`: identity, orders, configuration, lists."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.config import load
from buffy_proxy.core.strategies import WhenRemoteChanged
from buffy_proxy.orders import wanted_of
from tests.control_api.kit import URL, Api, open_store

UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
NAMES = {
    *("id", "url", "http_method", "http_header_fields", "http_query_params", "http_request_body"),
    *("group_name", "description", "documentation_link", "validation_hash_type", "cache_configuration"),
    *("request_timestamp", "inital_request_datetime_utc", "latest_request_datetime_utc"),
}


# -- the answer ----------------------------------------------------------------------------------------------


def test_a_new_request_has_all_documented_fields_and_defaults(api: Api) -> None:
    before = time.time()
    made = api.order(expect=201)
    assert set(made) >= NAMES
    assert (made["http_method"], made["group_name"], made["validation_hash_type"]) == (
        "get",
        "DEFAULT_GROUP",
        "md5",
    )
    assert before <= made["request_timestamp"] <= time.time()
    for name in ("inital_request_datetime_utc", "latest_request_datetime_utc"):
        assert UTC_TEXT.fullmatch(made[name])
    assert made["cache_configuration"]["recaching_strategy"] == {
        "strategy_name": "when_remote_changed",
        "check_interval_sec": 21600,
        "fallback_max_age_sec": 86400,
    }
    assert made["cache_configuration"]["request_id"] == made["id"]
    assert len(made["id"]) <= 32


def test_what_was_said_is_given_back(api: Api) -> None:
    said: dict[str, Any] = {
        "http_method": "post",
        "http_header_fields": {"Accept": "text/csv"},
        "http_query_params": {"year": 2026, "column": ["a", "b"]},
        "http_request_body": {"deep": {"er": [1, None, "ü"]}},
        "group_name": "mine",
        "description": "figures",
        "documentation_link": "http://origin.test/about",
        "validation_hash_type": "sha3_256",
    }
    made = api.order(**said)
    assert {name: made[name] for name in said} == said
    known = api.get(f"/request/{made['id']}")
    assert {name: known[name] for name in said} == said


def test_null_means_the_default(api: Api) -> None:
    names = ("http_header_fields", "http_query_params", "http_request_body", "group_name", "description")
    nulls: dict[str, Any] = dict.fromkeys((*names, "validation_hash_type", "cache_configuration"))
    first = api.order(expect=201)
    again = api.order(expect=202, **nulls)
    assert again["id"] == first["id"]
    assert again["http_header_fields"] == {} and again["validation_hash_type"] == "md5"


def test_an_order_exists_when_the_answer_comes(api: Api) -> None:
    """Old clients ask for `latest` as soon as the request is registered."""
    made = api.order()
    status = api.get(f"/request/{made['id']}/status/{made['request_timestamp']}")
    assert status == {"status": "registered"}
    latest = api.get(f"/request/{made['id']}/response/latest")
    assert latest["status"] == "wait" and latest["content_attributes"]["filename"] is None
    assert latest["download_stats"]["state"] == "init"
    assert made["current_response"] == latest


def test_an_order_rings_the_bell_of_whoever_carries_it_out(api: Api) -> None:
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.bind(str(api.config.data_dir / "orders.sock"))
    bell.settimeout(10)
    try:
        made = api.order()
        bell.recv(64)
    finally:
        bell.close()
    assert [order.resource_id for order in api.orders.pending()] == [made["id"]]


# -- identity ------------------------------------------------------------------------------------------------


def test_the_order_of_keys_does_not_matter(api: Api) -> None:
    one = api.order(
        http_method="post",
        http_query_params={"a": 1, "b": 2},
        http_header_fields={"X-One": "1", "X-Two": "2"},
        http_request_body={"c": 1, "d": {"e": 1, "f": 2}},
    )
    two = api.order(
        expect=202,
        http_method="post",
        http_query_params={"b": 2, "a": 1},
        http_header_fields={"x-two": "2", "x-one": "1"},
        http_request_body={"d": {"f": 2, "e": 1}, "c": 1},
    )
    assert one["id"] == two["id"]
    assert len(api.get("/request/")) == 1


DIFFERENT: list[dict[str, Any]] = [
    {},
    {"url": URL + "?x=1"},
    {"http_query_params": {"a": 1}},
    {"http_method": "post"},
    {"http_method": "put"},
    {"http_header_fields": {"Accept": "text/csv"}},
    {"http_header_fields": {"Authorization": "Basic eDp5"}},
    {"group_name": "other"},
    {"http_method": "post", "http_request_body": {"a": 1}},
]


def test_whatever_belongs_to_the_identity_makes_another_request(api: Api) -> None:
    made = [api.order(expect=201, **{"url": URL, **more}) for more in DIFFERENT]
    assert len({found["id"] for found in made}) == len(DIFFERENT)
    again = [api.order(expect=202, **{"url": URL, **more}) for more in DIFFERENT]
    assert [found["id"] for found in again] == [found["id"] for found in made]


def test_query_parameters_are_part_of_the_url(api: Api) -> None:
    assert api.order(http_query_params={"a": 1})["id"] == api.order(URL + "?a=1")["id"]


def test_null_parameters_are_left_out(api: Api) -> None:
    assert api.order(http_query_params={"a": None})["id"] == api.order()["id"]


def test_the_identity_survives_a_restart(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        store = open_store(tmp_path)
        api = Api(store, tmp_path)
        try:
            ids.append(api.order(http_query_params={"a": 1}, http_header_fields={"X": "1"})["id"])
        finally:
            api.close()
            store.close()
    assert ids[0] == ids[1]


def test_the_default_group_is_one_group(api: Api) -> None:
    made = [api.order(**more) for more in ({}, {"group_name": None}, {"group_name": "DEFAULT_GROUP"})]
    assert len({found["id"] for found in made}) == 1
    assert [found["group_name"] for found in made] == ["DEFAULT_GROUP"] * 3


def test_concurrent_orders_are_one_order(api: Api) -> None:
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(api.order()["current_response"]["version"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 8 and len(set(answers)) == 1
    assert len(list(api.orders.pending())) == 1


def test_one_resource_by_proxy_and_by_api(api: Api) -> None:
    """What the proxy stored answers the first order; it is listed without an order, too."""
    stored = api.proxied(URL, b"by proxy")
    assert [found["id"] for found in api.get("/request/")] == [stored]
    made = api.order(expect=202)
    assert made["id"] == stored and made["current_response"]["status"] == "ready"
    assert api.http.get(f"/v1/request/{stored}/response/v/latest/content").content == b"by proxy"
    assert not list(api.orders.pending())


def test_secrets_are_kept_for_the_fetch_and_not_shown(api: Api) -> None:
    made = api.order(
        URL + "?token=t0psecret",
        http_header_fields={"Authorization": "Basic s3cret"},
        http_query_params={"api_key": "k3y"},
    )
    listed = api.http.get("/v1/request/").text
    for secret in ("t0psecret", "s3cret", "k3y"):
        assert secret not in str(made) and secret not in listed
    resource = api.store.resource(made["id"])
    assert resource is not None
    asked = wanted_of(resource).request()
    assert dict(asked.fields)[b"Authorization"] == b"Basic s3cret" and "k3y" in asked.url


# -- what answers --------------------------------------------------------------------------------------------


def test_a_fresh_version_answers_without_an_order(api: Api) -> None:
    made = api.order()
    done = api.finish(made["id"], b"one")
    again = api.order(expect=202)
    assert again["current_response"]["version"] == done.name
    assert again["current_response"]["status"] == "ready"
    assert not list(api.orders.pending())
    assert again["request_timestamp"] > made["request_timestamp"]


@pytest.mark.parametrize("method", ["post", "put"])
def test_other_methods_are_answered_from_the_store_too(api: Api, method: str) -> None:
    wish: dict[str, Any] = {"http_method": method, "http_request_body": {"a": 1}}
    made = api.order(**wish)
    done = api.finish(made["id"], b"one")
    assert api.order(**wish)["current_response"]["version"] == done.name


def test_a_version_that_may_not_answer_any_more_makes_an_order(api: Api) -> None:
    made = api.order()
    done = api.finish(made["id"], b"one")
    api.expire(made["id"])
    again = api.order(expect=202)["current_response"]
    assert again["status"] == "wait" and again["version"] > done.name
    assert again["previous_version"] == done.name
    assert api.versions(made["id"], status="ready") == [done.name]


def test_when_requested_orders_each_time(api: Api) -> None:
    wish: dict[str, Any] = {
        "cache_configuration": {"recaching_strategy": {"strategy_name": "when_requested"}}
    }
    made = api.order(**wish)
    api.finish(made["id"], b"one")
    assert api.order(**wish)["current_response"]["status"] == "wait"


def test_a_pinned_version_answers(api: Api) -> None:
    made = api.order()
    old = api.finish(made["id"], b"one")
    api.put(f"/request/{made['id']}/response/v/{old.name}/pin", {"value": True})
    api.expire(made["id"])
    assert api.order()["current_response"]["version"] == old.name


def test_a_failed_order_is_followed_by_another(api: Api) -> None:
    made = api.order()
    failed = api.fail(made["id"])
    latest = api.get(f"/request/{made['id']}/response/latest")
    assert (latest["status"], latest["download_stats"]["state"]) == ("failed", "failed")
    assert latest["download_stats"]["error"] == failed.error
    assert api.order()["current_response"]["version"] > failed.name


def test_a_failed_download_never_replaces_a_good_version(api: Api) -> None:
    made = api.order()
    good = api.finish(made["id"], b"good")
    api.expire(made["id"])
    api.order()
    api.fail(made["id"])
    assert api.get(f"/request/{made['id']}/response/latest", status="ready")["version"] == good.name
    content = api.http.get(f"/v1/request/{made['id']}/response/v/latest/content")
    assert (content.status_code, content.content) == (200, b"good")


def test_offline_orders_nothing(api: Api, make: Callable[..., Api]) -> None:
    made = api.order()
    done = api.finish(made["id"], b"one")
    api.expire(made["id"])
    offline = make(offline=True)
    assert offline.order()["current_response"]["version"] == done.name
    unknown = offline.order(URL + "?other")
    assert unknown["current_response"] is None
    assert offline.get(f"/request/{unknown['id']}/response/latest", expect=204) is None
    assert not list(api.orders.pending())


def test_a_version_whose_bytes_are_gone_is_ordered_again(api: Api) -> None:
    made = api.order()
    content = b"x" * 500_000  # a file, not a value in the index
    api.finish(made["id"], content)
    for file in (api.config.data_dir / "bodies").rglob("*"):
        if file.is_file() and file.stat().st_size == len(content):
            file.unlink()
    assert api.order()["current_response"]["status"] == "wait"
    assert api.http.get(f"/v1/request/{made['id']}/response/v/latest/content").status_code in (404, 410)


# -- configuration -------------------------------------------------------------------------------------------

STRATEGIES: list[dict[str, Any]] = [
    {"strategy_name": "never"},
    {"strategy_name": "age", "seconds": 3601},
    {"strategy_name": "cron", "cron": "*/5 * * * *", "run_at_start": False},
    {"strategy_name": "when_requested"},
    {"strategy_name": "when_remote_changed", "check_interval_sec": 60, "fallback_max_age_sec": 61},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["strategy_name"])
def test_put_cache_config_stores(api: Api, strategy: dict[str, Any]) -> None:
    path = f"/request/{api.order()['id']}/cache-config"
    wish = {
        "request_id": None,
        "recaching_strategy": strategy,
        "max_cached_unpinned_versions": 3,
        "max_cached_pinned_versions": 4,
    }
    answer = api.put(path, wish)
    assert answer == api.get(path)
    assert {key: answer[key] for key in wish if key != "request_id"} == {
        key: value for key, value in wish.items() if key != "request_id"
    }
    assert answer["strategy_in_force"] == strategy and answer["decided_by"] == "its order"
    assert api.put(path, answer) == answer  # what a GET gave can be PUT back


def test_an_order_with_a_configuration_takes_it_over(api: Api) -> None:
    made = api.order()
    config = {"recaching_strategy": {"strategy_name": "never"}, "max_cached_unpinned_versions": 3}
    changed = api.order(expect=202, cache_configuration=config)
    assert changed["id"] == made["id"]
    assert changed["cache_configuration"]["recaching_strategy"] == {"strategy_name": "never"}
    kept = api.order()["cache_configuration"]
    assert (kept["recaching_strategy"], kept["max_cached_unpinned_versions"]) == (
        {"strategy_name": "never"},
        3,
    )


def test_stored_versions_follow_a_new_strategy(api: Api) -> None:
    made = api.order()
    done = api.finish(made["id"], b"one")
    path = f"/request/{made['id']}/cache-config"
    api.put(path, {"recaching_strategy": {"strategy_name": "age", "seconds": 100}})
    api.store.count("barrier", {"x": 1}).result(20)
    version = api.store.version(made["id"], done.name)
    assert version is not None
    assert version.fresh_until == version.refresh_at == pytest.approx(version.validated_at + 100)
    api.put(path, {"recaching_strategy": {"strategy_name": "when_requested"}})
    assert api.order()["current_response"]["status"] == "wait"
    api.put(path, {"recaching_strategy": {"strategy_name": "never"}})
    assert api.order()["current_response"]["version"] == done.name


def test_the_five_documented_strategies_are_all_that_old_clients_see(api: Api) -> None:
    """What nobody configured follows `http`, which they do not know."""
    stored = api.proxied(URL, b"by proxy")
    shown = api.get(f"/request/{stored}")["cache_configuration"]
    assert shown["recaching_strategy"]["strategy_name"] == "when_remote_changed"
    assert shown["strategy_in_force"] == {"strategy_name": "http"} and shown["decided_by"] == "default"
    http: dict[str, Any] = {"cache_configuration": {"recaching_strategy": {"strategy_name": "http"}}}
    answer = api.order(**http)["cache_configuration"]
    assert answer["recaching_strategy"] == {"strategy_name": "http"}


def test_a_rule_decides_where_an_order_says_nothing(make: Callable[..., Api], tmp_path: Path) -> None:
    file = tmp_path / "buffy.toml"
    file.write_text('[[rule]]\nmatch = "http://origin.test/**"\nstrategy = "never"\n')
    api = make(rules=load(file, environ={}, data_dir=tmp_path).rules)
    ruled = api.order()["cache_configuration"]
    assert ruled["strategy_in_force"] == {"strategy_name": "never"}
    assert ruled["decided_by"].startswith("rule 1")
    other = api.order("http://other.test/")["cache_configuration"]
    assert other["strategy_in_force"]["strategy_name"] == WhenRemoteChanged.strategy_name
    assert other["decided_by"] == "its order"


def test_descriptions_stay_until_they_are_said_anew(api: Api) -> None:
    made = api.order(description="one", validation_hash_type="sha1")
    assert api.order()["description"] == "one"
    assert api.get(f"/request/{made['id']}")["validation_hash_type"] == "sha1"
    assert api.order(description="two")["description"] == "two"


# -- lists and states ----------------------------------------------------------------------------------------


def test_requests_are_listed_oldest_first(api: Api) -> None:
    ids = [api.order(f"{URL}?{n}")["id"] for n in range(5)]
    assert [found["id"] for found in api.get("/request/")] == ids
    assert [found["id"] for found in api.get("/request/", skip=1, limit=2)] == ids[1:3]
    assert [found["id"] for found in api.get("/request/", after=ids[2])] == ids[3:]
    assert api.get("/request/", skip=99) == []
    assert "nothing" in api.get("/request/", expect=404, after="nothing")["detail"]


def test_requests_are_filtered_by_group(api: Api) -> None:
    ids = [api.order(f"{URL}?{n}", group_name="ab"[n % 2])["id"] for n in range(6)]
    assert [found["id"] for found in api.get("/request/", group_name="a")] == ids[::2]
    assert [found["id"] for found in api.get("/request/", group_name="b", skip=1)] == ids[3::2]
    assert api.get("/request/", group_name="c") == []


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"skip": -1}, {"limit": "x"}])
def test_pages_have_bounds(shared: Api, params: dict[str, Any]) -> None:
    assert shared.get("/request/", expect=422, **params)["errors"]


def test_the_status_of_an_order(api: Api) -> None:
    made = api.order()
    path = f"/request/{made['id']}/status"
    api.order()
    assert api.get(f"{path}/{made['request_timestamp']}") == {"status": "registered"}
    assert api.get(f"{path}/{time.time() + 100}", expect=202) == {"status": "not_registered"}
    assert api.get("/request/unknown/status/1.5", expect=404) == {"status": "not_existent"}
    assert api.get(f"{path}/nan", expect=422)["status"] == 422


# -- what is refused -----------------------------------------------------------------------------------------

BAD = [
    ({}, "body.url: Field required"),
    ({"url": ""}, "body.url"),
    ({"url": "ftp://origin.test/"}, "scheme 'ftp'"),
    ({"url": "http:///path"}, "no host"),
    ({"url": "http://origin.test/a b"}, "percent-encode"),
    ({"url": "http://origin.test:99999/"}, "bad port"),
    ({"url": URL, "http_method": "delete"}, "body.http_method"),
    ({"url": URL, "http_header_fields": {"X": ["a"]}}, "body.http_header_fields"),
    ({"url": URL, "http_header_fields": {"X": "a\r\nY: b"}}, "'X' cannot be sent"),
    ({"url": URL, "http_header_fields": {"Content-Length": "3"}}, "content-length"),
    ({"url": URL, "http_header_fields": {"Range": "bytes=3-"}}, "range"),
    ({"url": URL, "http_header_fields": {"If-None-Match": "*"}}, "if-none-match"),
    ({"url": URL, "http_query_params": {"a": {"b": 1}}}, "body.http_query_params"),
    ({"url": URL, "group_name": "a\nb"}, "body.group_name"),
    ({"url": URL, "validation_hash_type": "crc32"}, "'crc32' is no hash type"),
    ({"url": URL, "cache_configuration": {"recaching_strategy": {"strategy_name": "x"}}}, "strategy_name"),
    (
        {"url": URL, "cache_configuration": {"recaching_strategy": {"strategy_name": "age", "sec": 1}}},
        "age.sec",
    ),
    (
        {"url": URL, "cache_configuration": {"recaching_strategy": {"strategy_name": "age", "seconds": -1}}},
        "greater than or equal to 0",
    ),
    (
        {"url": URL, "cache_configuration": {"recaching_strategy": {"strategy_name": "cron", "cron": "x"}}},
        "no usable cron expression",
    ),
]


@pytest.mark.parametrize(("wish", "words"), BAD)
def test_a_bad_order_says_what_is_wrong(shared: Api, wish: dict[str, Any], words: str) -> None:
    answer = shared.http.put("/v1/request/", json=wish)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert shared.get("/request/") == []


RAW = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"url": "http://origin.test/\\ud800"}',
    b'{"url": "http://origin.test/", "http_request_body": {"a": "\\ud800"}}',
    b'{"url": "http://origin.test/", "http_request_body": {"a": NaN}}',
    b'{"url": "http://origin.test/", "http_query_params": {"a": 1e999}}',
    b'{"url": "http://origin.test/", "http_request_body": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
]


@pytest.mark.parametrize("body", RAW, ids=range(len(RAW)))
def test_no_body_breaks_the_server(shared: Api, body: bytes) -> None:
    """Old clients do not name the type of what they send."""
    answer = shared.http.put("/v1/request/", data=body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "kind", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"]
)
def test_bodies_are_json_whatever_they_are_called(shared: Api, kind: str | None) -> None:
    """Old clients do not name a type; `curl -d` names that of a form. A bad URL shows that it was read."""
    headers = {} if kind is None else {"Content-Type": kind}
    answer = shared.http.put("/v1/request/", data=b'{"url": "ftp://origin.test/"}', headers=headers)
    assert answer.status_code == 422 and "scheme 'ftp'" in answer.json()["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_limited(shared: Api, chunked: bool) -> None:
    parts = [b"x" * 65536] * 40
    answer = shared.http.put("/v1/request/", data=iter(parts) if chunked else b"".join(parts))
    assert answer.status_code == 413 and answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["", "/cache-config", "/response", "/response/latest", "/response/t/tag", "/response/v/x"],
)
def test_unknown_ids_are_404(shared: Api, path: str) -> None:
    for unknown in ("mzxw6ytboi4dcmrt", "%00", "%C3%BC", "x" * 600):
        problem = shared.get(f"/request/{unknown}{path}", expect=404)
        assert problem["title"] == "Not Found" and problem["status"] == 404 and problem["detail"]
