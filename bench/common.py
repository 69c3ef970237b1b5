"""What all benchmarks share: where results go, the machine, processor time and memory of processes."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUT = HERE / "out"
GIB, MIB = 1 << 30, 1 << 20
Result = dict[str, Any]
TICK = os.sysconf("SC_CLK_TCK")


def machine() -> Result:
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "?")
    names = ("mitmproxy", "lmdb", "uvloop", "h2")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: installed(name) for name in names},
    }


def installed(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "-"


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Children started inside inherit this core; a no-op on a machine with one."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """The process and all below it; [] when it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        below = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(one for child in below for one in family(child))]


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time in seconds, user and system, that these processes used so far."""
    return sum(map(_ticks, pids)) / TICK


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def anonymous(pids: Iterable[int]) -> int:
    """Resident bytes that no file backs."""
    return sum(map(_anonymous, pids))


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@contextmanager
def growth(pid: int | None) -> Iterator[list[int]]:
    """The most by which the anonymous memory of a process and all below it grew, in bytes, sampled 20 times a
    second. None is nobody, who needs none."""
    grown, stop = [0], threading.Event()
    before = anonymous(family(pid)) if pid else 0

    def watch() -> None:
        while pid and not stop.wait(0.05):
            grown[0] = max(grown[0], anonymous(family(pid)) - before)

    watcher = threading.Thread(target=watch)
    with on_core(1):  # the other one is the proxy's
        watcher.start()
    try:
        yield grown
    finally:
        stop.set()
        watcher.join()
