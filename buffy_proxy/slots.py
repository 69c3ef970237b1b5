"""How many background downloads may run at once, over all and for each host."""

from __future__ import annotations

from collections import Counter

from buffy_proxy.config import RefreshLimits


class Slots:
    """Shared by renewals and orders of one process; used in its event loop only."""

    def __init__(self, limits: RefreshLimits) -> None:
        self._limits = limits
        self._hosts: Counter[str] = Counter()

    @property
    def all_taken(self) -> bool:
        return self._hosts.total() >= self._limits.downloads

    def take(self, host: str) -> bool:
        """False if there is none for this host now; else give it back with `release`."""
        if self.all_taken or self._hosts[host] >= self._limits.per_host:
            return False
        self._hosts[host] += 1
        return True

    def release(self, host: str) -> None:
        self._hosts[host] -= 1
