"""The writing thread: groups, failures that stay alone, and a log that speaks once an outbreak."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import lmdb
import pytest

from buffy_proxy.errors import NotFound, StoreError, StoreFull
from buffy_proxy.store import writer
from buffy_proxy.store.index import LmdbStore
from buffy_proxy.store.tx import Tx
from buffy_proxy.store.writer import Operation, Trouble
from tests.store.kit import LARGE, NOW, findings, lmdb_store, put, submit, version


def hold(store: LmdbStore) -> threading.Event:
    """Keeps the writer busy until the event is set, so that what follows is one group."""
    started, release = threading.Event(), threading.Event()

    def run(tx: Tx) -> None:
        started.set()
        release.wait(20)

    store._writer.submit(Operation(run))
    assert started.wait(20)
    return release


def commits(store: LmdbStore) -> int:
    return int(store._use().env.info()["last_txnid"])


def test_what_waits_is_one_commit(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    release = hold(store)
    futures = [submit(store, b"%d" % i, name=f"{i}") for i in range(50)]
    before = commits(store)
    release.set()
    assert {future.result(20).kind for future in futures} == {"stored"}
    assert commits(store) - before <= 2
    store.close()


def test_one_failure_takes_no_other_with_it(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    release = hold(store)
    good = submit(store, b"a" * LARGE, name="a")
    missing = store.update_version(version(resource_id="id-zzz", name="n"))
    broken: Future[Any] = store._writer.submit(Operation(lambda tx: 1 // 0))
    bad_fields = submit(store, b"b" * LARGE, name="b", fields=((b"X", b"\0"),))
    also_good = submit(store, b"c" * LARGE, name="c")
    release.set()
    assert good.result(20).kind == also_good.result(20).kind == "stored"
    for future, error in ((missing, NotFound), (broken, StoreError), (bad_fields, StoreError)):
        with pytest.raises(error):
            future.result(20)
    assert [r.id for r in store.resources()] == ["id-a", "id-c"]
    store.close()
    assert findings(tmp_path) == []


def test_a_cancelled_write_is_not_done(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    release = hold(store)
    future = submit(store, b"a" * LARGE)
    assert future.cancel()
    release.set()
    put(store, b"b", name="b")
    assert store.versions("id-page") == ()
    assert list((tmp_path / "tmp").iterdir()) == []
    store.close()


def test_close_finishes_what_was_handed_in(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    release = hold(store)
    futures = [submit(store, b"%d" % i, name=f"{i}") for i in range(600)]
    threading.Timer(0.1, release.set).start()
    store.close()
    assert all(future.result(0).kind == "stored" for future in futures)
    again = lmdb_store(tmp_path)
    assert again.usage().versions == 600
    again.close()


def test_a_failing_commit_fails_the_group_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = lmdb_store(tmp_path)
    put(store, b"before", name="before")
    release = hold(store)
    futures = [submit(store, b"%d" % i * LARGE, name=f"{i}") for i in range(3)]

    def full(digests: Any) -> None:
        raise lmdb.DiskError("no space left on the device")

    with monkeypatch.context() as patch:
        patch.setattr(store._files, "sync", full)
        release.set()
        for future in futures:
            with pytest.raises(StoreFull):
                future.result(20)
    assert [r.id for r in store.resources()] == ["id-before"]
    assert findings(tmp_path) == []
    assert put(store, b"0" * LARGE, name="0").kind == "stored"
    store.close()
    assert findings(tmp_path) == []


def test_trouble_is_logged_once_an_outbreak(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "buffy.store")
    trouble = Trouble(quiet_s=0.0)
    trouble.worked()
    for _ in range(5):
        trouble.failed("disk full")
    for _ in range(5):
        trouble.worked()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "storing stopped",
        "storing works again",
    ]
    trouble.failed("disk full")
    assert len(caplog.records) == 3


def test_a_disk_at_its_limit_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(quiet_s=60.0)
    for _ in range(5):
        trouble.failed("disk full")
        trouble.worked()
    assert len(caplog.records) == 1


def test_writing_from_many_threads(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)

    def work(number: int) -> None:
        for turn in range(25):
            put(store, b"%d %d" % (number, turn), name=f"{turn}", now=NOW)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.usage().resources == 25
    assert store.usage().versions == 50
    store.close()
    assert findings(tmp_path) == []


def test_the_thread_outlives_failures_of_what_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = lmdb_store(tmp_path)

    def fail(*_: object) -> Any:
        raise lmdb.ReadersFullError("no reader slot")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_over", fail)
        assert put(store, b"a", name="a").kind == "stored"
        failing: Future[Any] = store._writer.submit(Operation(lambda tx: 1, after=fail))
        assert failing.result(20) == 1
        assert put(store, b"b", name="b").kind == "stored"
    assert put(store, b"c", name="c").kind == "stored"
    store.close()


def test_a_patient_version_waits_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    store = lmdb_store(tmp_path)
    before = commits(store)
    futures = [submit(store, b"%d" % i, name=f"{i}", patient=True) for i in range(20)]
    assert not any(future.done() for future in futures)
    put(store, b"now", name="impatient")  # returns when it is committed
    assert all(future.result(20).kind == "stored" for future in futures)
    assert commits(store) - before == 1
    store.close()


def test_who_waits_hurries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    store = lmdb_store(tmp_path)
    future = submit(store, b"a", name="a", patient=True)
    store.hurry()
    assert future.result(20).kind == "stored"
    last = submit(store, b"b", name="b", patient=True)
    store.close()
    assert last.result(0).kind == "stored"


def test_patience_ends(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    assert submit(store, b"a", name="a", patient=True).result(20).kind == "stored"
    store.close()
