"""File names: RFC 6266, URLs, media types, and what must never come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.control_api.filenames import MAX_BYTES, filename, safe_name

BARE = "http://origin.test/path/"

DISPOSITIONS = [
    ('attachment; filename="a.csv"', "a.csv"),
    ("attachment; filename=a.csv", "a.csv"),
    ("ATTACHMENT; FILENAME=a.csv", "a.csv"),
    ('inline; filename="a b.csv"; size=3', "a b.csv"),
    (r'attachment; filename="a\"b.csv"', 'a"b.csv'),
    ("attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv", "größe.csv"),
    ("attachment; filename=\"a.csv\"; filename*=utf-8''%e2%82%ac.csv", "€.csv"),
    ("attachment; filename*=UTF-8''%e2%82%ac.csv; filename=\"a.csv\"", "€.csv"),
    ("attachment; filename*=ISO-8859-1'de'%E4.csv", "ä.csv"),
    ("attachment; filename*=klingon''x; filename=a.csv", "a.csv"),
    ('attachment; filename="größe.csv"', "größe.csv"),
    ('attachment; name="x"; filename="a;b.csv"', "a;b.csv"),
    ('filename="a.csv"', "a.csv"),
    ('attachment; filename="../../etc/passwd"', "passwd"),
    (r'attachment; filename="C:\\dir\\a.csv"', "a.csv"),
    ("attachment; filename*=UTF-8''..%2F..%2Fa.csv", "a.csv"),
    ('attachment; filename="a\0\nb.csv"', "ab.csv"),
    ('attachment; filename=".."', "download.csv"),
    ('attachment; filename=""', "download.csv"),
    ("attachment", "download.csv"),
    ('attachment; filename="dir/"', "download.csv"),
    ('attachment; filename="a.csv. "', "a.csv"),
]


@pytest.mark.parametrize(("disposition", "expected"), DISPOSITIONS)
def test_content_disposition(disposition: str, expected: str) -> None:
    assert filename(disposition, BARE, "text/csv") == expected


URLS = [
    ("http://origin.test/a/data.csv", "application/json", "data.csv"),
    ("http://origin.test/a/data.tar.gz?x=y.z#f", None, "data.tar.gz"),
    ("http://origin.test/a%20b.csv", None, "a b.csv"),
    ("http://origin.test/..%2f..%2fetc%2fa.conf", None, "a.conf"),
    ("http://origin.test/data", "application/json", "download.json"),
    ("http://origin.test/", "text/html", "download.html"),
    ("http://origin.test/", "text/plain", "download.txt"),
    ("http://origin.test/", "image/jpeg", "download.jpg"),
    ("http://origin.test/", "application/octet-stream", "download"),
    ("http://origin.test/", "what/ever", "download"),
    ("http://origin.test/", None, "download"),
    ("http://origin.test/.hidden", None, "download"),
    ("http://[bad/x.csv", None, "download"),
]


@pytest.mark.parametrize(("url", "media_type", "expected"), URLS)
def test_url_and_media_type(url: str, media_type: str | None, expected: str) -> None:
    assert filename(None, url, media_type) == expected


@given(st.text(), st.text(), st.none() | st.text())
def test_a_name_is_one_harmless_component(disposition: str, path: str, media_type: str | None) -> None:
    for name in (
        filename(disposition, BARE + path, media_type),
        filename(f'attachment; filename="{disposition}"', BARE, media_type),
        filename(f"attachment; filename*=UTF-8''{path}", BARE, media_type),
    ):
        assert name and name not in (".", "..") and not set(name) & set("/\\\0\r\n")
        assert len(name.encode()) <= MAX_BYTES + 20
        assert safe_name(name) == name
