"""What a killed process leaves behind, found and removed when the store is opened, and by gc.

A temporary file is locked (flock) as long as its process needs it, so one that can be locked is dead; pids
would not do, for they are used again, at once in containers. A body is put in place by a second hard
link: its temporary name goes only after the commit. So a body file without a record, left by a crash in
between, is recognised by its dead temporary twin, without a walk over all bodies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from buffy_proxy.store.bodies import BodyFiles, Handle
from buffy_proxy.store.env import Index
from buffy_proxy.store.tx import Tx

_CHUNK: Final = 1 << 20


def dead(tmp: Path) -> Iterator[tuple[Path, Handle]]:
    """Temporary files that no process holds, each locked while the caller looks at it."""
    for path in sorted(tmp.iterdir()):
        with contextlib.suppress(OSError):
            handle = Handle(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            fcntl.flock(handle.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path, handle


def sweep(index: Index, files: BodyFiles) -> None:
    """For when a store is opened. Takes the write lock only if there is something to remove."""
    if any(True for _ in dead(files.tmp)):
        with index.env.begin(write=True) as txn:
            remove(Tx(txn, index, files))


def remove(tx: Tx) -> int:
    """Removes dead temporary files, and the body files that they became without being recorded. Call under
    the write lock. Returns the bytes freed."""
    freed = 0
    for path, handle in dead(tx.files.tmp):
        stat = os.fstat(handle.fd)
        if stat.st_nlink > 1:
            _remove_unrecorded(tx, _digest(handle.fd), stat)
        path.unlink(missing_ok=True)
        freed += stat.st_size
    return freed


def _remove_unrecorded(tx: Tx, digest: bytes, twin: os.stat_result) -> None:
    with contextlib.suppress(FileNotFoundError):
        same = os.path.samestat(tx.files.path(digest).stat(), twin)
        if same and tx.txn.get(digest, db=tx.db.bodies) is None:
            tx.files.remove(digest)


def _digest(fd: int) -> bytes:
    sha, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK, at):
        sha.update(chunk)
        at += len(chunk)
    return sha.digest()
