"""Environment changes as text for a shell, and their exact undoing through BUFFY_SAVED_ENV.

That variable holds, as JSON, what each changed variable was before (null: unset). So a second `buffy env`
starts from the user's own environment, not from the first one's bundles.
"""

from __future__ import annotations

import enum
import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buffy_proxy.clients import ClientEnv

SAVED = "BUFFY_SAVED_ENV"

Changes = Mapping[str, str | None]
"""New value by name; None: unset."""


class Shell(enum.StrEnum):
    """Whose syntax to write."""

    sh = "sh"
    fish = "fish"
    json = "json"


def saved(environ: Mapping[str, str]) -> dict[str, str | None]:
    """What `environ` was before `buffy env` changed it; {} if it did not, or if the note was damaged."""
    try:
        found: Any = json.loads(environ.get(SAVED, "{}"))
    except ValueError:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str | None) for value in found.values()):
        return {}
    return found


def original(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own environment, with the changes of an earlier `buffy env` undone."""
    before = saved(environ)
    kept = {name: value for name, value in environ.items() if name not in before and name != SAVED}
    return kept | {name: value for name, value in before.items() if value is not None}


def entering(environ: Mapping[str, str], client: ClientEnv) -> dict[str, str | None]:
    """From any environment to `client`, which was made for `original(environ)`."""
    own = original(environ)
    before = {name: own.get(name) for name in (*client.set, *client.unset)}
    changes = saved(environ) | dict.fromkeys(client.unset) | dict(client.set)
    return changes | {SAVED: json.dumps(before, sort_keys=True, separators=(",", ":"))}


def leaving(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Back to the user's own; {} where there is nothing to undo."""
    return {**saved(environ), SAVED: None} if SAVED in environ else {}


def script(changes: Changes, shell: Shell) -> str:
    """One line a variable, for `eval`; or a JSON object with "set" and "unset"."""
    if shell is Shell.json:
        set_ = {name: value for name, value in changes.items() if value is not None}
        gone = [name for name, value in changes.items() if value is None]
        return json.dumps({"set": set_, "unset": gone}, indent=2) + "\n"
    line = _fish if shell is Shell.fish else _sh
    return "".join(line(name, value) + "\n" for name, value in changes.items())


def _sh(name: str, value: str | None) -> str:
    return f"unset {name};" if value is None else f"export {name}={shlex.quote(value)};"


def _fish(name: str, value: str | None) -> str:
    """In fish single quotes, only the backslash and the quote itself are special."""
    if value is None:
        return f"set -e {name};"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}';"
