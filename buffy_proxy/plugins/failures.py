"""What went wrong in plugins. The first failure of its kind is logged with its traceback, all are counted;
the server's process hands the counts to the store and tells the event `plugin_failed`."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

log = logging.getLogger("buffy.plugins")

COUNT_EVERY_S = 1.0
"""A hook on the hot path may fail ten thousand times a second; the store hears of it once a second."""

SLOW_S = 0.001
WARN_EVERY_S = 60.0


class Failures:
    """One object a process; any thread may call it. `on_failure(plugin, hook, error)` is called for each
    failure, `count(amounts)` about once a second with {"plugin.hook": n}; `total` have been noted."""

    def __init__(self) -> None:
        self.on_failure: Callable[[str, str, str], object] | None = None
        self.count: Callable[[Mapping[str, int]], object] | None = None
        self._lock = threading.Lock()
        self._pending: Counter[str] = Counter()
        self.total = 0
        self._timer: threading.Timer | None = None
        self._logged: set[tuple[str, str, str]] = set()
        self._warned: dict[tuple[str, str], float] = {}

    def note(self, plugin: str, hook: str, error: BaseException | str) -> None:
        """`error`: what was raised, or what is wrong with the answer."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        kind = (plugin, hook, "answer" if isinstance(error, str) else type(error).__name__)
        with self._lock:
            new = kind not in self._logged
            self._logged.add(kind)
            self._pending[f"{plugin}.{hook}"] += 1
            self.total += 1
            self._count_later()
        if new:
            trace = error if isinstance(error, BaseException) else None
            log.error(
                "plugin %s failed in %s (%s); the default stands. More of these are counted, not logged",
                plugin,
                hook,
                text,
                exc_info=trace,
            )
        if self.on_failure is not None and hook != "plugin_failed":
            self.on_failure(plugin, hook, text)

    def slow(self, plugin: str, hook: str, seconds: float) -> None:
        """A call on the way to a hit took longer than SLOW_S."""
        now = time.monotonic()
        with self._lock:
            if now - self._warned.get((plugin, hook), -WARN_EVERY_S) < WARN_EVERY_S:
                return
            self._warned[plugin, hook] = now
        log.warning(
            "plugin %s is slow: %s took %.1f ms (a sample), and every request waits for it; 1 ms is fine",
            plugin,
            hook,
            seconds * 1e3,
        )

    def flush(self) -> None:
        """Hands over what is not counted yet."""
        with self._lock:
            amounts, self._pending = dict(self._pending), Counter()
            self._timer = None
        if amounts and self.count is not None:
            self.count(amounts)

    def _count_later(self) -> None:
        if self._timer is None and self.count is not None:
            self._timer = threading.Timer(COUNT_EVERY_S, self.flush)
            self._timer.daemon = True
            self._timer.start()
