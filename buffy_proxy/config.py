"""One frozen Config: from defaults, `buffy.toml`, the environment and the command line, in rising order.

Nothing is read or created at import: `load()` reads, and whoever needs a directory makes it.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from buffy_proxy import literals, presence, rulebook, settings
from buffy_proxy.core.model import Retention
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http
from buffy_proxy.errors import ConfigError
from buffy_proxy.plugins import PluginOptions, Plugins, load_plugins
from buffy_proxy.rulebook import Rule

if TYPE_CHECKING:
    from buffy_proxy.core.model import CacheKey, Version
    from buffy_proxy.store import Store

__all__ = [
    "Address",
    "Config",
    "Credentials",
    "RefreshLimits",
    "Rule",
    "Timeouts",
    "check_exposure",
    "dump",
    "load",
    "open_store",
    "policy_for",
]

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials (Basic). A user name in the proxy URL may add selectors: `name+group=G:password`."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RefreshLimits:
    """Bounds of background re-fetching."""

    downloads: int = 4
    per_host: int = 1
    jitter: float = 0.1
    """A renewal is delayed by up to this share of its interval (at most 5 minutes), so that load spreads."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds towards origins."""

    connect_s: float = 15.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0


@functools.cache
def _no_plugins() -> Plugins:
    """Just the built-in strategies."""
    return load_plugins(PluginOptions(only=()))


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a Buffy process needs to know. Sizes are bytes, times are seconds.

    workers         processes of the proxy, all on its one address
    reverse         the origin that all requests go to, as "http://host:port"; "": an ordinary forward proxy
    tunnel          host patterns (fnmatch, lower-case, optional :port) that are never intercepted
    learn_tunnels   hosts whose clients reject our certificate are tunnelled from then on
    open            listen beyond loopback without credentials
    api_credentials what clients of the control API must send (HTTP Basic)
    api_hosts       host patterns that the control API answers to, besides its own names
    api_root_path   path that a reverse proxy puts before the API's own, such as "/buffy"
    map_size        address space reserved for the index file (it stays sparse)
    max_request_body  largest request body that a rule may make part of a key; larger ones are forwarded
    upstream_proxy  None: HTTPS_PROXY/HTTP_PROXY/NO_PROXY of the server's own environment
    plugins         what is loaded of them; stands before `rules`, since a process that unpickles a Config has
                    to know the plugins before it meets their strategies
    plugins_dirs    directories of plugins; None: `plugins/` beside the configuration file
    load_plugins    names of the plugins that may be loaded; None: all
    http            what applies to traffic that no rule is for, and where a rule says just "http"
    fallback        what applies where no rule matches: the `http` strategy with this retention
    sources         where each setting that is no default was written, by its dotted name
    """

    data_dir: Path
    config_file: Path | None = None
    proxy: Address = ("127.0.0.1", 8080)
    api: Address = ("127.0.0.1", 8008)
    workers: int = 1
    reverse: str = ""
    offline: bool = False
    open: bool = False
    credentials: Credentials | None = None
    api_credentials: Credentials | None = None
    api_hosts: tuple[str, ...] = ()
    api_root_path: str = ""
    tunnel: tuple[str, ...] = ()
    learn_tunnels: bool = True
    max_size: int = 20 * 2**30
    map_size: int = 64 * 2**30
    max_request_body: int = 1 << 20
    retention: Retention = field(default_factory=Retention)
    refresh: RefreshLimits = field(default_factory=RefreshLimits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    http: Http = field(default_factory=Http)
    upstream_proxy: str | None = field(default=None, repr=False)
    log_level: str = "info"
    plugins_dirs: tuple[Path, ...] | None = None
    plugin_files: tuple[Path, ...] = ()
    load_plugins: tuple[str, ...] | None = None
    ignore_broken_plugins: bool = False
    plugins: Plugins = field(default_factory=_no_plugins, repr=False, compare=False)
    rules: tuple[Rule, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    fallback: Policy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallback", Policy(strategy=self.http, retention=self.retention))


def open_store(config: Config, on_evicted: Callable[[CacheKey, Version], object] | None = None) -> Store:
    """The store that a configuration names; see `store.open_store`."""
    from buffy_proxy import store

    return store.open_store(
        config.data_dir, max_size=config.max_size, map_size=config.map_size, on_evicted=on_evicted
    )


def policy_for(config: Config, method: str, url: str) -> Policy:
    """The first rule whose methods and pattern match a normalised URL, else `http`. Runs for every hit."""
    for rule in config.rules:
        if method in rule.policy.methods and rule.pattern.match(url):
            return rule.policy
    return config.fallback


def load(
    config_file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    serving: bool = False,
    **overrides: object,
) -> Config:
    """The configuration of this process. Overrides are what the command line said; None means not said. But
    for the server itself (`serving`), the plugins that a running one was started with are plugins here, too.

    Raises ConfigError, which names the place, the key and what is allowed.
    """
    environ = os.environ if environ is None else environ
    gathered = settings.gather(config_file, environ, overrides)
    found = {key: setting.value for key, setting in gathered.settings.items()}
    retention = Retention(**_table(found, "retention"))
    found["data_dir"] = found.get("data_dir") or settings.default_data_dir(environ)
    if "plugin_files" not in found and not serving:
        found["plugin_files"] = presence.plugins_of_server(found["data_dir"])
    plugins = load_plugins(_plugin_options(gathered, found))
    http = _http(gathered, found)
    user, api_user = found.pop("credentials", None), found.pop("api_credentials", None)
    return Config(
        data_dir=found.pop("data_dir"),
        config_file=gathered.file,
        credentials=Credentials(*user) if user else None,
        api_credentials=Credentials(*api_user) if api_user else None,
        retention=retention,
        refresh=RefreshLimits(**_table(found, "refresh")),
        timeouts=Timeouts(**{f"{key}_s": value for key, value in _table(found, "timeouts").items()}),
        plugins=plugins,
        http=http,
        rules=rulebook.read_rules(gathered.rules, retention, str(gathered.file), plugins.strategy, http),
        sources={key: setting.source for key, setting in gathered.settings.items()},
        **{key: value for key, value in found.items() if "." not in key},
    )


def _http(gathered: settings.Gathered, found: dict[str, Any]) -> Http:
    try:
        return Http(**_table(found, "http"))
    except ValueError as error:
        raise ConfigError(f"{gathered.settings['http.targets'].source}: http.{error}") from error


def find_plugins(
    config_file: Path | None = None, *, environ: Mapping[str, str] | None = None, **overrides: object
) -> tuple[Plugins, Path]:
    """The plugins alone, whatever the rules say, and the first directory where they are looked for."""
    gathered = settings.gather(config_file, os.environ if environ is None else environ, overrides)
    environ = os.environ if environ is None else environ
    found = {key: each.value for key, each in gathered.settings.items()}
    if "plugin_files" not in found:
        data_dir = found.get("data_dir") or settings.default_data_dir(environ)
        found["plugin_files"] = presence.plugins_of_server(data_dir)
    options = _plugin_options(gathered, found)
    return load_plugins(options), (*options.dirs, gathered.place.parent / "plugins")[0]


def _plugin_options(gathered: settings.Gathered, found: Mapping[str, Any]) -> PluginOptions:
    """Directories that were named must be there; `plugins/` beside the configuration file may be."""
    beside = gathered.place.parent / "plugins"
    dirs = found.get("plugins_dirs")
    for path in dirs or ():
        if not path.is_dir():
            raise ConfigError(f"plugins_dirs: {path} is no directory")
    return PluginOptions(
        dirs=dirs if dirs is not None else (beside,) if beside.is_dir() else (),
        files=found.get("plugin_files", ()),
        only=found.get("load_plugins"),
        ignore_broken=found.get("ignore_broken_plugins", False),
        settings=gathered.plugins,
        where=str(gathered.place),
    )


def check_exposure(config: Config) -> None:
    """Refuses to serve strangers by accident; raises ConfigError.

    Beyond loopback the proxy wants `credentials` and the control API `api_credentials`, or `open = true`.
    """
    if config.open:
        return
    if not is_loopback(config.proxy[0]) and config.credentials is None:
        raise ConfigError(
            f"proxy: {literals.address_text(config.proxy)} can be reached from other machines; set proxy"
            ' credentials ("user:password"), say open = true, or listen on 127.0.0.1'
        )
    if not is_loopback(config.api[0]) and config.api_credentials is None:
        raise ConfigError(
            f"api: {literals.address_text(config.api)} can be reached from other machines; set"
            ' api_credentials ("user:password"), say open = true, or listen on 127.0.0.1'
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on that host."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def dump(config: Config) -> dict[str, Any]:
    """For people and `--json`: every setting as {"value", "source"}, the rules, the file; no secrets."""
    shown = {
        key: {"value": _shown(config, key), "source": config.sources.get(key, "default")}
        for key in settings.SETTINGS
    }
    return {
        "config_file": str(config.config_file) if config.config_file else None,
        "settings": shown,
        "rules": [rulebook.dump_rule(rule) for rule in config.rules],
        "plugins": [one.name for one in config.plugins.loaded],
    }


def _table(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {key.partition(".")[2]: value for key, value in found.items() if key.startswith(f"{name}.")}


def _shown(config: Config, key: str) -> object:
    table, _, name = key.rpartition(".")
    value = (
        getattr(getattr(config, table), f"{name}_s" if table == "timeouts" else name)
        if table
        else getattr(config, key)
    )
    match value:
        case Credentials():
            return {"user": value.user, "password": "********"}
        case Path():
            return str(value)
        case tuple() if key in ("proxy", "api"):
            return literals.address_text(value)
        case tuple():
            return [str(item) if isinstance(item, Path) else item for item in value]
        case str() if key == "upstream_proxy":
            return _without_password(value)
        case _:
            return value


def _without_password(url: str) -> str:
    host = urlsplit(url).netloc.rpartition("@")[2]
    return re.sub(r"//[^/]*", f"//{'********@' if '@' in url else ''}{host}", url, count=1)
