"""Bodies while they arrive and while they are read: from several threads, cut short, without room."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from buffy_proxy.errors import BodyMissing, StoreError, StoreFull
from buffy_proxy.store.bodies import INLINE_LIMIT, BodyFiles, FileReader, Spool
from tests.store.kit import LARGE, content_of, findings, lmdb_store, put

CAP = 1 << 30


@pytest.fixture
def files(tmp_path: Path) -> BodyFiles:
    (tmp_path / "bodies").mkdir()
    (tmp_path / "tmp").mkdir()
    return BodyFiles(tmp_path)


def test_many_read_along_and_see_every_byte(files: BodyFiles) -> None:
    content = random.Random(1).randbytes(8 * INLINE_LIMIT)
    spool = Spool(files, INLINE_LIMIT, CAP)
    wrong: list[int] = []

    def follow() -> None:
        at = 0
        while at < len(content):
            chunk = spool.read_at(at, 1000)
            if chunk != content[at : at + len(chunk)]:
                wrong.append(at)
            at += len(chunk)

    followers = [threading.Thread(target=follow) for _ in range(4)]
    for follower in followers:
        follower.start()
    for at in range(0, len(content), 700):
        spool.write(content[at : at + 700])
    ref = spool.finish()
    for follower in followers:
        follower.join(30)
    assert wrong == []
    assert ref.size == len(content)
    spool.abort()


def test_reading_goes_on_while_another_thread_closes(files: BodyFiles) -> None:
    """A descriptor is never closed (and used for another file) under a pread."""
    for turn in range(50):
        path = files.tmp / f"{turn}"
        path.write_bytes(b"A" * 5000)
        reader = FileReader(path, 5000)
        seen: set[bytes] = set()

        def read(reader: FileReader = reader, seen: set[bytes] = seen) -> None:
            try:
                while True:
                    seen.add(reader.read_at(0, 4))
            except BodyMissing:
                pass

        thread = threading.Thread(target=read)
        thread.start()
        while not seen:
            pass
        reader.close()
        others = [os.open("/dev/zero", os.O_RDONLY) for _ in range(5)]
        thread.join(10)
        for fd in others:
            os.close(fd)
        assert seen == {b"AAAA"}


def test_a_file_that_lost_its_end(files: BodyFiles) -> None:
    path = files.tmp / "short"
    path.write_bytes(b"A" * 100)
    reader = FileReader(path, 200)
    assert reader.read_at(0, 500) == b"A" * 100
    with pytest.raises(BodyMissing, match="shorter"):
        reader.read_at(100, 10)
    reader.close()


@pytest.mark.parametrize("size", [10, INLINE_LIMIT + 1])
def test_aborted_leaves_nothing_but_can_be_read_on(files: BodyFiles, size: int) -> None:
    spool = Spool(files, INLINE_LIMIT, CAP)
    spool.write(b"x" * size)
    spool.abort()
    assert list(files.tmp.iterdir()) == []
    assert spool.read_at(size - 5, 100) == b"x" * 5
    with pytest.raises(StoreError):
        spool.finish()
    with pytest.raises(StoreError):
        spool.write(b"x")


def test_forgotten_leaves_nothing(files: BodyFiles) -> None:
    spool = Spool(files, INLINE_LIMIT, CAP)
    spool.write(b"x" * (INLINE_LIMIT + 1))
    assert len(list(files.tmp.iterdir())) == 1
    del spool
    assert list(files.tmp.iterdir()) == []


@pytest.mark.parametrize("broken", ["write", "fdatasync", "open"])
def test_a_disk_that_takes_no_more(
    tmp_path: Path, files: BodyFiles, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    spool = Spool(BodyFiles(tmp_path, said.append), INLINE_LIMIT, CAP)
    spool.write(b"x" * 10)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(StoreFull, match="No space"):
            spool.write(b"x" * INLINE_LIMIT)
            spool.finish()
    assert len(said) == 1
    assert list(files.tmp.iterdir()) == []
    with pytest.raises(StoreError):
        spool.finish()


def test_a_short_write_is_continued(files: BodyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:1000]))
    spool = Spool(files, INLINE_LIMIT, CAP)
    content = random.Random(2).randbytes(INLINE_LIMIT + 12_345)
    spool.write(content)
    spool.finish()
    assert spool.read_at(0, 10**6) == content
    spool.abort()


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = lmdb_store(tmp_path)
    assert content_of(store, put(store, b"x" * LARGE).version) == b"x" * LARGE
    assert list((tmp_path / "tmp").iterdir()) == []
    store.close()
    assert findings(tmp_path) == []


def test_what_is_in_memory_is_read_without_waiting(files: BodyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(2).randbytes(300_000)
    path = files.tmp / "cached"
    path.write_bytes(content)
    reader = FileReader(path, len(content))
    for offset, length in ((0, 1000), (250_000, 100_000), (len(content), 10), (7, len(content))):
        chunk = reader.read_now(offset, length)
        assert chunk is None or (chunk and content[offset : offset + length].startswith(chunk))
    monkeypatch.setattr("buffy_proxy.store.bodies._NOW", None)  # as on systems that have no such read
    assert reader.read_now(0, 1000) is None
    reader.close()
    monkeypatch.undo()
    assert reader.read_now(0, 1000) is None


def test_where_reading_at_once_is_not_possible(files: BodyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.tmp / "slow"
    path.write_bytes(b"x" * 100)

    def not_now(*args: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "preadv", not_now)
    reader = FileReader(path, 100)
    assert reader.read_now(0, 100) is None
    assert reader.read_at(0, 100) == b"x" * 100
