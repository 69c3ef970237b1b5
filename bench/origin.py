"""The scripted origin in a process of its own. Prints its HTTP and its HTTPS port, then serves.

/small/N 1 KiB, fresh · /large/N 100 KiB, fresh · /miss/N 1 KiB, no-store · /kept/N 1 KiB, asked for once
/big/N 1 GiB · /some/N 128 MiB · /late/N a first byte, a second later the rest · /slow/N 1 MiB in two halves,
0.2 s apart · /upload takes anything · /state what it did so far: requests, and its processor time in seconds
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from tests.support import answers
from tests.support.authority import Authority
from tests.support.bodies import piece
from tests.support.origin import Origin, Peer, Received

GIB, MIB = 1 << 30, 1 << 20
SMALL, LARGE, HALF = piece(1, 0, 1024), piece(1, 0, 100 << 10), piece(1, 0, MIB // 2)


def script(origin: Origin, counter: Counter) -> None:
    fields = {"Content-Type": "application/octet-stream", "ETag": '"small"'}
    origin.on("/small/*", answers.fixed(SMALL, {**fields, **answers.FRESH}))
    origin.on("/large/*", answers.fixed(LARGE, {**fields, **answers.FRESH}))
    origin.on("/kept/*", answers.fixed(SMALL, {**fields, **answers.FRESH}))
    origin.on("/miss/*", answers.fixed(SMALL, {**fields, "Cache-Control": "no-store"}))
    origin.on("/big/*", answers.big(GIB, 6, answers.FRESH))
    origin.on("/some/*", answers.big(128 * MIB, 6, answers.FRESH))
    origin.on("/late/*", answers.sized([b"x", 1.0, b"y"], {"Cache-Control": "no-store"}))
    origin.on("/slow/*", answers.sized([HALF, 0.2, HALF], {**fields, **answers.FRESH}))
    origin.on("/upload", answers.fixed(b"thanks"))
    origin.on("/state", counter.state)
    origin.received = counter


class Counter(list):  # type: ignore[type-arg]
    """In place of the origin's memory of requests, of which there are millions: how many there were."""

    total = 0

    def append(self, item: Received) -> None:
        self.total += item.path != "/state"

    async def state(self, _request: Received, peer: Peer) -> None:
        body = json.dumps({"requests": self.total, "cpu_s": time.process_time()}).encode()
        await peer.send(answers.head(200, {"Content-Length": str(len(body))}) + body)


def main() -> None:
    authority, counter = Authority(Path(sys.argv[1])), Counter()
    origins = [Origin(), Origin(authority.context())]
    for origin in origins:
        script(origin, counter)
    print(*(origin.port for origin in origins), flush=True)
    threading.Thread(target=sys.stdin.read, daemon=False).start()  # ends with whoever started us


if __name__ == "__main__":
    main()
