"""hypothesis strategies for fields as they come from the wild: real, duplicated, shouted, quoted, rubbish."""

from __future__ import annotations

from hypothesis import strategies as st

from buffy_proxy.core.model import Fields
from tests.core.make import T, date

NUMBERS = st.sampled_from(
    ["0", "1", "60", "9999999999", "9" * 400, "-1", "+1", "1.5", "1e3", "0x10", " 60", "٣", "²", "x", ""]
)
QUOTED_TEXT = st.text("ab ,=\\;", max_size=6).map(lambda t: '"' + t.replace("\\", "\\\\") + '"')
"""Well-formed quoted strings."""

_KNOWN = (
    "max-age s-maxage no-cache private public must-revalidate proxy-revalidate immutable must-understand",
    "stale-if-error min-fresh max-stale only-if-cached x",
)
NAMES = st.sampled_from(" ".join(_KNOWN).split())
ARGUMENTS = st.one_of(
    st.just(""), NUMBERS.map("={}".format), QUOTED_TEXT.map("={}".format), NUMBERS.map('="{}"'.format)
)


def shouted(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The text in any mixture of case."""
    return st.tuples(text, st.randoms(use_true_random=False)).map(
        lambda pair: "".join(c.upper() if pair[1].random() < 0.3 else c for c in pair[0])
    )


MEMBERS = st.one_of(
    st.tuples(shouted(NAMES), ARGUMENTS).map("".join),
    st.sampled_from(["", " ", "=", "=5", "@", "é", "a b", "max-age = 60", "\t"]),
)
"""Directives and what stands between commas in their place; their quotes are balanced."""

DATES = st.one_of(
    st.floats(-1e9, 1e9).map(lambda offset: date(T + offset)),
    st.sampled_from(["0", "-1", "", "x", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]),
    st.sampled_from(
        ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37"]
    ),
    st.sampled_from(
        ["Tue, 31 Feb 2023 00:00:00 GMT", "Tue, 14 Nov 2023 22:13:60 GMT", "2023-11-14T22:13:20Z"]
    ),
)
ETAGS = st.sampled_from(['"a"', 'W/"a"', '"b"', 'w/"a"', "a", '"', '"a" "b"', "*", "", '"a, b"', 'W/"'])
TEXT = st.binary(max_size=12).map(lambda v: v.translate(None, b"\r\n").decode("latin-1"))


def line(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Field lines of that name, in any case."""
    return st.tuples(shouted(st.just(name)).map(str.encode), values.map(lambda v: v.encode("utf-8")))


CONTROLS = line("cache-control", st.lists(MEMBERS, max_size=4).map(",".join))
RESPONSE_LINES: st.SearchStrategy[tuple[bytes, bytes]] = st.one_of(
    CONTROLS,
    *(line(name, DATES) for name in ("date", "expires", "last-modified")),
    line("age", NUMBERS | st.lists(NUMBERS, max_size=3).map(", ".join)),
    line("etag", ETAGS),
    line("vary", st.lists(st.sampled_from(["A", "b", "*", "", "Cookie", " a "]), max_size=3).map(",".join)),
    line("connection", st.sampled_from(["close", "X-A", "etag, x-a", "cache-control"])),
    line("content-length", NUMBERS),
    line("content-range", st.sampled_from(["bytes 0-1/10", "x"])),
    line("location", st.sampled_from(["/a", "//", "http://[", "https://example.org/b", "\x00", ""])),
    line("x-a", TEXT),
    line("set-cookie", TEXT),
    line("retry-after", NUMBERS | DATES),
)
RESPONSE_FIELDS: st.SearchStrategy[Fields] = st.lists(RESPONSE_LINES, max_size=8).map(tuple)
REQUEST_LINES: st.SearchStrategy[tuple[bytes, bytes]] = st.one_of(
    CONTROLS,
    line("pragma", st.sampled_from(["no-cache", "x", ""])),
    line("range", st.sampled_from(["bytes=0-1", "bytes=-1", "bytes=9-", "bytes=0-0,2-3", "bytes=", "x=1-2"])),
    line("if-none-match", st.lists(ETAGS, max_size=3).map(",".join)),
    line("if-match", ETAGS),
    line("if-range", ETAGS | DATES),
    line("if-modified-since", DATES),
    line("if-unmodified-since", DATES),
    line("a", st.sampled_from(["1", "2", "1, 2", "1,2", '"1, 2"', ""])),
    line("b", TEXT),
    line("authorization", TEXT),
)
REQUEST_FIELDS: st.SearchStrategy[Fields] = st.lists(REQUEST_LINES, max_size=6).map(tuple)
