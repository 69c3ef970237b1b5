"""A bell between processes: who writes an order rings it, and the one who carries orders out need not poll.

A datagram to a socket in the data directory. Losing one costs a second at most, since the listener looks at
the records from time to time anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from buffy_proxy.unix_paths import short_path

_NAME = "orders.sock"


def ring(data_dir: Path) -> None:
    """Never raises, never blocks: nobody may be listening."""
    with contextlib.suppress(OSError), short_path(data_dir, _NAME) as path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(b"!", path)


class Bell:
    """The listener's side. A new one takes the place of a predecessor that was killed."""

    def __init__(self, data_dir: Path) -> None:
        self._rung = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            (data_dir / _NAME).unlink(missing_ok=True)
            with short_path(data_dir, _NAME) as path:
                self._socket.bind(path)
            (data_dir / _NAME).chmod(0o600)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(16):
                pass
        self._rung.set()

    async def wait(self, timeout_s: float) -> None:
        """Until somebody rings, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        self._rung.clear()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
