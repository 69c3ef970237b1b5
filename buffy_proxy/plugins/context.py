"""What a plugin gets to know about the server it runs in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buffy_proxy.core.model import Resource, Version


@dataclass(frozen=True, slots=True)
class PluginContext:
    """One process of the server, for `startup`, `shutdown` and jobs.

    role       "proxy" or "api"
    settings   the plugin's own table [plugins.NAME] of buffy.toml
    proxy_url  "http://127.0.0.1:8080": requests made through it are cached as any others
    api_url    "http://127.0.0.1:8008", for BuffyPyClient
    ca_file    Buffy's authority (PEM), for TLS through the proxy
    content    all bytes of a version; raises BodyMissing
    resource   what is known of a resource by its id, None if nothing is
    """

    role: str
    data_dir: Path
    settings: Mapping[str, Any]
    proxy_url: str
    api_url: str
    ca_file: Path
    content: Callable[[Version], bytes] = field(repr=False)
    resource: Callable[[str], Resource | None] = field(repr=False)
