"""Where plugins come from, and what is refused with which words."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from buffy_proxy.config import Config, load
from buffy_proxy.core.strategies import to_json
from buffy_proxy.errors import ConfigError
from buffy_proxy.plugins import PluginOptions, load_plugins

GOOD = """
from dataclasses import dataclass
from buffy_proxy import BaseStrategy, hookimpl

__version__ = "3.2"

@dataclass(frozen=True)
class Slow(BaseStrategy):
    strategy_name = "slow"
    days: int = 1
    share: float = 0.5
    names: tuple = ()
    def fresh_until(self, version, now, url):
        return now + self.days * 86400

@hookimpl
def register_strategies():
    return [Slow]
"""
HOOK = "from buffy_proxy import hookimpl\n@hookimpl\n"
STRATEGY = "from dataclasses import dataclass\nfrom buffy_proxy import *\n"
REGISTER = "\n@hookimpl\ndef register_strategies():\n    return [Slow]\n"

BROKEN = [
    ("import nothing_of_that_name\n", r"x\.py:1: ModuleNotFoundError: No module named"),
    ("def f(:\n", r"x\.py:1: SyntaxError"),
    ("\n\n1 / 0\n", r"x\.py:3: ZeroDivisionError"),
    ("raise SystemExit(3)\n", r"x\.py:1: SystemExit: 3"),
    ("x = 1\n", r"x\.py: has no hooks; decorate its functions with `@hookimpl`"),
    (HOOK + "def storred(key):\n    pass\n", r"x\.py:2: there is no hook 'storred'; did you mean stored\?"),
    (
        HOOK + "def stored(kee):\n    pass\n",
        r"x\.py:2: stored has no argument 'kee'; it may have key, version",
    ),
    (HOOK + "def stored(key=None):\n    pass\n", r"x\.py:2: stored: the argument 'key' must be a plain one"),
    (HOOK + "def stored(*all):\n    pass\n", r"x\.py:2: stored has no argument 'all'"),
    (HOOK + "async def stored(key):\n    pass\n", r"x\.py:2: stored: hooks are plain functions"),
    (
        HOOK.replace("@hookimpl\n", "@hookimpl(wrapper=True)\n") + "def stored(key):\n    yield\n",
        r"x\.py:2: stored: hook wrappers are not supported",
    ),
    (
        HOOK + "def stored(key):\n    pass\n@hookimpl(specname='stored')\ndef other(key):\n    pass\n",
        r"x\.py:\d: stored is implemented twice",
    ),
    (HOOK + "def register_strategies():\n    return 3\n", r"must return a list of classes, not 3"),
    (HOOK + "def register_strategies():\n    return [3]\n", r"3 is no class"),
    (HOOK + "def register_strategies():\n    1 / 0\n", r"x\.py:2: register_strategies failed: ZeroDiv"),
    (STRATEGY + "class Slow:\n    pass\n" + REGISTER, r"x\.py:3: Slow: strategy_name must be a text"),
    (
        STRATEGY + "class Slow(BaseStrategy):\n    strategy_name = 'slow'\n" + REGISTER,
        r"x\.py:3: Slow: must say until when a version answers: define `fresh_until`",
    ),
    (
        STRATEGY + "class Slow(BaseStrategy):\n    strategy_name = 'slow'\n    days: int = 3\n"
        "    def fresh_until(self, version, now, url):\n        return now\n" + REGISTER,
        r"Slow: must be decorated with @dataclass\(frozen=True\)",
    ),
    (
        STRATEGY + "@dataclass(frozen=True)\nclass Slow(BaseStrategy):\n"
        "    strategy_name = 'slow'\n    days: int = None\n"
        "    def fresh_until(self, version, now, url):\n        return now\n" + REGISTER,
        r"the parameter days needs a default of one of the types",
    ),
    (GOOD.replace('"slow"', '"age"'), r"the strategy name 'age' is taken by Buffy itself"),
    (
        STRATEGY
        + "@dataclass(frozen=True)\nclass Slow:\n    strategy_name = 'slow'\n    obeys_origin = False\n"
        + REGISTER,
        r"Slow: has no method `plan`; derive from BaseStrategy",
    ),
]


@pytest.mark.parametrize(("source", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_what_cannot_work_is_refused_with_file_and_line(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(source)
    with pytest.raises(ConfigError, match=message) as refused:
        load_plugins(PluginOptions(files=(file,)))
    assert "plugin x: " in str(refused.value) and "--ignore-broken-plugins" in str(refused.value)
    ignored = load_plugins(PluginOptions(files=(file,), ignore_broken=True))
    assert re.search(message, ignored.loaded[0].problem)
    assert "slow" not in ignored.strategies and not any(ignored.each("stored"))


def test_a_plugin_and_what_it_brings(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "_helper.py").write_text("1 / 0\n")
    (tmp_path / "README.md").write_text("no plugin\n")
    plugins = load_plugins(PluginOptions(dirs=(tmp_path,)))
    (one,) = plugins.loaded
    assert (one.name, one.version, one.source) == ("good", "3.2", str(tmp_path / "good.py"))
    assert (one.hooks, one.strategies) == (("register_strategies",), ("slow",))
    assert set(plugins.strategies) == {
        "never", "age", "cron", "when_requested", "when_remote_changed", "http", "slow",
    }  # fmt: skip


def test_parameters_are_checked_by_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    plugins = load_plugins(PluginOptions(dirs=(tmp_path,)))
    made = plugins.strategy({"strategy_name": "slow", "days": 3, "share": 1, "names": ["a"]})
    assert to_json(made) == {"strategy_name": "slow", "days": 3, "share": 1.0, "names": ("a",)}
    for wrong, message in [
        ({"days": "3"}, "slow.days: '3' is not of type int"),
        ({"days": -1}, "slow.days: -1 is negative"),
        ({"weeks": 1}, "parameter 'weeks' is unknown; allowed are: days, names, share"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            plugins.strategy({"strategy_name": "slow", **wrong})
    with pytest.raises(ValueError, match="'slower' is unknown; allowed are age, cron, http, never, slow,"):
        plugins.strategy({"strategy_name": "slower"})


def test_two_plugins_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "good.py").write_text(GOOD)
    with pytest.raises(ConfigError, match="two plugins are named 'good'"):
        load_plugins(PluginOptions(dirs=(tmp_path / "a", tmp_path / "b")))


def test_two_plugins_with_one_strategy(tmp_path: Path) -> None:
    for name in ("good", "better"):
        (tmp_path / f"{name}.py").write_text(GOOD)
    with pytest.raises(ConfigError, match="'slow' is taken by the plugin better"):
        load_plugins(PluginOptions(dirs=(tmp_path,)))


def test_a_file_cannot_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text(GOOD)
    with pytest.raises(ConfigError, match="'a b' cannot name a plugin"):
        load_plugins(PluginOptions(dirs=(tmp_path,)))


# -- from the configuration ---------------------------------------------------------------------------------


def configured(
    tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **more: object
) -> Config:
    (tmp_path / "buffy.toml").write_text(text)
    return load(tmp_path / "buffy.toml", environ=environ or {}, data_dir=tmp_path / "data", **more)


def names(config: Config) -> list[str]:
    return [one.name for one in config.plugins.loaded]


def test_plugins_beside_the_configuration_are_found(tmp_path: Path) -> None:
    assert names(configured(tmp_path)) == []
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "good.py").write_text(GOOD)
    assert names(configured(tmp_path)) == ["good"]
    assert names(configured(tmp_path, "plugins_dirs = []\n")) == []


def test_directories_and_files_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "good.py").write_text(GOOD)
    (tmp_path / "other.py").write_text(GOOD.replace("slow", "slower"))
    assert names(configured(tmp_path, 'plugins_dirs = ["mine"]\nplugin_files = ["other.py"]\n')) == [
        "good",
        "other",
    ]
    assert names(configured(tmp_path, plugin_files=[tmp_path / "other.py"])) == ["other"]
    with pytest.raises(ConfigError, match=r"plugins_dirs: .*nowhere is no directory"):
        configured(tmp_path, 'plugins_dirs = ["nowhere"]\n')
    with pytest.raises(ConfigError, match=r"the plugin .*nothing\.py is not there"):
        configured(tmp_path, 'plugin_files = ["nothing.py"]\n')


def test_load_plugins_limits_them(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    for name in ("one", "two"):
        (tmp_path / "plugins" / f"{name}.py").write_text(GOOD.replace('"slow"', f'"{name}"'))
    assert names(configured(tmp_path)) == ["one", "two"]
    assert names(configured(tmp_path, environ={"BUFFY_LOAD_PLUGINS": "two"})) == ["two"]
    assert names(configured(tmp_path, environ={"BUFFY_LOAD_PLUGINS": ""})) == []
    assert names(configured(tmp_path, 'load_plugins = ["one"]\n')) == ["one"]
    with pytest.raises(ConfigError, match="load_plugins: there is no plugin 'tow'; did you mean two"):
        configured(tmp_path, environ={"BUFFY_LOAD_PLUGINS": "tow"})


def test_tables_of_plugins(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "good.py").write_text(GOOD)
    with pytest.raises(
        ConfigError, match=r"buffy\.toml: plugins\.goood: there is no such plugin; did you mean good"
    ):
        configured(tmp_path, "[plugins.goood]\n")
    with pytest.raises(ConfigError, match=r"buffy\.toml: plugins\.good: this plugin has no settings"):
        configured(tmp_path, "[plugins.good]\nx = 1\n")
    with pytest.raises(ConfigError, match=r"plugins\.good: must be a table"):
        configured(tmp_path, "[plugins]\ngood = 1\n")
    assert names(configured(tmp_path, "[plugins.good]\n", environ={"BUFFY_LOAD_PLUGINS": ""})) == []


def test_a_configuration_with_plugins_goes_to_other_processes(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "good.py").write_text(GOOD)
    rule = '[[rule]]\nmatch = "**"\nstrategy = { strategy_name = "slow", days = 7 }\n'
    sent = pickle.dumps(configured(tmp_path, rule))
    import sys

    del sys.modules["buffy_plugin_good"]
    come = pickle.loads(sent)
    assert to_json(come.rules[0].policy.strategy)["days"] == 7
    assert come.plugins.loaded[0].name == "good"
