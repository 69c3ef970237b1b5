"""Loads the plugins of the repository's `plugins/` as Buffy does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from buffy_proxy.plugins import PluginOptions, Plugins, load_plugins
from tests.support.procs import ROOT


def plugin_file(name: str) -> Path:
    return ROOT / "plugins" / f"{name}.py"


def loaded(name: str, **settings: Any) -> Plugins:
    """One of them, with its table [plugins.NAME] if there are settings. Raises ConfigError."""
    tables = {name: settings} if settings else {}
    return load_plugins(PluginOptions(files=(plugin_file(name),), settings=tables))


def module(name: str) -> ModuleType:
    """The module of a plugin that was loaded last."""
    loaded(name) if f"buffy_plugin_{name}" not in sys.modules else None
    return sys.modules[f"buffy_plugin_{name}"]
