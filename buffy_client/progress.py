"""A progress bar on stderr: with rich if that is installed, else one plain line."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit


class Bar(Protocol):
    """Counts bytes of one download. `show` may be called often; what it shows never goes back."""

    def show(self, done: int, total: int | None) -> None: ...

    def close(self) -> None: ...


class NoBar:
    def show(self, done: int, total: int | None) -> None:
        return None

    def close(self) -> None:
        return None


class PlainBar:
    """`name: 12.3 of 50.0 MiB`; rewritten in place on a terminal, else a line every `interval_s`."""

    def __init__(self, name: str, interval_s: float = 2.0) -> None:
        self._name, self._terminal = name, sys.stderr.isatty()
        self._interval = 0.1 if self._terminal else interval_s
        self._most, self._last, self._line = 0, 0.0, ""

    def show(self, done: int, total: int | None) -> None:
        self._most = max(self._most, done)
        of = f" of {total / 2**20:.1f}" if total else ""
        self._line = f"{self._name}: {self._most / 2**20:.1f}{of} MiB"
        if time.monotonic() - self._last >= self._interval:
            self._print("\r" if self._terminal else "\n")

    def _print(self, end: str) -> None:
        self._last = time.monotonic()
        sys.stderr.write(self._line + end)
        sys.stderr.flush()

    def close(self) -> None:
        if self._line:
            self._print("\n")


class RichBar:
    def __init__(self, name: str, rich: Any) -> None:
        columns = (
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
        )
        console = import_module("rich.console").Console(stderr=True)
        self._progress, self._most = rich.Progress(*columns, console=console), 0
        self._task = self._progress.add_task(name, total=None)
        self._progress.start()

    def show(self, done: int, total: int | None) -> None:
        self._most = max(self._most, done)
        self._progress.update(self._task, completed=self._most, total=total)

    def close(self) -> None:
        self._progress.stop()


def bar(wanted: bool, url: str) -> Bar:
    """The last part of `url` stands before the bar. Not wanted: one that shows nothing."""
    if not wanted:
        return NoBar()
    parts = urlsplit(url)
    name = (PurePosixPath(parts.path).name or parts.netloc)[:40]
    try:
        rich = import_module("rich.progress")
    except ImportError:
        return PlainBar(name)
    return RichBar(name, rich)
