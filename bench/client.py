"""A cached order of 1 KiB, create_request to last byte: `python -m bench.client [--quick] [--old PYTHON]`.

Our client and the one of DZDBuffy 0.7.3 against our server, and the old client against its own (where a
redis-server is installed): one process for the time of an order, eight for orders per second. `--old` names
a Python that has that package; by default the one that the tests made. Writes client.json and client.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import OUT, Result, machine
from bench.old_pair import old_server
from bench.report import client as markdown
from tests.support.answers import FRESH, fixed
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import ROOT, clean_env

WORKER = Path(__file__).with_name("client_worker.py")
NAMES = {"new": "buffy_client", "old": "DZDBuffy 0.7.3"}
PROCESSES = 8


def workers(python: str, which: str, api: str, url: str, seconds: float, count: int) -> list[list[float]]:
    """Runs `count` client processes at once; gives the ms of each order of each."""
    command = [python, str(WORKER), which, api, url, str(seconds)]
    pipe = subprocess.PIPE
    env = clean_env()
    started = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=ROOT) for _ in range(count)
    ]
    for worker in started:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in started:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [json.loads(worker.communicate()[0]) for worker in started]


def measure(python: str, which: str, api: str, url: str, seconds: float) -> Result:
    alone = sorted(workers(python, which, api, url, seconds, 1)[0])
    began = time.monotonic()
    rows = workers(python, which, api, url, seconds, PROCESSES)
    took = time.monotonic() - began
    together = sorted(ms for row in rows for ms in row)
    return {
        "client": NAMES[which],
        "p50_ms": statistics.median(alone),
        "p99_ms": alone[int(len(alone) * 0.99)],
        "orders": len(alone),
        "per_second": len(together) / seconds,
        "busy_p50_ms": statistics.median(together),
        "busy_p99_ms": together[int(len(together) * 0.99)],
        "took_s": took,
    }


def old_python(given: str | None) -> str | None:
    """Where DZDBuffy is installed; None if nowhere."""
    found = sorted((ROOT / ".pytest_cache" / "d").glob("old-client-*/env/bin/python"))
    return given or (str(found[-1]) if found else None)


def rows_of(seconds: float, old: str | None) -> list[Result]:
    origin = Origin()
    url = origin.on("/small", fixed(piece(1, 0, 1024), FRESH))
    with tempfile.TemporaryDirectory() as directory:
        server = Buffy(Path(directory), 'log_level = "warning"\n').start()
        try:
            api = f"http://127.0.0.1:{server.api[1]}"
            rows = [measure(sys.executable, "new", api, url, seconds)]
            if old is not None:
                rows.append(measure(old, "old", api, url, seconds))
                rows += old_pair(old, url, seconds)
            return rows
        finally:
            server.discard()
            origin.shut_down()


def old_pair(old: str, url: str, seconds: float) -> list[Result]:
    """The old client against the old server; [] without redis."""
    with old_server(old) as api:
        if api is None:
            return []
        return [
            {**measure(old, "old", api, url, max(seconds, 5.0)), "client": "DZDBuffy 0.7.3, its own server"}
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one second of each")
    parser.add_argument("--old", metavar="PYTHON", help="a Python that has DZDBuffy 0.7.3")
    wanted = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    rows = rows_of(1.0 if wanted.quick else 5.0, old_python(wanted.old))
    results = {"machine": machine(), "rows": rows}
    (OUT / "client.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / "client.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
