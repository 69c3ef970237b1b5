"""Processes: their environment, their children, their memory, and waiting for them."""

from __future__ import annotations

import contextlib
import ctypes
import re
import socket
from pathlib import Path

from buffy_proxy.testing import process, wait_until

__all__ = [
    "ROOT",
    "adopt_orphans",
    "anonymous_memory",
    "clean_env",
    "free_port",
    "session",
    "wait_until",
]

ROOT = Path(__file__).parents[2]


def clean_env(**extra: str) -> dict[str, str]:
    """The environment without proxies, trust stores and BUFFY_*; imports come from this checkout."""
    return {**process.clean_env(), "PYTHONPATH": str(ROOT), **extra}


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
