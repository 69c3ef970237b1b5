"""The scripted origin in a process of its own. Prints its HTTP and its HTTPS port, then serves.

/small/N 1 KiB, fresh · /large/N 100 KiB, fresh · /miss/N 1 KiB, no-store ·
/kept/N 1 KiB, stored but never asked twice · /big/N 1 GiB ·
/late a first byte, a second later the rest · /upload takes anything
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tests.support import answers
from tests.support.authority import Authority
from tests.support.bodies import piece
from tests.support.origin import Origin

GIB = 1 << 30
SMALL, LARGE = piece(1, 0, 1024), piece(1, 0, 100 << 10)


def script(origin: Origin) -> None:
    fields = {"Content-Type": "application/octet-stream", "ETag": '"small"'}
    origin.on("/small/*", answers.fixed(SMALL, {**fields, **answers.FRESH}))
    origin.on("/large/*", answers.fixed(LARGE, {**fields, **answers.FRESH}))
    origin.on("/kept/*", answers.fixed(SMALL, {**fields, **answers.FRESH}))
    origin.on("/miss/*", answers.fixed(SMALL, {**fields, "Cache-Control": "no-store"}))
    origin.on("/big/*", answers.big(GIB, 6, answers.FRESH))
    origin.on("/late", answers.sized([b"x", 1.0, b"y"], {"Cache-Control": "no-store"}))
    origin.on("/upload", answers.fixed(b"thanks"))


class Forgetful(list):  # type: ignore[type-arg]
    """Millions of requests are not to be remembered."""

    def append(self, item: object) -> None:
        return None


def main() -> None:
    authority = Authority(Path(sys.argv[1]))
    origins = [Origin(), Origin(authority.context())]
    for origin in origins:
        script(origin)
        origin.received = Forgetful()
    print(*(origin.port for origin in origins), flush=True)
    threading.Thread(target=sys.stdin.read, daemon=False).start()  # ends with whoever started us


if __name__ == "__main__":
    main()
