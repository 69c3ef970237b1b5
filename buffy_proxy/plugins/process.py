"""Plugins in a process of the server: from its start to its end."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from buffy_proxy.keeping import read_content
from buffy_proxy.plugins.asking import Implementation
from buffy_proxy.plugins.context import PluginContext
from buffy_proxy.plugins.registry import Plugins
from buffy_proxy.store import Store

END_S = 2.0
"""How long `shutdown` hooks, and events that wait, may take together."""


class PluginProcess:
    """What the plugins of one process of the server live in; `running()` is its life."""

    def __init__(
        self,
        plugins: Plugins,
        store: Store,
        role: str,
        *,
        data_dir: Path,
        proxy_url: str,
        api_url: str,
        ca_file: Path,
    ) -> None:
        self.plugins = plugins
        self.store = store
        self._role = role
        self._data_dir = data_dir
        self._urls = proxy_url, api_url
        self._ca_file = ca_file

    def context(self, plugin: str) -> PluginContext:
        proxy_url, api_url = self._urls
        return PluginContext(
            self._role,
            self._data_dir,
            self.plugins.settings(plugin),
            proxy_url,
            api_url,
            self._ca_file,
            functools.partial(read_content, self.store),
            self.store.resource,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Events are told, failures counted; `startup` has run before the first request comes."""
        self.plugins.failures.count = self._count
        self.plugins.failures.flush()  # what went wrong until now
        self.plugins.events.open()
        for one in self.plugins.each("startup"):
            self.plugins.ask("startup", one, context=self.context(one.plugin))
        try:
            yield
        finally:
            self._end()

    def _count(self, amounts: Mapping[str, int]) -> None:
        self.store.count("plugin_failures", amounts)

    def _end(self) -> None:
        """Each in a thread: one that hangs must not keep the others, or the server, from ending."""
        threads = [
            threading.Thread(target=self._shut_down, args=(one,), daemon=True)
            for one in self.plugins.each("shutdown")
        ]
        self.plugins.events.close(END_S)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(END_S / max(1, len(threads)))
        self.plugins.failures.flush()

    def _shut_down(self, one: Implementation) -> None:
        self.plugins.ask("shutdown", one, context=self.context(one.plugin))
