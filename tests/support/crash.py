"""kill -9 under load, round after round: whatever a client has seen as a hit must survive, byte for byte."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import wait_until
from tests.support.wire import Incomplete

SIZES = (0, 10, 900, 5_000, 40_000, 300_000, 2_000_000)
PREFIX = "/crash/"


def size_of(number: int) -> int:
    return SIZES[number % len(SIZES)] + number % 7


def body_of(number: int) -> bytes:
    """Different for each object, from few seeds: their filler is kept in memory."""
    start = number * 977
    return piece(number % 4, start, start + size_of(number))


async def script(request: Received, peer: Peer) -> None:
    """Object N, deterministic; some answers dawdle so that a kill finds them half written."""
    number = int(request.path.removeprefix(PREFIX))
    body = body_of(number)
    half = len(body) // 2
    start = answers.head(200, {"Content-Length": str(len(body)), "ETag": f'"{number}"'})
    await peer.run([start + body[:half], (number % 5) * 0.01, body[half:]])


class CrashRun:
    """Loads one server, kills it, starts it again.

    `acknowledged` holds the objects that a client got as a hit: their version was durable then.
    `rounds_done` and `checked` count what was verified.
    """

    def __init__(self, server: Buffy, origin: Origin, seed: int, clients: int = 6) -> None:
        self.server, self.origin = server, origin
        self.random = random.Random(seed)
        self.clients = clients
        self.acknowledged: set[int] = set()
        self.next_number = 0
        self.rounds_done = self.checked = 0
        self._lock = threading.Lock()
        origin.on(f"{PREFIX}*", script)

    def url(self, number: int) -> str:
        return self.origin.url(f"{PREFIX}{number}")

    def round(self, sample: int = 40) -> None:
        """Load, kill at a random moment, start, `store check`, verify."""
        stop = threading.Event()
        with ThreadPoolExecutor(self.clients) as pool:
            loads = [pool.submit(self._load, stop) for _ in range(self.clients)]
            if self.random.random() < 0.8:  # the others die while they start
                self._wait_for_traffic()
            time.sleep(self.random.uniform(0, 0.6))
            self.server.kill()
            stop.set()
            for load in loads:
                load.result(30)
        self.server.start()
        self.server.check_store()
        self.verify(sample)
        self.rounds_done += 1

    def _wait_for_traffic(self) -> None:
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > before, 20, "a hit after the start")

    def _load(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._lock:
                number = self.next_number
                self.next_number += 1
            try:
                self._fetch_until_hit(number, stop)
            except (OSError, Incomplete, ValueError):
                time.sleep(0.01)  # the server is gone, or went in the middle of an answer

    def _fetch_until_hit(self, number: int, stop: threading.Event) -> None:
        expected = body_of(number)
        while not stop.is_set():
            reply = self.server.get(self.url(number), timeout=10)
            if reply.status == 200 and reply.body != expected:
                raise AssertionError(f"object {number}: wrong bytes")
            if reply.cache.hit:
                self.acknowledged.add(number)
                return

    def verify(self, sample: int) -> None:
        """The newest acknowledged objects and a sample of the others answer offline, with the right bytes."""
        known = sorted(self.acknowledged)
        newest, older = known[-sample:], known[:-sample]
        for number in newest + self.random.sample(older, min(len(older), sample)):
            reply = self.server.get(self.url(number), user="mode=offline")
            assert reply.status == 200, f"object {number} was acknowledged and is gone: {reply.cache.raw}"
            assert reply.body == body_of(number), f"object {number}: wrong bytes"
            self.checked += 1


def config(origin: Origin) -> str:
    return f'[[rule]]\nmatch = "{origin.url("")}/**"\nstrategy = "never"\n'
