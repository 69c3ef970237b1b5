"""Logging: one line an event on stderr, levels by configuration, mitmproxy's own talk kept down."""

from __future__ import annotations

import logging
import sys


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
