"""Start-up, memory and eviction by stored versions.

    python -m bench.scale [DIR] [--sizes 1000,10000,100000,1000000] [--quick] [--json]

Records are synthetic (bench/synthetic.py): a minute for a million of them. Writes bench/out/scale.*.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import synthetic
from bench.common import OUT, machine
from bench.report import number, table
from buffy_proxy.store.evict import Collection
from buffy_proxy.store.index import LmdbStore
from buffy_proxy.store.tx import Tx
from tests.support.buffy import Buffy

Row = dict[str, Any]
SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000)
STARTS = 5
EVICTING_TURNS = 20
LOOK_S = 0.001


def rows_of(sizes: Sequence[int], directory: Path | None = None) -> list[Row]:
    """One row a size: `size`, seconds to start and of processor time, memory, eviction."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            # An installed Buffy has its bytecode, whatever this environment says.
            server = Buffy(Path(scratch), 'log_level = "warning"\n', {"PYTHONDONTWRITEBYTECODE": ""})
            synthetic.fill(server.data_dir, size, time.time())
            runs = [started(server) for _ in range(STARTS)]
            best = {key: min(run[key] for run in runs) for key in runs[0]}
            rows.append({"size": size, **best, **asyncio.run(evicted(server.data_dir))})
    return rows


def started(server: Buffy) -> Row:
    """One start and stop: seconds until both listeners are announced, processor seconds of all processes and
    anonymous MiB then."""
    began = time.monotonic()
    server.start(timeout=300)
    took = time.monotonic() - began
    cpu, memory = sum(map(cpu_s, server.pids())), server.memory() / 2**20
    server.stop()
    return {"start_s": took, "start_cpu_s": cpu, "memory_mib": memory}


def cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


async def evicted(data_dir: Path) -> Row:
    """µs for each version that goes (with its share of the durable commit), and by how many ms an event loop
    in the same process is late meanwhile."""
    store = LmdbStore(data_dir, max_size=1 << 40, map_size=synthetic.MAP_SIZE)
    before = store.usage()
    run = Collection(time.time(), 120.0, before.body_bytes // 2, None)

    def turn(tx: Tx) -> None:
        run(tx)

    late = asyncio.create_task(lateness())
    await asyncio.sleep(10 * LOOK_S)
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(EVICTING_TURNS):
        await asyncio.wrap_future(store.run(turn))
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    late.cancel()
    count = before.versions - store.usage().versions
    store.close()
    p99 = statistics.quantiles(await late, n=100)[98]
    return {"evict_us": took / count * 1e6, "evict_cpu_us": cpu / count * 1e6, "late_p99_ms": p99 * 1e3}


async def lateness() -> list[float]:
    """Seconds by which a sleep of a millisecond was too long, until cancelled."""
    found = []
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LOOK_S)
            found.append(time.perf_counter() - began - LOOK_S)
    except asyncio.CancelledError:
        return found


def markdown(rows: Sequence[Row]) -> str:
    names = (
        "stored versions",
        "start, s",
        "of processor time",
        "anonymous MiB",
        "an eviction, µs",
        "of processor time",
        "event loop late meanwhile, p99 ms",
    )
    cells = (
        (
            f"{r['size']:,}",
            f"{r['start_s']:.2f}",
            f"{r['start_cpu_s']:.2f}",
            f"{r['memory_mib']:.0f}",
            number(r["evict_us"]),
            number(r["evict_cpu_us"]),
            f"{r['late_p99_ms']:.1f}",
        )
        for r in rows
    )
    return f"## Start-up, memory and eviction\n\n{table(names, cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, help="where to measure (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 only")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    sizes = QUICK if wanted.quick else [int(size) for size in wanted.sizes.split(",")]
    rows = rows_of(sizes, wanted.directory)
    OUT.mkdir(exist_ok=True)
    (OUT / "scale.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    (OUT / "scale.md").write_text(markdown(rows))
    print(json.dumps(rows) if wanted.json else markdown(rows))


if __name__ == "__main__":
    main()
