"""Which process of a server serves which connection, as the kernel says."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.support.buffy import Buffy
from tests.support.procs import wait_until
from tests.support.wire import Connection

LISTENING, ESTABLISHED = "0A", "01"


def workers(server: Buffy) -> list[int]:
    """The processes of the proxy, by number."""
    sockets = _inodes(LISTENING, server.proxy[1])
    assert server.process is not None
    return sorted(pid for pid in server.pids() if pid != server.process.pid and _open_in(pid) & sockets)


def serving(server: Buffy, connection: Connection) -> int:
    """The process that has accepted this connection to the proxy."""
    found: list[int] = []

    def look() -> bool:
        sockets = _inodes(ESTABLISHED, server.proxy[1], connection.sock.getsockname()[1])
        found[:] = [pid for pid in server.pids() if _open_in(pid) & sockets]
        return bool(found)

    wait_until(look, 10)
    return found[0]


def connections_to_each(server: Buffy, url: str) -> list[Connection]:
    """A connection for `url` to each worker, by number; close them."""
    pids, chosen = workers(server), dict[int, Connection]()
    for _ in range(200):
        connection = server.open(url)
        pid = serving(server, connection)
        if pid in chosen:
            connection.close()
        chosen.setdefault(pid, connection)
        if len(chosen) == len(pids):
            return [chosen[pid] for pid in pids]
    raise AssertionError(f"only {list(chosen)} of {pids} were given connections")


def _inodes(state: str, local: int, remote: int | None = None) -> set[str]:
    """Sockets of IPv4, as they are called in /proc/PID/fd."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        f"socket:[{row[9]}]"
        for row in rows
        if row[3] == state and _port(row[1]) == local and remote in (None, _port(row[2])) and row[9] != "0"
    }


def _port(address: str) -> int:
    return int(address.split(":")[1], 16)


def _open_in(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(entry.readlink()))
    return found
