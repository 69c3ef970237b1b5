"""Addresses and causes as messages may show them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

SECRET = re.compile(r"(?i)([^&=]*(?:sig|token|key|secret|passw|auth|credential)[^&=]*)=[^&]*")


def shown(url: str) -> str:
    """Without name, password and the values of parameters that look secret: logs are read by others."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query=SECRET.sub(r"\1=…", parts.query)))


def cause(error: object) -> str:
    """What urllib3 says, without the names of its objects and the addresses in it."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    text = str(getattr(inner, "reason", None) or inner)
    return text.partition("): ")[2] or text
