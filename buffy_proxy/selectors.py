"""Session selectors: what a client says about itself in the user name of the proxy URL.

    http://group=NAME@host:8080             everything goes to the sandbox NAME
    http://mode=offline@host:8080           answered from the store only
    http://group=NAME+mode=offline@…        both
    http://alice+group=NAME:secret@…        after the user name, where proxy credentials are configured

Clients differ in whether they undo percent-encoding before they send Proxy-Authorization: both are read.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from buffy_proxy.core.model import DEFAULT_GROUP

if TYPE_CHECKING:  # the configuration pulls in every strategy, and clients of this module need none
    from buffy_proxy.config import Credentials

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Selectors:
    """user, password  what was sent for proxy credentials, "" if nothing; the password is as it was sent
    run             the id of the `buffy run` that the request belongs to, or None
    """

    user: str = ""
    password: str = field(default="", repr=False)
    group: str = DEFAULT_GROUP
    offline: bool = False
    run: str | None = None

    def allowed_by(self, credentials: Credentials | None) -> bool:
        """Whether these are the configured credentials (in constant time); True where there are none."""
        if credentials is None:
            return True
        wanted = f"{credentials.user}\0{credentials.password}".encode()
        sent = (
            f"{self.user}\0{self.password}".encode(),
            f"{self.user}\0".encode() + unquote_to_bytes(self.password),
        )
        return any(hmac.compare_digest(wanted, one) for one in sent)


def parse_proxy_authorization(value: bytes | None) -> Selectors:
    """Selectors of a Proxy-Authorization field; None: the defaults. ValueError says what is wrong with it."""
    if value is None:
        return Selectors()
    user, _, password = _decoded(value).partition(":")
    parts = unquote_to_bytes(user).decode("utf-8", "replace").split("+")
    name = parts.pop(0) if "=" not in parts[0] else ""
    return _selectors(name, password, parts)


def username(group: str = DEFAULT_GROUP, offline: bool = False, run: str | None = None) -> str:
    """The reverse, not percent-encoded; "" when there is nothing to say. ValueError for a bad name."""
    parts = [f"group={check_name('group', group)}"] if group != DEFAULT_GROUP else []
    parts += ["mode=offline"] if offline else []
    parts += [f"run={check_name('run', run)}"] if run is not None else []
    return "+".join(parts)


def check_name(what: str, name: str) -> str:
    """The name itself, if it may name a group or a run; else ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} is no valid name: 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return name


def _decoded(value: bytes) -> str:
    scheme, _, token = value.strip().partition(b" ")
    if scheme.lower() != b"basic":
        raise ValueError("Proxy-Authorization must use the Basic scheme")
    try:
        data = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("Proxy-Authorization does not hold valid base64") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _selectors(user: str, password: str, parts: list[str]) -> Selectors:
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name not in ("group", "mode", "run") or not equals:
            raise ValueError(
                f"unknown selector {part!r} in the proxy user name; use group=NAME, mode=offline"
            )
        if name in found:
            raise ValueError(f"the selector {name} occurs twice in the proxy user name")
        found[name] = value
    if found.get("mode", "offline") != "offline":
        raise ValueError(
            f"unknown mode {found['mode']!r} in the proxy user name; the only one is mode=offline"
        )
    group = check_name("group", found["group"]) if "group" in found else DEFAULT_GROUP
    run = check_name("run", found["run"]) if "run" in found else None
    return Selectors(user, password, group, "mode" in found, run)
