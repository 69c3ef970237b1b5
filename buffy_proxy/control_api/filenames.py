"""Under which name a client should save a response: one plain file name, never a path.

Content-Disposition says it (RFC 6266, `filename*` before `filename`), else the last part of the URL's path if
it has a suffix, else `download` with the extension that belongs to the media type.
"""

from __future__ import annotations

import mimetypes
import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

MAX_BYTES: Final = 200
"""Longest name in UTF-8; file systems take 255, and a program may want to append `.part`."""

_TYPES = mimetypes.MimeTypes(filenames=())  # the built-in table only: the same answer on every machine
_PREFERRED: Final = {"application/octet-stream": "", "text/plain": ".txt", "application/xml": ".xml"}
_PARAMETER = re.compile(r';\s*([A-Za-z0-9_-]+\*?)\s*=\s*("(?:\\.|[^"\\])*"|[^;"\s]*)', re.DOTALL)
_EXTENDED = re.compile(r"([A-Za-z0-9_-]+)'[^']*'(.*)", re.DOTALL)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def filename(disposition: str | None, url: str, media_type: str | None) -> str:
    """Never empty. `media_type` is without parameters."""
    named = safe_name(_from_disposition(disposition)) if disposition else ""
    return named or _from_url(url) or f"download{extension(media_type)}"


def extension(media_type: str | None) -> str:
    """ ".json" for application/json; "" where nothing is known."""
    if not media_type:
        return ""
    known = _PREFERRED.get(media_type)
    return known if known is not None else _TYPES.guess_extension(media_type) or ""


def safe_name(text: str) -> str:
    """The last path component of a suggested name without what is dangerous in one (RFC 6266 §4.3); "" if
    nothing is left."""
    name = _UNSAFE.sub("", re.split(r"[/\\]", text)[-1]).strip().rstrip(".")
    return "" if not name.strip(". ") else _shortened(name)


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_BYTES:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = name[: len(name) - len(suffix)].encode()[: MAX_BYTES - len(suffix.encode())]
    return stem.decode("utf-8", "ignore") + suffix


def _from_disposition(value: str) -> str:
    found: dict[str, str] = {}
    for name, raw in _PARAMETER.findall(";" + value if "=" in value.split(";")[0] else value):
        found.setdefault(name.lower(), raw)
    extended = _decoded(found.get("filename*", ""))
    return extended or _unquoted(found.get("filename", ""))


def _unquoted(raw: str) -> str:
    return re.sub(r"\\(.)", r"\1", raw[1:-1], flags=re.DOTALL) if raw[:1] == '"' else raw


def _decoded(raw: str) -> str:
    """An extended value (RFC 8187): charset'language'percent-encoded; "" if it is none."""
    match = _EXTENDED.fullmatch(_unquoted(raw))
    if match is None or match[1].lower() not in ("utf-8", "iso-8859-1"):
        return ""
    return unquote_to_bytes(match[2]).decode(match[1].lower(), "replace")


def _from_url(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    name = safe_name(unquote(path.rpartition("/")[2]))
    return name if PurePosixPath(name).suffix else ""
