"""`/v1/request/{id}/response`: histories, waiting, pins and tags."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from buffy_proxy.control_api.digests import HASH_TYPES, SHAKE_BYTES
from tests.control_api.kit import PLAIN, URL, Api


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def history(api: Api, *contents: bytes) -> tuple[str, list[str]]:
    """A request with these versions; their names newest first."""
    keep = {"recaching_strategy": {"strategy_name": "when_requested"}, "max_cached_unpinned_versions": 20}
    for content in contents:
        made = api.order(cache_configuration=keep)
        api.finish(made["id"], content)
    return made["id"], api.versions(made["id"], limit=1000)


# -- histories -----------------------------------------------------------------------------------------------


def test_a_version_has_all_documented_fields(api: Api) -> None:
    fields = (*PLAIN, (b"Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT"))
    made = api.order(description="x")
    done = api.finish(made["id"], b"a,b\n", fields)
    found = api.get(f"/request/{made['id']}/response/v/{done.name}")
    assert found["content_download_path"] == f"request/{made['id']}/response/v/{done.name}/content"
    assert found["content_hash_hex"] == hashlib.md5(b"a,b\n").hexdigest()
    assert found["request_id"] == made["id"] and found["version"] == done.name
    assert (found["status"], found["pinned"], found["pinned_until_utc"], found["tags"]) == (
        "ready",
        False,
        None,
        [],
    )
    assert found["content_attributes"] == {
        "media_type": "text/csv",
        "etag": '"v1"',
        "content_size_bytes": 4,
        "last_modified_datetime_utc": "1994-11-06T08:49:37.000000",
        "filename": "data.csv",
        "content_disposition": None,
    }
    stats = found["download_stats"]
    assert (stats["state"], stats["downloaded_bytes"], stats["total_bytes_to_download"]) == ("finished", 4, 4)
    assert stats["download_start_time_unix_ts"] == done.started_at and stats["error"] is None
    assert abs(utc(found["cached_datetime_utc"]) - time.time()) < 60
    assert abs(utc(found["request_datetime_utc"]) - done.created_at) < 0.001


def test_progress_is_live(api: Api) -> None:
    made = api.order()
    order = api.orders.active(made["id"])
    assert order is not None
    path = f"/request/{made['id']}/response/v/{order.name}"
    head = (("Content-Disposition", 'attachment; filename="x.bin"'), ("Content-Type", "image/png"))
    running = replace(
        order, status="in_progress", started_at=time.time() - 2, downloaded=10, total=40, fields=head
    )
    api.orders.put(running)
    found = api.get(path)
    assert found["status"] == "in_progress" and found["content_attributes"]["filename"] == "x.bin"
    stats = found["download_stats"]
    assert (stats["state"], stats["downloaded_bytes"], stats["total_bytes_to_download"]) == (
        "downloading",
        10,
        40,
    )
    assert 2 <= stats["download_running_duration_sec"] < 30 and 0 < stats["avg_bytes_per_sec"] <= 5
    api.orders.put(replace(running, downloaded=20))
    assert api.get(path)["download_stats"]["downloaded_bytes"] == 20


def test_what_came_through_the_proxy_has_sizes_but_no_times(api: Api) -> None:
    stored = api.proxied(URL, b"12345")
    stats = api.get(f"/request/{stored}/response/latest")["download_stats"]
    assert (stats["state"], stats["downloaded_bytes"], stats["download_start_time_unix_ts"]) == (
        "finished",
        5,
        None,
    )


def test_versions_are_newest_first_and_latest_is_the_newest(api: Api) -> None:
    resource, names = history(api, b"1", b"2", b"3")
    assert names == sorted(names, reverse=True) and len(names) == 3
    assert api.get(f"/request/{resource}/response/latest")["version"] == names[0]
    assert api.get(f"/request/{resource}/response/v/latest")["version"] == names[0]
    assert api.http.get(f"/v1/request/{resource}/response/v/latest/content").content == b"3"
    assert api.versions(resource, skip=1, limit=1) == [names[1]]
    assert api.versions(resource, skip=3) == []


def test_ten_versions_unless_a_limit_says_otherwise(api: Api) -> None:
    resource, names = history(api, *(b"%d" % n for n in range(12)))
    assert api.versions(resource) == names[:10]
    assert api.versions(resource, limit=11) == names[:11]
    assert api.get(f"/request/{resource}/response", expect=422, limit=0)


def test_versions_within_one_second_do_not_collide(api: Api) -> None:
    start = time.time()
    _, names = history(api, *(b"%d" % n for n in range(8)))
    assert len(set(names)) == 8 and time.time() - start < 8


def test_versions_are_chained_and_linked_anew_on_deletion(api: Api) -> None:
    resource, (third, second, first) = history(api, b"1", b"2", b"3")

    def links() -> dict[str, tuple[str | None, str | None]]:
        found = api.get(f"/request/{resource}/response")
        return {one["version"]: (one["previous_version"], one["next_version"]) for one in found}

    assert links() == {first: (None, second), second: (first, third), third: (second, None)}
    api.store.delete(resource, second).result(20)
    assert links() == {first: (None, third), third: (first, None)}


def test_a_name_that_was_seen_works_on_after_retention_dropped_it(api: Api) -> None:
    made = api.order()
    first = api.finish(made["id"], b"first")
    path = f"/request/{made['id']}/response/v/{first.name}"
    assert api.get(path)["status"] == "ready"
    for content in (b"second", b"third"):
        api.add(made["id"], content)
    assert api.store.version(made["id"], first.name) is None
    assert first.name not in api.versions(made["id"])
    assert api.get(path)["status"] == "ready"
    assert api.http.get(f"/v1{path}/content").content == b"first"


def test_a_duplicate_leads_to_the_version_it_repeats(api: Api) -> None:
    resource, (first,) = history(api, b"same")
    again = api.order()
    api.finish(resource, b"same")
    found = api.get(f"/request/{resource}/response/v/{again['current_response']['version']}")
    assert (found["status"], found["previous_version"]) == ("duplicate", first)
    assert found["download_stats"]["state"] == "finished"
    assert api.http.get(f"/v1/{found['content_download_path']}").content == b"same"
    assert api.versions(resource, status="ready") == [first]
    assert api.get(f"/request/{resource}/response/v/{first}")["next_version"] is None


def test_latest_is_filtered(api: Api) -> None:
    resource, (third, second, first) = history(api, b"1", b"2", b"3")
    path = f"/request/{resource}/response"
    api.put(f"{path}/v/{first}/pin", {"value": True})
    api.put(f"{path}/v/{second}/tag", {"value": "good"})
    order = api.order()["current_response"]

    def latest(**params: Any) -> str | None:
        answer = api.http.get(f"/v1{path}/latest", params=params)
        return answer.json()["version"] if answer.status_code == 200 else None

    pending = api.orders.active(resource)
    if pending is not None:  # a pinned version answers, so nothing was ordered
        raise AssertionError(order)
    assert latest() == third
    assert latest(status="ready") == third
    assert latest(pinned=True) == first and latest(pinned=False) == third
    assert latest(tag="good") == second
    assert latest(tag="good", pinned=True) is None
    assert latest(status="failed") is None
    assert latest(status="ready", tag="good", pinned=False) == second
    assert api.get(f"{path}/latest", expect=422, status="nonsense")["errors"]


# -- waiting -------------------------------------------------------------------------------------------------


def test_waiting_ends_with_the_order(api: Api) -> None:
    made = api.order()
    path = f"/request/{made['id']}/response/v/latest"
    timer = threading.Timer(0.3, lambda: api.finish(made["id"], b"one"))
    timer.start()
    start = time.monotonic()
    assert api.get(path, wait_sec=30)["status"] == "ready"
    assert 0.2 < time.monotonic() - start < 20
    timer.join()


def test_waiting_ends_with_its_time(api: Api) -> None:
    made = api.order()
    start = time.monotonic()
    assert api.get(f"/request/{made['id']}/response/v/latest", wait_sec=0.2)["status"] == "wait"
    assert time.monotonic() - start >= 0.2


def test_who_waits_does_not_keep_others_waiting(api: Api) -> None:
    made = api.order()
    path = f"/v1/request/{made['id']}/response/v/latest"
    waiting = [
        threading.Thread(target=lambda: api.http.get(path, params={"wait_sec": 20})) for _ in range(60)
    ]
    for thread in waiting:
        thread.start()
    time.sleep(0.3)
    start = time.monotonic()
    assert api.get(f"/request/{made['id']}")["id"] == made["id"]
    assert time.monotonic() - start < 5
    api.finish(made["id"], b"one")
    for thread in waiting:
        thread.join(20)


@pytest.mark.parametrize("seconds", ["-1", "61", "nan", "inf", "x"])
def test_waiting_has_bounds(api: Api, seconds: str) -> None:
    made = api.order()
    assert api.get(f"/request/{made['id']}/response/v/latest", expect=422, wait_sec=seconds)


# -- hashes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_type", HASH_TYPES)
@pytest.mark.parametrize("size", [5, 300_000])
def test_the_hash_is_the_one_the_request_names(api: Api, hash_type: str, size: int) -> None:
    content = b"x" * size
    made = api.order(validation_hash_type=hash_type)
    api.finish(made["id"], content)
    running = hashlib.new(hash_type, content, usedforsecurity=False)
    length = SHAKE_BYTES.get(hash_type)
    expected = running.hexdigest(length) if length else running.hexdigest()  # type: ignore[call-arg]
    for _ in range(2):
        assert api.get(f"/request/{made['id']}/response/latest")["content_hash_hex"] == expected


def test_the_hash_of_a_large_body_is_computed_once(api: Api) -> None:
    made = api.order()
    api.finish(made["id"], b"x" * 300_000)
    path = f"/request/{made['id']}/response/latest"
    digest = hashlib.sha256(b"x" * 300_000).hexdigest()
    assert api.get(path)["content_hash_hex"] == hashlib.md5(b"x" * 300_000).hexdigest()
    api.store.put_documents([("hash", f"{digest}/md5", b"remembered")]).result(20)
    assert api.get(path)["content_hash_hex"] == "remembered"


# -- pins ----------------------------------------------------------------------------------------------------


def test_a_pin_for_ever_and_its_end(api: Api) -> None:
    resource, (name,) = history(api, b"1")
    path = f"/request/{resource}/response/v/{name}"
    pinned = api.put(f"{path}/pin", {"value": True})
    assert (pinned["version"], pinned["pinned"], pinned["pinned_until_utc"]) == (name, True, None)
    assert api.get(path)["pinned"] is True
    freed = api.put(f"{path}/pin", {"value": False, "duration_sec": 5})
    assert (freed["pinned"], freed["pinned_until_utc"]) == (False, None)
    assert api.put(f"{path}/pin", {"value": False})["pinned"] is False


def test_a_pin_for_a_time_lies_in_the_future(api: Api) -> None:
    resource, (name,) = history(api, b"1")
    claim = {"request_id": None, "response_version": None, "value": True, "duration_sec": 600}
    before = time.time()
    pinned = api.put(f"/request/{resource}/response/v/{name}/pin", claim)
    assert pinned["pinned"] is True
    assert before + 599.9 < utc(pinned["pinned_until_utc"]) < time.time() + 600.1


def test_a_pin_runs_out(api: Api) -> None:
    resource, (name,) = history(api, b"1")
    api.store.set_pin(resource, name, time.time() - 1, now=time.time()).result(20)
    found = api.get(f"/request/{resource}/response/v/{name}")
    assert (found["pinned"], found["pinned_until_utc"]) == (False, None)


def test_retention_keeps_the_pinned(api: Api) -> None:
    made = api.order()
    first = api.finish(made["id"], b"1")
    api.put(f"/request/{made['id']}/response/v/latest/pin", {"value": True, "duration_sec": 600})
    for content in (b"2", b"3", b"4"):
        api.add(made["id"], content)
    assert len(api.versions(made["id"])) == 3
    assert api.versions(made["id"])[-1] == first.name


@pytest.mark.parametrize(
    "claim",
    [
        {},
        {"value": "yes"},
        {"value": True, "duration_sec": 0},
        {"value": True, "duration_sec": -5},
        {"value": True, "duration_sec": 10**400},
    ],
)
def test_bad_pins(api: Api, claim: dict[str, Any]) -> None:
    resource, (name,) = history(api, b"1")
    path = f"/request/{resource}/response/v/{name}"
    assert api.put(f"{path}/pin", claim, expect=422)["detail"]
    assert api.get(path)["pinned"] is False


# -- tags ----------------------------------------------------------------------------------------------------


def test_tags_come_move_and_go(api: Api) -> None:
    resource, (second, first) = history(api, b"1", b"2")
    path = f"/request/{resource}/response"
    tagged = api.put(f"{path}/v/{first}/tag", {"value": "works-for_me"})
    assert (tagged["version"], tagged["tags"]) == (first, ["works-for_me"])
    assert [found["version"] for found in api.get(f"{path}/t/works-for_me")] == [first]
    assert api.versions(resource, tag="works-for_me") == [first]
    assert api.get(f"{path}/latest", tag="works-for_me")["version"] == first
    api.put(f"{path}/v/{second}/tag", {"value": "works-for_me"})
    assert api.versions(resource, tag="works-for_me") == [second]
    removed = api.put(f"{path}/v/{second}/tag", {"value": "works-for_me", "delete": True})
    assert removed["tags"] == []
    assert api.put(f"{path}/v/{second}/tag", {"value": "absent", "delete": True})["tags"] == []
    assert api.get(f"{path}/t/works-for_me") == []


@pytest.mark.parametrize("tag", ["a", "a" * 65, "a b", "ä" * 3, "", "tag\n", 12, None])
def test_bad_tags(api: Api, tag: object) -> None:
    resource, (name,) = history(api, b"1")
    assert api.put(f"/request/{resource}/response/v/{name}/tag", {"value": tag}, expect=422)["errors"]


@pytest.mark.parametrize("tag", ["ab", "A" * 64, "0_-"])
def test_good_tags(api: Api, tag: str) -> None:
    resource, (name,) = history(api, b"1")
    assert api.put(f"/request/{resource}/response/v/{name}/tag", {"value": tag})["tags"] == [tag]


@pytest.mark.parametrize(("what", "claim"), [("pin", {"value": True}), ("tag", {"value": "ab"})])
def test_claims_need_a_version(api: Api, what: str, claim: dict[str, Any]) -> None:
    made = api.order()
    path = f"/request/{made['id']}/response/v"
    assert api.put(f"{path}/unknown/{what}", claim, expect=404)["detail"]
    waiting = made["current_response"]["version"]
    assert "still being fetched" in api.put(f"{path}/{waiting}/{what}", claim, expect=409)["detail"]
    api.fail(made["id"], "no such host")
    assert "no such host" in api.put(f"{path}/{waiting}/{what}", claim, expect=404)["detail"]


@pytest.mark.parametrize(("what", "claim"), [("pin", {"value": True}), ("tag", {"value": "ab"})])
def test_claims_on_a_duplicate_reach_its_result(api: Api, what: str, claim: dict[str, Any]) -> None:
    resource, (first,) = history(api, b"same")
    again = api.order()["current_response"]["version"]
    api.finish(resource, b"same")
    assert api.put(f"/request/{resource}/response/v/{again}/{what}", claim)["version"] == first
