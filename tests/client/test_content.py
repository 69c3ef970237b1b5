"""Content: whole or an error, under its right name or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from buffy_client import (
    BuffyDownloadError,
    BuffyPyClient,
    BuffyTimeoutError,
    BuffyUsageError,
    ReCachingStrategy,
    RequestCacheConfiguration,
)
from tests.client.plain import PlainServer, record
from tests.support.answers import FRESH, big, fixed, head, sized, truncated, zipped
from tests.support.origin import CLOSE, RESET, Origin, Peer, Received

MIB = 1 << 20


def content(request: BuffyPyClient.Request) -> bytes:
    return b"".join(request.download_response_content(timeout_sec=20))


def test_chunks_are_of_the_size_asked_for(client: BuffyPyClient, origin: Origin, path: str) -> None:
    request = client.create_request(origin.on(path, fixed(b"x" * 1000, FRESH)))
    assert [len(chunk) for chunk in request.download_response_content(400)] == [400, 400, 200]


def test_coded_content_is_decoded(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    script, wire = zipped(b"some text\n" * 1000, FRESH)
    request = client.create_request(origin.on(path, script))
    assert content(request) == b"some text\n" * 1000
    assert request.download_response_content_to(empty / "text").read_bytes() == b"some text\n" * 1000
    assert request.list_cached_versions()[0].content_hash_hex == hashlib.md5(wire).hexdigest()


def test_empty_content(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    request = client.create_request(origin.on(path, fixed(b"", FRESH)))
    assert content(request) == b""
    assert request.download_response_content_to(empty / "nothing").read_bytes() == b""


def test_to_a_path_that_exists(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    (target := empty / "data").write_bytes(b"old and longer")
    request = client.create_request(origin.on(path, fixed(b"new", FRESH)))
    assert request.download_response_content_to(str(target)) == target
    assert target.read_bytes() == b"new"
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask
    assert list(empty.iterdir()) == [target]


def test_a_symbolic_link_is_followed(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    (empty / "link").symlink_to("real")
    request = client.create_request(origin.on(path, fixed(b"x", FRESH)))
    assert request.download_response_content_to(empty / "link") == empty / "link"
    assert (empty / "link").is_symlink()
    assert (empty / "real").read_bytes() == b"x"


def test_to_a_pipe(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    os.mkfifo(empty / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((empty / "pipe").read_bytes()))
    reader.start()
    client.create_request(origin.on(path, fixed(b"x", FRESH))).download_response_content_to(empty / "pipe")
    reader.join(10)
    assert read == [b"x"]


def test_to_an_open_file(client: BuffyPyClient, origin: Origin, path: str) -> None:
    sink = io.BytesIO()
    request = client.create_request(origin.on(path, fixed(b"x", FRESH)))
    assert request.download_response_content_to(sink) is sink
    assert (sink.getvalue(), sink.closed) == (b"x", False)


@pytest.mark.parametrize("as_target", [False, True])
def test_to_a_directory(
    client: BuffyPyClient, origin: Origin, path: str, empty: Path, as_target: bool
) -> None:
    named = {"Content-Disposition": 'attachment; filename="../my data.csv"'}
    request = client.create_request(origin.on(path, fixed(b"x", {**FRESH, **named})))
    if as_target:
        assert request.download_response_content_to(empty) == empty / "my data.csv"
    else:
        assert request.download_response_content_to(dir=empty) == empty / "my data.csv"
    assert [file.name for file in empty.iterdir()] == ["my data.csv"]


@pytest.mark.parametrize(
    ("suffix", "fields", "expected"),
    [
        ("/data.csv?x=1", {}, "data.csv"),
        ("/page", {"Content-Type": "text/html"}, "download.html"),
        ("/page", {"Content-Disposition": "attachment; filename*=UTF-8''%c3%a9.txt"}, "é.txt"),
    ],
)
def test_file_names(
    client: BuffyPyClient, origin: Origin, path: str, suffix: str, fields: dict[str, str], expected: str
) -> None:
    origin.on(f"{path}*", fixed(b"x", {**FRESH, **fields}))
    assert client.create_request(origin.url(path + suffix)).get_filename() == expected


def test_the_name_is_known_before_the_content(client: BuffyPyClient, origin: Origin, path: str) -> None:
    release = threading.Event()
    origin.on(f"{path}/*", sized([b"a", release, b"b"], FRESH))
    request = client.create_request(origin.url(f"{path}/late.txt"))
    try:
        assert request.get_filename(timeout_sec=10) == "late.txt"
    finally:
        release.set()
    assert content(request) == b"ab"


@pytest.mark.parametrize("arguments", [{}, {"target": "a", "dir": "b"}])
def test_neither_or_both_targets(client: BuffyPyClient, arguments: dict[str, str]) -> None:
    request = client.create_request("http://b.example/", hold_request_order=True)
    with pytest.raises(BuffyUsageError, match="either target"):
        request.download_response_content_to(**arguments)


def test_a_directory_that_is_not_there(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    request = client.create_request(origin.on(path, fixed(b"x", FRESH)))
    with pytest.raises(BuffyUsageError, match="is not a directory"):
        request.download_response_content_to(dir=empty / "absent")


def test_waiting_has_an_end(client: BuffyPyClient, origin: Origin, path: str, empty: Path) -> None:
    release = threading.Event()
    request = client.create_request(origin.on(path, sized([release, b"late"], FRESH)))
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match=r"not ready within 0\.7 s"):
            request.download_response_content_to(empty / "x", timeout_sec=0.7)
        assert 0.6 < time.monotonic() - began < 3
        assert list(empty.iterdir()) == []
    finally:
        release.set()
    assert content(request) == b"late"


def test_nothing_waits_for_a_poll(client: BuffyPyClient, origin: Origin, path: str) -> None:
    """The answer comes when the download ends, not at the next of some fixed ticks."""
    release, times = threading.Event(), []
    request = client.create_request(origin.on(path, sized([release, b"x"], FRESH)))
    origin.wait(path)

    def let_go() -> None:
        times.append(time.monotonic())
        release.set()

    threading.Timer(0.5, let_go).start()
    assert content(request) == b"x"
    assert time.monotonic() - times[0] < 0.25


def test_progress_goes_to_stderr(
    client: BuffyPyClient, origin: Origin, path: str, empty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = client.create_request(origin.on(path, big(3 * MIB, 5, FRESH)))
    request.download_response_content_to(empty / "x", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "test_progress_goes_to_stderr" in err
    assert "3.1/3.1" in err


# -- a server or a way to it that breaks --------------------------------------------------------------------
BODY = bytes(range(256)) * 4096
DIGEST = hashlib.md5(BODY).hexdigest()
CONTENT = "/v1/request/r/response/v/a/content"


class Breaking:
    """Sends the body in parts: each answer ends after `part` bytes, the way `end` says."""

    def __init__(self, part: int, end: str = CLOSE, resumes: bool = True) -> None:
        self.part, self.end, self.resumes = part, end, resumes
        self.starts: list[int] = []
        self.etag = '"a"'

    async def __call__(self, request: Received, peer: Peer) -> None:
        first = 0
        if self.resumes and (wanted := request.get("range")) and request.get("if-range") == self.etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.starts.append(first)
        fields = {"ETag": self.etag, "Content-Length": str(len(BODY) - first)}
        if first:
            fields["Content-Range"] = f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"
        await peer.send(head(206 if first else 200, fields) + BODY[first : first + self.part])
        if first + self.part < len(BODY):
            await (peer.close() if self.end == CLOSE else peer.reset())


@pytest.fixture
def request_a(plain: PlainServer) -> BuffyPyClient.Request:
    """Ordered from a server whose version `a` is ready; its content is the test's."""
    plain.versions = [record("a", content_hash_hex=DIGEST)]
    return plain.client().create_request("http://b.example/x")


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_broken_connection_is_resumed(
    plain: PlainServer, request_a: BuffyPyClient.Request, end: str
) -> None:
    script = Breaking(len(BODY) // 3, end)
    plain.origin.on(CONTENT, script)
    assert content(request_a) == BODY
    assert len(script.starts) >= 3 and script.starts == sorted(script.starts)


def test_a_server_that_cannot_resume_is_read_from_the_start(
    plain: PlainServer, request_a: BuffyPyClient.Request, empty: Path
) -> None:
    script = Breaking(len(BODY) // 2, resumes=False)
    plain.origin.on(CONTENT, script)
    threading.Timer(0.2, lambda: setattr(script, "part", len(BODY))).start()
    request_a._client.download_attempts = 50
    assert request_a.download_response_content_to(empty / "x").read_bytes() == BODY
    assert len(script.starts) > 1


def test_a_part_of_other_bytes_is_refused(plain: PlainServer, request_a: BuffyPyClient.Request) -> None:
    script = Breaking(len(BODY) // 2)
    plain.origin.on(CONTENT, script)
    chunks = request_a.download_response_content()
    next(chunks)
    script.etag = '"b"'
    with pytest.raises(BuffyDownloadError, match="cannot resume"):
        list(chunks)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (truncated(BODY[:1000], len(BODY), {"ETag": '"a"'}), "times in a row"),
        (fixed(b"other bytes", {"ETag": '"a"'}), "digest does not match"),
        (fixed(b"no", status=404), "answer is 404"),
    ],
    ids=["truncated", "damaged", "gone"],
)
def test_never_a_part_under_the_final_name(
    plain: PlainServer, request_a: BuffyPyClient.Request, empty: Path, script: object, words: str
) -> None:
    plain.origin.on(CONTENT, script)  # type: ignore[arg-type]
    (kept := empty / "kept").write_bytes(b"what was there")
    with pytest.raises(BuffyDownloadError, match=words):
        request_a.download_response_content_to(kept)
    assert kept.read_bytes() == b"what was there"
    assert list(empty.iterdir()) == [kept]
    sink = io.BytesIO(b"start")
    sink.seek(5)
    with pytest.raises(BuffyDownloadError, match=words):
        request_a.download_response_content_to(sink)
    assert sink.getvalue() == b"start"


def test_damaged_coding(plain: PlainServer) -> None:
    plain.versions = [record("a")]
    for body, words in ((b"no gzip at all", "damaged"), (b"\x1f\x8b\x08\0", "too early")):
        plain.content("a", body, **{"Content-Encoding": "gzip"})
        with pytest.raises(BuffyDownloadError, match=words):
            content(plain.client().create_request("http://b.example/x"))


# -- a server that speaks the plain contract ----------------------------------------------------------------
def test_registration_is_waited_for(plain: PlainServer) -> None:
    plain.unregistered, plain.versions = 2, [record("a")]
    assert plain.client().create_request("http://b.example/x").response_version == "a"
    assert [one.partition("?")[0] for one in plain.asked()] == [
        "PUT ",
        *["GET r/status/12.5"] * 3,
        "GET r/response/latest",
    ]


def test_a_server_that_cannot_hold_its_answer_is_polled(plain: PlainServer) -> None:
    waiting = [record("a", "wait", download_stats=None)] * 2 + [record("a", "in_progress")]
    plain.versions = [[*waiting, record("a")]]
    plain.content("a", b"x")
    assert content(plain.client().create_request("http://b.example/x")) == b"x"


def test_a_duplicate_gives_the_version_that_it_equals(plain: PlainServer) -> None:
    plain.versions = [record("b", "duplicate", previous_version="a"), record("a")]
    plain.content("a", b"x")
    request = plain.client().create_request("http://b.example/x", hold_request_order=True)
    request.order(prefer_cached=False)
    assert content(request) == b"x"
    assert request.response_version == "a"


def test_the_version_on_its_way_is_waited_for_only_if_wanted(plain: PlainServer) -> None:
    plain.versions = [[record("b", "in_progress"), record("b")], record("a")]
    plain.content("a", b"old")
    plain.content("b", b"new")
    client = plain.client()
    assert content(client.create_request("http://b.example/x")) == b"old"
    request = client.create_request("http://b.example/x", hold_request_order=True)
    request.order(prefer_cached=False)
    assert content(request) == b"new"


def test_a_failed_one_is_replaced_by_a_good_one(plain: PlainServer, caplog: pytest.LogCaptureFixture) -> None:
    failed = record("b", "failed", download_stats={"state": "failed", "error": "the origin is gone"})
    plain.versions = [failed, record("a")]
    plain.content("a", b"x")
    request = plain.client().create_request("http://b.example/x", hold_request_order=True)
    request.order(prefer_cached=False)
    assert content(request) == b"x"
    assert "the origin is gone" in caplog.text


def test_a_configuration_that_an_order_did_not_take_over_is_put(plain: PlainServer) -> None:
    plain.versions, wanted = [record("a")], RequestCacheConfiguration(ReCachingStrategy.age(seconds=3601))
    request = plain.client().create_request("http://b.example/x", cache_configuration=wanted)
    assert request.cache_configuration == wanted
    assert plain.config["recaching_strategy"] == {"strategy_name": "age", "seconds": 3601}


def test_a_server_that_forgot_the_version_gets_the_order_again(plain: PlainServer) -> None:
    plain.order_extra = {"current_response": record("gone", "wait")}
    plain.versions = [record("a")]
    plain.content("a", b"x")
    request = plain.client().create_request("http://b.example/x")
    plain.order_extra = {"current_response": record("a")}
    assert content(request) == b"x"
    assert plain.asked().count("PUT ") == 2


def test_a_short_outage_while_waiting(plain: PlainServer) -> None:
    plain.order_extra = {"current_response": record("a", "wait")}
    plain.versions = [record("a")]
    plain.content("a", b"x")
    client = plain.client()
    client.outage_sec = 10
    request = client.create_request("http://b.example/x")
    plain.origin.stop()
    threading.Timer(0.7, plain.origin.start).start()
    assert content(request) == b"x"


def test_a_deadline_holds_without_a_long_poll(plain: PlainServer) -> None:
    plain.versions = [record("a", "wait")]
    request = plain.client().create_request("http://b.example/x")
    with pytest.raises(BuffyTimeoutError):
        list(request.download_response_content(timeout_sec=0.4))


def test_a_deadline_holds_while_the_server_is_away(plain: PlainServer) -> None:
    plain.versions = [record("a", "wait")]
    client = plain.client()
    client.outage_sec = 30
    request = client.create_request("http://b.example/x")
    plain.origin.stop()
    began = time.monotonic()
    with pytest.raises(BuffyTimeoutError):
        list(request.download_response_content(timeout_sec=0.5))
    assert time.monotonic() - began < 5


def test_all_versions_come_in_pages(plain: PlainServer) -> None:
    plain.versions = [record(f"{number:04}") for number in range(2500, 0, -1)]
    request = plain.client().create_request("http://b.example/x")
    assert len(request.list_cached_versions()) == 10
    assert [one.version for one in request.list_cached_versions(limit=None, skip=1)] == [
        f"{number:04}" for number in range(2499, 0, -1)
    ]
