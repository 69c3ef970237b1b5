"""`buffy store backup DIR`: a compacted copy of the index, hard links to the body files.

On another file system they are copied. It may run beside a server: files are linked before the index is
copied, so that no body can go away in between, and what was added meanwhile is linked afterwards.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import lmdb

from buffy_proxy.errors import StoreError, StoreUnusable
from buffy_proxy.store.bodies import BodyFiles, sync_directory
from buffy_proxy.store.check import check
from buffy_proxy.store.env import TOTALS, Index, open_index
from buffy_proxy.store.tx import BODY


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds: versions, distinct bodies and their bytes. `skipped` bodies went while it ran."""

    versions: int
    bodies: int
    body_bytes: int
    skipped: int


def backup(data_dir: Path, target: Path) -> Backup:
    """Copies the store to `target`, which may exist but must be empty. The copy is a data directory itself.

    Raises StoreUnusable for a store or target that cannot be used, StoreError when the copy fails; then
    nothing is left under `target`.
    """
    if not (data_dir / "index" / "data.mdb").exists():
        raise StoreUnusable(f"there is no store in {data_dir}")
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise StoreUnusable(f"{target} is not empty: name a new or an empty directory")
    except OSError as error:
        raise StoreUnusable(f"{target} cannot take a backup: {error}") from error
    try:
        return _copy(open_index(data_dir, 0), BodyFiles(data_dir), target)
    except (OSError, lmdb.Error) as error:
        for part in target.iterdir():
            shutil.rmtree(part, ignore_errors=True)
        raise StoreError(f"the backup to {target} failed: {error}") from error


def _copy(index: Index, files: BodyFiles, target: Path) -> Backup:
    for part in ("index", "bodies", "tmp"):
        (target / part).mkdir(mode=0o700)
    copied = BodyFiles(target)
    for path in files.root.glob("??/*"):
        _link(path, copied.root / path.parent.name / path.name)
    index.env.copy(str(target / "index"), compact=True)
    (target / "index" / "data.mdb").chmod(0o600)
    copy = open_index(target, 0)
    wanted = _file_bodies(copy)
    skipped = sum(not _complete(files, copied, digest, size) for digest, size in wanted.items())
    for path in copied.root.glob("??/*"):
        if bytes.fromhex(path.name) not in wanted:
            path.unlink()
    for directory in (*copied.root.iterdir(), copied.root, target / "index", target):
        sync_directory(directory)
    if skipped:
        list(check(target, repair=True))
    with copy.env.begin(db=copy.db.meta) as txn:
        _, versions, bodies, size, _ = TOTALS.unpack(txn.get(b"totals"))
    return Backup(versions, bodies, size, skipped)


def _file_bodies(index: Index) -> dict[bytes, int]:
    """Digests and sizes of the referenced bodies that are files."""
    with index.env.begin() as txn, txn.cursor(index.db.bodies) as cursor:
        found = ((digest, *BODY.unpack(record)) for digest, record in cursor)
        return {d: size for d, refs, size, _ in found if refs and txn.get(d, db=index.db.inline) is None}


def _complete(files: BodyFiles, copied: BodyFiles, digest: bytes, size: int) -> bool:
    return copied.holds(digest, size) or _link(files.path(digest), copied.path(digest))


def _link(source: Path, target: Path) -> bool:
    """False: the file is not there any more."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        return False
    except OSError:
        return _copy_file(source, target)
    return True


def _copy_file(source: Path, target: Path) -> bool:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return False
    target.chmod(0o600)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())
    return True
