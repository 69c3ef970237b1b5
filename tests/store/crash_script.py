"""Run as a process: stores versions, says which are acknowledged, and kills itself at a named point.

python -m tests.store.crash_script DIR POINT|load|gc [SEED]
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from buffy_proxy.store import bodies, writer
from tests.store.kit import LARGE, lmdb_store, put


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    """Dies instead of calling it."""
    setattr(owner, name, die)


def after(owner: Any, name: str) -> None:
    """Calls it, then dies."""
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        die()

    setattr(owner, name, wrapper)


POINTS: dict[str, Callable[[], None]] = {
    "temporary-open": lambda: after(bodies.BodyFiles, "temporary"),
    "before-fsync": lambda: before(os, "fdatasync"),
    "after-fsync": lambda: after(os, "fdatasync"),
    "before-rename": lambda: before(bodies.BodyFiles, "place"),
    "after-rename": lambda: after(bodies.BodyFiles, "place"),
    "before-directory-sync": lambda: before(bodies.BodyFiles, "sync"),
    "before-commit": lambda: after(bodies.BodyFiles, "sync"),
    "after-commit": lambda: before(writer.Writer, "_resolve"),
    "unlink-before-commit": lambda: after(bodies.BodyFiles, "remove"),
}


def main(data_dir: Path, point: str, seed: int) -> None:
    store = lmdb_store(data_dir)
    if point == "load":
        _load(store, seed)
    for i in range(3):
        _acknowledge(put(store, content(i, LARGE), name=f"kept{i}"))
    _acknowledge(put(store, content(3, 500), name="small"))
    put(store, b"gone" * LARGE, name="gone")
    POINTS[point]()
    if point == "unlink-before-commit":
        store.delete("id-gone").result(20)
        store.gc(time.time() + 1, 0.0).result(20)
    put(store, content(99, LARGE), name="last")
    raise SystemExit(f"{point} was never reached")


def _load(store: Any, seed: int) -> None:
    """Stores, deletes and collects until it is killed from outside."""
    chance = random.Random(seed)
    for i in range(10**6):
        number = seed * 1000 + i
        size = chance.choice((10, 5000, 60_000, LARGE))
        name = f"{chance.randrange(20)}-{seed}"
        _acknowledge(put(store, content(number, size), name=name), number, size)
        if chance.random() < 0.1:
            store.delete(f"id-{chance.randrange(20)}-{seed + 500}").result(20)
            store.gc(time.time(), 0.0).result(20)


def _acknowledge(outcome: Any, number: int = 0, size: int = 0) -> None:
    version = outcome.version
    print(version.resource_id, version.name, version.body.digest, number, size, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)
