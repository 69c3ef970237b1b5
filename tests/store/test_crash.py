"""kill -9 at named points and at random moments: what was acknowledged is there, nothing is half there."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buffy_proxy.store.index import LmdbStore
from tests.store.crash_script import POINTS, content
from tests.store.kit import LARGE, NOW, content_of, findings, lmdb_store, put

LEFTOVERS = {"orphan", "temporary"}
"""The only things a crash may leave behind. They cost space and nothing else, until the next start."""


def script(data_dir: Path, point: str, seed: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.store.crash_script", str(data_dir), point, str(seed)]
    return subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def acknowledged(output: bytes) -> list[list[str]]:
    """Resource, version, digest, … of each line that was written whole."""
    return [line.decode().split() for line in output.split(b"\n")[:-1]]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point: str, tmp_path: Path) -> None:
    process = script(tmp_path, point)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert {kind for kind, _ in findings(tmp_path)} <= LEFTOVERS
    store = lmdb_store(tmp_path)
    assert findings(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    lines = acknowledged(output)
    assert len(lines) == 4
    for resource_id, name, digest, *_ in lines:
        version = store.version(resource_id, name)
        assert version is not None
        assert hashlib.sha256(content_of(store, version)).hexdigest() == version.body.digest == digest
    assert len(store.versions("id-last")) == (point == "after-commit")
    assert content_of(store, put(store, content(99, LARGE), name="last").version) == content(99, LARGE)
    store.gc(NOW + 10**9, 0.0).result(20)
    store.close()
    assert findings(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_killed_at_random_with_others_writing(tmp_path: Path) -> None:
    chance = random.Random(4)
    latest: dict[str, list[str]] = {}
    for turn in range(6):
        processes = [script(tmp_path, "load", seed=2 * turn + i) for i in range(2)]
        began = [process.stdout.readline() for process in processes if process.stdout is not None]
        time.sleep(chance.random() * 0.5)
        for process, first in zip(processes, began, strict=True):
            process.send_signal(signal.SIGKILL)
            for line in acknowledged(first + process.communicate(timeout=20)[0]):
                latest[line[0]] = line
        assert {kind for kind, _ in findings(tmp_path)} <= LEFTOVERS
        lmdb_store(tmp_path).close()
        assert findings(tmp_path) == []
    assert len(latest) > 12
    store = lmdb_store(tmp_path)
    for line in latest.values():
        _present(store, line)
    store.close()


def _present(store: LmdbStore, line: list[str]) -> None:
    """The newest version that was acknowledged is there (a newer one may have been committed unsaid)."""
    resource_id, name, _, number, size = line
    version = store.version(resource_id, name)
    assert version is not None
    assert content_of(store, version) == content(int(number), int(size))


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    process = script(tmp_path, "load", seed=1)
    assert process.stdout is not None
    seen = theirs = 0
    while theirs < 20:
        resource_id, name, digest, number, size = process.stdout.readline().decode().split()
        version = store.version(resource_id, name)
        if version is None:  # it writes faster than we read: newer versions took its place
            assert store.versions(resource_id)[0].name > name
            continue
        theirs += 1
        assert version.body.digest == digest
        assert content_of(store, version) == content(int(number), int(size))
        put(store, content(int(number), int(size)), name="mine")
        seen += len(store.versions("id-mine"))
    process.kill()
    process.communicate(timeout=20)
    assert seen > 20
    store.close()
    assert {kind for kind, _ in findings(tmp_path)} <= LEFTOVERS
