"""Content goes to a temporary file beside its target, and under its name only when it is whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from buffy_client.errors import BuffyUsageError


class Sink(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> object: ...


AnySink = TypeVar("AnySink", bound=Sink)
Fill = Callable[[BinaryIO], None]


def is_special(path: Path) -> bool:
    """A device or a pipe: it is written to as it is, nothing can be renamed onto it."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_path(target: Path, fill: Fill) -> Path:
    """Gives `target`, filled and durable. A symbolic link is followed."""
    real = target.resolve()
    write_beside(real, fill, lambda: real)
    return target


def write_into(directory: Path, fill: Fill, name: Callable[[], str]) -> Path:
    """The same below a directory, which is made if need be; `name` is asked once the content is there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise BuffyUsageError(f"{directory} is not a directory") from None
    return write_beside(directory / "download", fill, lambda: directory / name())


def write_beside(near: Path, fill: Fill, final: Callable[[], Path]) -> Path:
    part = near.with_name(f".{near.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb+") as file:  # not tempfile: the target's mode shall follow the umask
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        target = final()
        part.replace(target)
        return target
    finally:
        part.unlink(missing_ok=True)


def write_sink(sink: AnySink, chunks: Iterable[bytes]) -> AnySink:
    """Writes to an open file. If the content breaks off, a file that can seek is put back as it was."""
    start = _position(sink)
    try:
        for chunk in chunks:
            sink.write(chunk)
    except BaseException:
        if start is not None:
            sink.seek(start)  # type: ignore[attr-defined]
            sink.truncate()  # type: ignore[attr-defined]
        raise
    return sink


def _position(sink: Sink) -> int | None:
    """Where it stands; None if it cannot be cut off there later."""
    try:
        return int(sink.tell()) if sink.seekable() else None  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None
