"""Bodies: small ones travel in memory into the index, large ones through a temporary file to their path.

The order that makes a crash harmless: write → fsync → (under the index's write lock) link to the digest
path → fsync of the directory → commit of the record → removal of the temporary name. Who reads along uses
`read_at`, which never takes a lock: see `Spool._buffer`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from buffy_proxy.core.model import BodyRef
from buffy_proxy.errors import BodyMissing, StoreError, StoreFull

INLINE_LIMIT: Final = 64 * 1024
"""Bodies up to this many bytes stand in the index (measured: docs/store.md)."""

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS})
NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How file systems say that they have no hard links."""
_LOW_WATER: Final = 64 * 1024
_MUCH: Final = 2 << 30
_MUCH_S: Final = 0.1
"""In so short a time nobody writes so many bytes."""
_NOW: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
_OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Handle:
    """A file descriptor that is closed when the last user lets go of it, so that a close() in one thread
    cannot pull it from under a pread() in another."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


class MemoryReader:
    """A body that is in memory as a whole."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self._content = content

    def read_at(self, offset: int, length: int) -> bytes:
        if offset == 0 and length >= self.size:
            return self._content
        return self._content[offset : offset + length]

    read_now = read_at

    def close(self) -> None:
        self._content = b""


class FileReader:
    """A body file; stays readable when it is unlinked meanwhile."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._handle: Handle | None = Handle(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def read_now(self, offset: int, length: int) -> bytes | None:
        """As `read_at`, of what the system has in memory; None where it would wait for the disk, or cannot
        tell."""
        handle, wanted = self._handle, min(length, self.size - offset)
        if handle is None or wanted <= 0 or _NOW is None:
            return None
        buffer = bytearray(wanted)
        try:
            count = os.preadv(handle.fd, [buffer], offset, _NOW)
        except OSError:  # EAGAIN, or a file system that does not know the flag
            return None
        return bytes(memoryview(buffer)[:count]) if count else None

    def read_at(self, offset: int, length: int) -> bytes:
        """Raises BodyMissing when the file is shorter than its record says, or was closed."""
        if (handle := self._handle) is None:
            raise BodyMissing("the body was closed")
        wanted = min(length, self.size - offset)
        if wanted <= 0:
            return b""
        try:
            chunk = os.pread(handle.fd, wanted, offset)
        except OSError as error:
            raise BodyMissing(f"a body file cannot be read: {error}") from error
        if not chunk:
            raise BodyMissing(
                "a body file is shorter than its record; `buffy store check --repair` mends that"
            )
        return chunk

    def close(self) -> None:
        self._handle = None


class Spool:
    """The BodyWriter: up to `inline_limit` bytes in memory, beyond that in a temporary file.

    `_buffer` is replaced, never emptied, and only after `_handle` is set: a reader that takes the buffer
    first and the handle second sees all bytes in one of the two, without a lock.
    """

    def __init__(self, files: BodyFiles, inline_limit: int, cap: int) -> None:
        self.size = 0
        self.path: Path | None = None
        self.ref: BodyRef | None = None
        self.taken = False
        self._files = files
        self._inline_limit = inline_limit
        self._cap = cap
        self._buffer = bytearray()
        self._handle: Handle | None = None
        self._lock: Handle | None = None  # outlives close(): the writing thread may need the file yet
        self._sha = hashlib.sha256()
        self._usable = True

    def write(self, chunk: bytes) -> None:
        if self.ref is not None or not self._usable:
            raise StoreError("this body was finished or aborted already")
        if self.size + len(chunk) > self._cap:
            raise self._gave_up(
                f"a body of more than {self._cap} bytes does not fit into the store's max_size"
            )
        self._sha.update(chunk)
        try:
            self._append(chunk)
        except OSError as error:
            raise self._gave_up(str(error)) from error
        self.size += len(chunk)

    def _append(self, chunk: bytes) -> None:
        if self._handle is None and self.size + len(chunk) <= self._inline_limit:
            self._buffer += chunk
            return
        if self._handle is None:
            self.path, handle = self._files.temporary()
            _write_all(handle.fd, self._buffer)
            self._handle = self._lock = handle
            self._buffer = bytearray()
        _write_all(self._handle.fd, chunk)

    def read_at(self, offset: int, length: int) -> bytes:
        buffer = self._buffer
        if (handle := self._handle) is not None:
            return os.pread(handle.fd, length, offset)
        return bytes(buffer[offset : offset + length])

    def finish(self) -> BodyRef:
        if not self._usable:
            raise StoreError("this body was aborted")
        if self.ref is None:
            try:
                if self._handle is not None:
                    os.fdatasync(self._handle.fd)
            except OSError as error:
                raise self._gave_up(str(error)) from error
            self.ref = BodyRef(self._sha.hexdigest(), self.size)
        return self.ref

    def content(self) -> bytes:
        """The whole body; for those without a file."""
        return bytes(self._buffer)

    def take(self) -> BodyRef:
        """Hands the content over to the store, which from now on moves or removes the temporary file."""
        if self.ref is None or self.taken or not self._usable:
            raise StoreError("add_version needs a body that is finished, not aborted and not stored before")
        self.taken = True
        return self.ref

    def discard(self) -> None:
        """Removes the temporary name, and with the last handle the content, if it was not put in place."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self._lock = None

    def abort(self) -> None:
        if not self.taken:
            self._usable = False
            self.discard()

    def close(self) -> None:
        self.abort()
        self._handle = None

    def __del__(self) -> None:
        """Who forgets a body aborts it; but a copy that a fork made is not the one to do so."""
        with contextlib.suppress(AttributeError, OSError):
            if self.path is not None and self.path.name.startswith(f"{os.getpid()}-"):
                self.abort()

    def _gave_up(self, why: str) -> StoreFull:
        self.abort()
        self._files.on_full(why)
        return StoreFull(f"the body cannot be stored: {why}")


