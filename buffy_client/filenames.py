"""A file name out of response headers and a URL; safe to join to a directory."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

LONGEST = 200
EXTENDED = re.compile(r"""filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]+)""", re.I)
PLAIN = re.compile(r"""filename\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;]+))""", re.I)


def safe_name(name: str | None) -> str | None:
    """The last component of what a server calls a file, without what no file name may hold; None if empty."""
    last = re.split(r"[/\\]", name or "")[-1]
    clean = "".join(char for char in last if char.isprintable()).strip().lstrip(".")
    return clean.encode()[:LONGEST].decode(errors="ignore") or None


def from_disposition(text: str) -> str | None:
    """RFC 6266: `filename*` is preferred to `filename`."""
    extended = EXTENDED.search(text)
    if extended:
        try:
            return safe_name(unquote(extended[2], encoding=extended[1], errors="strict"))
        except (LookupError, UnicodeDecodeError):
            pass
    plain = PLAIN.search(text)
    return safe_name(re.sub(r"\\(.)", r"\1", plain[1] or plain[2] or "")) if plain else None


def guess(headers: Mapping[str, str], url: str) -> str | None:
    """Content-Disposition, else a URL path with a suffix, else `download` and a suffix by media type."""
    named = from_disposition(headers.get("Content-Disposition", ""))
    last = PurePosixPath(unquote(urlsplit(url).path)).name
    if named or PurePosixPath(last).suffix:
        return named or safe_name(last)
    media_type = headers.get("Content-Type", "").partition(";")[0].strip()
    suffix = mimetypes.guess_extension(media_type)
    return f"download{suffix}" if suffix else None
