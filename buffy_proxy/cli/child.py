"""Runs a command in our place: same terminal, same process group, same exit code, same signals."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_AWAITED = {*_FORWARDED, signal.SIGCHLD}

_FROM_KERNEL = 0x80
"""Linux's SI_KERNEL: a terminal's ^C and hang-up. The terminal sent it to the command itself as well."""


class NotRunnable(Exception):
    """The command cannot be started; `code` is what a shell would end with: 127 or 126."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def locate(name: str) -> str:
    """The program's path, found as a shell finds it. Raises NotRunnable."""
    found = shutil.which(name)
    if found:
        return found
    if "/" in name and Path(name).exists():
        raise NotRunnable(f"{name}: is not an executable file", 126)
    raise NotRunnable(f"{name}: command not found", 127)


def run_child(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs it to its end and returns its exit code, 128+n if signal n ended it. Main thread only.

    Signals are blocked here and taken one by one, since only their origin tells whether the command has
    already got them; the command itself starts with the mask that we had.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    previous = signal.signal(signal.SIGCHLD, lambda *_: None)  # an ignored signal is not queued everywhere
    try:
        child = _spawn(program, command, environ, partial(signal.pthread_sigmask, signal.SIG_SETMASK, mask))
        while child.poll() is None:
            number, received_by_child = _next_signal()
            if number != signal.SIGCHLD and not received_by_child:
                child.send_signal(number)
    finally:
        signal.signal(signal.SIGCHLD, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _spawn(
    program: str, command: Sequence[str], environ: Mapping[str, str], unblock: Callable[[], object]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, executable=program, env=environ, preexec_fn=unblock)
    except FileNotFoundError:  # it was there a moment ago, so its "#!" line names what is not
        raise NotRunnable(f"{command[0]}: its interpreter is not found", 127) from None
    except OSError as error:
        raise NotRunnable(f"{command[0]}: {error.strerror or error}", 126) from None


def _next_signal() -> tuple[int, bool]:
    """Waits for one of ours; says whether the command has got it as well."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS tells no origin: what keys can send comes from keys
        number = signal.sigwait(_AWAITED)
        return number, number in (signal.SIGINT, signal.SIGQUIT)
    info = signal.sigwaitinfo(_AWAITED)
    return info.si_signo, info.si_code == _FROM_KERNEL
