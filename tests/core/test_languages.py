"""Accept-Language in Vary: RFC 9110 §12.5.4, RFC 9111 §4.1."""

from __future__ import annotations

import pytest

from buffy_proxy.core.languages import normal, preferred
from buffy_proxy.core.versions import matches
from tests.core.make import fields, version

PREFERRED = [
    (b"de", b"de"),
    (b"fr;q=0.5, DE;q=1.0", b"de"),
    (b"en-GB, en;q=0.9", b"en-gb"),
    (b"en, de", None),
    (b"en;q=0", None),
    (b"*", None),
    (b"en;q=2", None),
    (b"en, en;q=0.5", None),
    (b"", None),
    (b"\xff\x00;q", None),
]


@pytest.mark.parametrize(("value", "language"), PREFERRED)
def test_preferred(value: bytes, language: bytes | None) -> None:
    assert preferred(value) == language


def test_normal() -> None:
    assert normal(b" eN ,  De ; q = 0.5") == b"en,de;q=0.5"


MATCHES = [
    ("§4.1 case and space", "en, de", "EN ,de", "", True),
    ("§4.1 order may matter", "en, de", "de, en", "", False),
    ("§12.5.4 the best there is", "en, de", "fr;q=0.5, de", "Content-Language: DE", True),
    ("§12.5.4 not the best", "en, de", "fr, de;q=0.5", "Content-Language: de", False),
    ("§12.5.4 as good as another", "en, de", "fr, de", "Content-Language: de", False),
    ("§12.5.4 two languages", "en, de", "de", "Content-Language: de, en", False),
    ("§12.5.4 a region", "en, de", "de", "Content-Language: de-AT", False),
    ("§12.5.4 not known", "en, de", "de", "", False),
]


@pytest.mark.parametrize(
    ("clause", "before", "now", "line", "same"), MATCHES, ids=[row[0] for row in MATCHES]
)
def test_matches(clause: str, before: str, now: str, line: str, same: bool) -> None:
    asked = fields(f"Accept-Language: {before}")
    stored = version("Vary: Accept-Language", *([line] if line else []), asked=asked)
    assert matches(stored, fields(f"Accept-Language: {now}")) is same


def test_all_else_that_varies_must_be_equal() -> None:
    asked = fields("Accept-Language: en", "Accept: a")
    stored = version("Vary: Accept-Language, Accept", "Content-Language: de", asked=asked)
    assert matches(stored, fields("Accept-Language: de", "Accept: a"))
    assert not matches(stored, fields("Accept-Language: de", "Accept: b"))
