"""Where settings come from: `buffy.toml`, the environment and the command line, in rising order.

A setting has one dotted name ("timeouts.connect"). In the file that is the key `connect` of the table
`[timeouts]`, in the environment the variable BUFFY_TIMEOUTS_CONNECT. Each value is read where it was written,
so that an error can name the place. All problems are raised as ConfigError.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buffy_proxy import literals
from buffy_proxy.errors import ConfigError

SETTINGS: Mapping[str, Callable[[object], Any]] = {
    "data_dir": literals.path,
    "proxy": literals.address,
    "api": literals.address,
    "workers": literals.workers,
    "reverse": literals.origin_url,
    "offline": literals.boolean,
    "open": literals.boolean,
    "credentials": literals.credentials,
    "api_credentials": literals.credentials,
    "api_hosts": literals.host_patterns,
    "api_root_path": literals.url_path,
    "tunnel": literals.host_patterns,
    "learn_tunnels": literals.boolean,
    "max_size": literals.positive_size,
    "map_size": literals.positive_size,
    "max_request_body": literals.size,
    "upstream_proxy": literals.proxy_url,
    "log_level": literals.log_level,
    "http.targets": literals.texts,
    "http.strict": literals.boolean,
    "refresh.downloads": literals.integer(1),
    "refresh.per_host": literals.integer(1),
    "refresh.jitter": literals.share,
    "timeouts.connect": literals.duration,
    "timeouts.first_byte": literals.duration,
    "timeouts.idle": literals.duration,
    "plugins_dirs": literals.paths,
    "plugin_files": literals.paths,
    "load_plugins": literals.texts,
    "ignore_broken_plugins": literals.boolean,
    "retention.max_cached_unpinned_versions": literals.integer(1),
    "retention.max_cached_pinned_versions": literals.integer(1),
}
ALIASES = {
    "proxy.listen": "proxy",
    "proxy.credentials": "credentials",
    "api.listen": "api",
    "api.credentials": "api_credentials",
    "api.hosts": "api_hosts",
    "api.root_path": "api_root_path",
    "timeouts.connect_s": "timeouts.connect",
    "timeouts.first_byte_s": "timeouts.first_byte",
    "timeouts.idle_s": "timeouts.idle",
}
EMPTY_SAYS = frozenset({"BUFFY_LOAD_PLUGINS"})
"""Variables that mean something when they are empty: no plugins at all."""
BESIDE = frozenset({"data_dir", "plugins_dirs", "plugin_files"})
"""Settings that are paths; in a file they are relative to it."""
TABLES = frozenset(key.partition(".")[0] for key in (*SETTINGS, *ALIASES) if "." in key)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as Buffy works with it, and where it was written: a file, a variable, "command line"."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """All settings that were written somewhere, the file that was read (or would have been, `place`), its
    `[[rule]]` tables, and its tables [plugins.NAME]."""

    settings: Mapping[str, Setting]
    file: Path | None
    place: Path
    rules: list[Any]
    plugins: Mapping[str, Mapping[str, Any]]


def gather(file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Gathered:
    """Reads all places. `file` (or BUFFY_CONFIG) must exist; DATA_DIR/buffy.toml is read if it is there."""
    explicit = file or (Path(environ["BUFFY_CONFIG"]) if environ.get("BUFFY_CONFIG") else None)
    above = {**_from_environ(environ), **_from_overrides(overrides)}
    if explicit:
        path = explicit.expanduser().absolute()
        document = _read(path)
        below = dict(_from_document(document, path))
    else:
        data_dir = above["data_dir"].value if "data_dir" in above else default_data_dir(environ)
        path = data_dir / "buffy.toml"
        document = _read(path) if path.is_file() else {}
        below = dict(_from_document(document, path))
        if "data_dir" in below:
            raise ConfigError(
                f"{path}: data_dir cannot be set by the file that was found in the data directory"
            )
    found = path if explicit or document else None
    return Gathered({**below, **above}, found, path, _rules(document, path), _plugins(document, path))


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """XDG_DATA_HOME/buffy, else ~/.local/share/buffy. A relative value counts as unset (XDG rules)."""
    base = Path(environ.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else literals.path("~/.local/share")) / "buffy"


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"allowed are {', '.join(names)}"


def read_value(key: str, written: object, source: str, where: str) -> Setting:
    """One value; `where` is how an error names its place."""
    try:
        return Setting(SETTINGS[key](written), source)
    except ValueError as error:
        raise ConfigError(f"{where} {error}") from error


def _from_overrides(overrides: Mapping[str, object]) -> dict[str, Setting]:
    given = {key: value for key, value in overrides.items() if value is not None}
    return {
        key: read_value(key, value, "command line", f"--{key.replace('_', '-')}")
        for key, value in given.items()
    }


def _from_environ(environ: Mapping[str, str]) -> dict[str, Setting]:
    """BUFFY_* variables; empty ones count as unset (but for EMPTY_SAYS).

    An unknown one is an error only if it looks like a known one, since other programs may use the prefix.
    """
    names = {"BUFFY_" + key.replace(".", "_").upper(): key for key in SETTINGS}
    found = {}
    for variable, text in environ.items():
        if variable in names and (text or variable in EMPTY_SAYS):
            found[names[variable]] = read_value(names[variable], text, variable, f"{variable}:")
        elif variable.startswith("BUFFY_") and variable not in (*names, "BUFFY_CONFIG"):
            near = difflib.get_close_matches(variable, [*names, "BUFFY_CONFIG"], n=1, cutoff=0.9)
            if near:
                raise ConfigError(f"{variable}: unknown variable; did you mean {near[0]}?")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond what Python takes
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error


def _from_document(document: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Setting]]:
    seen: dict[str, str] = {}
    for written_key, written in _flat(document):
        key = ALIASES.get(written_key, written_key)
        if key not in SETTINGS:
            raise ConfigError(f"{path}: {written_key}: unknown key; {_suggestion(written_key)}")
        if key in seen:
            raise ConfigError(f"{path}: {written_key} says the same as {seen[key]}; remove one of them")
        seen[key] = written_key
        if key in BESIDE:
            written = _beside(path.parent, written)
        yield key, read_value(key, written, str(path), f"{path}: {written_key}:")


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if key in ("rule", "plugins"):
            continue
        if key in TABLES and isinstance(value, dict):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield key, value


def _suggestion(key: str) -> str:
    table, dot, name = key.partition(".")
    if dot and table in TABLES:
        prefix = table + "."
        inner = (known.removeprefix(prefix) for known in (*SETTINGS, *ALIASES) if known.startswith(prefix))
        return did_you_mean(name, inner, prefix)
    return did_you_mean(key, {known.partition(".")[0] for known in (*SETTINGS, *ALIASES, "rule", "plugins")})


def _beside(folder: Path, written: Any) -> Any:
    """Paths in a file are meant from where the file is."""
    if isinstance(written, list):
        return [_beside(folder, each) for each in written]
    return str(folder / written) if isinstance(written, str) and not written.startswith("~") else written


def _plugins(document: Mapping[str, Any], path: Path) -> Mapping[str, Mapping[str, Any]]:
    tables = document.get("plugins", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: plugins: must hold tables, one a plugin: [plugins.NAME]")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: plugins.{name}: must be a table: [plugins.{name}]")
    return tables


def _rules(document: Mapping[str, Any], path: Path) -> list[Any]:
    rules = document.get("rule", [])
    if not isinstance(rules, list):
        raise ConfigError(f"{path}: rule: must be written as [[rule]], with two brackets")
    return rules
