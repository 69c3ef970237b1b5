"""`buffy store check`: every record, every reference and every digest, with or without mending.

It may run beside a server. Index and records are compared within one transaction. What concerns files is
looked at without a lock first and, when something seems wrong, again under the write lock, where nobody can
be between placing a body and its commit. Bodies are read once, whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from buffy_proxy.core.model import Version
from buffy_proxy.errors import BodyMissing, StoreError, StoreUnusable
from buffy_proxy.store import leftovers
from buffy_proxy.store.audit import Finding, audit, rebuild
from buffy_proxy.store.bodies import BodyFiles
from buffy_proxy.store.env import Index, open_index
from buffy_proxy.store.records import body_of, decode_version
from buffy_proxy.store.tx import BODY, Tx

_CHUNK: Final = 1 << 20
_PAGE: Final = 256
_HEX: Final = frozenset("0123456789abcdef")
_SECOND_LOOK_S: Final = 0.1


def check(data_dir: Path, *, repair: bool = False) -> Iterator[Finding]:
    """Yields what is wrong under `data_dir`; with `repair` each finding is mended as it says.

    Raises StoreUnusable when there is no store, or LMDB cannot read it; StoreError when mending has no room.
    """
    if not (data_dir / "index" / "data.mdb").exists():
        raise StoreUnusable(f"there is no store in {data_dir}")
    checker = _Checker(open_index(data_dir, 0), BodyFiles(data_dir), repair)
    try:
        yield from checker.index()
        yield from checker.bodies()
        yield from checker.orphans()
        yield from checker.temporaries()
    except lmdb.Error as error:
        raise StoreError(f"the check of {data_dir} was broken off: {error}") from error


class _Checker:
    def __init__(self, index: Index, files: BodyFiles, repair: bool) -> None:
        self._index = index
        self._files = files
        self._repair = repair

    def _tx(self, txn: Any) -> Tx:
        return Tx(txn, self._index, self._files)

    def index(self) -> Iterator[Finding]:
        with self._index.env.begin() as txn:
            findings = list(audit(self._tx(txn)))
        if findings and self._repair:
            with self._index.env.begin(write=True) as txn:
                findings = list(audit(self._tx(txn)))
                if findings:
                    tx = self._tx(txn)
                    rebuild(tx, time.time())
                    tx.seal()
        yield from findings

    # -- bodies: there, and what their name says ------------------------------------------------------------

    def bodies(self) -> Iterator[Finding]:
        start = b""
        while page := self._referenced(start):
            for digest, size in page:
                if self._content_problem(digest, size) is not None:
                    yield from self._settle(digest)
            start = page[-1][0] + b"\0"

    def _referenced(self, start: bytes) -> list[tuple[bytes, int]]:
        page: list[tuple[bytes, int]] = []
        with self._index.env.begin() as txn, txn.cursor(self._index.db.bodies) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found and len(page) < _PAGE:
                refs, size, _ = BODY.unpack(cursor.value())
                if refs:
                    page.append((cursor.key(), size))
                found = cursor.next()
        return page

    def _content_problem(self, digest: bytes, size: int) -> str | None:
        with self._index.env.begin() as txn:
            content = txn.get(digest, db=self._index.db.inline)
        if content is not None:
            return None if hashlib.sha256(content).digest() == digest else "its bytes are damaged"
        try:
            return self._file_problem(digest, size)
        except BodyMissing as error:
            return str(error)

    def _file_problem(self, digest: bytes, size: int) -> str | None:
        reader, sha, at = self._files.open(digest, size), hashlib.sha256(), 0
        if not self._files.holds(digest, size):
            return f"its file does not have {size} bytes"
        while chunk := reader.read_at(at, _CHUNK):
            sha.update(chunk)
            at += len(chunk)
        return None if sha.digest() == digest else "its bytes are damaged"

    def _settle(self, digest: bytes) -> Iterator[Finding]:
        """Looks again under the write lock, and drops whatever names that body."""
        with self._index.env.begin(write=True) as txn:
            tx = self._tx(txn)
            found = txn.get(digest, db=self._index.db.bodies)
            refs, size, _ = (0, 0, 0.0) if found is None else BODY.unpack(found)
            problem = self._content_problem(digest, size) if refs else None
            if problem is None:
                return
            if self._repair:
                self._drop_users(tx, digest)
                tx.seal()
        yield Finding("body", digest.hex(), problem, "versions with it are dropped, to be fetched again")

    def _drop_users(self, tx: Tx, digest: bytes) -> None:
        for version in _users(tx, digest):
            if version.name:
                tx.drop_version(version, time.time())
            else:
                tx.drop_error(version.resource_id.encode(), time.time())
            if (entry := tx.entry(version.resource_id)) is not None:
                tx.settle(entry)
        tx.txn.delete(digest, db=tx.db.inline)
        tx.files.remove(digest)

    # -- files that nothing names ---------------------------------------------------------------------------

    def orphans(self) -> Iterator[Finding]:
        for directory in sorted(self._files.root.iterdir()):
            for path in sorted(directory.iterdir()) if directory.is_dir() else ():
                if len(path.name) == 64 and set(path.name) <= _HEX and not self._is_named(path):
                    yield from self._settle_orphan(path)

    def _is_named(self, path: Path) -> bool:
        digest = bytes.fromhex(path.name)
        with self._index.env.begin(db=self._index.db.bodies) as txn:
            return txn.get(digest) is not None and self._files.path(digest) == path

    def _settle_orphan(self, path: Path) -> Iterator[Finding]:
        with self._index.env.begin(write=True):
            if self._is_named(path) or not path.exists():
                return
            if self._repair:
                path.unlink()
        yield Finding("orphan", path.name, "a body file that no record names", "the file is removed")

    def temporaries(self) -> Iterator[Finding]:
        names = [path.name for path, _ in leftovers.dead(self._files.tmp)]
        if names:
            # A file is locked a moment after it is made: what is in use is so at the second look.
            time.sleep(_SECOND_LOOK_S)
            dead = {path.name for path, _ in leftovers.dead(self._files.tmp)}
            names = [name for name in names if name in dead]
        if names and self._repair:
            with self._index.env.begin(write=True) as txn:
                leftovers.remove(self._tx(txn))
        for name in names:
            yield Finding("temporary", name, "left by a process that is gone", "the file is removed")


def _users(tx: Tx, digest: bytes) -> list[Version]:
    found: list[Version] = []
    for db in (tx.db.versions, tx.db.errors):
        with tx.txn.cursor(db) as cursor:
            for key, record in cursor:
                if body_of(record)[0] == digest:
                    rid, _, name = key.decode().partition("\0")
                    found.append(decode_version(rid, name, record))
    return found
