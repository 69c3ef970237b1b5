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

from buffy_client import BuffyPyClient, BuffyUsageError
from tests.support.answers import FRESH, big, fixed, sized, zipped
from tests.support.origin import Origin

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
    made = request.download_response_content_to(dir=empty / "absent" / "below")
    assert made.parent == empty / "absent" / "below" and made.read_bytes() == b"x"
    with pytest.raises(BuffyUsageError, match="is not a directory"):
        request.download_response_content_to(dir=made)


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
