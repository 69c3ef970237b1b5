"""A backup is a data directory of its own: complete, sound, and independent of the original."""

from __future__ import annotations

import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest

from buffy_proxy.errors import StoreUnusable
from buffy_proxy.store.backup import backup
from buffy_proxy.store.index import LmdbStore
from tests.store.kit import LARGE, content_of, findings, lmdb_store, put, put_error


def everything(store: LmdbStore) -> dict[str, list[bytes]]:
    return {r.id: [content_of(store, v) for v in store.versions(r.id)] for r in store.resources()}


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    made = lmdb_store(tmp_path / "data")
    for i in range(5):
        put(made, b"%d" % i * LARGE, name=f"large{i}")
        put(made, b"%d" % i, name=f"small{i}", tags=frozenset({"t"}))
    put_error(made, b"oops")
    return made


def test_complete_and_independent(store: LmdbStore, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "backup"
    made = backup(tmp_path / "data", target)
    assert (made.versions, made.bodies, made.skipped) == (10, 11, 0)
    assert findings(target) == []
    copy = lmdb_store(target)
    assert everything(copy) == everything(store)
    assert copy.secret == store.secret
    for resource in list(store.resources()):
        store.delete(resource.id).result(20)
    store.gc(time.time() + 1, 0.0).result(20)
    assert copy.usage().versions == 10
    copy.close()
    store.close()
    assert findings(target) == []
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in target.rglob("*"))


def test_large_bodies_are_links(store: LmdbStore, tmp_path: Path) -> None:
    backup(tmp_path / "data", tmp_path / "backup")
    files = [path for path in (tmp_path / "backup" / "bodies").rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {path.stat().st_nlink for path in files} == {2}
    store.close()


def test_what_waits_to_be_collected_stays_behind(store: LmdbStore, tmp_path: Path) -> None:
    store.delete("id-large0").result(20)
    backup(tmp_path / "data", tmp_path / "backup")
    assert len([path for path in (tmp_path / "backup" / "bodies").rglob("*") if path.is_file()]) == 4
    assert findings(tmp_path / "backup") == []
    store.close()


def test_onto_another_file_system(store: LmdbStore, tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=shared_memory) as directory:
        backup(tmp_path / "data", Path(directory) / "backup")
        assert findings(Path(directory) / "backup") == []
        copy = lmdb_store(Path(directory) / "backup")
        assert everything(copy) == everything(store)
        copy.close()
    store.close()


def test_refused(store: LmdbStore, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    with pytest.raises(StoreUnusable, match="not empty"):
        backup(tmp_path / "data", tmp_path / "full")
    with pytest.raises(StoreUnusable, match="no store"):
        backup(tmp_path / "nothing", tmp_path / "backup")
    with pytest.raises(StoreUnusable):
        backup(tmp_path / "data", tmp_path / "full" / "precious")
    assert (tmp_path / "full" / "precious").read_text() == "x"
    store.close()


def test_beside_a_server_at_work(store: LmdbStore, tmp_path: Path) -> None:
    done = threading.Event()

    def work() -> None:
        for i in range(10**6):
            if done.is_set():
                return
            put(store, b"%d" % i * 30_000, name=f"{i % 7}", now=time.time())
            store.gc(time.time(), 0.0).result(20)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for turn in range(5):
            backup(tmp_path / "data", tmp_path / f"backup{turn}")
            assert findings(tmp_path / f"backup{turn}") == []
    finally:
        done.set()
        thread.join()
    store.close()
