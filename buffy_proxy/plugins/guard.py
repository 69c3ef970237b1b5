"""Strategies of plugins: one that raises, or plans nonsense, plans like `http` instead."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buffy_proxy.core.model import Version
from buffy_proxy.core.strategies import Http, Plan, Renewal, Strategy

if TYPE_CHECKING:
    from buffy_proxy.plugins.registry import Plugins


@dataclass(frozen=True, slots=True)
class Guarded:
    """Looks like `inner` from outside: its parameters are there, too."""

    inner: Strategy
    plugin: str
    plugins: Plugins = field(repr=False, compare=False)

    @property
    def strategy_name(self) -> str:
        return self.inner.strategy_name

    @property
    def obeys_origin(self) -> bool:
        return bool(self.inner.obeys_origin)

    def __getattr__(self, name: str) -> Any:
        if name in ("inner", "plugin", "plugins") or name.startswith("__"):
            raise AttributeError(name)  # not yet set: it is being unpickled
        return getattr(self.inner, name)

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        try:
            plan = self.inner.plan(version, now, url)
            if (wrong := _wrong(plan)) is None:
                return plan
        except (Exception, SystemExit) as error:
            self.plugins.failures.note(self.plugin, f"strategy {self.strategy_name}", error)
        else:
            self.plugins.failures.note(self.plugin, f"strategy {self.strategy_name}", wrong)
        instead = Http().plan(version, now, url)
        why = f"the plugin {self.plugin} failed, {instead.reason}"
        return Plan(instead.fresh_until, instead.refresh_at, instead.renewal, why)


def _wrong(plan: object) -> str | None:
    if not isinstance(plan, Plan):
        return f"it planned {plan!r:.200}, which is no Plan"
    times = [plan.fresh_until, *([] if plan.refresh_at is None else [plan.refresh_at])]
    if not all(isinstance(time, int | float) and not math.isnan(time) for time in times):
        return f"it planned {plan!r:.200}; fresh_until and refresh_at are POSIX seconds"
    if not isinstance(plan.renewal, Renewal) or not isinstance(plan.reason, str):
        return f"it planned {plan!r:.200}; renewal is a Renewal, reason a text"
    return None
