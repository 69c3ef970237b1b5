"""server.json: found while the server lives, ignored when it is stale or broken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buffy_proxy.presence import Presence, announce, find, keep, reachable, read, withdraw


@pytest.fixture
def listening() -> Iterator[Presence]:
    """This process, with a real listener as its proxy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Presence(os.getpid(), server.getsockname(), ("127.0.0.1", 1), "1.2.3", Path("/ca.pem"))


def test_announced_found_withdrawn(tmp_path: Path, listening: Presence) -> None:
    assert find(tmp_path) is None
    announce(tmp_path, listening)
    assert find(tmp_path) == listening
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]
    assert (tmp_path / "server.json").stat().st_mode & 0o777 == 0o600
    withdraw(tmp_path, listening.pid)
    assert find(tmp_path) is None
    withdraw(tmp_path, listening.pid)


def test_a_server_does_not_withdraw_its_successor(tmp_path: Path, listening: Presence) -> None:
    announce(tmp_path, listening)
    withdraw(tmp_path, listening.pid + 1)
    assert find(tmp_path) == listening


def test_a_dead_process_is_not_found(tmp_path: Path, listening: Presence) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    announce(tmp_path, replace(listening, pid=ended.pid))
    assert find(tmp_path) is None


def test_a_port_nobody_listens_on_is_not_found(tmp_path: Path, listening: Presence) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = server.getsockname()
    announce(tmp_path, replace(listening, proxy=gone))
    assert find(tmp_path) is None
    assert read(tmp_path) == replace(listening, proxy=gone)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "\xff",
        '{"pid": 1}',
        '{"pid": "x", "proxy": ["a", 1], "api": ["a", 1], "version": "1", "ca_file": "/x"}',
        '{"pid": 0, "proxy": ["a", 1], "api": ["a", 1], "version": "1", "ca_file": "/x"}',
        '{"pid": -1, "proxy": ["a", 1], "api": ["a", 1], "version": "1", "ca_file": "/x"}',
        '{"pid": 1e300, "proxy": ["127.0.0.1", 1], "api": ["a", 1], "version": "1", "ca_file": "/x"}',
        '{"pid": 1, "proxy": "127.0.0.1:1", "api": ["a", 1], "version": "1", "ca_file": "/x"}',
        '{"pid": 1, "proxy": ["127.0.0.1", 99999999], "api": ["a", 1], "version": "1", "ca_file": "/x"}',
    ],
)
def test_a_broken_file_is_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text, encoding="latin-1")
    assert find(tmp_path) is None


def test_where_to_connect() -> None:
    assert reachable(("0.0.0.0", 5)) == ("127.0.0.1", 5)
    assert reachable(("::", 5)) == ("::1", 5)
    assert reachable(("10.0.0.1", 5)) == ("10.0.0.1", 5)


def test_one_that_was_hidden_shows_again(tmp_path: Path, listening: Presence) -> None:
    newer = replace(listening, version="2")
    announce(tmp_path, listening)
    announce(tmp_path, newer)
    keep(tmp_path, listening)
    assert read(tmp_path) == newer
    withdraw(tmp_path, newer.pid)
    keep(tmp_path, listening)
    assert read(tmp_path) == listening
    announce(tmp_path, replace(newer, pid=2**22 + 1))
    keep(tmp_path, listening)
    assert read(tmp_path) == listening
