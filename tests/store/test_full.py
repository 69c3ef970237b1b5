"""No room: a full map, a full disk, a file size limit. Nothing half-stored, one line, and it resumes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffy_proxy.errors import StoreFull
from buffy_proxy.store.index import LmdbStore
from tests.store.kit import NOW, content_of, findings, lmdb_store, put, submit

MIB = 1 << 20


def fill(store: LmdbStore, size: int, limit: int = 3000, **changes: float) -> int:
    """Stores bodies until there is no room. Returns how many were stored."""
    for i in range(limit):
        try:
            put(store, i.to_bytes(4, "big") * (size // 4), name=f"{i}", **changes)
        except StoreFull:
            return i
    raise AssertionError("it never got full")


def test_a_full_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "buffy.store")
    store = lmdb_store(tmp_path, map_size=2 * MIB)
    store.trouble.quiet_s = 0.0
    stored = fill(store, 4000, pinned_until=float("inf"))
    assert stored > 20
    for _ in range(20):
        with pytest.raises(StoreFull):
            put(store, b"y" * 4000, name="more")
    assert store.usage().versions == stored
    assert findings(tmp_path) == []
    for i in range(stored // 2):
        store.delete(f"id-{i}").result(20)
    store.gc(NOW + 10**9, 0.0).result(20)
    assert put(store, b"y" * 4000, name="more").kind == "stored"
    said = [record.message.split(":")[0] for record in caplog.records]
    assert said == ["storing stopped", "storing works again"]
    store.close()
    assert findings(tmp_path) == []


def churn(store: LmdbStore, sizes: list[int]) -> int:
    """Stores bodies in groups of ten. Returns how many were refused."""
    refused = 0
    for start in range(0, len(sizes), 10):
        group = range(start, start + 10)
        futures = [
            submit(store, i.to_bytes(4, "big") * (sizes[i] // 4), name=f"{i}", now=NOW + i * 1e-3)
            for i in group
        ]
        refused += sum(isinstance(future.exception(20), StoreFull) for future in futures)
    return refused


def test_a_map_full_of_what_may_go_makes_room_by_itself(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path, map_size=4 * MIB)
    assert churn(store, [4000] * 600) < 300
    assert 50 < store.usage().versions < 500
    assert store.resource("id-0") is None
    assert content_of(store, put(store, b"last", now=NOW + 1).version) == b"last"
    store.close()
    assert findings(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("no right to mount a file system")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "buffy.store")
    data_dir = small_disk / "data"
    store = lmdb_store(data_dir)
    store.trouble.quiet_s = 0.0
    kept = put(store, b"kept" * 1000, name="kept").version
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    for size in (MIB, 30_000, 5000, 10) * 5:
        with pytest.raises(StoreFull):
            put(store, os.urandom(size), name="more")
    assert content_of(store, kept) == b"kept" * 1000
    assert store.usage().versions == 1
    assert findings(data_dir) == []
    ballast.unlink()
    for size in (MIB, 10):
        assert put(store, os.urandom(size), name=f"again{size}").kind == "stored"
    said = [record.message.split(":")[0] for record in caplog.records]
    assert said == ["storing stopped", "storing works again"]
    store.close()
    assert findings(data_dir) == []


def test_a_disk_that_fills_while_storing(small_disk: Path) -> None:
    store = lmdb_store(small_disk / "data")
    stored = 0
    for i in range(200):
        try:
            put(store, os.urandom((i * 7919) % 200_000), name=f"{i}")
            stored += 1
        except StoreFull:
            continue
    assert 30 < stored == store.usage().versions < 200
    assert sum(len(content_of(store, v)) for r in store.resources() for v in store.versions(r.id)) > 5 * MIB
    for resource in list(store.resources())[: stored // 2]:
        store.delete(resource.id).result(20)
    store.gc(NOW + 10**9, 0.0).result(20)
    assert put(store, os.urandom(MIB), name="big").kind == "stored"
    store.close()
    assert findings(small_disk / "data") == []


def test_a_file_size_limit(tmp_path: Path) -> None:
    script = """
import resource, sys; from pathlib import Path
from buffy_proxy.errors import StoreFull
from tests.store.kit import lmdb_store, put
store = lmdb_store(Path(sys.argv[1]))
put(store, b"kept", name="kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
full = 0
for i in range(40):
    try: put(store, b"%02d" % i * 5000, name=str(i))
    except StoreFull: full += 1
try: put(store, b"x" * 400_000, name="big")
except StoreFull: full += 100
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(store, b"x" * 400_000, name="big")
print(full); store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 100 < int(done.stdout) <= 140
    assert findings(tmp_path) == []


def test_a_map_in_pieces(tmp_path: Path) -> None:
    """Large values need pages in a row: the map is full before its pages are used up."""
    store = LmdbStore(tmp_path, max_size=1 << 30, map_size=8 * MIB, inline_limit=100_000)
    store._use().page_limit = int(store._use().map_pages * 0.85)
    refused = churn(store, [4 * (2500 + i * 7919 % 20_000) for i in range(400)])
    assert refused < 150
    assert store.resource("id-0") is None
    store.close()
    assert findings(tmp_path) == []
