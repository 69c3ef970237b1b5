"""Tells a URL what happened: a POST of JSON, tried again until it is taken.

    [plugins.webhook]
    url = "https://hooks.example.org/buffy"
    events = ["changed"]      # or stored, freshened, evicted, origin_failed, order_finished, plugin_failed
    match = "https://data.example.org/**"     # only these URLs (a pattern as in rules)
    secret = "…"                        # signs each post: X-Buffy-Signature: sha256=HMAC of the body, in hex
    attempts = 6              # pauses of 1, 2, 4, 8, 16 seconds between them, or what Retry-After says
    timeout = 10                        # seconds for each

    {"event": "changed", "at": 1795586400.5, "url": "https://data.example.org/a.csv",
     "group": "DEFAULT_GROUP", "version": "1j12eephi3f", "sha256": "…", "size": 4711, "status": 200,
     "previous": "1j0zz…"}

Posts go out in order. One that is answered 2xx is done; 4xx (but for 408, 425 and 429) is not tried again.
What still fails after the last attempt is given up with a line in the log, and so is what is left when the
server stops. URLs are those of the store: without secrets. Posts never go through Buffy itself, nor through a
proxy.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from buffy_proxy import CacheKey, OriginFailure, Version, hookimpl
from buffy_proxy.core.fields import retry_after
from buffy_proxy.patterns import compile_glob

__version__ = "1.0"

log = logging.getLogger("buffy.plugins.webhook")

EVENTS: Final = (
    "stored",
    "freshened",
    "changed",
    "evicted",
    "origin_failed",
    "order_finished",
    "plugin_failed",
)
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 300.0
PASSING: Final = frozenset({408, 425, 429})
"""Refusals that may pass (RFC 9110 §15.5.9, RFC 8470, RFC 6585); all others of 4xx stand."""


class Hook:
    """Where to, and what. Without a URL it does nothing."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        given = {"url": "", "events": ["changed"], "match": "**", "secret": "", "attempts": 6, "timeout": 10}
        if unknown := sorted(set(settings) - set(given)):
            raise ValueError(f"{unknown[0]}: unknown key; allowed are {', '.join(given)}")
        given |= settings
        self.url = _url(given["url"]) if settings else ""
        self.host = urlsplit(self.url).hostname  # for the log: the path is often a secret itself
        self.events = _events(given["events"])
        self.pattern = _pattern(given["match"])
        self.secret = _text("secret", given["secret"]).encode()
        self.attempts = int(_number("attempts", given["attempts"], 1))
        self.timeout_s = _number("timeout", given["timeout"], 0.001)
        self.stopping = threading.Event()

    def tell(self, event: str, url: str | None, **values: Any) -> None:
        """Posts, and returns when that is done or given up: events wait behind each other."""
        if not self.url or event not in self.events or (url is not None and not self.pattern.match(url)):
            return
        content = {"event": event, "at": time.time(), **({} if url is None else {"url": url}), **values}
        self._deliver(json.dumps(content).encode(), f"{event} of {url}" if url else event)

    def _deliver(self, body: bytes, what: str) -> None:
        why = ""
        for attempt in range(self.attempts):
            if self.stopping.is_set():
                log.warning("%s is not told to %s: the server stops", what, self.host)
                return
            done, why, pause = self._try(body, FIRST_PAUSE_S * 2**attempt)
            if done:
                return
            if pause is None:
                break
            if attempt + 1 < self.attempts:
                self.stopping.wait(min(pause, MAX_PAUSE_S))
        log.error("%s could not be told to %s, given up: %s", what, self.host, why)

    def _try(self, body: bytes, pause: float) -> tuple[bool, str, float | None]:
        """Whether it is done; else why not, and after how many seconds to try again (None: never)."""
        headers = {"Content-Type": "application/json", "User-Agent": f"buffy-webhook/{__version__}"}
        if self.secret:
            headers["X-Buffy-Signature"] = "sha256=" + hmac.new(self.secret, body, "sha256").hexdigest()
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(
                    self.url,
                    body,
                    headers=headers,
                    timeout=self.timeout_s,
                    allow_redirects=False,
                    stream=True,  # the head says all; content without end would hold up all events
                )
        except (requests.RequestException, OSError) as error:
            return False, f"no answer ({type(error).__name__})", pause
        if 200 <= answer.status_code < 300:
            return True, "", None
        why = f"it answered {answer.status_code}"
        if answer.status_code < 500 and answer.status_code not in PASSING:
            return False, why, None
        field = answer.headers.get("Retry-After", "").encode("latin-1", "replace")
        asked = retry_after(((b"Retry-After", field),), time.time()) if field else None
        return False, why, pause if asked is None else max(asked, 0.05)


def _url(value: object) -> str:
    text = _text("url", value)
    if not re.match(r"https?://[^/\s]+", text):
        raise ValueError(f"url: must be an http or https URL, not {value!r}")
    return text


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be a text, not {value!r}")
    return value


def _number(name: str, value: object, minimum: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not minimum <= value < 1e6:
        raise ValueError(f"{name}: must be a number from {minimum:g} up, not {value!r}")
    return value


def _events(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(event in EVENTS for event in value):
        raise ValueError(f"events: must be some of {', '.join(EVENTS)}, not {value!r}")
    return frozenset(value)


def _pattern(value: object) -> re.Pattern[str]:
    try:
        return compile_glob(_text("match", value))
    except ValueError as error:
        raise ValueError(f"match: {error}") from error


def _of(key: CacheKey, version: Version) -> dict[str, Any]:
    return {
        "group": key.group,
        "version": version.name,
        "sha256": version.body.digest,
        "size": version.body.size,
        "status": version.status,
    }


_hook = Hook({})


# -- hooks --------------------------------------------------------------------------------------------------


@hookimpl
def configure(settings: Mapping[str, Any]) -> None:
    global _hook
    _hook = Hook(settings)


@hookimpl
def stored(key: CacheKey, version: Version) -> None:
    _hook.tell("stored", key.url, **_of(key, version))


@hookimpl
def freshened(key: CacheKey, version: Version) -> None:
    _hook.tell("freshened", key.url, **_of(key, version))


@hookimpl
def changed(key: CacheKey, version: Version, previous: Version) -> None:
    _hook.tell("changed", key.url, **_of(key, version), previous=previous.name)


@hookimpl
def evicted(key: CacheKey, version: Version, reason: str) -> None:
    _hook.tell("evicted", key.url, **_of(key, version), reason=reason)


@hookimpl
def origin_failed(key: CacheKey, error: OriginFailure) -> None:
    _hook.tell(
        "origin_failed", key.url, group=key.group, error=error.word, detail=error.text, status=error.status
    )


@hookimpl
def order_finished(key: CacheKey, order: Any) -> None:
    found = {"order": order.name, "status": order.status, "version": order.result, "error": order.error}
    _hook.tell("order_finished", key.url, group=key.group, **found)


@hookimpl
def plugin_failed(plugin: str, hook: str, error: str) -> None:
    if plugin != "webhook":
        _hook.tell("plugin_failed", None, plugin=plugin, hook=hook, error=error)


@hookimpl
def shutdown() -> None:
    """Pauses end at once; what is left is given up."""
    _hook.stopping.set()
