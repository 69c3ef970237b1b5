"""A versioned cache between programs and the web.

What plugins need is importable from here: `from buffy_proxy import hookimpl, BaseStrategy, Version`. The
values come from the core and are loaded when they are asked for, so that `buffy --help` starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from buffy_proxy.core.conditional import freshen as freshen
    from buffy_proxy.core.keys import KeyParts as KeyParts
    from buffy_proxy.core.model import BodyRef as BodyRef
    from buffy_proxy.core.model import CacheKey as CacheKey
    from buffy_proxy.core.model import Fields as Fields
    from buffy_proxy.core.model import Request as Request
    from buffy_proxy.core.model import Response as Response
    from buffy_proxy.core.model import Retention as Retention
    from buffy_proxy.core.model import Served as Served
    from buffy_proxy.core.model import StoredBody as StoredBody
    from buffy_proxy.core.model import Version as Version
    from buffy_proxy.core.policy import Policy as Policy
    from buffy_proxy.core.rules import Forward as Forward
    from buffy_proxy.core.rules import GiveUp as GiveUp
    from buffy_proxy.core.rules import OriginFailure as OriginFailure
    from buffy_proxy.core.rules import Serve as Serve
    from buffy_proxy.core.rules import Unavailable as Unavailable
    from buffy_proxy.core.rules import UseStored as UseStored
    from buffy_proxy.core.rules import Validate as Validate
    from buffy_proxy.core.storing import DoNotStore as DoNotStore
    from buffy_proxy.core.storing import Store as Store
    from buffy_proxy.core.storing import StoreError as StoreError
    from buffy_proxy.core.strategies import BaseStrategy as BaseStrategy
    from buffy_proxy.core.strategies import Plan as Plan
    from buffy_proxy.core.strategies import Renewal as Renewal
    from buffy_proxy.plugins.context import PluginContext as PluginContext
    from buffy_proxy.plugins.jobs import Job as Job

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("buffy")
"""Marks a function of a plugin as the implementation of the hook of that name (buffy_proxy/hookspecs.py)."""

_MODULES = {
    "conditional": ("freshen",),
    "keys": ("KeyParts",),
    "model": (
        "BodyRef",
        "CacheKey",
        "Fields",
        "Request",
        "Response",
        "Retention",
        "Served",
        "StoredBody",
        "Version",
    ),
    "policy": ("Policy",),
    "rules": ("Forward", "GiveUp", "OriginFailure", "Serve", "Unavailable", "UseStored", "Validate"),
    "storing": ("DoNotStore", "Store", "StoreError"),
    "strategies": ("BaseStrategy", "Plan", "Renewal"),
}
_EXPORTS = {name: f"buffy_proxy.core.{module}" for module, names in _MODULES.items() for name in names} | {
    "PluginContext": "buffy_proxy.plugins.context",
    "Job": "buffy_proxy.plugins.jobs",
}

__all__ = ["__version__", "hookimpl", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
