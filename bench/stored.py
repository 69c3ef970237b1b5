"""What grows with the store: bench/lookup.py and bench/scale.py at sizes up to a given one."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.common import OUT, Result
from tests.support.procs import ROOT, clean_env

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LIMIT_S = 3600.0


def lookup(largest: int) -> list[Result]:
    """[{"size", "us": {what: µs}, …}], by size."""
    found: list[Result] = json.loads(ran("bench.lookup", "--json", "--sizes", sizes(largest)))
    return found


def scale(largest: int) -> list[Result]:
    """[{"size", "start_s", "memory_mib", …}], by size."""
    ran("bench.scale", "--sizes", sizes(largest))
    found: list[Result] = json.loads((OUT / "scale.json").read_text())["rows"]
    return found


def sizes(largest: int) -> str:
    return ",".join(str(size) for size in SIZES if size <= largest)


def ran(module: str, *options: str) -> str:
    """Its output. In a process of its own, since memory is part of what is measured."""
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-300:]}")
    return done.stdout
