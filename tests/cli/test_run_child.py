"""A command in our place: exit codes and signals, with the real `run_child` in a process of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buffy_proxy.cli.child import NotRunnable, locate, run_child

ROOT = Path(__file__).parents[2]

COUNTING = """
import signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
    signal.signal(number, lambda n, _: got.append(n))
print("ready", flush=True)
end = time.monotonic() + 20
while not got and time.monotonic() < end:
    time.sleep(0.02)
time.sleep(0.4)
print("got", *got, flush=True)
sys.exit(3)
"""
WRAPPER = """
import sys
from buffy_proxy.cli.child import run_child
sys.exit(run_child(sys.executable, [sys.executable, "-c", sys.argv[1]], __import__("os").environ))
"""


def wrapped(code: str) -> list[str]:
    return [sys.executable, "-c", WRAPPER, code]


@pytest.mark.parametrize(
    "script, code",
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("kill -2 $$", 130)],
)
def test_exit_code(script: str, code: int) -> None:
    assert run_child("/bin/sh", ["sh", "-c", script], os.environ) == code


def test_the_command_starts_with_our_signal_mask_and_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'grep SigBlk /proc/self/status > {out}; echo "$HELLO" >> {out}'
    assert run_child("/bin/sh", ["sh", "-c", script], {"HELLO": "there", "PATH": os.environ["PATH"]}) == 0
    mask, hello = out.read_text().splitlines()
    assert int(mask.split()[1], 16) == 0
    assert hello == "there"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]
)
def test_a_signal_to_us_alone_reaches_the_command_once(number: signal.Signals) -> None:
    process = subprocess.Popen(wrapped(COUNTING), stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.read() == f"got {int(number)}\n"
    assert process.wait(10) == 3


def test_a_terminals_interrupt_reaches_the_command_once() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, wrapped(COUNTING))
    try:
        seen = b""
        while b"ready" not in seen:
            seen += os.read(terminal, 1024)
        os.write(terminal, b"\x03")
        while b"got" not in seen or not seen.endswith(b"\n"):
            seen += os.read(terminal, 1024)
        assert f"got {int(signal.SIGINT)}\r\n".encode() in seen
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    finally:
        os.close(terminal)


def test_a_long_command_is_not_interrupted_by_others_that_end() -> None:
    before = time.monotonic()
    assert run_child("/bin/sh", ["sh", "-c", "(sleep 0.05 &) ; sleep 0.3; exit 4"], os.environ) == 4
    assert time.monotonic() - before >= 0.3


class TestLocate:
    def test_found_on_the_path(self) -> None:
        assert Path(locate("sh")).name == "sh"

    @pytest.mark.parametrize("name", ["no-such-command-here", "/no/such/command", ""])
    def test_not_found(self, name: str) -> None:
        with pytest.raises(NotRunnable, match="not found") as caught:
            locate(name)
        assert caught.value.code == 127

    def test_not_executable(self, tmp_path: Path) -> None:
        file = tmp_path / "script"
        file.write_text("#!/bin/sh\n")
        for path in (file, tmp_path):
            with pytest.raises(NotRunnable) as caught:
                locate(str(path))
            assert caught.value.code == 126

    @pytest.mark.parametrize("content, code", [("#!/no/such/interpreter\n", 127), ("no program\n", 126)])
    def test_what_the_kernel_refuses(self, tmp_path: Path, content: str, code: int) -> None:
        file = tmp_path / "script"
        file.write_text(content)
        file.chmod(0o755)
        with pytest.raises(NotRunnable) as caught:
            run_child(str(file), [str(file)], os.environ)
        assert caught.value.code == code
