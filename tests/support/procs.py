"""Processes: their environment, their children, their memory, and waiting for them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOREIGN = re.compile(
    r"^(BUFFY_|https?_proxy$|all_proxy$|no_proxy$|SSL_CERT_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$|PYTHONPATH$)",
    re.I,
)


def clean_env(**extra: str) -> dict[str, str]:
    """The environment without proxies, trust stores and BUFFY_*; imports come from this checkout."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **extra}


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind, so that it can reap them at once:
    until somebody does, their process ids look alive."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)


def session(leader: int) -> list[int]:
    """The processes of a session: those whose leader started them and which made no session of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                    found.append(int(entry.name))
    return found


def anonymous_memory(pid: int) -> int:
    """Resident bytes that no file backs; 0 for a process that is gone."""
    with contextlib.suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


def free_port() -> int:
    """A port on which nobody listens (a moment ago)."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_until(condition: Callable[[], bool], timeout: float = 10, what: str = "") -> None:
    """Polls until `condition()` is true; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.02)
