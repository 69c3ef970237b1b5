"""A server for the length of a command: the one that runs, else one started for it and stopped after it.

Commands that overlap share a started server. Each holds a shared lock on `run.lock`, which names the
server's process; whoever leaves and finds no other holder stops it. A killed `buffy run` loses its lock with
its life, so the next one out stops what it left behind. `start.lock` makes finding-or-starting, and stopping,
one step. A server that a user started is in no lock file and is never stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import buffy_proxy
from buffy_proxy import presence
from buffy_proxy.errors import BuffyError
from buffy_proxy.presence import Presence

START_S = 30.0
STOP_S = 6.0


class ServerFailed(BuffyError):
    """The server for a command did not come up; the message holds what it said last."""


@dataclass(slots=True)
class Lease:
    """After the lease, `ended` says whether the server was stopped with it: all it counted is stored."""

    server: Presence
    ended: bool = False


@contextlib.contextmanager
def server(data_dir: Path, options: Sequence[str], environ: Mapping[str, str]) -> Iterator[Lease]:
    """Yields a server of `data_dir`; `options` are what `buffy serve` gets if one must be started.

    Raises ServerFailed, or OSError when the data directory cannot be used.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "run.lock").open("a+") as held:
        lease = None
        try:
            with _alone(data_dir):
                found = presence.find(data_dir)
                lease = Lease(found or _start(data_dir, options, environ, partial(_note, held)))
                fcntl.flock(held, fcntl.LOCK_SH)
            yield lease
        finally:
            if lease:
                with _alone(data_dir):
                    lease.ended = _leave(held, data_dir, lease.server)


@contextlib.contextmanager
def started(data_dir: Path, options: Sequence[str], environ: Mapping[str, str]) -> Iterator[Presence]:
    """A server of one's own in a data directory of one's own (for `buffy doctor`)."""
    found = _start(data_dir, options, environ)
    try:
        yield found
    finally:
        _stop(data_dir, found)


def is_temporary(data_dir: Path, server: Presence) -> bool:
    """Whether that server was started for commands, and ends with the last of them."""
    try:
        return (data_dir / "run.lock").read_text().strip() == str(server.pid)
    except OSError:
        return False


def log_file(data_dir: Path) -> Path:
    return data_dir / "log" / "run.log"


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    with (data_dir / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _note(file: IO[str], pid: int | None) -> None:
    file.seek(0)
    file.truncate()
    file.write(str(pid or ""))
    file.flush()


def _leave(held: IO[str], data_dir: Path, found: Presence) -> bool:
    """Gives up the lock; the last holder stops a server that was started for commands."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    held.seek(0)
    if held.read().strip() != str(found.pid):
        return False
    _stop(data_dir, found)
    _note(held, None)
    return True


def _start(
    data_dir: Path,
    options: Sequence[str],
    environ: Mapping[str, str],
    note: Callable[[int], None] = lambda _: None,
) -> Presence:
    """Starts a server and waits for it. `note` gets its pid at once, so that it is never an orphan."""
    log = log_file(data_dir)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    anywhere = ("--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data-dir", str(data_dir.absolute()))
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "buffy_proxy", "serve", *anywhere, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_importable(environ),
            start_new_session=True,  # a terminal's ^C is for the command; the server outlives it
        )
    try:
        note(process.pid)
        return _await(process, data_dir)
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        raise


def _importable(environ: Mapping[str, str]) -> dict[str, str]:
    """PYTHONSAFEPATH keeps the user's directory out of the server's imports, in its workers as well; a source
    tree must then be named."""
    safe = {**environ, "PYTHONSAFEPATH": "1"}
    root = Path(buffy_proxy.__file__).parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        safe["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [environ.get("PYTHONPATH")])])
    return safe


def _await(process: subprocess.Popen[bytes], data_dir: Path) -> Presence:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"the server did not start: {_last_line(log_file(data_dir))}")
        found = presence.find(data_dir)
        if found is not None and found.pid == process.pid:
            return found
        time.sleep(0.03)
    raise ServerFailed(f"the server did not start within {START_S:.0f} s; see {log_file(data_dir)}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _stop(data_dir: Path, found: Presence) -> None:
    """SIGTERM, then waits until it has died: what it counted is stored by then.

    It may have crashed, and its pid belong to a stranger now: its file or its port must speak for it.
    """
    if presence.read(data_dir) != found and not _answers(found):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while _lives(found.pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _answers(found: Presence) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(presence.reachable(found.proxy), timeout=1.0).close()
        return True
    return False


def _lives(pid: int) -> bool:
    """Whether the process still runs; collects it if it is our child that ended."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
