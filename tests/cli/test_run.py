"""`buffy run` for real: the running server or one of its own, what passes through, and what stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffy_proxy import lease, presence
from buffy_proxy.doctor import goods
from buffy_proxy.doctor.origin import Origin, origin
from tests.support.buffy import ROOT, clean_env

FETCH = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())"
SUMMARY = re.compile(r"buffy: (\d+) requests?, (\d+) hits?, (.+) from the cache, (.+) from origins")
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with origin(tmp_path_factory.mktemp("origin")) as served:
        yield served


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def command(data_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "buffy_proxy", "run", "--data-dir", str(data_dir), *arguments]


def buffy(data_dir: Path, *arguments: str, **env: str) -> Done:
    call = command(data_dir, *arguments)
    return subprocess.run(call, env=clean_env(**env), cwd=ROOT, capture_output=True, text=True, timeout=60)


def fetch(target: Origin, path: str) -> list[str]:
    """Arguments that fetch a path of the origin, whose CA is in the environment of the server only."""
    target.goods.update(goods.text(path.rpartition("/")[0]))
    return ["--proxy-loopback", "--", sys.executable, "-c", FETCH, target.url + path]


def counted(done: Done) -> tuple[str, str, str, str]:
    found = SUMMARY.fullmatch(done.stderr.strip())
    assert found, done.stderr
    return found[1], found[2], found[3], found[4]


class TestServerOfItsOwn:
    def test_second_run_is_answered_from_the_store(self, target: Origin, data_dir: Path) -> None:
        arguments, env = fetch(target, "/own/probe.txt"), {"SSL_CERT_FILE": str(target.ca_file)}
        size = f"{len(goods.TEXT)} B"
        first = buffy(data_dir, *arguments, **env)
        assert (first.returncode, first.stdout) == (0, goods.TEXT.decode()), first.stderr
        assert counted(first) == ("1", "0", "0 B", size)
        second = buffy(data_dir, *arguments, **env)
        assert (second.returncode, second.stdout) == (0, goods.TEXT.decode()), second.stderr
        assert counted(second) == ("1", "1", size, "0 B")
        assert target.asked("/own/") == (1, 0)

    def test_it_is_gone_afterwards_and_talks_to_its_log_only(self, data_dir: Path) -> None:
        done = buffy(data_dir, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
        assert done.returncode == 7
        assert done.stdout == "out\n"
        assert done.stderr.splitlines()[0] == "err"
        assert len(done.stderr.splitlines()) == 2
        assert presence.read(data_dir) is None
        assert "proxy:" in lease.log_file(data_dir).read_text()

    def test_offline(self, target: Origin, data_dir: Path) -> None:
        done = buffy(data_dir, "--offline", *fetch(target, "/never/probe.txt"))
        assert "504" in done.stderr
        assert target.asked("/never/") == (0, 0)
        assert "offline" in lease.log_file(data_dir).read_text()

    def test_with_proxy_credentials(self, target: Origin, data_dir: Path, tmp_path: Path) -> None:
        config = tmp_path / "buffy.toml"
        config.write_text('credentials = "alice:p:w@d"\n')
        arguments = ["--config", str(config), "--group", "g", *fetch(target, "/auth/probe.txt")]
        done = buffy(data_dir, *arguments, SSL_CERT_FILE=str(target.ca_file))
        assert (done.returncode, done.stdout) == (0, goods.TEXT.decode()), done.stderr
        assert counted(done)[:2] == ("1", "0")

    def test_one_that_does_not_start_is_one_clear_line(self, data_dir: Path) -> None:
        data_dir.mkdir()
        (data_dir / "index").write_text("not a directory")
        done = buffy(data_dir, "--", "echo", "never")
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert "server did not start" in done.stderr and "index" in done.stderr

    def test_a_directory_full_of_traps_is_not_imported_from(self, data_dir: Path, tmp_path: Path) -> None:
        """The server must not import what lies in the user's directory."""
        for name in ("asyncio.py", "requests.py", "buffy_proxy.py", "typing.py"):
            (tmp_path / name).write_text("raise SystemExit('imported from the user')")
        script = "import buffy_proxy.cli as cli; cli.main()"
        call = [sys.executable, "-P", "-c", script, "run", "--data-dir", str(data_dir), "echo", "fine"]
        done = subprocess.run(call, env=clean_env(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


class TestRunningServer:
    @pytest.fixture
    def server(self, target: Origin, data_dir: Path) -> Iterator[presence.Presence]:
        data_dir.mkdir(mode=0o700)
        with lease.started(data_dir, (), clean_env(SSL_CERT_FILE=str(target.ca_file))) as server:
            yield server

    def test_is_used_and_left_running(
        self, server: presence.Presence, target: Origin, data_dir: Path
    ) -> None:
        first = buffy(data_dir, *fetch(target, "/running/probe.txt"))
        second = buffy(data_dir, *fetch(target, "/running/probe.txt"))
        assert [counted(done)[:2] for done in (first, second)] == [("1", "0"), ("1", "1")]
        assert presence.find(data_dir) == server

    def test_groups_are_apart_and_offline_is_per_run(
        self, server: presence.Presence, target: Origin, data_dir: Path
    ) -> None:
        arguments = fetch(target, "/groups/probe.txt")
        assert counted(buffy(data_dir, *arguments))[1] == "0"
        assert counted(buffy(data_dir, "--group", "g", *arguments))[1] == "0"
        assert counted(buffy(data_dir, "--group", "g", "--offline", *arguments))[1] == "1"
        assert "504" in buffy(data_dir, "--group", "h", "--offline", *arguments).stderr
        assert target.asked("/groups/") == (2, 0)

    def test_run_inside_run(self, server: presence.Presence, target: Origin, data_dir: Path) -> None:
        inner = command(data_dir, *fetch(target, "/nested/probe.txt"))
        done = buffy(data_dir, "--proxy-loopback", "--", *inner)
        assert done.stdout == goods.TEXT.decode()
        assert [line.split(",")[0] for line in done.stderr.splitlines()] == [
            "buffy: 1 request",
            "buffy: 0 requests",
        ]


class TestOverlap:
    def test_the_last_one_out_stops_the_server(self, data_dir: Path) -> None:
        long = subprocess.Popen(
            command(data_dir, "-q", "cat"), stdin=subprocess.PIPE, env=clean_env(), cwd=ROOT
        )
        server = _await_server(data_dir)
        short = buffy(data_dir, "-q", "--", "true")
        assert (short.returncode, short.stderr) == (0, "")
        assert presence.find(data_dir) == server
        assert long.stdin is not None
        long.stdin.close()
        assert long.wait(15) == 0
        assert presence.read(data_dir) is None

    def test_the_starter_leaves_it_to_the_other(self, data_dir: Path) -> None:
        starter = subprocess.Popen(
            command(data_dir, "-q", "cat"), stdin=subprocess.PIPE, env=clean_env(), cwd=ROOT
        )
        server = _await_server(data_dir)
        other = subprocess.Popen(
            command(data_dir, "-q", "sh", "-c", "echo in; cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_env(),
            cwd=ROOT,
        )
        assert starter.stdin and other.stdin and other.stdout
        assert other.stdout.readline() == b"in\n"
        starter.stdin.close()
        assert starter.wait(15) == 0
        assert presence.find(data_dir) == server
        other.stdin.close()
        assert other.wait(15) == 0
        assert presence.read(data_dir) is None

    def test_what_a_killed_run_left_behind_is_stopped_by_the_next(self, data_dir: Path) -> None:
        killed = subprocess.Popen(command(data_dir, "cat"), stdin=subprocess.PIPE, env=clean_env(), cwd=ROOT)
        server = _await_server(data_dir)
        killed.kill()
        killed.wait()
        assert presence.find(data_dir) == server
        assert buffy(data_dir, "--", "true").returncode == 0
        assert presence.read(data_dir) is None

    def test_a_server_that_a_user_starts_meanwhile_hides_nothing(self, data_dir: Path) -> None:
        """Its announcement takes the place of the temporary one, which must end all the same."""
        run = subprocess.Popen(
            command(data_dir, "-q", "cat"), stdin=subprocess.PIPE, env=clean_env(), cwd=ROOT
        )
        temporary = _await_server(data_dir)
        assert run.stdin is not None
        with lease.started(data_dir, (), clean_env()) as lasting:
            assert presence.find(data_dir) == lasting != temporary
            run.stdin.close()
            assert run.wait(15) == 0
            with pytest.raises(ProcessLookupError):
                os.kill(temporary.pid, 0)
            assert presence.find(data_dir) == lasting

    def test_env_refuses_a_server_that_ends_with_a_run(self, data_dir: Path) -> None:
        env = [sys.executable, "-m", "buffy_proxy", "env", "--data-dir", str(data_dir)]
        done = buffy(data_dir, "-q", "--", *env)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1 and "buffy serve" in done.stderr

    def test_a_terminated_run_stops_its_server(self, data_dir: Path) -> None:
        run = subprocess.Popen(
            command(data_dir, "-q", "sleep", "30"), env=clean_env(), cwd=ROOT, stderr=subprocess.DEVNULL
        )
        _await_server(data_dir)
        run.send_signal(signal.SIGTERM)
        assert run.wait(15) == 128 + signal.SIGTERM
        assert presence.read(data_dir) is None


class TestRefusals:
    @pytest.mark.parametrize("name, code", [("no-such-command", 127), (str(ROOT), 126)])
    def test_what_cannot_run_starts_nothing(self, data_dir: Path, name: str, code: int) -> None:
        done = buffy(data_dir, "--", name)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 1 and name in done.stderr
        assert not data_dir.exists()

    def test_a_bad_group(self, data_dir: Path) -> None:
        done = buffy(data_dir, "--group", "a b", "--", "echo", "never")
        assert (done.returncode, done.stdout) == (2, "")
        assert "group" in done.stderr
        assert presence.read(data_dir) is None

    def test_a_bad_configuration(self, data_dir: Path, tmp_path: Path) -> None:
        config = tmp_path / "buffy.toml"
        config.write_text("tunel = []\n")
        done = buffy(data_dir, "--config", str(config), "--", "echo", "never")
        assert (done.returncode, done.stdout) == (2, "")
        assert "tunel" in done.stderr

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_directory_that_cannot_be_written(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        done = buffy(tmp_path / "data", "--", "echo", "never")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1 and "data" in done.stderr


def _await_server(data_dir: Path) -> presence.Presence:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = presence.find(data_dir)
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no server came up")
