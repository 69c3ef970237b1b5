"""Ten thousand requests: listed, filtered and paged, each exactly once."""

from __future__ import annotations

from buffy_proxy.core.model import CacheKey
from buffy_proxy.store import Store
from tests.control_api.kit import Api

COUNT = 10_000


def fill(store: Store, count: int) -> None:
    """Requests in two groups, one in ten in the second."""
    writing = [
        store.set_policy(
            CacheKey(
                f"many{number:06}", "tenth" if number % 10 == 0 else "rest", "GET", f"http://o/{number}"
            ),
            None,
            {"description": str(number)},
            now=float(number + 1),
        )
        for number in range(count)
    ]
    for each in writing:
        each.result(60)


def ids(api: Api, **query: object) -> list[str]:
    answer = api.http.get("/v1/request/", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return [request["id"] for request in answer.json()]


def test_ten_thousand_requests(api: Api) -> None:
    fill(api.store, COUNT)
    everything = [f"many{number:06}" for number in range(COUNT)]
    pages = [ids(api, skip=skip, limit=1000) for skip in range(0, COUNT, 1000)]
    assert [each for page in pages for each in page] == everything
    assert ids(api, skip=COUNT) == []
    assert ids(api, group_name="tenth", skip=990, limit=100) == everything[::10][990:]
    walked: list[str] = []
    while page := ids(api, limit=1000, **({"after": walked[-1]} if walked else {})):
        walked += page
    assert walked == everything
