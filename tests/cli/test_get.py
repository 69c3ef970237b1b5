"""`buffy get`: from the store, else through a real running server."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from buffy_proxy.presence import Presence, announce
from tests.cli.shelf import Shelf
from tests.conftest import Factory
from tests.support import answers
from tests.support.origin import Origin, Script

URL = "https://data.example/a"


def test_the_stored_bytes_go_to_stdout_exactly(shelf: Shelf) -> None:
    body = bytes(range(256)) * 20_000
    shelf.add(URL, body, age_s=10_000, fresh_s=-5000)
    ran = shelf.buffy("get", URL)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == body


def test_a_version_may_be_named_or_tagged(shelf: Shelf) -> None:
    old = shelf.add(URL, b"old")
    new = shelf.add(URL, b"new")
    shelf.buffy("tag", URL, "release-1", "--version", old.name)
    assert shelf.buffy("get", URL).out == b"new"
    assert shelf.buffy("get", URL, "--version-name", old.name).out == b"old"
    assert shelf.buffy("get", URL, "--tag", "release-1").out == b"old"
    assert shelf.buffy("get", new.resource_id).out == b"new"
    shelf.buffy("pin", URL, "--version", old.name)
    assert shelf.buffy("get", URL).out == b"old"


def test_a_missing_version_or_tag_is_exit_code_1(shelf: Shelf) -> None:
    shelf.add(URL)
    for option in ("--version-name", "--tag"):
        ran = shelf.buffy("get", URL, option, "nothing")
        assert (ran.code, ran.out) == (1, b"")
        assert "nothing" in ran.err
    assert shelf.buffy("get", URL, "--tag", "a", "--version-name", "b").code == 2


def test_a_file_appears_whole_with_the_usual_mode(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(URL, b"new content")
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    target.write_bytes(b"older, longer content")
    ran = shelf.buffy("get", URL, "-o", str(target))
    assert (ran.code, ran.out, ran.err) == (0, b"", f"{target}: 11 B\n")
    assert target.read_bytes() == b"new content"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_output_to_a_pipe_and_to_nowhere(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(URL, b"through a pipe")
    os.mkfifo(tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    assert shelf.buffy("get", URL, "-o", str(tmp_path / "pipe")).code == 0
    reader.join(10)
    assert received == [b"through a pipe"]
    ran = shelf.buffy("get", URL, "-o", str(tmp_path / "no" / "such" / "directory"))
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "cannot be written" in ran.err


def test_what_is_not_stored_needs_a_server(shelf: Shelf) -> None:
    ran = shelf.buffy("get", URL)
    assert (ran.code, ran.out) == (1, b"")
    assert ran.err == f"buffy: nothing is stored for {URL}; no server runs that could fetch it\n"


def test_what_is_not_stored_comes_through_the_running_server_and_is_stored(
    buffy: Factory, origin: Origin, tls_origin: Origin, tmp_path: Path
) -> None:
    server = buffy(config='[proxy]\ncredentials = "alice:p+w %/"')
    for count, each in enumerate((origin, tls_origin)):
        url = each.on(f"/get/{count}", answers.fixed(b"fetched", answers.FRESH))
        target = tmp_path / f"file{count}"
        first = server.cli("get", url, "-o", str(target))
        assert (first.returncode, target.read_bytes()) == (0, b"fetched"), first.stderr
        second = server.cli("get", url)
        assert (second.returncode, second.stdout, second.stderr) == (0, b"fetched", b"")
        assert server.cli("get", url, "--group", "lab").stdout == b"fetched"
        assert each.hits(f"/get/{count}") == 2  # once for each group


def test_an_origin_that_fails_is_exit_code_1(buffy: Factory, origin: Origin, tmp_path: Path) -> None:
    server = buffy()
    cases: dict[str, tuple[Script, bytes]] = {
        "/get/missing": (answers.fixed(b"not here", status=404), b"404"),
        "/get/broken": (answers.truncated(b"half of it", 1000), b"could not get it"),
    }
    for path, (script, complaint) in cases.items():
        ran = server.cli("get", origin.on(path, script), "-o", str(tmp_path / "file"))
        assert ran.returncode == 1
        assert complaint in ran.stderr
        assert ran.stderr.count(b"\n") == 1
    assert not (tmp_path / "file").exists()
    assert server.cli("get", "http://127.0.0.1:1/").returncode == 1


@pytest.mark.parametrize("group", ["a b", "ü", "a" * 65])
def test_a_bad_group_is_a_usage_error(shelf: Shelf, group: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = proxy.getsockname()
        announce(shelf.data_dir, Presence(os.getpid(), address, address, "1", shelf.data_dir / "ca.pem"))
        ran = shelf.buffy("get", URL, "--group", group)
    assert ran.code == 2
    assert "--group: group" in ran.err
