"""URL globs: a table, and a law against the obvious (slow) translation."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.patterns import _translate, compile_glob

CASES = [
    # pattern, URL, matches
    ("https://example.org/**", "https://example.org/", True),
    ("https://example.org/**", "https://example.org/a/b?c=d", True),
    ("https://example.org/**", "http://example.org/a", False),
    ("https://example.org/**", "https://example.org:8443/a", False),
    ("https://example.org:443/a", "https://example.org/a", True),
    ("http://example.org:80/a", "http://example.org/a", True),
    ("http://example.org:443/a", "http://example.org:443/a", True),
    ("https://example.org/*", "https://example.org/a", True),
    ("https://example.org/*", "https://example.org/a/b", False),
    ("https://example.org/*/c", "https://example.org/a/c", True),
    ("https://example.org/a?c", "https://example.org/abc", True),
    ("https://example.org/a?c", "https://example.org/a/c", False),
    ("https://example.org/a?c=*", "https://example.org/a?c=1", True),
    ("example.org/a", "http://example.org/a", True),
    ("example.org/a", "https://example.org/a", True),
    ("example.org/a", "https://example.org/A", False),
    ("EXAMPLE.org/a", "https://example.org/a", True),
    ("HTTPS://Example.ORG/a", "https://example.org/a", True),
    ("example.org", "https://example.org/any/path", True),
    ("example.org", "https://sub.example.org/", False),
    ("*.example.org", "https://a.b.example.org/", True),
    ("*.example.org/x", "https://a.example.org.example.org/x", True),
    ("*.example.org/x", "https://elsewhere.test/a.example.org/x", False),
    ("*://example.org/", "http://example.org/", True),
    ("[::1]:8080/**", "http://[::1]:8080/x", True),
    ("**", "http://anything.test/at?all", True),
    ("**.WHL", "https://example.org/p/x.WHL", True),
    ("**.whl", "https://example.org/p/x.whl?y", False),
    ("**/simple/**", "https://example.org/a/simple/b", True),
    ("example.org/**/c", "https://example.org/a/b/c", True),
    ("example.org/a.c", "https://example.org/abc", False),
    ("example.org/[ab]", "https://example.org/a", False),
    ("example.org/ü", "https://example.org/%C3%BC", True),
    ("bücher.example/", "https://xn--bcher-kva.example/", True),
]


@pytest.mark.parametrize(("pattern", "url", "matches"), CASES)
def test_what_matches(pattern: str, url: str, matches: bool) -> None:
    assert bool(compile_glob(pattern).match(url)) is matches


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "empty"),
        ("exam ple.org", "space"),
        ("example.org\n", "space"),
        ("a***b", r"\*\*\*"),
        ("ftp://example.org/", "http"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("\udcff.example/", "host name"),
    ],
)
def test_bad_patterns_say_what_is_wrong(pattern: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        compile_glob(pattern)


@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?"]), max_size=9).map("".join),
    st.text("ab/", max_size=12),
)
def test_the_fast_translation_matches_what_the_obvious_one_does(glob: str, text: str) -> None:
    if "***" not in glob:
        tokens = re.findall(r"\*\*|.", glob)
        obvious = "".join({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(t, re.escape(t)) for t in tokens)
        assert bool(re.match(_translate(glob), text)) == bool(re.match(obvious + r"\Z", text))


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_value_error(pattern: str) -> None:
    try:
        compiled = compile_glob(pattern)
    except ValueError:
        return
    compiled.match("http://example.org/")


def test_many_wildcards_take_no_exponential_time() -> None:
    url = "http://example.org/" + "a" * 2000
    start = time.process_time()
    for pattern in ("**" + "a*b**" * 10 + "c", "**" + "a**" * 20 + "b", "example.org/" + "a*" * 20 + "b"):
        assert compile_glob(pattern).match(url) is None
    assert time.process_time() - start < 5
