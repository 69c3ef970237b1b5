"""Reads single configuration values, from TOML types or from text (environment, command line).

Every function takes what was written and returns the value Buffy works with, or raises ValueError with the
end of a sentence that says what is allowed. A bool is never taken for a number.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from buffy_proxy.core.urls import normalise_url, origin_of
from buffy_proxy.flight_table import WORKERS_MAX

T = TypeVar("T")
LOG_LEVELS = ("debug", "info", "warning", "error")

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kmgt])(i?b)?|b)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|sec|m|min|h|d|w)?", re.IGNORECASE | re.ASCII)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_HOST_PATTERN = re.compile(
    r"(\[[0-9A-Fa-f:.*?]+\]|[^\s/:@\[\]]+|[^\s/:@\[\]]*\[[^\s/:@\[\]]+\][^\s/:@\[\]]*)(:[0-9*?]+)?"
)
_USER = re.compile(r"[^\x00-\x20\x7f:+=%]+")


def size(value: object) -> int:
    """Bytes: 500, "500MB" (powers of 1000), "20 GiB" and "20G" (powers of 1024)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _at_least(value, 0)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f'must be a size such as "20 GiB", "500MB" or a number of bytes, not {value!r}')
    number, unit, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    return int(float(number) * base ** _POWERS[unit.lower()]) if unit else int(float(number))


def positive_size(value: object) -> int:
    return _at_least(size(value), 1)


def duration(value: object) -> float:
    """Seconds, more than none: 15, 0.5, "15s", "2m", "1h30m", "500ms"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if value < 1e12 else math.inf
    else:
        seconds = _duration_text(value)
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"must be a finite duration of more than 0 seconds, not {value!r}")
    return seconds


def _duration_text(value: object) -> float:
    text = value.strip() if isinstance(value, str) else ""
    parts = list(_DURATION.finditer(text))
    units = [part[2] for part in parts]
    if not parts or re.sub(r"\s", "", _DURATION.sub("", text)) or (None in units and len(units) > 1):
        raise ValueError(f'must be seconds or a duration such as "15s", "2m" or "1h30m", not {value!r}')
    return sum(float(part[1]) * _SECONDS[(part[2] or "s").lower()] for part in parts)


def address(value: object) -> tuple[str, int]:
    """Where to listen: "127.0.0.1:8080", "[::1]:8080", ":8080" (every IPv4 interface), 8080 (loopback)."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        value = address_text((str(value[0]), value[1]))
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.%\w]+)\]|([\w.-]*)):)?(\d{1,5})", text)
    if not match or int(match[3]) > 65535:
        raise ValueError(
            f'must be an address such as "127.0.0.1:8080", ":8080" or "[::1]:8080", not {value!r}'
        )
    if match[1]:
        return match[1], int(match[3])
    return ("127.0.0.1" if match[2] is None else match[2] or "0.0.0.0"), int(match[3])


def address_text(value: tuple[str, int]) -> str:
    """The reverse of `address`."""
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    found = words.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be true or false, not {value!r}")
    return found


def integer(minimum: int) -> Callable[[object], int]:
    """A reader of whole numbers from `minimum` up."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"must be a whole number, not {value!r}")
        return _at_least(value, minimum)

    return read


def workers(value: object) -> int:
    """A number of processes; "auto" for one on each core that this process may use."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return min(len(os.sched_getaffinity(0)), WORKERS_MAX)
    try:
        number = integer(1)(value)
    except ValueError:
        number = 0
    if not 1 <= number <= WORKERS_MAX:
        raise ValueError(f'must be a whole number from 1 to {WORKERS_MAX}, or "auto", not {value!r}')
    return number


def share(value: object) -> float:
    """A number from 0 to 1."""
    try:
        number = (
            float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"must be a number from 0 to 1, not {value!r}")
    return number


def path(value: object) -> Path:
    """An absolute path; "~" is the home directory."""
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError(f"must be a path, not {value!r}")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"must be a path whose ~ names a home directory, not {value!r}") from error


def paths(value: object) -> tuple[Path, ...]:
    """A list of paths; as text separated by commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"must be a list of paths, not {value!r}")
    return tuple(path(item.strip() if isinstance(item, str) else item) for item in items if item != "")


def log_level(value: object) -> str:
    level = value.strip().lower() if isinstance(value, str) else None
    if level not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}, not {value!r}")
    return level


def texts(value: object) -> tuple[str, ...]:
    """A list of strings; as text separated by commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"must be a list of strings, not {value!r}")
    return tuple(stripped for item in items if (stripped := item.strip()))


def host_patterns(value: object) -> tuple[str, ...]:
    """Host patterns with an optional port, lower-case: "*.example.org", "10.0.0.1:8443"."""
    patterns = tuple(item.lower() for item in texts(value))
    for pattern in patterns:
        if not _HOST_PATTERN.fullmatch(pattern):
            raise ValueError(
                f'must hold hosts such as "*.example.org" or "example.org:8443", not {pattern!r}'
            )
    return patterns


def url_path(value: object) -> str:
    """A path before others, "/buffy" or "/a/b"; "" and "/" are none."""
    text = value.strip().rstrip("/") if isinstance(value, str) else None
    if text is None or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", text):
        raise ValueError(f'must be a path such as "/buffy", not {value!r}')
    return text


def credentials(value: object) -> tuple[str, str]:
    """User and password: "user:password" or { user = …, password = … }. Messages never quote passwords."""
    if isinstance(value, dict) and set(value) == {"user", "password"}:
        user, password = value["user"], value["password"]
    elif isinstance(value, str) and ":" in value:
        user, _, password = value.partition(":")
    else:
        raise ValueError('must be "user:password" or { user = …, password = … }')
    if not isinstance(user, str) or not isinstance(password, str) or not password:
        raise ValueError("must be a user and a password, both strings and not empty")
    if not _USER.fullmatch(user):
        raise ValueError(f"must have a user name without spaces and ':', '+', '=', '%', not {user!r}")
    return user, password


def proxy_url(value: object) -> str:
    """An upstream proxy: http://[user:password@]host:port. Messages never quote credentials."""
    try:
        parts = urlsplit(value.strip() if isinstance(value, str) else "")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    except ValueError:
        valid = plain = False
    if not valid or not plain:
        raise ValueError('must be a proxy URL such as "http://proxy.example:3128"')
    return parts.geturl().rstrip("/")


def origin_url(value: object) -> str:
    """Scheme and authority of an origin: "https://example.org", "http://127.0.0.1:8000". "" is none."""
    if value == "":
        return ""
    try:
        url = normalise_url(value.strip() if isinstance(value, str) else "")
        scheme, host, port = origin_of(url)
    except ValueError:
        url = ""
    if not url.endswith("/") or url.count("/") != 3:
        raise ValueError(f'must be an origin without a path, such as "https://example.org", not {value!r}')
    return f"{scheme}://{address_text((host.strip('[]'), port))}"


def _at_least(value: int, minimum: int) -> int:
    if not minimum <= value < 2**62:
        raise ValueError(f"must be at least {minimum} (and below 2**62), not {value}")
    return value
