"""The command as a process: options, exit codes, streams, terminals; `config show` and `serve`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from buffy_proxy import __version__
from buffy_proxy.config import Config
from tests.cli.shelf import Shelf
from tests.support.buffy import clean_env

URL = "https://data.example/a"


def start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "buffy_proxy", *arguments]
    return subprocess.Popen(command, env=clean_env(), **options)  # type: ignore[call-overload, no-any-return]


def on_terminal(answer: bytes, *arguments: str, colours: bool = True) -> tuple[int, bytes]:
    """Runs on a pseudo-terminal and types an answer; gives exit code and all that was shown."""
    ours, theirs = pty.openpty()
    environ = clean_env(TERM="xterm-256color")
    if colours:
        del environ["NO_COLOR"]
    command = [sys.executable, "-m", "buffy_proxy", *arguments]
    process = subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    return process.wait(30), shown


# -- streams and terminals -----------------------------------------------------------------------------------


def test_version_and_help_of_the_real_process() -> None:
    process = start("--version", stdout=subprocess.PIPE)
    assert process.communicate(timeout=30)[0] == f"buffy {__version__}\n".encode()
    process = start("--help", stdout=subprocess.PIPE)
    text = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 0
    assert "Exit codes: 0 done · 1 not found or failed · 2 wrong usage" in text
    words = "serve run env ls show why get pin unpin tag untag purge refresh doctor store config"
    assert [word for word in words.split() if f" {word} " not in text] == []


def test_colours_and_the_head_only_on_a_terminal(shelf: Shelf) -> None:
    shelf.add(URL)
    arguments = ("--data-dir", str(shelf.data_dir), "ls")
    code, shown = on_terminal(b"", *arguments)
    assert (code, b"\x1b[" in shown, b"STRATEGY" in shown) == (0, True, True)
    assert b"\x1b[" not in on_terminal(b"", *arguments, colours=False)[1]
    ran = shelf.buffy("ls")
    assert b"\x1b[" not in ran.out
    assert len(ran.lines) == 1


def test_purge_asks_on_a_terminal(shelf: Shelf) -> None:
    version = shelf.add(URL)
    arguments = ("--data-dir", str(shelf.data_dir), "purge", "data.example")
    code, shown = on_terminal(b"n\n", *arguments)
    assert code == 1
    assert b"Remove 1 resource (1 version, 4 B, 0 pinned or tagged)?" in shown
    assert len(shelf.versions(version)) == 1
    assert on_terminal(b"y\n", *arguments)[0] == 0
    assert shelf.versions(version) == []


def test_a_reader_that_leaves_is_no_traceback(shelf: Shelf) -> None:
    shelf.add(URL, os.urandom(4_000_000))
    process = start(
        "--data-dir", str(shelf.data_dir), "get", URL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


# -- options and exit codes ----------------------------------------------------------------------------------


def test_global_options_may_stand_before_or_after_and_the_later_one_wins(
    shelf: Shelf, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("log_level = 'debug'")
    mine = str(shelf.data_dir)
    for arguments in (
        ("--config", str(empty), "config", "show", "--json"),
        ("config", "show", "--json", "--config", str(empty)),
        ("--config", "/nowhere.toml", "config", "show", "--json", "--config", str(empty)),
    ):
        shown = shelf.buffy(*arguments).json["settings"]
        assert (shown["log_level"]["value"], shown["data_dir"]["value"]) == ("debug", mine)
    assert (
        shelf.buffy("config", "show", "--json", "--data-dir", "/x").json["settings"]["data_dir"]["value"]
        == "/x"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("ls", "--frobnicate"),
        ("show",),
        ("store", "frobnicate"),
        ("ls", "--config", "/nowhere.toml"),
    ],
)
def test_wrong_usage_is_exit_code_2_on_stderr(shelf: Shelf, arguments: tuple[str, ...]) -> None:
    ran = shelf.buffy(*arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err


def test_an_unusable_data_directory_is_exit_code_2(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "broken" / "index").mkdir(parents=True)
    (tmp_path / "broken" / "index" / "data.mdb").write_bytes(b"this is no LMDB file" * 1000)
    ran = shelf.buffy("ls", "--data-dir", str(tmp_path / "broken"))
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("buffy: ")


def test_ls_of_a_directory_without_a_store_makes_none(shelf: Shelf, tmp_path: Path) -> None:
    ran = shelf.buffy("ls", "--json", "--data-dir", str(tmp_path / "nowhere"))
    assert (ran.code, ran.json) == (0, [])
    assert "nothing is stored" in ran.err
    assert not (tmp_path / "nowhere").exists()


# -- config show ---------------------------------------------------------------------------------------------


def test_config_show_is_toml_with_sources_and_no_secrets(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shelf.data_dir / "buffy.toml").write_text(
        'credentials = "alice:hush-hush"\ntimeouts.connect = "5s"\n'
        '[[rule]]\nmatch = "data.example"\nstrategy = { strategy_name = "age", seconds = 7 }\n'
    )
    monkeypatch.setenv("BUFFY_MAX_SIZE", "1 GiB")
    ran = shelf.buffy("config", "show")
    assert b"hush-hush" not in ran.out
    assert "max_size = 1073741824  # BUFFY_MAX_SIZE" in ran.lines
    assert 'proxy = "127.0.0.1:8080"  # default' in ran.lines
    shown = tomllib.loads(ran.out.decode())
    assert shown["timeouts"]["connect"] == 5.0
    assert shown["rule"][0]["strategy"] == {"strategy_name": "age", "seconds": 7}


# -- serve ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--proxy", ":0"), "proxy: 0.0.0.0:0 can be reached from other machines"),
        (("--api", "[::]:0"), "api: [::]:0 can be reached from other machines"),
        (("--proxy", "nowhere"), "--proxy must be an address"),
        (("--config", "/nowhere.toml"), "/nowhere.toml: cannot be read"),
    ],
)
def test_serve_refuses_before_it_starts(shelf: Shelf, arguments: tuple[str, ...], complaint: str) -> None:
    ran = shelf.buffy("serve", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith(f"buffy: {complaint}")
    assert ran.err.count("\n") == 1


def test_serve_hands_over_what_was_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    from buffy_proxy import server

    configs: list[Config] = []

    def serve(config: Config) -> int:
        configs.append(config)
        return 7

    monkeypatch.setattr(server, "serve", serve)
    (shelf.data_dir / "buffy.toml").write_text("offline = true\nopen = true")
    assert shelf.buffy("serve", "--proxy", ":1", "--api", "2").code == 7
    assert shelf.buffy("serve", "--offline").code == 7
    assert [(c.proxy[1], c.api[1], c.offline) for c in configs] == [(1, 2, True), (8080, 8008, True)]
