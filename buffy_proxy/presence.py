"""How other processes find the running server of a data directory: DATA_DIR/server.json.

The server announces itself once it accepts connections and withdraws when it ends. A file that a killed
server left behind is told by its pid or its port, and ignored.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Address = tuple[str, int]

_FILE = "server.json"
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Presence:
    """A running server: where it listens (real ports, never 0), its version and its CA certificate (PEM), and
    the files of plugins that it was told of (`--plugin`)."""

    pid: int
    proxy: Address
    api: Address
    version: str
    ca_file: Path
    plugins: tuple[Path, ...] = ()


def announce(data_dir: Path, presence: Presence) -> None:
    """Writes server.json atomically, readable for its owner only; the newest server wins. Raises OSError."""
    paths = {"ca_file": str(presence.ca_file), "plugins": [str(path) for path in presence.plugins]}
    text = json.dumps({**asdict(presence), **paths}, indent=1) + "\n"
    handle, name = tempfile.mkstemp(prefix=".server-", dir=data_dir)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(data_dir / _FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def keep(data_dir: Path, presence: Presence) -> None:
    """Announces again where no living server is announced: another one, which had taken the place, has ended
    meanwhile. Cheap enough to be called all the time."""
    announced = read(data_dir)
    if announced is None or not alive(announced.pid):
        announce(data_dir, presence)


def withdraw(data_dir: Path, pid: int) -> None:
    """Removes server.json if it is that server's own; another one may have announced itself meanwhile."""
    presence = read(data_dir)
    if presence is not None and presence.pid == pid:
        (data_dir / _FILE).unlink(missing_ok=True)


def find(data_dir: Path) -> Presence | None:
    """The server of that data directory, if its process lives and its proxy accepts within 1 s."""
    presence = read(data_dir)
    if presence is None or not alive(presence.pid) or not _accepts(presence.proxy):
        return None
    return presence


def plugins_of_server(data_dir: Path) -> tuple[Path, ...]:
    """The plugins of the living server, as far as they are there: commands must know its strategies."""
    presence = read(data_dir)
    if presence is None or not alive(presence.pid):
        return ()
    return tuple(path for path in presence.plugins if path.is_file())


def read(data_dir: Path) -> Presence | None:
    """What server.json says, whether or not that server still runs. None if there is no (readable) file."""
    try:
        return _decoded(json.loads((data_dir / _FILE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reachable(address: Address) -> Address:
    """Where to connect to a listener: its own address, or loopback if it listens everywhere."""
    host, port = address
    return _EVERYWHERE.get(host, host), port


def _decoded(data: Any) -> Presence:
    return Presence(
        pid=int(data["pid"]),
        proxy=_address(data["proxy"]),
        api=_address(data["api"]),
        version=str(data["version"]),
        ca_file=Path(data["ca_file"]),
        plugins=tuple(Path(path) for path in data.get("plugins", ())),
    )


def _address(data: Any) -> Address:
    host, port = data
    return str(host), int(port)


def alive(pid: int) -> bool:
    """Whether a process with this id is there."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # it lives, and belongs to somebody else
    except (OSError, OverflowError):
        return False
    return pid > 0


def _accepts(address: Address) -> bool:
    try:
        socket.create_connection(reachable(address), timeout=1.0).close()
    except (OSError, OverflowError):
        return False
    return True
