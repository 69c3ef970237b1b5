"""Finds plugins, imports them and refuses what cannot work, with the file and the line.

    installed packages (entry points of group `buffy`)
    every *.py in the directories of `plugins_dirs`, sorted; names that begin with _ are not plugins
    the files of `plugin_files` and `--plugin`

in this order; what comes later is asked first, and the built-in strategies last of all.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pluggy

from buffy_proxy import hookspecs
from buffy_proxy.errors import ConfigError
from buffy_proxy.settings import did_you_mean

GROUP: Final = "buffy"
NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
PREFIX: Final = "buffy_plugin_"
"""Modules of files are known to Python under this name and the file's: their classes can be pickled."""

HOOKS: Final = frozenset(name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "buffy_spec"))


@dataclass(frozen=True, slots=True)
class PluginOptions:
    """Where plugins come from.

    only      names that may be loaded; None: all
    settings  the tables [plugins.NAME], by name
    where     the file those were written in, for messages
    """

    dirs: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    only: tuple[str, ...] | None = None
    ignore_broken: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    where: str = "buffy.toml"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin, or what would be one: `problem` says why it is broken, "" if it is not. `source` is its file,
    or the package that it was installed with."""

    name: str
    version: str
    source: str
    hooks: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    problem: str = ""


class Broken(Exception):
    """This plugin cannot be used; the message names the place."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to load."""

    name: str
    source: str
    version: str
    load: Callable[[], Any]


def candidates(options: PluginOptions) -> Iterator[Candidate]:
    """All that is there and wanted. Raises ConfigError for two of one name and for wanted ones not found."""
    seen: dict[str, Candidate] = {}
    for found in (*_installed(), *_files(options)):
        if not NAME.fullmatch(found.name):
            raise ConfigError(
                f"{found.source}: {found.name!r} cannot name a plugin; letters, digits, _ and - can"
            )
        if found.name in seen:
            raise ConfigError(
                f"two plugins are named {found.name!r}: {seen[found.name].source} and {found.source}; "
                "rename or remove one"
            )
        seen[found.name] = found
    if options.only is not None and (missing := sorted(set(options.only) - seen.keys())):
        raise ConfigError(
            f"load_plugins: there is no plugin {missing[0]!r}; {did_you_mean(missing[0], seen)}"
            if seen
            else f"load_plugins: there is no plugin {missing[0]!r}, and no other either"
        )
    yield from (one for name, one in seen.items() if options.only is None or name in options.only)


def _installed() -> Iterator[Candidate]:
    for entry in importlib.metadata.entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else "?"
        version = entry.dist.version if entry.dist else ""
        yield Candidate(entry.name, f"package {package} ({entry.value})", version, _from_entry(entry))


def _from_entry(entry: importlib.metadata.EntryPoint) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return entry.load()
        except (Exception, SystemExit) as error:
            raise Broken(f"{entry.value}: {type(error).__name__}: {error}") from error

    return load


def _files(options: PluginOptions) -> Iterator[Candidate]:
    paths = [path for each in options.dirs for path in sorted(each.glob("*.py"))]
    wanted = [path for path in paths if not path.name.startswith("_")]
    for path in dict.fromkeys([*wanted, *options.files]):
        if not path.is_file():
            raise ConfigError(f"the plugin {path} is not there")
        yield Candidate(path.stem, str(path), "", lambda path=path: _from_file(path))  # type: ignore[misc]


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(PREFIX + path.stem, path)
    if spec is None or spec.loader is None:
        raise Broken(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise Broken(f"{_place(error, path)}: {_named(error)}") from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """File and line: of the text that is no Python, else where the plugin was when it went wrong."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"


# -- hooks --------------------------------------------------------------------------------------------------


def hooks_of(manager: pluggy.PluginManager, plugin: Any) -> dict[str, Callable[..., Any]]:
    """The hooks that a plugin implements. Raises Broken for what would never, or wrongly, be called."""
    found: dict[str, Callable[..., Any]] = {}
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            continue
        function = getattr(plugin, attribute)
        name = options.get("specname") or attribute
        _check(function, name, options)
        if name in found:
            raise Broken(f"{place_of(function)}: {name} is implemented twice")
        found[name] = function
    if not found:
        raise Broken(
            f"{_file(plugin)}: has no hooks; decorate its functions with `@hookimpl` (from buffy_proxy)"
        )
    return found


def _check(function: Callable[..., Any], name: str, options: Any) -> None:
    where = place_of(function)
    if name not in HOOKS:
        raise Broken(f"{where}: there is no hook {name!r}; {did_you_mean(name, HOOKS)}")
    if options.get("wrapper") or options.get("hookwrapper"):
        raise Broken(f"{where}: {name}: hook wrappers are not supported; return an answer, or None")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise Broken(f"{where}: {name}: hooks are plain functions, not `async def`")
    allowed = tuple(inspect.signature(getattr(hookspecs, name)).parameters)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in allowed:
            what = f"it may have {', '.join(allowed)}" if allowed else "it has none"
            raise Broken(f"{where}: {name} has no argument {parameter.name!r}; {what}")
        if parameter.default is not inspect.Parameter.empty or parameter.kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise Broken(
                f"{where}: {name}: the argument {parameter.name!r} must be a plain one without a default"
            )


def place_of(thing: Any) -> str:
    """FILE:LINE of a function or class."""
    thing = inspect.unwrap(thing)
    try:
        _, line = inspect.getsourcelines(thing)
        return f"{inspect.getsourcefile(thing)}:{line}"
    except (OSError, TypeError):
        return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', thing)}"


def _file(plugin: Any) -> str:
    return str(getattr(plugin, "__file__", None) or plugin)
