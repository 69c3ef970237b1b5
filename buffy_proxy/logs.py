"""Logging: one line an event on stderr, levels by configuration, mitmproxy's own talk kept down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time


def configure_logging(level: str) -> None:
    """`level` is debug, info, warning or error; access lines (one a request) come at info."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("mitmproxy", "asyncio", "uvicorn", "hpack", "h2"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


class AccessLog:
    """One line a request, at info. All lines of one turn of the event loop are written in one piece: a line
    of its own through `logging` costs more than the hit that it tells of. Looks as any other line."""

    def __init__(self) -> None:
        self.wanted = logging.getLogger("buffy.access").isEnabledFor(logging.INFO)
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def line(self, text: str) -> None:
        """Only where `wanted`. Needs a running event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(text)

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        if (second := int(time.time())) != self._second:
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second))
            self._second, self._stamp = second, f"{moment} I buffy.access: "
        with contextlib.suppress(OSError, ValueError):  # as logging does: a closed stderr is nobody's fault
            sys.stderr.write("".join(f"{self._stamp}{line}\n" for line in lines))
            sys.stderr.flush()
