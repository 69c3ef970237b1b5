"""Work that only one process of a data directory does: it holds a lock file, and the kernel frees that lock
when the process dies, however it does."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

ASK_AGAIN_S = 1.0


@contextlib.asynccontextmanager
async def on_duty(lock_file: Path) -> AsyncIterator[None]:
    """Waits until no other process is on this duty, and keeps it until left."""
    handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(handle):
            await asyncio.sleep(ASK_AGAIN_S)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
