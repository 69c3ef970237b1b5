"""What a look-up costs by the number of stored versions.

    python -m bench.lookup [DIR] [--sizes 1000,100000,1000000] [--quick] [--json]

Medians in microseconds, of resources drawn from all that is stored ("any") and from a thousand of them
("hot"): `look_up` is all that is read and worked out before a decision, `look` its reads, `peek` the reads of
a hit that is said again. "first" looks also map pages into the process, or read them from the disk. Rounds
over the sizes take turns; of each figure the best round counts, which other work disturbs least.
A million versions take a minute to write, ten million ten minutes and 9 GiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import synthetic
from bench.report import table
from buffy_proxy.config import Config, open_store
from buffy_proxy.lookup import look_up

SIZES = (1_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000)
ROUNDS = 5
TIMES = 4_000
HOT = 1_000
Row = dict[str, Any]


class Sized:
    """A store of that many versions, and what was measured with it."""

    def __init__(self, data_dir: Path, size: int) -> None:
        began = time.monotonic()
        synthetic.fill(data_dir, size, time.time())
        self.size, self.fill_s = size, time.monotonic() - began
        self.config = Config(data_dir)
        self.store = open_store(self.config)
        self.hot = random.sample(range(size), min(HOT, size))
        self.us: dict[str, list[float]] = {}

    def round(self) -> None:
        self._round("any", [random.randrange(self.size) for _ in range(TIMES)])
        self._round("hot", random.choices(self.hot, k=TIMES))

    def _round(self, kind: str, numbers: list[int]) -> None:
        store, config = self.store, self.config
        ids = [synthetic.key(number).id for number in numbers]
        digests = [hashlib.sha256(synthetic.content(number)).digest() for number in numbers]
        requests = [synthetic.request(number) for number in numbers]
        self._note(f"first look, {kind}", store.look, ids)
        self._note(f"look_up, {kind}", lambda request: look_up(store, config, request), requests)
        self._note(f"look, {kind}", store.look, ids)
        pairs = [(id.encode(), digest) for id, digest in zip(ids, digests, strict=True)]
        self._note(f"peek, {kind}", lambda pair: store.peek(*pair), pairs)

    def _note(self, name: str, run: Callable[[Any], object], arguments: Sequence[Any]) -> None:
        self.us.setdefault(name, []).append(median_us(run, arguments))

    def row(self) -> Row:
        used = (self.config.data_dir / "index" / "data.mdb").stat().st_size
        best = {name: min(figures) for name, figures in self.us.items()}
        return {"size": self.size, "fill_s": self.fill_s, "index_bytes": used, "us": best}


def median_us(run: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    taken = []
    for argument in arguments:
        start = time.perf_counter()
        run(argument)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def lookups(sizes: Sequence[int], directory: Path | None = None) -> list[Row]:
    """One row a size: `size`, `fill_s`, `index_bytes`, `us` by name. All stores are there together."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch, ExitStack() as stack:
        stores = [Sized(Path(scratch) / str(size), size) for size in sizes]
        for sized in stores:
            stack.callback(sized.store.close)
        for _ in range(ROUNDS):
            for sized in stores:
                sized.round()
        return [sized.row() for sized in stores]


def markdown(rows: Sequence[Row]) -> str:
    """µs, and in brackets as many times that of the first row."""
    names = list(rows[0]["us"])
    cells = []
    for row in rows:
        ratios = [(row["us"][name], row["us"][name] / rows[0]["us"][name]) for name in names]
        index = f"{row['index_bytes'] / 2**20:,.0f} MiB"
        cells.append((f"{row['size']:,}", *(f"{us:.1f} ({ratio:.2f})" for us, ratio in ratios), index))
    return f"## Look-up, µs\n\n{table(('stored versions', *names, 'index'), cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="look-up cost by size of store")
    parser.add_argument("directory", nargs="?", type=Path, help="where to measure (default: a temporary one)")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 only")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    sizes = QUICK if wanted.quick else [int(size) for size in wanted.sizes.split(",")]
    rows = lookups(sizes, wanted.directory)
    print(json.dumps(rows) if wanted.json else markdown(rows))


if __name__ == "__main__":
    main()
