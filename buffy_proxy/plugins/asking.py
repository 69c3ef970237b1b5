"""One hook and its implementations, called one by one: a plugin that raises takes no other with it.

pluggy finds, checks and orders the implementations; its own call would end at the first exception. A hook
that nobody implements is false, so that whoever needs it on the way to a hit pays one test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from buffy_proxy.plugins.failures import SLOW_S, Failures

FIRST_SAMPLES = 16
SAMPLE_EVERY = 64

Check = Callable[[Any], str | None]
"""What is wrong with an answer, None if it is one."""


@dataclass(slots=True)
class Implementation:
    """A plugin's function for a hook, and the arguments it wants."""

    plugin: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    calls: int = field(default=0)
    slow: int = field(default=0)


class Hook:
    """The implementations in the order in which they are asked. `hot`: called on the way to a hit, so watched
    for slowness."""

    def __init__(self, name: str, found: Sequence[Implementation], failures: Failures, *, hot: bool) -> None:
        self.name = name
        self._found = tuple(found)
        self._failures = failures
        self._hot = hot

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[Implementation]:
        return iter(self._found)

    def first(self, check: Check, **arguments: Any) -> Any:
        """The first answer that is not None and makes sense; None if there is none."""
        for one in self._found:
            answer = self.call(one, arguments)
            if answer is not None:
                if (wrong := self._wrong(check, answer)) is None:
                    return answer
                self._failures.note(one.plugin, self.name, wrong)
        return None

    def through(self, name: str, value: Any, check: Check, **arguments: Any) -> Any:
        """The value after all plugins had it in turn, each as the argument `name`."""
        for one in self._found:
            answer = self.call(one, {**arguments, name: value})
            if answer is not None:
                if (wrong := self._wrong(check, answer)) is None:
                    value = answer
                else:
                    self._failures.note(one.plugin, self.name, wrong)
        return value

    def call(self, one: Implementation, arguments: dict[str, Any]) -> Any:
        """The answer of one implementation, None if it raises."""
        one.calls += 1
        watched = self._hot and (one.calls <= FIRST_SAMPLES or one.calls % SAMPLE_EVERY == 0)
        started = time.perf_counter() if watched else 0.0
        try:
            answer = one.function(*[arguments[name] for name in one.arguments])
        except (Exception, SystemExit) as error:
            self._failures.note(one.plugin, self.name, error)
            return None
        if watched and (took := time.perf_counter() - started) > SLOW_S:
            self._note_slow(one, took)
        return answer

    def _note_slow(self, one: Implementation, seconds: float) -> None:
        """Once may be the machine's fault."""
        one.slow += 1
        if one.slow > 1:
            self._failures.slow(one.plugin, self.name, seconds)

    def _wrong(self, check: Check, answer: Any) -> str | None:
        try:
            return check(answer)
        except Exception as error:
            return f"its answer {answer!r:.200} is of no use ({error!r})"
