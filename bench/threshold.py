"""Where a body belongs: in the index, or in a file of its own? Both ways, by size of body.

    python -m bench.threshold [DIR] [--churn] [--json]

Times are medians in microseconds: to write one body and commit it durably, alone and as one of a group of 16
that is committed together; and to read it whole from a store of many. `--churn` instead replaces the content
of a full store several times over, for several thresholds, to see whether large values wear the index out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from buffy_proxy.core.model import BodyRef, CacheKey, Retention, Version
from buffy_proxy.store import Outcome
from buffy_proxy.store.index import LmdbStore

SIZES = [1 << n for n in range(10, 21)]
GROUP = 16


def store_one(store: LmdbStore, content: bytes, number: int) -> Future[Outcome]:
    now = time.time()
    body = store.new_body()
    body.write(content)
    key = CacheKey(f"r{number}", "bench", "GET", f"http://origin.test/{number}")
    fields = ((b"Content-Type", b"application/octet-stream"), (b"ETag", b'"%d"' % number))
    version = Version(key.id, "", 200, b"OK", fields, body.finish(), (), now, now, now, now, now + 60)
    future = store.add_version(key, version, body, Retention(), now=now)
    body.close()
    return future


def median_us(run: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def measure(directory: Path, size: int, inline: bool, rounds: int) -> dict[str, float]:
    """One size, one way, in a fresh store."""
    shutil.rmtree(directory, ignore_errors=True)
    store = LmdbStore(
        directory, max_size=1 << 40, map_size=8 << 30, inline_limit=size if inline else size - 1
    )
    numbers = iter(range(10**9))
    refs: list[BodyRef] = []

    def alone() -> None:
        refs.append(store_one(store, os.urandom(size), next(numbers)).result().version.body)

    def group() -> None:
        futures = [store_one(store, os.urandom(size), next(numbers)) for _ in range(GROUP)]
        refs.extend(future.result().version.body for future in futures)

    def read() -> None:
        reader = store.open_body(random.choice(refs))
        at = 0
        while chunk := reader.read_at(at, 1 << 16):
            at += len(chunk)
        reader.close()

    made = median_us(lambda: os.urandom(size), 50)
    result = {
        "write_us": median_us(alone, rounds) - made,
        "grouped_write_us": median_us(group, rounds // 4) / GROUP - made,
        "read_us": median_us(read, 2000),
    }
    store.close()
    return result


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| body | write, index | file | grouped write, index | file | read, index | file |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            f"{row[way][what]:,.0f}" for what in ("write_us", "grouped_write_us", "read_us") for way in WAYS
        ]
        lines.append(f"| {row['size'] >> 10} KiB | " + " | ".join(cells) + " |")
    return "\n".join(lines)


WAYS = ("index", "file")


def churn(directory: Path, limit: int, cap: int) -> dict[str, float]:
    """Bodies of 500 B to 256 KiB (log-uniform), in groups, until 8 × cap went through a store of that cap."""
    store = LmdbStore(directory, max_size=cap, map_size=8 << 30, inline_limit=limit)
    noise, chance = os.urandom(1 << 21), random.Random(1)
    number = written = 0
    taken: list[float] = []
    while written < 8 * cap:
        sizes = [int(2 ** chance.uniform(9, 18)) for _ in range(GROUP)]
        start = time.perf_counter()
        futures = [store_one(store, noise[size : 2 * size], number + i) for i, size in enumerate(sizes)]
        for future in futures:
            future.result()
        taken.append((time.perf_counter() - start) / GROUP * 1e6)
        store.gc(time.time() + 1, 0.0).result()
        number, written = number + GROUP, written + sum(sizes)
    quarter = len(taken) // 4
    index_bytes = (directory / "index" / "data.mdb").stat().st_size
    store.close()
    shutil.rmtree(directory)
    return {
        "limit": limit,
        "first_us": statistics.median(taken[:quarter]),
        "last_us": statistics.median(taken[-quarter:]),
        "index_mib": index_bytes / 2**20,
    }


def churn_table(rows: list[dict[str, float]]) -> str:
    lines = [
        "| in-line up to | a write, first quarter | last quarter | index file |",
        "|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = f"{row['first_us']:,.0f} | {row['last_us']:,.0f} | {row['index_mib']:,.0f} MiB"
        lines.append(f"| {int(row['limit']) >> 10} KiB | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="LMDB-inline bodies against body files")
    parser.add_argument("directory", nargs="?", type=Path, help="where to measure (default: a temporary one)")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--churn", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        if options.churn:
            worn = [churn(Path(scratch) / "store", kib << 10, 200 << 20) for kib in (4, 16, 64, 256)]
            print(json.dumps(worn) if options.json else churn_table(worn))
            return
        rows: list[dict[str, Any]] = [
            {"size": size}
            | {way: measure(Path(scratch) / "store", size, way == "index", options.rounds) for way in WAYS}
            for size in SIZES
        ]
    print(json.dumps(rows) if options.json else table(rows))


if __name__ == "__main__":
    main()
