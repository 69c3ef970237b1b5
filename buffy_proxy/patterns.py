"""URL globs, as rules and the command line write them, compiled once to regular expressions.

    **   any characters, "/" included        https://example.org/data/**
    *    any characters but "/"              https://*.example.org/*/index.json
    ?    one character but "/"

The scheme is optional (then both http and https match) and so is the path (then the whole host matches).
Host and scheme compare case-insensitively, the path does not. There are no escapes: a "?" in a pattern also
matches the "?" before a query. What is matched is the whole normalised URL (core.fields.normalise_url).
"""

from __future__ import annotations

import re
from urllib.parse import quote

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def compile_glob(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression for `match`; ValueError says what is wrong with it."""
    if not pattern:
        raise ValueError("a URL pattern must not be empty")
    if re.search(r"[\x00-\x20\x7f]", pattern):
        raise ValueError(f"the URL pattern {pattern!r} holds a space or a control character")
    if "***" in pattern:
        raise ValueError(f"the URL pattern {pattern!r} holds '***'; use '*' or '**'")
    scheme, rest = _split_scheme(pattern)
    return re.compile(scheme + _translate(rest), re.DOTALL)


def _split_scheme(pattern: str) -> tuple[str, str]:
    """The regular expression of the scheme and the glob of the rest."""
    scheme, separator, rest = pattern.partition("://")
    if not separator:
        return ("" if pattern.startswith("**") else "https?://"), _normalised(pattern, port=None)
    scheme = scheme.lower()
    if scheme not in ("http", "https", "*", "**"):
        raise ValueError(f"the URL pattern {pattern!r} must begin with http://, https:// or a host")
    if not rest.partition("/")[0]:
        raise ValueError(f"the URL pattern {pattern!r} names no host")
    expression = "https?://" if "*" in scheme else f"{scheme}://"
    return expression, _normalised(rest, port=_DEFAULT_PORTS.get(scheme))


def _normalised(rest: str, *, port: str | None) -> str:
    """Host and path as normalised URLs write them; where "**" may reach into the path, as they stand."""
    host, slash, path = rest.partition("/")
    if "**" in host:
        return quote(rest, safe=_ASCII)
    if port:
        host = host.removesuffix(port)
    return _ascii_host(host.lower()) + (slash + quote(path, safe=_ASCII) if slash else "/**")


def _ascii_host(host: str) -> str:
    """Labels with letters beyond ASCII in their IDNA form; labels with wildcards stay."""
    try:
        return ".".join(x if x.isascii() else x.encode("idna").decode() for x in host.split("."))
    except UnicodeError:
        raise ValueError(f"{host!r} is no host name; write it in its ASCII form") from None


def _translate(glob: str) -> str:
    """The glob as a regular expression that takes no exponential time, however hostile the URL.

    What stands between two "**" is matched as early as possible and never tried again: an earlier match only
    leaves the next wildcard more to choose from. The same holds for "*" between two "/" of such a segment.
    """
    first, *others = glob.split("**")
    if not others:
        return _segment(first, final=True) + r"\Z"
    *middle, last = others
    atoms = "".join(f"(?>.*?{_segment(text, final=False)})" for text in middle)
    return f"{_segment(first, final=False)}{atoms}.*{_segment(last, final=True)}" + r"\Z"


def _segment(text: str, *, final: bool) -> str:
    """A piece without "**". In the final one the last "*" may reach further than the earliest match."""
    first, *others = map(_literal, text.split("*"))
    if not others:
        return first
    if final:
        *others, last = others
        tail = f"[^/]*{last}"
    else:
        tail = ""
    return first + "".join(f"(?>[^/]*?{literal})" for literal in others) + tail


def _literal(text: str) -> str:
    return "".join("[^/]" if c == "?" else re.escape(c) for c in text)
