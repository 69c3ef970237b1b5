"""Raw bytes towards Buffy, every wait bounded; what came back, and whether the others are still served."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from dataclasses import dataclass

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import Connection, Reply, connect

PATIENCE_S = 15
"""Far beyond any answer on loopback: who waits longer hangs."""

_fresh = itertools.count()


@dataclass(frozen=True)
class Came:
    """All bytes until the end of the connection, or until nothing more came; `ended`: Buffy closed it."""

    data: bytes
    ended: bool

    @property
    def interim(self) -> bytes:
        """The interim responses before the final one (RFC 9110 §15.2), which clients get as they come."""
        found = _INTERIM.match(self.data)
        return found[0] if found else b""

    @property
    def final(self) -> bytes:
        return self.data[len(self.interim) :]

    @property
    def status(self) -> int:
        return int(self.final[9:12]) if self.final else 0

    @property
    def head(self) -> bytes:
        return self.final.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.final.partition(b"\r\n\r\n")[2]


_INTERIM = re.compile(rb"(?:HTTP/1\.1 1\d\d [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n)*")


def shout(connection: Connection, data: bytes, *, finish: bool = True) -> Came:
    """Sends bytes and reads to the end. `finish` closes our side after them, as a client does that has no
    more to say: without it the server must end the connection by itself."""
    connection.sock.settimeout(PATIENCE_S)
    came = b""
    try:
        connection.send(data)
        if finish and not isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.shutdown(socket.SHUT_WR)
        while more := connection.recv():
            came += more
    except TimeoutError:
        return Came(came, False)
    except OSError:
        pass  # a reset is an end, too
    finally:
        connection.close()
    return Came(came, True)


def filled(data: bytes, origin: Origin, path: str, evil: str = "/evil") -> bytes:
    """The bytes of a shape with its names put in."""
    names = {b"{host}": origin.authority, b"{path}": path, b"{evil}": evil}
    for name, value in names.items():
        data = data.replace(name, value.encode())
    return data


def clear(server: Buffy) -> Connection:
    return connect(server.proxy, PATIENCE_S)


def others_are_served(server: Buffy, origin: Origin) -> None:
    """Another connection gets a hit and a miss, both right; nothing has crashed."""
    kept = origin.on("/others/kept", answers.fixed(b"kept", answers.FRESH))
    new = origin.on(f"/others/{next(_fresh)}", answers.fixed(b"new", answers.FRESH))
    assert [server.get(url, timeout=PATIENCE_S).body for url in (kept, new)] == [b"kept", b"new"]
    assert server.process is not None and server.process.poll() is None
    assert "Traceback" not in server.log(), server.log()[-3000:]


def afterwards(server: Buffy, origin: Origin, path: str) -> Reply:
    """The origin is right again: what does Buffy say to the next request for the same resource?"""
    url = origin.on(path, answers.fixed(b"the truth", answers.FRESH))
    return server.get(url, timeout=PATIENCE_S)
