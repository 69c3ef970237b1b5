"""The six built-in strategies, as an ordinary plugin that is asked last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from buffy_proxy import hookimpl
from buffy_proxy.core.strategies import BUILT_IN


@hookimpl(trylast=True)
def register_strategies() -> Iterable[type[Any]]:
    return BUILT_IN
