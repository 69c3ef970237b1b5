"""Start-up and memory of `buffy serve` by stored versions: `python -m bench.scale [--quick] [--sizes …]`.

Records are synthetic (bench/lookup.py); the largest take minutes to write. Writes bench/out/scale.*.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.common import OUT, machine
from bench.lookup import grow
from bench.report import number, table
from buffy_proxy.store.index import LmdbStore
from tests.support.buffy import Buffy

Result = dict[str, Any]
STARTS = 3


def filled(server: Buffy, have: int, size: int) -> None:
    store = LmdbStore(server.data_dir, max_size=1 << 40, map_size=64 << 30)
    grow(store, have, size)
    store.close()


def started(server: Buffy) -> Result:
    """One start and stop: seconds until both listeners are announced, and anonymous MiB then."""
    began = time.monotonic()
    server.start(timeout=300)
    took = time.monotonic() - began
    memory = server.memory() / 2**20
    server.stop()
    return {"start_s": took, "memory_mib": memory}


def rows_of(sizes: list[int]) -> list[Result]:
    rows, have = [], 0
    with tempfile.TemporaryDirectory() as directory:
        server = Buffy(Path(directory), 'log_level = "warning"\n')
        started(server)
        for size in sizes:
            filled(server, have, size)
            have = size
            runs = [started(server) for _ in range(STARTS)]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            rows.append({"size": size, **middle})
    return rows


def markdown(rows: list[Result]) -> str:
    cells = ((number(r["size"]), f"{r['start_s']:.2f}", f"{r['memory_mib']:.0f}") for r in rows)
    return f"## Start-up\n\n{table(('stored versions', 'start, s', 'anonymous MiB'), cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 only")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    wanted = parser.parse_args()
    sizes = [1000, 10_000] if wanted.quick else [int(size) for size in wanted.sizes.split(",")]
    rows = rows_of(sizes)
    OUT.mkdir(exist_ok=True)
    (OUT / "scale.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    (OUT / "scale.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
