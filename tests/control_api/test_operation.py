"""`/health`, `/metrics`, the documentation page, and errors of the store."""

from __future__ import annotations

import re

from buffy_proxy.errors import StoreFull, StoreUnusable
from buffy_proxy.store.index import LmdbStore
from tests.control_api.kit import URL, Api


def samples(api: Api) -> dict[str, float]:
    answer = api.http.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_of_an_empty_store(api: Api) -> None:
    found = samples(api)
    assert found["buffy_requests_total"] == found["buffy_misses_total"] == 0
    assert found["buffy_store_capacity_bytes"] == 1 << 30
    assert found['buffy_orders{status="wait"}'] == 0


def test_metrics_read_what_others_counted(api: Api) -> None:
    api.store.count("total", {"requests": 10, "hits": 7, "bytes_cache": 700, "bytes_origin": 300}).result(20)
    api.store.count("decisions", {"hit": 7, "uri-miss": 3}).result(20)
    api.store.count("origin_errors", {"dns_error": 2}).result(20)
    made = api.order(cache_configuration={"recaching_strategy": {"strategy_name": "age", "seconds": 0}})
    api.finish(made["id"], b"12345")
    api.order(URL + "?other")
    found = samples(api)
    assert found["buffy_requests_total"] == 10
    assert (found["buffy_hits_total"], found["buffy_misses_total"]) == (7, 3)
    assert found['buffy_sent_bytes_total{source="cache"}'] == 700
    assert found['buffy_sent_bytes_total{source="origin"}'] == 300
    assert found['buffy_decisions_total{decision="uri-miss"}'] == 3
    assert found['buffy_origin_errors_total{error="dns_error"}'] == 2
    assert (found["buffy_store_versions"], found["buffy_store_body_bytes"]) == (1, 5)
    assert found["buffy_store_resources"] == 2
    assert found['buffy_orders{status="wait"}'] == 1
    assert found["buffy_renewals_due"] == 1


def test_health(api: Api) -> None:
    api.proxied(URL, b"12345")
    found = api.http.get("/health").json()
    assert (found["status"], found["versions"], found["body_bytes"]) == ("ok", 1, 5)


def test_the_page_works_without_a_network(api: Api) -> None:
    page = api.http.get("/docs").text
    assert not re.search(r"(src|href)=.https?://", page)


def test_every_operation_is_described(api: Api) -> None:
    document = api.http.get("/openapi.json").json()
    operations = [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(operations) >= 16
    for path, method, operation in operations:
        assert operation["tags"] and operation["summary"], (method, path)
        problems = [a for s, a in operation["responses"].items() if s[0] in "45" and "content" in a]
        assert problems, (method, path)
        assert "HTTPValidationError" not in str(operation["responses"])
    assert len({operation["operationId"] for *_, operation in operations}) == len(operations)


def test_a_store_that_is_closed_is_a_503(api: Api, store: LmdbStore) -> None:
    store.close()
    for path in ("/v1/request/", "/v1/request/x", "/health"):
        answer = api.http.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["detail"] and answer.headers["content-type"] == "application/problem+json"
    assert api.http.put("/v1/request/", json={"url": URL}).status_code == 503


def test_the_table_covers_the_tree() -> None:
    from buffy_proxy.control_api.problems import STATUS_OF

    assert (STATUS_OF[StoreFull], STATUS_OF[StoreUnusable]) == (507, 503)
