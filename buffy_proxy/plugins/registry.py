"""`Plugins`: all plugins of a process, and the questions that the rest of Buffy has for them.

Each question has a default answer that the core gives; here plugins may give another. Where nobody
implements a hook, the question costs one test.

A Plugins object goes to other processes as its options: they load the same plugins again.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pluggy

from buffy_proxy import hookspecs
from buffy_proxy.core import rules
from buffy_proxy.core.model import CacheKey, Fields, Request, Response, Retention, StoredBody, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Strategy, from_json
from buffy_proxy.core.versions import matches, prefer_pinned, retained
from buffy_proxy.errors import ConfigError
from buffy_proxy.plugins import builtin, checks, loading
from buffy_proxy.plugins.asking import Hook, Implementation
from buffy_proxy.plugins.events import Events
from buffy_proxy.plugins.failures import Failures
from buffy_proxy.plugins.guard import Guarded
from buffy_proxy.plugins.loading import Broken, Candidate, Loaded, PluginOptions
from buffy_proxy.plugins.registering import BUILT_IN, StrategyTable, strategies_of
from buffy_proxy.settings import did_you_mean

log = logging.getLogger("buffy.plugins")

HOT: Final = frozenset({"cache_key", "select_version", "reuse"})
"""Asked on the way to a hit."""


class Plugins:
    """`loaded` are all plugins, broken ones too (where they are ignored); `strategies` all strategies by
    name. Construct with `load_plugins`."""

    def __init__(
        self,
        options: PluginOptions,
        loaded: Sequence[Loaded],
        manager: pluggy.PluginManager,
        table: StrategyTable,
    ) -> None:
        self.options = options
        self.loaded = tuple(loaded)
        self._table = table
        self.failures = Failures()
        self._hooks = {name: _hook(manager, name, self.failures) for name in sorted(loading.HOOKS)}
        self.events = Events(self._hooks)
        self.failures.on_failure = self._tell_failure
        self.key_hook, self.select_hook, self.reuse_hook = (
            self._hooks[name] for name in ("cache_key", "select_version", "reuse")
        )
        self.deciding = bool(self.select_hook or self.reuse_hook)

    def __reduce__(self) -> tuple[Any, ...]:
        return load_plugins, (self.options,)

    def hook(self, name: str) -> Hook:
        return self._hooks[name]

    def settings(self, plugin: str) -> Mapping[str, Any]:
        """Its table [plugins.NAME]."""
        return self.options.settings.get(plugin, {})

    @property
    def strategies(self) -> Mapping[str, type[Any]]:
        """All strategies by name, the built-in ones among them."""
        return self._table.kinds

    def strategy(self, value: Mapping[str, Any]) -> Strategy:
        """What `{"strategy_name": …, parameters}` describes; ValueError says what is wrong and allowed."""
        strategy = from_json(value, self._table.kinds)
        owner = self._table.owners[strategy.strategy_name]
        return strategy if owner == BUILT_IN else Guarded(strategy, owner, self)

    # -- policy -------------------------------------------------------------------------------------------
    def cache_key(self, request: Request, policy: Policy, secret: bytes) -> CacheKey:
        """What names the resource. Credentials are part of it unless a plugin says they do not matter."""
        if not self.key_hook:
            return rules.cache_key(request, policy, secret)
        usual = rules.key_parts(request, policy)
        parts = self.key_hook.first(checks.key_parts, request=request, policy=policy, default=usual)
        if parts is None or parts == usual:
            return rules.cache_key(request, policy, secret)
        return rules.cache_key_of(request, parts, secret)

    def storability(
        self, request: Request, response: Response, policy: Policy, key: CacheKey, now: float
    ) -> rules.Storability:
        default = rules.storability(request, response, policy, key, now)
        hook = self._hooks["storability"]
        if not hook:
            return default
        answer: rules.Storability | None = hook.first(
            checks.storability(request, response),
            request=request,
            response=response,
            policy=policy,
            now=now,
            default=default,
        )
        return answer or default

    def decide(
        self, request: Request, versions: Sequence[Version], error: Version | None, policy: Policy, now: float
    ) -> rules.Decision:
        """core.rules.decide, with `select_version` and `reuse`."""
        if not self.deciding:
            return rules.decide(request, versions, error, policy, now)
        chosen: list[Version | None] = [None]

        def select(candidates: Sequence[Version], now: float) -> Version | None:
            chosen[0] = self._select(request, candidates, now)
            return chosen[0]

        default = rules.decide(request, versions, error, policy, now, select=select)
        if not self.reuse_hook or request.method not in policy.methods:
            return default
        answer: rules.Decision | None = self.reuse_hook.first(
            checks.decision(request, _matching(request, versions, policy), default),
            request=request,
            version=chosen[0],
            policy=policy,
            now=now,
            default=default,
        )
        return answer or default

    def _select(self, request: Request, candidates: Sequence[Version], now: float) -> Version | None:
        default = prefer_pinned(candidates, now)
        if not self.select_hook or not candidates:
            return default
        answer: Version | None = self.select_hook.first(
            checks.one_of(candidates), request=request, versions=tuple(candidates), now=now, default=default
        )
        return answer or default

    def instead(
        self,
        request: Request,
        versions: Sequence[Version],
        policy: Policy,
        error: rules.OriginFailure,
        now: float,
    ) -> rules.Instead:
        """What answers when the origin fails; `versions` are all of the resource."""
        candidates = _matching(request, versions, policy)
        version = self._select(request, candidates, now)
        default = rules.instead(request, version, policy, now)
        hook = self._hooks["on_origin_error"]
        if not hook:
            return default
        answer: rules.Instead | None = hook.first(
            checks.instead(candidates),
            request=request,
            version=version,
            error=error,
            policy=policy,
            now=now,
            default=default,
        )
        return answer or default

    def is_new_version(self, key: CacheKey, old: StoredBody, new: StoredBody) -> bool:
        """Whether a plugin says that content which differs means the same."""
        answer = self._hooks["is_new_version"].first(checks.is_bool, key=key, old=old, new=new, default=True)
        return True if answer is None else bool(answer)

    def retained(
        self, key: CacheKey, versions: Sequence[Version], retention: Retention, now: float
    ) -> tuple[Version, ...]:
        """Versions that a plugin lets go, beyond and instead of what retention would drop. The newest one of
        all, and what is pinned or tagged, always stays."""
        keep, _ = retained(versions, retention, now)
        default = frozenset(version.name for version in keep)
        names = self._hooks["retain"].first(
            checks.names_among([version.name for version in versions]),
            key=key,
            versions=tuple(versions),
            retention=retention,
            now=now,
            default=default,
        )
        kept = default if names is None else frozenset(names)
        kept |= {version.name for version in versions[:1]}
        return tuple(v for v in versions if v.name not in kept and not v.tags and not v.pinned(now))

    def origin_fields(self, method: str, url: str, fields: Fields) -> Fields:
        """The fields of a request as it leaves."""
        hook = self._hooks["origin_request"]
        if not hook:
            return fields
        edited = hook.through("fields", fields, checks.fields(fields), method=method, url=url)
        return tuple((name, value) for name, value in edited)

    # -- the rest -----------------------------------------------------------------------------------------
    def each(self, name: str) -> Iterator[Implementation]:
        """The implementations of an extension point, to be called with `ask`; built-in ones are not asked."""
        return iter(self._hooks[name])

    def ask(self, name: str, one: Implementation, **arguments: Any) -> Any:
        """One answer; None where the plugin raises, which is logged and counted."""
        return self._hooks[name].call(one, arguments)

    def _tell_failure(self, plugin: str, hook: str, error: str) -> None:
        self.events.post("plugin_failed", plugin=plugin, hook=hook, error=error)


def _matching(request: Request, versions: Sequence[Version], policy: Policy) -> list[Version]:
    star = not policy.strategy.obeys_origin
    return [version for version in versions if matches(version, request.fields, star=star)]


def _hook(manager: pluggy.PluginManager, name: str, failures: Failures) -> Hook:
    """pluggy lists implementations in reverse order of calling."""
    found = [
        Implementation(one.plugin_name, one.function, tuple(one.argnames))
        for one in reversed(getattr(manager.hook, name).get_hookimpls())
        if one.plugin_name != BUILT_IN
    ]
    return Hook(name, found, failures, hot=name in HOT)


# -- loading ------------------------------------------------------------------------------------------------


def load_plugins(options: PluginOptions) -> Plugins:
    """Finds, checks and configures all plugins. Raises ConfigError that names file and line, unless broken
    ones are to be ignored: those are then among `loaded` with their problem."""
    manager = pluggy.PluginManager("buffy")
    manager.add_hookspecs(hookspecs)
    manager.register(builtin, BUILT_IN)
    table = StrategyTable()
    table.add(BUILT_IN, list(builtin.register_strategies()))
    loaded = []
    for candidate in loading.candidates(options):
        try:
            loaded.append(_load(manager, table, candidate, options))
        except Broken as error:
            loaded.append(_broken(candidate, error, options))
    _refuse_unknown_tables(options, loaded)
    return Plugins(options, loaded, manager, table)


def _load(
    manager: pluggy.PluginManager, table: StrategyTable, candidate: Candidate, options: PluginOptions
) -> Loaded:
    """Nothing is registered before all of it is known to be usable."""
    module = candidate.load()
    hooks = loading.hooks_of(manager, module)
    _configure(hooks.get("configure"), candidate.name, options)
    kinds = _strategies(hooks.get("register_strategies"), candidate.name)
    table.add(candidate.name, kinds)
    manager.register(module, candidate.name)
    version = candidate.version or str(getattr(module, "__version__", ""))
    names = tuple(kind.strategy_name for kind in kinds)
    return Loaded(candidate.name, version, candidate.source, tuple(sorted(hooks)), names)


def _configure(function: Callable[..., Any] | None, name: str, options: PluginOptions) -> None:
    where = f"{options.where}: plugins.{name}"
    settings = options.settings.get(name)
    if function is None:
        if settings is not None:
            raise Broken(f"{where}: this plugin has no settings (it has no hook `configure`)")
        return
    try:
        function(*([dict(settings or {})] if inspect.signature(function).parameters else []))
    except ValueError as error:
        raise Broken(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        raise Broken(f"{loading.place_of(function)}: configure failed: {error!r}") from error


def _strategies(function: Callable[[], Any] | None, name: str) -> list[type[Any]]:
    if function is None:
        return []
    try:
        answer = function()
    except (Exception, SystemExit) as error:
        place = loading.place_of(function)
        raise Broken(f"{place}: register_strategies failed: {error!r}") from error
    return strategies_of(name, answer)


def _broken(candidate: Candidate, error: Broken, options: PluginOptions) -> Loaded:
    if not options.ignore_broken:
        raise ConfigError(
            f"plugin {candidate.name}: {error}\n(--ignore-broken-plugins goes on without it)"
        ) from error
    log.warning("the plugin %s is broken and ignored: %s", candidate.name, error)
    return Loaded(candidate.name, candidate.version, candidate.source, problem=str(error))


def _refuse_unknown_tables(options: PluginOptions, loaded: Sequence[Loaded]) -> None:
    """A table for a plugin that is there but not wanted (load_plugins) is no mistake."""
    known = {one.name for one in loaded}
    for name in sorted(options.settings.keys() - known):
        if options.only is None:
            hint = did_you_mean(name, known) if known else "no plugin is there"
            raise ConfigError(f"{options.where}: plugins.{name}: there is no such plugin; {hint}")
