"""Work that plugins do at the times of a cron expression, in one process of the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from buffy_proxy.core.strategies import next_cron_time
from buffy_proxy.plugins.context import PluginContext


@dataclass(frozen=True, slots=True)
class Job:
    """`run(context)` is called in a thread at the times of `cron` (UTC); a time that was missed runs once.

    A job never runs twice at a time; one that raises is logged and counted, and tried at its next time.
    """

    name: str
    cron: str
    run: Callable[[PluginContext], object] = field(repr=False)

    def __post_init__(self) -> None:
        next_cron_time(self.cron, 0.0)