class BodyFiles:
    """The directories `bodies/` and `tmp/`. `on_full` is told why a write did not work."""

    def __init__(self, data_dir: Path, on_full: Callable[[str], None] = lambda why: None) -> None:
        self.root = data_dir.absolute() / "bodies"
        self.tmp = data_dir.absolute() / "tmp"
        self.on_full = on_full
        self._room_until = 0.0

    def path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.root / name[:2] / name

    def temporary(self) -> tuple[Path, Handle]:
        """A new file, locked for as long as its handle lives: that is how others know that it is in use. One
        that was taken for dead before it was locked has no name any more; then once again."""
        while True:
            path = self.tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
            handle = Handle(os.open(path, _OPEN_FLAGS, 0o600))
            fcntl.flock(handle.fd, fcntl.LOCK_SH)
            if os.fstat(handle.fd).st_nlink:
                return path, handle

    def has_room(self) -> bool:
        """False when the disk is plainly full. Where there is much room, there is some a moment later."""
        now = time.monotonic()
        if now < self._room_until:
            return True
        stat = os.statvfs(self.tmp)
        room = stat.f_bavail * stat.f_frsize
        if room > _MUCH:
            self._room_until = now + _MUCH_S
        return room >= _LOW_WATER

    def place(self, temporary: Path, digest: bytes) -> None:
        """Gives a finished body its digest path. Call under the index's write lock, and `sync` before the
        commit. The temporary name stays until that is done (see leftovers.py)."""
        target = self.path(digest)
        if not target.parent.is_dir():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.root)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            temporary.rename(target)

    def sync(self, digests: Iterable[bytes]) -> None:
        """Makes placed files durable under their names, each directory once."""
        for directory in {self.path(digest).parent for digest in digests}:
            sync_directory(directory)

    def holds(self, digest: bytes, size: int) -> bool:
        """Whether the body's file is there in its full size (its bytes are not read)."""
        try:
            return self.path(digest).stat().st_size == size
        except OSError:
            return False

    def remove(self, digest: bytes) -> None:
        self.path(digest).unlink(missing_ok=True)

    def open(self, digest: bytes, size: int) -> FileReader:
        try:
            return FileReader(self.path(digest), size)
        except OSError as error:
            raise BodyMissing(f"the body {digest.hex()} is not there: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes | bytearray) -> None:
    with memoryview(data) as view:
        sent = 0
        while sent < len(view):
            sent += os.write(fd, view[sent:])
