"""kill -9 at random moments under load. `python -m bench.crash --rounds 200` does many more rounds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Factory
from tests.support import answers, crash
from tests.support.origin import Origin
from tests.support.procs import wait_until


@pytest.mark.slow
def test_acknowledged_versions_survive_kill_9(buffy: Factory, origin: Origin) -> None:
    run = crash.CrashRun(buffy(config=crash.config(origin)), origin, seed=2)
    for _ in range(12):
        run.round(sample=20)
    run.verify(10_000)
    assert len(run.acknowledged) > 100 and run.checked > 200


def test_what_was_in_flight_leaves_nothing_behind(buffy: Factory, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.sized([b"x" * 3_000_000, 5.0, b"y"], answers.FRESH))
    server = buffy()
    with server.open(url) as client:
        server.send(client, "GET", url)
        client.exactly(1_000_000)
        server.kill()
    server.start()
    server.check_store()
    assert server.cli("store", "gc").returncode == 0
    wait_until(lambda: not big_files(server.data_dir), 10)
    assert server.get(url, user="mode=offline").status == 504


def big_files(directory: Path) -> list[Path]:
    """Body files; the index file is sparse and lies elsewhere."""
    found = [file for sub in ("bodies", "tmp") for file in (directory / sub).rglob("*") if file.is_file()]
    return [file for file in found if file.stat().st_size > 100_000]


def test_sigterm_keeps_what_had_arrived(buffy: Factory, origin: Origin, path: str) -> None:
    urls = [origin.on(f"{path}/{n}", answers.fixed(b"%d" % n * 5000, answers.FRESH)) for n in range(50)]
    server = buffy()
    for url in urls:
        server.get(url)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    server.check_store()
    server.start()
    assert all(server.get(url).cache.hit for url in urls)
