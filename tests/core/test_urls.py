"""One spelling for each target URI."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.core.urls import authority_of, normalise_url, origin_of

SAME = [  # RFC 9110 §4.2.3, RFC 3986 §6.2
    ("HTTP://Example.ORG/Path", "http://example.org/Path"),
    ("http://example.org", "http://example.org/"),
    ("http://example.org?q", "http://example.org/?q"),
    ("http://example.org:80/", "http://example.org/"),
    ("https://example.org:443/", "https://example.org/"),
    ("https://example.org:/", "https://example.org/"),
    ("https://example.org:80/", "https://example.org:80/"),
    ("http://example.org:0080/", "http://example.org/"),
    ("http://user:pa%40ss@example.org/", "http://example.org/"),
    ("http://a@b@example.org/", "http://example.org/"),
    ("http://[2001:DB8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
    ("http://[::1]", "http://[::1]/"),
    ("http://example.org/a#frag?ment", "http://example.org/a"),
    ("http://example.org/a?", "http://example.org/a?"),  # an empty query is another resource
    ("http://example.org/%7euser/../a//b", "http://example.org/%7euser/../a//b"),
    ("http://example.org/?b=2&a=1&a=", "http://example.org/?b=2&a=1&a="),
    ("http://bücher.example/ü", "http://bücher.example/ü"),
    ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
]


@pytest.mark.parametrize(("given", "normal"), SAME)
def test_normalise_url(given: str, normal: str) -> None:
    assert normalise_url(given) == normal
    assert normalise_url(normal) == normal


WRONG = [
    ("", "absolute"),
    ("/path", "absolute"),
    ("example.org:443", "absolute"),
    ("http:/example.org", "absolute"),
    (r"http://example.org\evil", "absolute"),
    ("ftp://example.org/", "'ftp'"),
    ("file:///etc/passwd", "'file'"),
    ("http:///path", "no host"),
    ("http://", "no host"),
    ("http://:80/", "no host"),
    ("http://user@/", "no host"),
    ("http://example.org:0/", "port"),
    ("http://example.org:65536/", "port"),
    ("http://example.org:x/", "port"),
    ("http://example.org:-1/", "port"),
    ("http://exa<mple.org/", "host"),
    ("http://[::1/", "host"),
    ("http://::1/", "host"),
    ("http://[::1]x/", "host"),
    ("http://example.org/a b", "position"),
    ("http://example.org/a\r\nX: y", "position"),
    ("http://exam\x00ple.org/", "position"),
    ("http://example.org/\x7f", "position"),
]


@pytest.mark.parametrize(("given", "word"), WRONG)
def test_what_is_wrong_is_said(given: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        normalise_url(given)


def test_origin_and_authority() -> None:
    assert origin_of("HTTPS://Example.org/a?b") == ("https", "example.org", 443)
    assert origin_of("http://[::1]:8080") == ("http", "[::1]", 8080)
    assert authority_of("https://example.org:8443/a?b") == "example.org:8443"
    assert authority_of("https://example.org/") == "example.org"


@given(
    st.text() | st.text().map(lambda t: "http://" + t) | st.text("htps:/.@[]#?a1%\\").map("http://{}".format)
)
def test_a_normal_url_is_normal(text: str) -> None:
    """Either an error that says so, or a fixed point whose origin can be read."""
    try:
        normal = normalise_url(text)
    except ValueError as error:
        assert str(error)
    else:
        assert normalise_url(normal) == normal
        assert origin_of(normal)[0] in ("http", "https")
