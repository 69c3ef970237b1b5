"""Calls of language models: the same prompt is answered from the store.

    [[rule]]
    match = "https://llm.example.org/v1/chat/completions"       # or …/v1/messages, …/v1/responses
    methods = ["POST"]
    strategy = { strategy_name = "llm_calls", ignore = ["user", "metadata"] }

Nothing is kept without such a rule. The key is the whole request (model, messages, temperature, tools,
`stream` …) as a JSON value: the order of keys and white space do not matter, nor do the fields in `ignore`.
Header fields that choose a version of the API or a project (`anthropic-version`, `OpenAI-Project` …) count.
Answers are kept for each credential apart, unless the rule says `shared = true`. They answer for ever, or for
`seconds`.

Streams (server-sent events) are kept, too, and played again event for event, at once. Only answers with
status 200 are kept. One that broke off, without the end of its stream or with an error in it, is not used
again: the next call asks anew, and it is no fallback either when the origin is down. (Streams in `br` or
`zstd` are not looked into.)
"""

from __future__ import annotations

import json
import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

from buffy_proxy import (
    BaseStrategy,
    DoNotStore,
    Forward,
    GiveUp,
    KeyParts,
    PluginContext,
    Policy,
    Renewal,
    Request,
    Response,
    Serve,
    Store,
    UseStored,
    Version,
    hookimpl,
)

__version__ = "1.0"

NAME: Final = "llm_calls"
ENDS: Final = frozenset({"message_stop", "response.completed", "response.incomplete"})
"""Types of events that end a stream; `[DONE]` is the other way to say so. Incomplete is what reached its
limit of tokens: that is all there will be."""
ERRORS: Final = frozenset({"error", "response.failed"})
SELECTING: Final = (
    b"anthropic-beta",
    b"anthropic-version",
    b"openai-beta",
    b"openai-organization",
    b"openai-project",
)
JUDGED_MAX: Final = 10_000
INFLATED_MAX: Final = 64 << 20


@dataclass(frozen=True)
class LlmCalls(BaseStrategy):
    """Kept for ever, or for `seconds`; whatever the origin's headers say."""

    strategy_name = NAME
    seconds: int = 0
    ignore: tuple = ()  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if wrong := [name for name in self.ignore if not isinstance(name, str)]:
            raise ValueError(f"ignore: {wrong[0]!r} is no name of a field")
        if "stream" in self.ignore:
            raise ValueError("ignore: 'stream' decides what kind of answer comes, and must stay in the key")

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
        if isinstance(value, dict):
            ignored = getattr(policy.strategy, "ignore", ())
            value = {name: inner for name, inner in value.items() if name not in ignored}
        body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return None
    fields = [(name.lower().decode(), said.decode("latin-1")) for name, said in request.fields]
    chosen = sorted(pair for pair in fields if pair[0].encode() in SELECTING)
    # The first part keeps a body that is already written so from having the usual key, and others another.
    return replace(default, body=body, extra=json.dumps([NAME, chosen]))


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


@hookimpl
def on_origin_error(version: Version | None, policy: Policy, default: Any) -> GiveUp | None:
    if policy.strategy.strategy_name != NAME or not isinstance(default, UseStored) or version is None:
        return None
    return None if _whole(version) else GiveUp("the stored answer broke off")


def _whole(version: Version) -> bool:
    digest = version.body.digest
    if digest not in _judged and _context is not None:
        _judged[digest] = is_whole(_context.content(version), version)
        while len(_judged) > JUDGED_MAX:
            _judged.popitem(last=False)
    return _judged.get(digest, True)


def is_whole(content: bytes, version: Version) -> bool:
    """Whether an answer came to its end, and without an error."""
    fields = {name.lower(): value.strip().lower() for name, value in version.fields}
    coding = fields.get(b"content-encoding", b"identity")
    if coding in (b"gzip", b"deflate"):
        try:
            content = zlib.decompressobj(47).decompress(content, INFLATED_MAX)  # 47: either of the two
        except zlib.error:
            return False
    elif coding != b"identity":
        return True  # nothing that could be looked into
    if fields.get(b"content-type", b"").startswith(b"text/event-stream"):
        return _is_whole_stream(content)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return not (isinstance(value, dict) and value.get("error"))


def _is_whole_stream(content: bytes) -> bool:
    """By the lines `event:` and `data:` of the server-sent events; a space after the colon is optional."""
    ended = False
    for line in content.splitlines():
        name, _, said = line.partition(b":")
        kind = _kind(name, said.strip())
        if kind in ERRORS:
            return False
        ended = ended or kind in ENDS or kind == "[DONE]"
    return ended


def _kind(name: bytes, said: bytes) -> str:
    """The type of an event, as its line `event` or the JSON in its line `data` says; "" if it says none."""
    if name == b"event":
        return said.decode("utf-8", "replace")
    if name != b"data" or said == b"[DONE]":
        return said.decode() if name == b"data" else ""
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    return "error" if value.get("error") else str(value.get("type", ""))
