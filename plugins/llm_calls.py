"""Calls of language models: the same prompt is answered from the store.

    [[rule]]
    match = "https://llm.example.org/v1/chat/completions"       # or …/v1/messages, …/v1/responses
    methods = ["POST"]
    strategy = { strategy_name = "llm_calls", ignore = ["user", "metadata"] }

Nothing is kept without such a rule. The key is the whole request (model, messages, temperature, tools,
`stream` …) as a JSON value: the order of keys and white space do not matter, nor do the fields in `ignore`.
Answers are kept for each credential apart, unless the rule says `shared = true`. They answer for ever, or for
`seconds`.

Streams (server-sent events) are kept, too, and played again event for event, at once. Only answers with
status 200 are kept. One that broke off, without the end of its stream or with an error in it, is not used
again: the next call asks anew.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

from buffy_proxy import (
    BaseStrategy,
    DoNotStore,
    Forward,
    KeyParts,
    PluginContext,
    Policy,
    Renewal,
    Request,
    Response,
    Serve,
    Store,
    Version,
    hookimpl,
)

__version__ = "1.0"

NAME: Final = "llm_calls"
ENDS: Final = (b"data: [DONE]", b"data:[DONE]", b"event: message_stop", b"event: response.completed")
"""How streams of the usual dialects say that they are whole."""
ERRORS: Final = (b"event: error", b"event: response.failed", b'data: {"error"', b'data: {"type": "error"')
JUDGED_MAX: Final = 10_000


@dataclass(frozen=True)
class LlmCalls(BaseStrategy):
    """Kept for ever, or for `seconds`; whatever the origin's headers say."""

    strategy_name = NAME
    seconds: int = 0
    ignore: tuple = ()  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if wrong := [name for name in self.ignore if not isinstance(name, str)]:
            raise ValueError(f"ignore: {wrong[0]!r} is no name of a field")

    def fresh_until(self, version: Version, now: float, url: str) -> float:
        return version.validated_at + self.seconds if self.seconds else math.inf

    def renewal(self, version: Version, now: float, url: str) -> Renewal:
        return Renewal.REFETCH


@hookimpl
def register_strategies() -> list[type[BaseStrategy]]:
    return [LlmCalls]


@hookimpl
def cache_key(request: Request, policy: Policy, default: KeyParts) -> KeyParts | None:
    """The request as a value, not as text."""
    if policy.strategy.strategy_name != NAME or request.method != "POST":
        return None
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        ignored = getattr(policy.strategy, "ignore", ())
        value = {name: inner for name, inner in value.items() if name not in ignored}
    return replace(default, body=json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@hookimpl
def storability(response: Response, policy: Policy) -> Store | DoNotStore | None:
    if policy.strategy.strategy_name != NAME:
        return None
    return Store() if response.status == 200 else DoNotStore("only answers with status 200 are kept")


# -- answers that broke off ---------------------------------------------------------------------------------

_context: PluginContext | None = None
_judged: OrderedDict[str, bool] = OrderedDict()
"""By digest of the content: whether it is a whole answer. The newest are kept."""


@hookimpl
def startup(context: PluginContext) -> None:
    global _context
    _context = context


@hookimpl
def reuse(version: Version | None, policy: Policy, default: Any) -> Forward | None:
    """What is stored is looked at once, when it is first to answer."""
    if policy.strategy.strategy_name != NAME or not isinstance(default, Serve) or version is None:
        return None
    return None if _whole(version) else Forward("miss", "the stored answer broke off")


def _whole(version: Version) -> bool:
    digest = version.body.digest
    if digest not in _judged and _context is not None:
        _judged[digest] = is_whole(_context.content(version), version)
        while len(_judged) > JUDGED_MAX:
            _judged.popitem(last=False)
    return _judged.get(digest, True)


def is_whole(content: bytes, version: Version) -> bool:
    """Whether an answer came to its end, and without an error."""
    fields = {name.lower(): value for name, value in version.fields}
    if fields.get(b"content-encoding", b"identity") != b"identity":
        return True  # nothing that could be looked into
    if fields.get(b"content-type", b"").strip().lower().startswith(b"text/event-stream"):
        lines = [line.strip() for line in content.splitlines()]
        ended = any(line.startswith(ENDS) for line in lines)
        return ended and not any(line.startswith(ERRORS) for line in lines)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return not (isinstance(value, dict) and value.get("error"))
