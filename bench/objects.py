"""One large object, and one object that fifty want at once, side by side, with curl as the client."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from bench.peers import Peer, on_core
from bench.report import number, table

Result = dict[str, Any]
GIB = 1 << 30
LIMIT_S = 120
CROWD = 50


def curl(peer: Peer | None, scheme: str, path: str, origin: dict[str, str]) -> list[str]:
    """A command that prints the status, the seconds to the first byte and to the last, and the size."""
    port = (peer.ports if peer and peer.ports else origin)[scheme]
    forward = peer is not None and peer.ports is None
    via = ["--proxy", f"http://127.0.0.1:{peer.port}"] if peer and forward else ["--noproxy", "*"]
    shown = "%{http_code} %{time_starttransfer} %{time_total} %{size_download}\n"
    fixed = ["curl", "-s", "-k", "-m", str(LIMIT_S), "-o", "/dev/null", "-w", shown]
    return [*fixed, *via, f"{scheme}://127.0.0.1:{port}{path}"]


@contextmanager
def growth(peer: Peer | None) -> Iterator[list[int]]:
    """The most by which anonymous memory grew, in bytes; sampled 20 times a second."""
    grown, stop = [0], threading.Event()
    before = peer.memory() if peer else 0

    def watch() -> None:
        while peer and not stop.wait(0.05):
            grown[0] = max(grown[0], peer.memory() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        stop.set()
        watcher.join()


def transfer(peer: Peer | None, scheme: str, path: str, origin: dict[str, str]) -> Result:
    with growth(peer) as grown, on_core(1):
        done = subprocess.run(curl(peer, scheme, path, origin), capture_output=True, text=True)
    _status, first_s, total_s, size = done.stdout.split()
    whole = done.returncode == 0 and int(size) == GIB
    speed = GIB / float(total_s) / 1e6 if whole else 0.0
    return {
        "value": speed,
        "first_ms": float(first_s) * 1000,
        "mib": grown[0] / 2**20,
        "failed": int(not whole),
    }


def big(peers: list[Peer], origin: dict[str, str], rounds: int) -> list[Result]:
    """1 GiB: a miss and then a hit through each peer, in turn; MB/s."""
    taken: dict[tuple[str, str], list[Result]] = {}
    for scheme in ("http", "https"):
        for _ in range(rounds):
            for peer in (None, *peers):
                path = f"/big/{uuid4().hex}"
                for kind in ("miss", "hit") if peer else ("direct",):
                    key = (
                        f"1 GiB {kind if peer else 'direct'}, {scheme}, MB/s",
                        peer.name if peer else "direct",
                    )
                    taken.setdefault(key, []).append(transfer(peer, scheme, path, origin))
                    time.sleep(0.2)
    return [merged(*key, results) for key, results in taken.items()]


def crowd(peer: Peer, origin: dict[str, str]) -> Result:
    command = curl(peer, "http", f"/small/{uuid4().hex}", origin)
    with growth(peer) as grown, on_core(1):
        began = time.monotonic()
        pipe = subprocess.PIPE
        running = [subprocess.Popen(command, stdout=pipe, text=True) for _ in range(CROWD)]
        answers = [process.communicate()[0].split() for process in running]
        took = time.monotonic() - began
    good = [answer for answer in answers if answer[:1] == ["200"]]
    first = statistics.median(float(answer[1]) for answer in good) * 1000 if good else 0.0
    return {"value": took * 1000, "first_ms": first, "mib": grown[0] / 2**20, "failed": CROWD - len(good)}


def together(peers: list[Peer], origin: dict[str, str], rounds: int) -> list[Result]:
    """Fifty clients ask at once for one object that nobody has; ms until all have it, curl's start too."""
    taken: dict[str, list[Result]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            taken[peer.name].append(crowd(peer, origin))
    return [merged(f"{CROWD} at once, ms", name, results) for name, results in taken.items()]


def merged(what: str, name: str, results: list[Result]) -> Result:
    middle = {key: statistics.median(result[key] for result in results) for key in ("value", "first_ms")}
    failed = sum(result["failed"] for result in results)
    return {"what": what, "through": name, **middle, "mib": max(r["mib"] for r in results), "failed": failed}


def object_rows(rows: list[Result]) -> str:
    names = ("what", "through", "figure", "first byte, ms", "memory growth, MiB", "failed")
    cells = (
        (r["what"], r["through"], number(r["value"]), f"{r['first_ms']:.1f}", f"{r['mib']:.0f}", r["failed"])
        for r in rows
    )
    return table(names, cells)
