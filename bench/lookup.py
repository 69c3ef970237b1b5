"""What a look-up costs in a small, a large and a very large store.

    python -m bench.lookup [DIR] [--sizes 1000,100000,1000000] [--json]

Medians in microseconds over random resources with one version each: `versions()` (what a hit asks),
`version()`, `resource()`, a miss, `versions()` with the body, `due()` with nothing due; a durable write.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.threshold import store_one
from buffy_proxy.core.model import BodyRef, CacheKey, Version
from buffy_proxy.store.bulk import Item, bulk_add
from buffy_proxy.store.index import LmdbStore

FIELDS = (
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"21"),
    (b"ETag", b'"5f1d-60a1c2"'),
    (b"Last-Modified", b"Tue, 04 Feb 2025 10:00:00 GMT"),
    (b"Cache-Control", b"public, max-age=3600"),
    (b"Vary", b"Accept-Encoding"),
    (b"Date", b"Tue, 04 Feb 2025 11:00:00 GMT"),
)
REQUEST_FIELDS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"gzip, deflate"), (b"User-Agent", b"bench/1"))


def item(number: int, now: float) -> Item:
    key = CacheKey(f"{number:032x}", "bench", "GET", f"http://origin.test/files/{number}")
    version = Version(
        key.id, "", 200, b"OK", FIELDS, BodyRef("", 0), REQUEST_FIELDS, now, now, now, now, now + 60, now + 50
    )
    return Item(key, version, b"content of number %d" % number)


def grow(store: LmdbStore, start: int, end: int) -> float:
    """Adds numbers start … end. Returns versions per second."""
    began, now = time.perf_counter(), time.time() + 3600
    bulk_add(store, (item(number, now) for number in range(start, end)))
    return (end - start) / (time.perf_counter() - began)


def median_us(run: Callable[[int], object], size: int, times: int = 5000) -> float:
    chosen = [random.randrange(size) for _ in range(times)]
    taken = []
    for number in chosen:
        start = time.perf_counter()
        run(number)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def measure(store: LmdbStore, size: int) -> dict[str, float]:
    def body(number: int) -> None:
        reader = store.open_body(store.versions(f"{number:032x}")[0].body)
        reader.read_at(0, 1 << 16)
        reader.close()

    name = store.versions(f"{1:032x}")[0].name
    return {
        "versions": median_us(lambda n: store.versions(f"{n:032x}"), size),
        "version": median_us(lambda n: store.version(f"{1:032x}", name), size),
        "resource": median_us(lambda n: store.resource(f"{n:032x}"), size),
        "miss": median_us(lambda n: store.versions(f"x{n:031x}"), size),
        "versions and body": median_us(body, size),
        "due": median_us(lambda n: store.due(time.time(), 10), size),
        "durable write": median_us(lambda n: store_one(store, b"x%d" % n, n).result(), size, 60),
    }


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["us"])
    lines = ["| versions | " + " | ".join(names) + " | index |", "|---:" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [f"{row['us'][name]:,.1f}" for name in names]
        lines.append(f"| {row['size']:,} | {' | '.join(cells)} | {row['index_bytes'] / 2**20:,.0f} MiB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="look-up cost by size of store")
    parser.add_argument("directory", nargs="?", type=Path, help="where to measure (default: a temporary one)")
    parser.add_argument("--sizes", default="1000,100000,1000000")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        store, have = LmdbStore(Path(scratch), max_size=1 << 40, map_size=64 << 30), 0
        for size in map(int, options.sizes.split(",")):
            speed = grow(store, have, size)
            have = size
            used = (Path(scratch) / "index" / "data.mdb").stat().st_size
            rows.append({"size": size, "added_per_s": speed, "index_bytes": used, "us": measure(store, size)})
        store.close()
    print(json.dumps(rows) if options.json else table(rows))


if __name__ == "__main__":
    main()
