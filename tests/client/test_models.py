"""What goes over the wire and back: configurations, versions, file names, codings."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_client import ReCachingStrategy, RequestCacheConfiguration, Response
from buffy_client.coding import decoders
from buffy_client.filenames import guess, safe_name
from buffy_client.models import moment
from buffy_client.retry import retry_after
from buffy_client.strategies import Strategy
from buffy_client.transfer import known_digest
from buffy_client.wording import shown
from tests.client.plain import record

AGE = ReCachingStrategy.age(seconds=3601)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (ReCachingStrategy.never(), {"strategy_name": "never"}),
        (AGE, {"strategy_name": "age", "seconds": 3601}),
        (
            ReCachingStrategy.cron(cron="1 2 * * *", run_at_start=False),
            {"strategy_name": "cron", "cron": "1 2 * * *", "run_at_start": False},
        ),
        (ReCachingStrategy.when_requested(), {"strategy_name": "when_requested"}),
        (
            ReCachingStrategy.when_remote_changed(check_interval_sec=5),
            {
                "strategy_name": "when_remote_changed",
                "check_interval_sec": 5,
                "fallback_max_age_sec": 86400,
            },
        ),
        (ReCachingStrategy.other("http", {"a": 1}), {"strategy_name": "http", "a": 1}),
    ],
)
def test_strategies_survive_the_wire(strategy: Strategy, expected: dict[str, Any]) -> None:
    assert strategy.to_json() == expected
    assert ReCachingStrategy.from_json(expected) == strategy


def test_fields_that_a_strategy_does_not_have_are_ignored() -> None:
    assert ReCachingStrategy.from_json({"strategy_name": "age", "seconds": 3601, "new": 1}) == AGE


def test_a_configuration_survives_the_wire() -> None:
    config = RequestCacheConfiguration(AGE, max_cached_unpinned_versions=3)
    answered = {**config.to_json(), "request_id": "r", "strategy_in_force": {}}
    assert RequestCacheConfiguration.from_json(answered) == config
    assert RequestCacheConfiguration.from_json(answered).request_id == "r"


def test_configurations_share_no_strategy() -> None:
    one, other = RequestCacheConfiguration(), RequestCacheConfiguration()
    assert isinstance(one.recaching_strategy, ReCachingStrategy.when_remote_changed)
    one.recaching_strategy.check_interval_sec = 1
    assert other.recaching_strategy == ReCachingStrategy.when_remote_changed()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T22:30:00.123456", datetime(2026, 11, 23, 22, 30, 0, 123456)),
        ("2026-11-23T22:30:00", datetime(2026, 11, 23, 22, 30)),
        ("2026-11-23T23:30:00+01:00", datetime(2026, 11, 23, 22, 30)),
        (None, None),
    ],
)
def test_datetimes_are_naive_and_in_utc(text: str | None, expected: datetime | None) -> None:
    assert moment(text) == expected


def test_a_version_as_the_contract_has_it() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=60)).replace(tzinfo=None)
    found = Response.from_json(record("a", pinned_until_utc=soon.isoformat(), tags=["x"], surprise=1))
    assert (found.version, found.tags, found.pinned_until_utc) == ("a", ("x",), soon)
    assert found.is_pinned and not found.pinned and not found.pending
    assert found.content_attributes.filename == "data.bin"
    assert Response.from_json(record("a", "wait", download_stats=None)).pending
    assert not Response.from_json(record("a")).is_pinned


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("data.csv", "data.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\data.csv", "data.csv"),
        ("..", None),
        (".bashrc", "bashrc"),
        ("a\0b\nc", "abc"),
        ("", None),
        (None, None),
        ("ü" * 300, "ü" * 100),
    ],
)
def test_no_name_leads_out_of_its_directory(name: str | None, expected: str | None) -> None:
    assert safe_name(name) == expected


@given(st.text())
def test_every_name_is_safe(name: str) -> None:
    safe = safe_name(name)
    assert safe is None or not (
        set(safe) & set("/\\\0\n") or safe.startswith(".") or len(safe.encode()) > 200
    )


@pytest.mark.parametrize(
    ("headers", "url", "expected"),
    [
        ({"Content-Disposition": 'attachment; filename="a b.csv"'}, "http://b.example/x.txt", "a b.csv"),
        ({"Content-Disposition": "attachment; filename=a.csv; size=1"}, "http://b.example/", "a.csv"),
        ({"Content-Disposition": "inline; filename=\"e.csv\"; filename*=UTF-8''%c3%a9.csv"}, "", "é.csv"),
        ({"Content-Disposition": "attachment; filename*=nonsense''%e9; filename=b.csv"}, "", "b.csv"),
        ({"Content-Disposition": "inline"}, "http://b.example/data%20set.tar.gz?x=1", "data set.tar.gz"),
        ({"Content-Type": "text/html; charset=utf-8"}, "http://b.example/page", "download.html"),
        ({}, "http://b.example/page", None),
    ],
)
def test_the_name_of_a_direct_download(headers: dict[str, str], url: str, expected: str | None) -> None:
    assert guess(headers, url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://b.example/x?year=2026&tag=a", "https://b.example/x?year=2026&tag=a"),
        ("https://me:pw@b.example:1/x", "https://b.example:1/x"),
        (
            "https://b.example/x?a=1&X-Amz-Signature=s&api_key=k",
            "https://b.example/x?a=1&X-Amz-Signature=…&api_key=…",
        ),
        ("http://[::1", "http://[::1"),
    ],
)
def test_messages_show_no_secrets(url: str, expected: str) -> None:
    assert shown(url) == expected


TEXT = b"some text that compresses, some text that compresses\n" * 200


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # without the time: test processes must agree on parameters


def undo(encoding: str, data: bytes, step: int = 7) -> tuple[bytes, bool]:
    chain = decoders(encoding)
    out = b""
    for start in range(0, len(data), step):
        part = data[start : start + step]
        for decoder in chain:
            part = decoder.feed(part)
        out += part
    return out, all(decoder.finish() for decoder in chain)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "coded"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", zipped(TEXT)),
        ("X-Gzip", zipped(TEXT)),
        ("gzip", zipped(TEXT[:100]) + zipped(TEXT[100:])),
        ("gzip", zipped(TEXT) + b"\0" * 20),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("deflate, gzip", zipped(zlib.compress(TEXT))),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_content_codings_are_undone(encoding: str, coded: bytes, step: int) -> None:
    assert undo(encoding, coded, step) == (TEXT, True)


@pytest.mark.parametrize(("library", "encoding"), [("brotli", "br"), ("zstandard", "zstd")])
def test_codings_of_other_libraries(library: str, encoding: str) -> None:
    module = pytest.importorskip(library)
    coded = module.compress(TEXT)
    assert undo(encoding, coded) == (TEXT, True)
    assert undo(encoding, coded[:-3])[1] is False


@pytest.mark.parametrize("length", [-9, 30])
def test_a_coding_that_ends_too_early_is_noticed(length: int) -> None:
    assert undo("gzip", zipped(TEXT)[:length])[1] is False


def test_a_coding_that_nobody_knows_stays(caplog: pytest.LogCaptureFixture) -> None:
    assert undo("gzip, sdch", b"bytes") == (b"bytes", True)
    assert "stays gzip, sdch-encoded" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0),
        ("Tue, 24 Nov 2026 07:00:10 GMT", 10.0),
        ("Tue, 24 Nov 2026 06:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    now = datetime(2026, 11, 24, 7, tzinfo=UTC).timestamp()
    assert retry_after({"Retry-After": text}, now) == expected


@pytest.mark.parametrize("name", ["md5", "sha256", "blake2b", "shake_128"])
def test_digests(name: str) -> None:
    digest = hashlib.new(name, b"content")
    expected = digest.hexdigest(32) if name.startswith("shake") else digest.hexdigest()  # type: ignore[call-arg]
    for data, same in ((b"content", True), (b"other", False)):
        found = known_digest(name, expected.upper())
        assert found is not None
        found.update(data)
        assert found.matches() is same


def test_digests_that_nobody_knows() -> None:
    assert known_digest("md5", None) is known_digest("nonsense", "00") is None
