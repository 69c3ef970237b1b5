"""Accept-Language, as far as a cache may look into it: RFC 9110 §12.5.4, RFC 9111 §4.1.

Case and white space mean nothing in it. The order of equally good languages should mean nothing either, but
many origins go by it, so it is left alone.
"""

from __future__ import annotations

import re
from typing import Final

FIELD: Final = b"accept-language"

_SPACE = re.compile(rb"[ \t]*([,;=])[ \t]*")
_RANGE = re.compile(rb"([a-z]{1,8}(?:-[a-z0-9]{1,8})*)(?:;q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


def normal(value: bytes) -> bytes:
    """One spelling for values that mean the same."""
    return _SPACE.sub(rb"\1", value.strip(b" \t").lower())


def preferred(value: bytes) -> bytes | None:
    """The one language that is wanted more than all others, lower-case; None if there is no such, or if the
    value is malformed or has wildcards."""
    weights: dict[bytes, float] = {}
    for member in normal(value).split(b","):
        match = _RANGE.fullmatch(member)
        if match is None or match[1] in weights:
            return None
        weights[match[1]] = float(match[2] or 1)
    best = max(weights.values())
    found = [language for language, weight in weights.items() if weight == best > 0]
    return found[0] if len(found) == 1 else None
