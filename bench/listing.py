"""Pages of the request list at 1,000 and 10,000 requests: `python -m bench.listing`.

What counts is the ratio: the time for a page must not grow with the total. Medians, through HTTP, ms.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from bench.common import Result
from bench.report import listing as markdown
from tests.control_api.kit import Api, open_store
from tests.control_api.test_many import fill

SIZES = (1_000, 10_000)
ROUNDS = 15


def page_ms(api: Api, query: str) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer = api.http.get(f"/v1/request/?limit=100&{query}")
        times.append((time.perf_counter() - began) * 1000)
        assert answer.ok and answer.json()
    return statistics.median(times)


def rows() -> list[Result]:
    return [row(count) for count in SIZES]


def row(count: int) -> Result:
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(Path(directory))
        fill(store, count)
        api = Api(store, Path(directory))
        try:
            last = f"many{count - 101:06}"
            queries = {
                "first page": "",
                "first page of a group": "group_name=tenth",
                "last page by skip": f"skip={count - 100}",
                "by after": f"after={last}",
            }
            return {"size": count, **{name: page_ms(api, query) for name, query in queries.items()}}
        finally:
            api.close()
            store.close()


if __name__ == "__main__":
    print(markdown(rows()))
