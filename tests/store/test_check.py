"""`check` finds each kind of damage, says what it is, mends it, and then finds nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.errors import StoreUnusable
from buffy_proxy.store import audit
from buffy_proxy.store.check import check
from buffy_proxy.store.env import Index, open_index
from buffy_proxy.store.records import time_key
from buffy_proxy.store.tx import BODY
from tests.store.kit import LARGE, NOW, content_of, findings, key, lmdb_store, put, put_error, submit


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A store with two large and two small bodies, an error response, a renewal, an order."""
    store = lmdb_store(tmp_path)
    put(store, b"L" * LARGE, name="large", refresh_at=NOW + 5)
    put(store, b"M" * LARGE, name="medium")
    put(store, b"small", name="small")
    put(store, b"small", name="twin", tags=frozenset({"t"}))
    store.set_policy(key("twin"), {"s": 1}, None, now=NOW).result(20)
    put_error(store, b"oops", name="error", fresh_until=NOW + 10**6)
    store.close()
    return tmp_path


def body_file(data_dir: Path, letter: bytes) -> Path:
    (found,) = (p for p in (data_dir / "bodies").rglob("*") if p.is_file() and p.read_bytes()[:1] == letter)
    return found


def edit(data_dir: Path, change: Callable[[Index, Any], object]) -> None:
    index = open_index(data_dir, 0)
    with index.env.begin(write=True) as txn:
        change(index, txn)


def kinds(data_dir: Path, *, repair: bool = False) -> set[str]:
    return {kind for kind, _ in findings(data_dir, repair=repair)}


def survivors(data_dir: Path) -> dict[str, bytes]:
    store = lmdb_store(data_dir)
    found = {r.id[3:]: content_of(store, v) for r in store.resources() for v in store.versions(r.id)}
    store.close()
    return found


WHOLE = {"large": b"L" * LARGE, "medium": b"M" * LARGE, "small": b"small", "twin": b"small"}


def test_a_sound_store(data_dir: Path) -> None:
    assert findings(data_dir) == []
    assert survivors(data_dir) == WHOLE


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable):
        list(check(tmp_path))
    assert list(tmp_path.iterdir()) == []


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda path: os.truncate(path, 7), lambda path: os.truncate(path, 300_000)]
)
def test_a_damaged_body_file(data_dir: Path, damage: Callable[[Path], None]) -> None:
    path = body_file(data_dir, b"M")
    damage(path)
    assert findings(data_dir) == [("body", path.name)]
    assert findings(data_dir) == [("body", path.name)]
    assert findings(data_dir, repair=True) == [("body", path.name)]
    assert findings(data_dir) == []
    assert survivors(data_dir) == {name: WHOLE[name] for name in ("large", "small", "twin")}


def test_a_damaged_body_in_the_index(data_dir: Path) -> None:
    def change(index: Index, txn: Any) -> None:
        with txn.cursor(index.db.inline) as cursor:
            (digest,) = (key for key, value in cursor if value == b"small")
        txn.put(digest, b"smell", db=index.db.inline)

    edit(data_dir, change)
    assert kinds(data_dir, repair=True) == {"body"}
    assert findings(data_dir) == []
    assert survivors(data_dir) == {name: WHOLE[name] for name in ("large", "medium")}


def test_a_damaged_body_of_an_error_response(data_dir: Path) -> None:
    def change(index: Index, txn: Any) -> None:
        with txn.cursor(index.db.inline) as cursor:
            (digest,) = (key for key, value in cursor if value == b"oops")
        txn.delete(digest, db=index.db.inline)

    edit(data_dir, change)
    assert kinds(data_dir, repair=True) == {"body"}
    assert findings(data_dir) == []
    assert survivors(data_dir) == WHOLE


@pytest.mark.parametrize("name", ["due", "lru", "order", "groups", "ordered", "stale"])
def test_an_order_that_lost_its_entries_or_has_too_many(data_dir: Path, name: str) -> None:
    def lose(index: Index, txn: Any) -> None:
        txn.drop(getattr(index.db, name), delete=False)

    def add(index: Index, txn: Any) -> None:
        txn.put(time_key(NOW + 77) + b"id-nobody\0x", b"", db=getattr(index.db, name))

    for change in (lose, add):
        edit(data_dir, change)
        assert kinds(data_dir) == {"index"}
        assert kinds(data_dir, repair=True) == {"index"}
        assert findings(data_dir) == []
    store = lmdb_store(data_dir)
    assert [due.resource_id for due in store.due(NOW + 10**6, 9)] == ["id-large"]
    assert [r.id[3:] for r in store.resources()] == [*WHOLE, "error"]
    store.close()


