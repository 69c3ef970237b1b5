"""The strategies that plugins register: checked when they are registered, not when they are first needed."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
from collections.abc import Iterable
from typing import Any, Final

from buffy_proxy.core.strategies import BaseStrategy
from buffy_proxy.plugins.loading import Broken, place_of

BUILT_IN: Final = "built-in"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TYPES: Final = (bool, int, float, str, tuple)


class StrategyTable:
    """All strategies by name (`kinds`), and which plugin each is from (`owners`)."""

    def __init__(self) -> None:
        self.kinds: dict[str, type[Any]] = {}
        self.owners: dict[str, str] = {}

    def add(self, plugin: str, kinds: list[type[Any]]) -> None:
        """Raises Broken for a name that is taken; nothing is added then."""
        names = [kind.strategy_name for kind in kinds]
        for kind in kinds:
            taken_by = self.owners.get(kind.strategy_name)
            if taken_by is None and names.count(kind.strategy_name) > 1:
                taken_by = plugin
            if taken_by is not None:
                whose = "Buffy itself" if taken_by == BUILT_IN else f"the plugin {taken_by}"
                raise Broken(
                    f"{place_of(kind)}: the strategy name {kind.strategy_name!r} is taken by {whose}"
                )
        for kind in kinds:
            self.kinds[kind.strategy_name] = kind
            self.owners[kind.strategy_name] = plugin


def strategies_of(plugin: str, answer: Any) -> list[type[Any]]:
    """The classes that `register_strategies` gave. Raises Broken, naming the class's file and line."""
    if isinstance(answer, type) or not isinstance(answer, Iterable):
        raise Broken(f"plugin {plugin}: register_strategies must return a list of classes, not {answer!r}")
    kinds = list(answer)
    for kind in kinds:
        _check(plugin, kind)
    return kinds


def _check(plugin: str, kind: Any) -> None:
    if not isinstance(kind, type):
        raise Broken(f"plugin {plugin}: register_strategies: {kind!r} is no class")
    where = f"{place_of(kind)}: {kind.__name__}"
    name = getattr(kind, "strategy_name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Broken(f"{where}: strategy_name must be a text of a-z, 0-9 and _, not {name!r}")
    if not isinstance(getattr(kind, "obeys_origin", None), bool):
        raise Broken(f"{where}: obeys_origin must be True or False; derive from BaseStrategy to have one")
    if not callable(getattr(kind, "plan", None)):
        raise Broken(f"{where}: has no method `plan`; derive from BaseStrategy")
    plans_itself = not issubclass(kind, BaseStrategy) or kind.plan is not BaseStrategy.plan
    if not plans_itself and getattr(kind, "fresh_until", None) is BaseStrategy.fresh_until:
        raise Broken(f"{where}: must say until when a version answers: define `fresh_until`")
    _check_parameters(where, kind)
    try:
        pickle.dumps(kind)
    except Exception as error:
        raise Broken(f"{where}: must stand at the top level of its module ({error})") from error


def _check_parameters(where: str, kind: type[Any]) -> None:
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    known = {field.name for field in dataclasses.fields(kind)} if frozen else set()
    own = {name for name, kind_of in inspect.get_annotations(kind).items() if "ClassVar" not in str(kind_of)}
    if not frozen or not own <= known:
        raise Broken(f"{where}: must be decorated with @dataclass(frozen=True)")
    for field in dataclasses.fields(kind):
        if type(field.default) not in _TYPES:
            allowed = ", ".join(each.__name__ for each in _TYPES)
            raise Broken(
                f"{where}: the parameter {field.name} needs a default of one of the types {allowed}, "
                "so that what people write can be checked"
            )
