"""The processes behind a server: `python -m buffy_proxy.worker ROLE`, started by server.py.

The supervisor sends the job as a pickle on standard input and keeps that pipe open: its end tells a worker
that the supervisor is gone, however it died. Listening sockets are inherited; all else is in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from buffy_proxy.config import Address, Config
from buffy_proxy.logs import configure_logging

log = logging.getLogger("buffy.server")

GRACE_S = 2.0
"""How long requests under way may still take after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs: `fd` is its listening socket, `trust` the PEM bundle for origins; a byte to
    `ready_fd` says that it serves."""

    role: str
    config: Config
    fd: int
    ready_fd: int
    trust: Path
    own_addresses: frozenset[Address]
    first_start: bool


def main() -> int:
    job: Job = pickle.load(sys.stdin.buffer)
    configure_logging(job.config.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C goes to the whole process group; the supervisor decides
    sock = socket.socket(fileno=job.fd)
    if job.role == "proxy":
        asyncio.run(_proxy(job, sock))
    else:
        _api(job, sock)
    return 0


def _say_ready(job: Job) -> None:
    with contextlib.suppress(OSError):
        os.write(job.ready_fd, b"1")
        os.close(job.ready_fd)


def _on_supervisor_gone(stop: Callable[[], object]) -> None:
    """Calls `stop` when standard input ends."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        stop()

    threading.Thread(target=watch, name="supervisor watch", daemon=True).start()


async def _proxy(job: Job, sock: socket.socket) -> None:
    from buffy_proxy.addons.door import listen
    from buffy_proxy.addons.interceptor import Interceptor
    from buffy_proxy.addons.master import BuffyMaster
    from buffy_proxy.addons.tls import ensure_ca
    from buffy_proxy.cache import Cache
    from buffy_proxy.ledger import Ledger
    from buffy_proxy.order_runner import OrderRunner
    from buffy_proxy.origin import Origins
    from buffy_proxy.schedule import Schedule
    from buffy_proxy.slots import Slots
    from buffy_proxy.store import open_store
    from buffy_proxy.trust import ssl_context
    from buffy_proxy.upstream import from_environment

    config = job.config
    ensure_ca(config.data_dir)
    store = open_store(config.data_dir, max_size=config.max_size, map_size=config.map_size)
    upstream = from_environment(os.environ, config.upstream_proxy)
    origins = Origins(
        ssl_context(job.trust), timeouts=config.timeouts, proxies=upstream, own_addresses=job.own_addresses
    )
    cache = Cache(store, config, origins)
    ledger = Ledger(store)
    interceptor = Interceptor(cache, ledger, config, job.own_addresses)
    master = BuffyMaster(interceptor, config, upstream, job.trust)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, master.shutdown)
    _on_supervisor_gone(master.shutdown)
    server = await listen(master, sock)
    _say_ready(job)
    background = [asyncio.ensure_future(ledger.run())]
    if not config.offline:
        slots = Slots(config.refresh)
        schedule = Schedule(cache, config.data_dir, slots=slots)
        background.append(asyncio.ensure_future(schedule.run(first_start=job.first_start)))
        background.append(asyncio.ensure_future(OrderRunner(cache, slots).run()))
    try:
        await master.run()
    finally:
        server.close()
        await cache.flights.drain(GRACE_S)
        for task in background:
            task.cancel()
        await asyncio.wait(background, timeout=1.0)
        await origins.close()
        await asyncio.to_thread(store.close)


def _api(job: Job, sock: socket.socket) -> None:
    import uvicorn

    from buffy_proxy.control_api import create_app
    from buffy_proxy.store import open_store

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _say_ready(job)

    config = job.config
    store = open_store(config.data_dir, max_size=config.max_size, map_size=config.map_size)
    settings = uvicorn.Config(
        create_app(store, config),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    server = Server(settings)
    _on_supervisor_gone(lambda: setattr(server, "should_exit", True))
    try:
        server.run(sockets=[sock])
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
