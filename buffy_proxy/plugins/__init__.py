"""Plugins: how they are found, asked and told things, so that none of them can hurt a client.

loading.py   finds them and refuses what cannot work, with file and line
asking.py    calls the implementations of one hook, each on its own
guard.py     strategies of plugins that raise
checks.py    which answers make sense
events.py    tells them what happened, each in a thread of its own
failures.py  what went wrong: logged once, counted, told as an event
jobs.py      their cron jobs
registry.py  `Plugins`: all of it in one object, part of the configuration

The six built-in strategies are a plugin like any other, asked last (builtin.py).
"""

from __future__ import annotations

from buffy_proxy.plugins.loading import Loaded, PluginOptions
from buffy_proxy.plugins.registry import Plugins, load_plugins

__all__ = ["Loaded", "PluginOptions", "Plugins", "load_plugins"]
