"""Opening a data directory: by several at once, with less room, from another time."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from buffy_proxy.errors import StoreUnusable
from buffy_proxy.store import open_store
from buffy_proxy.store.env import MAX_READERS, open_index
from tests.store.kit import LARGE, NOW, content_of, findings, key, lmdb_store, put

GIB = 1 << 30


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        store = lmdb_store(tmp_path / "data")
        put(store, b"x" * LARGE)
        store.close()
    finally:
        os.umask(previous)
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_twice_in_one_process(tmp_path: Path) -> None:
    first, second = (
        lmdb_store(tmp_path),
        open_store(tmp_path / ".." / tmp_path.name, max_size=9, map_size=GIB),
    )
    version = put(first, b"x").version
    first.close()
    assert content_of(second, version) == b"x"
    assert second.secret == first.secret
    second.close()
    third = lmdb_store(tmp_path)
    assert third.versions("id-page") == (version,)
    third.close()


def test_opened_and_closed_by_many_threads(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                store = lmdb_store(tmp_path)
                put(store, b"%d %d" % (number, turn), name=f"{number}-{turn}")
                store.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = lmdb_store(tmp_path)
    assert store.usage().versions == 40
    store.close()


def test_a_read_after_close(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    store.close()
    with pytest.raises(StoreUnusable):
        store.versions("id-page")


def test_the_map_keeps_its_size_and_grows_for_who_is_alone(tmp_path: Path) -> None:
    sizes = []
    for wanted in (GIB, GIB // 4, 2 * GIB, 0):
        index = open_index(tmp_path, wanted)
        sizes.append(index.env.info()["map_size"])
        del index
    assert sizes == [GIB, GIB, 2 * GIB, 2 * GIB]
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"open\n"
    index = open_index(tmp_path, 4 * GIB)
    assert index.env.info()["map_size"] == 2 * GIB
    other.communicate(b"\n")


_HOLD = """
import sys; from pathlib import Path; from buffy_proxy.store.env import open_index
index = open_index(Path(sys.argv[1]), 0); print("open", flush=True); sys.stdin.readline()
"""


def test_the_file_stays_sparse_and_the_lock_file_has_its_blocks(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path, map_size=64 * GIB)
    put(store, b"x")
    data, lock = (tmp_path / "index" / name for name in ("data.mdb", "lock.mdb"))
    assert data.stat().st_size < 1 << 20
    assert lock.stat().st_blocks * 512 >= lock.stat().st_size >= 64 * MAX_READERS
    store.close()


def test_less_address_space_than_the_map_wants(tmp_path: Path) -> None:
    script = """
import resource, sys; from pathlib import Path
from buffy_proxy.store import open_store
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
store = open_store(Path(sys.argv[1]), max_size=1 << 30, map_size=64 << 30)
store.count("x", {"n": 1}).result(20); print(store.counters("x")); store.close()
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"{'n': 2}\n"


def test_a_newer_store(tmp_path: Path) -> None:
    index = open_index(tmp_path, GIB)
    with index.env.begin(write=True, db=index.db.meta) as txn:
        txn.put(b"format", struct.pack("<I", 99))
    del index, txn
    with pytest.raises(StoreUnusable, match=r"format 99.*newer Buffy"):
        lmdb_store(tmp_path)


def as_format_1(data_dir: Path) -> None:
    """Makes a store what it was before `ordered` came."""
    index = open_index(data_dir, GIB)
    with index.env.begin(write=True) as txn:
        txn.drop(index.db.ordered)
        txn.put(b"format", struct.pack("<I", 1), db=index.db.meta)


def test_a_store_of_format_1_gets_what_it_lacks(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    for name in ("plain", "ordered"):
        put(store, b"x", name=name)
    made = store.set_policy(key("ordered"), {"s": 1}, None, now=NOW).result(20)
    store.close()
    as_format_1(tmp_path)
    store = lmdb_store(tmp_path)
    assert store.look("id-ordered").resource == made
    assert store.look("id-plain").resource is None
    store.close()
    assert findings(tmp_path) == []


def test_a_store_of_format_1_that_another_has_open(tmp_path: Path) -> None:
    lmdb_store(tmp_path).close()
    as_format_1(tmp_path)
    with (tmp_path / "index" / "open.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(StoreUnusable, match=r"older Buffy.*stop it"):
            lmdb_store(tmp_path)
    lmdb_store(tmp_path).close()


def test_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreUnusable, match="restore a backup"):
        lmdb_store(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnusable):
        lmdb_store(tmp_path / "file")


def test_not_after_fork(tmp_path: Path) -> None:
    script = """
import os, sys; from pathlib import Path
from buffy_proxy.errors import StoreUnusable
from buffy_proxy.store import open_store
open_it = lambda: open_store(Path(sys.argv[1]), max_size=1 << 30, map_size=1 << 30)
store = open_it()
pid = os.fork()
if pid == 0:
    said = 0
    for attempt in (lambda: store.versions("x"), open_it):
        try:
            attempt()
        except StoreUnusable as error:
            said += "new process" in str(error)
    os._exit(5 + said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 7, done.stderr.decode()


def test_readers_of_killed_processes_are_cleared(tmp_path: Path) -> None:
    script = """
import os, sys; from pathlib import Path
from buffy_proxy.store.env import open_index
index = open_index(Path(sys.argv[1]), 1 << 30)
held = [index.env.begin() for _ in range(20)]
os.kill(os.getpid(), 9)
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    index = open_index(tmp_path, GIB)
    assert index.env.readers().count("\n") <= 2
    assert isinstance(index.env, lmdb.Environment)
