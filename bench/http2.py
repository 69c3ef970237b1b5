"""Hits for HTTP/2 clients: `python -m bench.http2 [--seconds S] [--rounds N]`.

The client is h2load (Debian: nghttp2-client), which knows no proxy: bench/relay.c opens the tunnels for it.
Both run on the other core; their shares of it are part of each result, to show who was the bottleneck. TLS is
between h2load and the proxy. Writes http2.md and http2.json to bench/out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.peers import PEERS, Absent, Peer, Place, family, free_port, on_core
from bench.report import number, table

HERE = Path(__file__).parent
OUT = HERE / "out"
URLS = 1000
SHAPES = ((1, 32), (32, 1), (1, 1))
"""Connections, and streams at a time on each."""
NEW = 1000
WARM_UP_S = 1.0
_TICK = os.sysconf("SC_CLK_TCK")
_SPEED = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")
_COUNTS = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored")
Result = dict[str, Any]


def cpu_s(pids: list[int]) -> float:
    """Seconds of processor time that these processes used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


@contextmanager
def relay(directory: Path, proxy: int, port: str) -> Iterator[tuple[int, int]]:
    """A running relay to 127.0.0.1:`port` through the proxy at `proxy`: where it listens, and its pid."""
    binary, listen = directory / "relay", free_port()
    if not binary.exists():
        command = ["gcc", "-O2", "-D_GNU_SOURCE", "-o", str(binary), str(HERE / "relay.c")]
        subprocess.run(command, check=True)
    with on_core(1):
        process = subprocess.Popen([str(part) for part in (binary, listen, proxy, "127.0.0.1", port)])
    try:
        time.sleep(0.2)
        yield listen, process.pid
    finally:
        process.kill()
        process.wait()


def h2load(directory: Path, port: str, path: str, listen: int, options: list[object]) -> list[str]:
    """A command that asks the relay at `listen` for URLS URLs in turn. Raises Absent without h2load."""
    if shutil.which("h2load") is None:
        raise Absent("h2load is not installed (Debian: apt-get install nghttp2-client)")
    urls = directory / "urls.txt"
    urls.write_text("".join(f"https://127.0.0.1:{port}{path}{n}\n" for n in range(URLS)))
    command = ["h2load", "-t1", "-i", urls, f"--connect-to=127.0.0.1:{listen}", *options]
    return [str(part) for part in command]


def store_all(directory: Path, peer: Peer, port: str, path: str = "/small/") -> None:
    """Asks for each URL once."""
    with relay(directory, peer.port, port) as (listen, _):
        command = h2load(directory, port, path, listen, ["-c1", "-m8", f"-n{URLS}"])
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=120)


def http2_hits(
    directory: Path,
    peer: Peer,
    port: str,
    connections: int,
    streams: int,
    seconds: float,
    path: str = "/small/",
) -> Result:
    """One run over URLS URLs below `path` at the HTTPS origin at `port`, which should be stored (`store_all`,
    or any other way). A second without measuring comes first. Raises Absent without h2load.

    per_second  answers
    cpu_us      processor time of the proxy, all its processes, for each
    busy        share of a core that h2load used; `relay`: that the relay used
    failed      answers other than 2xx, and none
    """
    times = directory / "times.txt"
    times.unlink(missing_ok=True)
    with relay(directory, peer.port, port) as (listen, relay_pid), on_core(1):
        limits = [f"-D{seconds * 1000:.0f}ms", f"--warm-up-time={WARM_UP_S * 1000:.0f}ms"]
        options = [f"-c{connections}", f"-m{streams}", *limits, f"--log-file={times}"]
        command = h2load(directory, port, path, listen, options)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(WARM_UP_S + 0.2 * seconds)
        watched = {"proxy": family(peer.pid), "h2load": [process.pid], "relay": [relay_pid]}
        before, began = {name: cpu_s(pids) for name, pids in watched.items()}, time.monotonic()
        time.sleep(0.6 * seconds)
        used = {name: cpu_s(pids) - before[name] for name, pids in watched.items()}
        took = time.monotonic() - began
        text, _ = process.communicate(timeout=seconds + 60)
    speed, counts = _SPEED.search(text), _COUNTS.search(text)
    per_second = float(speed[1]) if speed else 0.0
    waits = sorted(int(line.split("\t")[2]) for line in times.read_text().splitlines()) or [0]
    return {
        "per_second": per_second,
        "cpu_us": used["proxy"] / took / per_second * 1e6 if per_second else 0.0,
        "p50_us": waits[len(waits) // 2],
        "p99_us": waits[len(waits) * 99 // 100],
        "busy": used["h2load"] / took,
        "relay": used["relay"] / took,
        "failed": int(counts[2]) + int(counts[3]) if counts else 1,
    }


def http2_connections(directory: Path, peer: Peer, port: str, path: str = "/small/") -> Result:
    """NEW connections, each with a CONNECT, a whole handshake and one hit: how many a second, and the
    processor time of the proxy for each. Few at a time: the relay opens them one by one."""
    with relay(directory, peer.port, port) as (listen, _), on_core(1):
        options = [f"-c{NEW}", "-m1", f"-n{NEW}", "--rate=40", "--rate-period=20ms"]
        command = h2load(directory, port, path, listen, options)
        before = cpu_s(family(peer.pid))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        used = cpu_s(family(peer.pid)) - before
    speed, counts = _SPEED.search(done.stdout), _COUNTS.search(done.stdout)
    return {
        "per_second": float(speed[1]) if speed else 0.0,
        "cpu_us": used / NEW * 1e6,
        "failed": int(counts[2]) + int(counts[3]) if counts else NEW,
    }


def median(results: list[Result]) -> Result:
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def markdown(rows: list[Result], new: Result) -> str:
    names = ("HTTP/2 hits, 1 KiB", "hits/s", "CPU µs/hit", "p50 µs", "p99 µs", "h2load", "relay", "failed")
    cells = (
        (
            f"{row['connections']} connections × {row['streams']} streams",
            number(row["per_second"]),
            f"{row['cpu_us']:.0f}",
            f"{row['p50_us']:.0f}",
            f"{row['p99_us']:.0f}",
            f"{row['busy']:.2f}",
            f"{row['relay']:.2f}",
            f"{row['failed']:.0f}",
        )
        for row in rows
    )
    speed, cpu = number(new["per_second"]), f"{new['cpu_us']:.0f}"
    cells_new = [("new TLS connections, one hit each", speed, cpu, f"{new['failed']:.0f}")]
    return table(names, cells) + "\n" + table(("HTTP/2", "per second", "CPU µs each", "failed"), cells_new)


def main() -> None:
    from bench.versus import origin_process

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin = stack.enter_context(origin_process(directory))
        home = directory / "buffy"
        home.mkdir()
        with on_core(0):
            peer = PEERS["buffy"](Place(home, origin))
        stack.callback(peer.stop)
        store_all(directory, peer, origin["https"])
        rows = []
        for connections, streams in SHAPES:
            once = [
                http2_hits(directory, peer, origin["https"], connections, streams, wanted.seconds)
                for _ in range(wanted.rounds)
            ]
            rows.append({"connections": connections, "streams": streams, **median(once)})
        rounds = [http2_connections(directory, peer, origin["https"]) for _ in range(wanted.rounds)]
        new = median(rounds)
    OUT.mkdir(exist_ok=True)
    (OUT / "http2.json").write_text(json.dumps({"hits": rows, "connections": new}, indent=1) + "\n")
    (OUT / "http2.md").write_text(markdown(rows, new))
    print(markdown(rows, new))


if __name__ == "__main__":
    main()