def test_references_are_counted_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lmdb_store(tmp_path)
    for number in range(40):
        put(store, b"%d" % (number // 2), name=f"{number}")
    usage = store.usage()
    store.close()
    digests: list[bytes] = []

    def change(index: Index, txn: Any) -> None:
        with txn.cursor(index.db.bodies) as cursor:
            digests.extend(cursor.iternext(keys=True, values=False))
        txn.delete(digests[3], db=index.db.bodies)
        for digest in (digests[0], digests[-1]):
            txn.put(digest, BODY.pack(7, 2, 0.0), db=index.db.bodies)

    edit(tmp_path, change)
    whole = set(findings(tmp_path))
    assert {("references", digests[at].hex()) for at in (0, 3, -1)} <= whole
    monkeypatch.setattr(audit, "SLICE", 3)
    assert set(findings(tmp_path)) == whole
    assert set(findings(tmp_path, repair=True)) == whole
    assert findings(tmp_path) == []
    monkeypatch.undo()
    assert findings(tmp_path) == []
    store = lmdb_store(tmp_path)
    assert store.usage() == usage
    store.close()


@pytest.mark.parametrize("references", [0, 1, 9])
def test_wrong_reference_counts(data_dir: Path, references: int) -> None:
    def change(index: Index, txn: Any) -> None:
        with txn.cursor(index.db.bodies) as cursor:
            rows = [(digest, BODY.unpack(record)) for digest, record in cursor]
        (digest,) = (digest for digest, (refs, _, _) in rows if refs == 2)
        txn.put(digest, BODY.pack(references, 5, 0.0), db=index.db.bodies)

    edit(data_dir, change)
    assert "references" in kinds(data_dir, repair=True)
    assert findings(data_dir) == []
    assert survivors(data_dir) == WHOLE


def test_lost_body_records_and_wrong_totals(data_dir: Path) -> None:
    def change(index: Index, txn: Any) -> None:
        txn.drop(index.db.bodies, delete=False)
        txn.put(b"totals", b"\xff" * 40, db=index.db.meta)

    edit(data_dir, change)
    assert {"references", "totals"} <= kinds(data_dir, repair=True)
    assert findings(data_dir) == []
    assert survivors(data_dir) == WHOLE
    store = lmdb_store(data_dir)
    assert (store.usage().resources, store.usage().versions, store.usage().bodies) == (5, 4, 4)
    store.close()


@pytest.mark.parametrize("db", ["versions", "resources", "errors"])
def test_a_record_that_does_not_decode(data_dir: Path, db: str) -> None:
    def change(index: Index, txn: Any) -> None:
        with txn.cursor(getattr(index.db, db)) as cursor:
            cursor.first()
            key, record = cursor.item()
        txn.put(key, record[:-1], db=getattr(index.db, db))

    edit(data_dir, change)
    assert "record" in kinds(data_dir)
    assert "record" in kinds(data_dir, repair=True)
    assert findings(data_dir) == []
    assert set(WHOLE) - set(survivors(data_dir)) <= {"large"}


def test_orphans_and_temporary_files(data_dir: Path) -> None:
    orphan = data_dir / "bodies" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")
    misplaced = data_dir / "bodies" / "ab" / body_file(data_dir, b"L").name
    misplaced.write_bytes(b"x")
    (data_dir / "bodies" / "ab" / "README").write_text("not ours")
    store = lmdb_store(data_dir)
    arriving = store.new_body()
    arriving.write(bytes(LARGE))
    (data_dir / "tmp" / "999999999-0011").write_bytes(b"x")
    (data_dir / "tmp" / f"{os.getpid()}-0012").write_bytes(b"the pid is in use again")
    wanted = {("orphan", orphan.name), ("orphan", misplaced.name)} | {
        ("temporary", "999999999-0011"),
        ("temporary", f"{os.getpid()}-0012"),
    }
    assert set(findings(data_dir)) == wanted
    assert orphan.exists()
    assert set(findings(data_dir, repair=True)) == wanted
    assert findings(data_dir) == []
    assert len(list((data_dir / "tmp").iterdir())) == 1
    arriving.abort()
    store.close()
    assert survivors(data_dir) == WHOLE


def test_beside_a_server_at_work(data_dir: Path) -> None:
    store = lmdb_store(data_dir)
    done = threading.Event()
    futures = []

    def work() -> None:
        for i in range(10**6):
            if done.is_set():
                return
            futures.append(submit(store, b"%d" % i * 40_000, name=f"{i % 7}", now=time.time()))
            store.gc(time.time(), 0.0).result(20)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        seen = [finding for _ in range(15) for finding in findings(data_dir, repair=True)]
    finally:
        done.set()
        thread.join()
    assert seen == []
    assert {future.result(20).kind for future in futures} == {"stored"}
    store.close()


def test_findings_read_as_sentences(data_dir: Path) -> None:
    path = body_file(data_dir, b"M")
    path.unlink()
    (finding,) = check(data_dir)
    assert str(finding).startswith(path.name)
    assert "dropped" in str(finding)


def test_much_of_the_same_is_summed_up(tmp_path: Path) -> None:
    store = lmdb_store(tmp_path)
    for future in [submit(store, b"x", name=f"{i}") for i in range(50)]:
        future.result(20)
    store.close()
    edit(tmp_path, lambda index, txn: txn.drop(index.db.lru, delete=False))
    found = list(check(tmp_path, repair=True))
    assert len(found) == 21
    assert "30 more" in found[-1].problem
    assert findings(tmp_path) == []
