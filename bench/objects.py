"""One object at a time, side by side: 1 GiB, one that fifty want at once, one that is late, an upload."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from bench.common import GIB, MIB, Result, growth, on_core
from bench.ground import Ground, Load
from bench.peers import Peer
from bench.versus import name_of

LIMIT_S = 120.0
CROWD = 50
BUFFERS = "mitmdump"
"""It holds bodies in memory whole: 1 GiB takes minutes and gigabytes, so it gets 128 MiB, once."""
Once = Callable[[Peer | None], list[Result]]


def big(ground: Ground, rounds: int) -> list[Result]:
    """1 GiB direct, and as a miss and then a hit through each peer."""

    def once(scheme: str) -> Once:
        def run(peer: Peer | None) -> list[Result]:
            path = f"/{'some' if name_of(peer) == BUFFERS else 'big'}/{uuid4().hex}"
            kinds = ("miss", "hit") if peer else ("direct",)
            return [{"what": f"{scheme}, {kind}", **transfer(ground, scheme, path, peer)} for kind in kinds]

        return run

    return [
        row for scheme in ("http", "https") for row in in_turns(ground, once(scheme), rounds, direct=True)
    ]


def transfer(ground: Ground, scheme: str, path: str, peer: Peer | None) -> Result:
    """One download. `origin_requests` 0 proves a hit."""
    os.sync()  # or what the one before left to be written would be written now
    size = 128 * MIB if path.startswith("/some/") else GIB
    with growth(peer.pid if peer else None) as grown:
        found = ground.run(Load(scheme, path, 1, 1, LIMIT_S, limit=1), peer)
    whole = found["bytes"] == size
    return {
        "mb_per_s": found["bytes"] / found["seconds"] / 1e6 if whole else 0.0,
        "first_ms": found["first_us"] / 1000,
        "grown_mib": grown[0] / MIB,
        "proxy_busy": found["proxy_busy"],
        "busy": found["busy"],
        "origin_busy": found["origin_busy"],
        "cpu_s": found["cpu_us"] / 1e6,
        "origin_requests": found["origin_requests"],
        "failed": int(not whole),
    }


def crowd(ground: Ground, rounds: int) -> list[Result]:
    """Fifty clients ask at once for 1 MiB that nobody has; its second half comes 0.2 s after the first."""

    def once(peer: Peer | None) -> list[Result]:
        load = Load("http", f"/slow/{uuid4().hex}/", 1, CROWD, LIMIT_S, limit=CROWD)
        return [{"what": f"{CROWD} at once", **waited(ground, load, peer)}]

    return in_turns(ground, once, rounds)


def late(ground: Ground, rounds: int) -> list[Result]:
    """The first byte of an answer whose end comes a second later."""

    def once(peer: Peer | None) -> list[Result]:
        load = Load("http", f"/late/{uuid4().hex}/", 1, 1, LIMIT_S, limit=1)
        return [{"what": "first byte", **waited(ground, load, peer)}]

    return in_turns(ground, once, rounds, direct=True)


def waited(ground: Ground, load: Load, peer: Peer | None) -> Result:
    found = ground.run(load, peer)
    return {
        "all_ms": found["seconds"] * 1000,
        "first_ms": found["first_us"] / 1000,
        "origin_requests": found["origin_requests"],
        "failed": max(0, load.limit - found["requests"]) + found["failed"],
    }


def upload(ground: Ground, rounds: int) -> list[Result]:
    """1 GiB from a sparse file to the origin; curl is the client."""
    file = ground.generator.with_name("upload")
    with file.open("wb") as made:
        made.truncate(GIB)

    def once(scheme: str) -> Once:
        def run(peer: Peer | None) -> list[Result]:
            return [{"what": scheme, **sent(ground, scheme, file, peer)}]

        return run

    skip = (BUFFERS,)
    return [
        row for s in ("http", "https") for row in in_turns(ground, once(s), rounds, direct=True, skip=skip)
    ]


def sent(ground: Ground, scheme: str, file: Path, peer: Peer | None) -> Result:
    via = ["--proxy", f"http://127.0.0.1:{peer.port}"] if peer and peer.ports is None else ["--noproxy", "*"]
    command = ["curl", "-s", "-f", "-k", "-m", str(LIMIT_S), "-o", os.devnull, *via, "-T", str(file)]
    url = f"{scheme}://127.0.0.1:{ground.port(scheme, peer)}/upload"
    with growth(peer.pid if peer else None) as grown, on_core(1):
        began = time.monotonic()
        done = subprocess.run([*command, url])
        took = time.monotonic() - began
    good = done.returncode == 0
    return {
        "mb_per_s": GIB / took / 1e6 if good else 0.0,
        "grown_mib": grown[0] / MIB,
        "failed": int(not good),
    }


def in_turns(
    ground: Ground, once: Once, rounds: int, direct: bool = False, skip: Sequence[str] = ()
) -> list[Result]:
    """Runs `once` through all peers in each round; one row for each thing and peer, sorted by thing."""
    peers: list[Peer | None] = [*([None] if direct else []), *(p for p in ground.peers if p.name not in skip)]
    taken: dict[tuple[str, str], list[Result]] = {}
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else reversed(peers):
            if name_of(peer) == BUFFERS and number > 0:
                continue
            for found in once(peer):
                print(f"  {found['what']}: {name_of(peer)}", file=sys.stderr, flush=True)
                taken.setdefault((found.pop("what"), name_of(peer)), []).append(found)
    things = list(dict.fromkeys(what for what, _ in taken))
    return [
        {"what": what, "through": name, **merged(runs, taken.get((what, "squid")))}
        for thing in things
        for (what, name), runs in taken.items()
        if what == thing
    ]


def merged(runs: Sequence[Result], squid: Sequence[Result] | None) -> Result:
    """Medians; of memory and requests at the origin the most."""
    worst = ("grown_mib", "origin_requests")
    found = {
        name: (max if name in worst else statistics.median)(run[name] for run in runs)
        for name in runs[0]
        if name != "failed"
    }
    pairs = [(a, b) for a, b in zip(runs, squid or (), strict=False) if b.get("mb_per_s")]
    ratio = statistics.median(a["mb_per_s"] / b["mb_per_s"] for a, b in pairs) if pairs else None
    return {**found, "failed": sum(run["failed"] for run in runs), "of_squid": ratio}
