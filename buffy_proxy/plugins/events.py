"""Events for plugins: told in order, in a thread of each plugin's own, so nobody waits for them.

`post` only puts into a queue. What happened to versions is never dropped; `served` is, beyond QUEUE_MAX that
wait, since it comes with every request.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from buffy_proxy.plugins.asking import Hook, Implementation

log = logging.getLogger("buffy.plugins")

NAMES: Final = (
    "stored",
    "freshened",
    "changed",
    "evicted",
    "served",
    "origin_failed",
    "order_finished",
    "plugin_failed",
)
QUEUE_MAX: Final = 10_000

_Told = tuple[Hook, Implementation, dict[str, Any]]


class Events:
    """The queues of one process; threads start with the first event."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = {name: hooks[name] for name in NAMES if hooks[name]}
        self._queues: dict[str, queue.SimpleQueue[_Told | None]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._open = False
        self.dropped = 0

    def open(self) -> None:
        """From now on events are told: in the processes of a server, not in commands."""
        self._open = True

    def wanted(self, name: str) -> bool:
        return self._open and name in self._hooks

    def post(self, name: str, **arguments: Any) -> None:
        """Never waits and never raises."""
        if not self.wanted(name):
            return
        hook = self._hooks[name]
        for one in hook:
            waiting = self._queue(one.plugin)
            if name == "served" and waiting.qsize() > QUEUE_MAX:
                self._drop()
            else:
                waiting.put((hook, one, arguments))

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            log.warning("plugins do not keep up with `served`: some of these events are dropped")

    def _queue(self, plugin: str) -> queue.SimpleQueue[_Told | None]:
        with self._lock:
            if plugin not in self._queues:
                waiting = self._queues[plugin] = queue.SimpleQueue()
                thread = threading.Thread(
                    target=_tell, args=(waiting,), name=f"events of {plugin}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            return self._queues[plugin]

    def close(self, timeout_s: float) -> None:
        """Tells what waits, for so long at most."""
        self._open = False
        for waiting in self._queues.values():
            waiting.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _tell(waiting: queue.SimpleQueue[_Told | None]) -> None:
    while (told := waiting.get()) is not None:
        hook, one, arguments = told
        hook.call(one, arguments)
