"""The processes behind a server: `python -m buffy_proxy.worker ROLE`, started by server.py.

The supervisor sends the job as a pickle on standard input and keeps that pipe open: its end tells a worker
that the supervisor is gone, however it died. Listening sockets are inherited; all else is in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
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
from typing import TYPE_CHECKING

from buffy_proxy.config import Address, Config, open_store
from buffy_proxy.literals import address_text
from buffy_proxy.logs import configure_logging
from buffy_proxy.presence import reachable

if TYPE_CHECKING:
    from buffy_proxy.core.model import CacheKey, Version
    from buffy_proxy.plugins.events import Events
    from buffy_proxy.plugins.process import PluginProcess
    from buffy_proxy.store import Store

log = logging.getLogger("buffy.server")

GRACE_S = 2.0
"""How long requests under way may still take after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs: `fd` is its listening socket, `trust` the PEM bundle for origins; a byte to
    `ready_fd` says that it serves; `proxy` and `api` are where the server really listens. `number` counts the
    workers of a role from 1; `table_fd` is the table of flights that proxy workers share, None for a single
    one; `server_pid` is the supervisor."""

    role: str
    config: Config
    fd: int
    ready_fd: int
    trust: Path
    own_addresses: frozenset[Address]
    proxy: Address
    api: Address
    first_start: bool
    number: int
    table_fd: int | None
    server_pid: int


def main() -> int:
    gc.disable()  # until it serves: modules make no garbage, and looking for it is a tenth of the start
    job: Job = pickle.load(sys.stdin.buffer)
    configure_logging(job.config.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C goes to the whole process group; the supervisor decides
    sock = socket.socket(fileno=job.fd)
    if job.role == "proxy":
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(_proxy(job, sock))
    else:
        _api(job, sock)
    return 0


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed; None: the standard one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say_ready(job: Job) -> None:
    gc.freeze()  # 90,000 objects of modules, which each full collection would walk, for 80 ms
    gc.enable()
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
    from buffy_proxy.addons.front import listen
    from buffy_proxy.addons.interceptor import Interceptor
    from buffy_proxy.addons.leaves import Leaves
    from buffy_proxy.addons.master import BuffyMaster
    from buffy_proxy.addons.tls import ensure_ca
    from buffy_proxy.cache import Cache
    from buffy_proxy.flight_table import FlightTable
    from buffy_proxy.ledger import Ledger
    from buffy_proxy.order_runner import OrderRunner
    from buffy_proxy.origin import Origins
    from buffy_proxy.peers import Peers
    from buffy_proxy.plugins.job_runner import JobRunner
    from buffy_proxy.schedule import Schedule
    from buffy_proxy.slots import Slots
    from buffy_proxy.trust import ssl_context
    from buffy_proxy.upstream import from_environment

    config = job.config
    log.debug("the event loop is %s", type(asyncio.get_running_loop()).__module__)
    ensure_ca(config.data_dir)
    store = _open(config)
    upstream = from_environment(os.environ, config.upstream_proxy)
    origins = Origins(
        ssl_context(job.trust),
        timeouts=config.timeouts,
        proxies=upstream,
        own_addresses=job.own_addresses,
        edit=config.plugins.origin_fields if config.plugins.hook("origin_request") else None,
    )
    peers = None
    if job.table_fd is not None:
        peers = Peers(config.data_dir, job.server_pid, FlightTable(job.table_fd, job.number))
    cache = Cache(store, config, origins, peers=peers)
    ledger = Ledger(store)
    interceptor = Interceptor(cache, ledger, config, job.own_addresses)
    master = BuffyMaster(interceptor, config, upstream, job.trust)

    process = _plugin_process(job, store)
    ending = contextlib.ExitStack()
    ending.enter_context(process.running())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, master.shutdown)
    _on_supervisor_gone(master.shutdown)
    if peers is not None:
        await peers.listen(cache)
    server, front = await listen(master, interceptor, Leaves(config.data_dir), master.tunnels, sock)
    _say_ready(job)
    background = [asyncio.ensure_future(ledger.run())]
    if job.number == 1 and not config.offline:
        slots = Slots(config.refresh)
        schedule = Schedule(cache, config.data_dir, slots=slots)
        background.append(asyncio.ensure_future(schedule.run(first_start=job.first_start)))
        background.append(asyncio.ensure_future(OrderRunner(cache, slots).run()))
    if job.number == 1:
        background.append(asyncio.ensure_future(JobRunner(process, config.data_dir).run()))
    try:
        await master.run()
    finally:
        server.close()
        await cache.flights.drain(GRACE_S)
        front.close()
        if peers is not None:
            peers.close()
        for task in background:
            task.cancel()
        await asyncio.wait(background, timeout=1.0)
        await origins.close()
        await asyncio.to_thread(ending.close)
        await asyncio.to_thread(store.close)


def _open(config: Config) -> Store:
    tell = functools.partial(_tell_evicted, config.plugins.events)
    return open_store(config, tell)


def _tell_evicted(events: Events, key: CacheKey, version: Version) -> None:
    events.post("evicted", key=key, version=version, reason="space")


def _plugin_process(job: Job, store: Store) -> PluginProcess:
    from buffy_proxy.plugins.process import PluginProcess
    from buffy_proxy.trust import ca_files

    return PluginProcess(
        job.config.plugins,
        store,
        job.role,
        data_dir=job.config.data_dir,
        proxy_url=f"http://{address_text(reachable(job.proxy))}",
        api_url=f"http://{address_text(reachable(job.api))}",
        ca_file=ca_files(job.config.data_dir)[1],
    )


def _api(job: Job, sock: socket.socket) -> None:
    import uvicorn

    from buffy_proxy.control_api import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _say_ready(job)

    config = job.config
    store = _open(config)
    settings = uvicorn.Config(
        create_app(store, config),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    # uvicorn ends on SIGTERM, and then raises it again for whoever handled it before: that must not kill us.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = Server(settings)
    _on_supervisor_gone(lambda: setattr(server, "should_exit", True))
    try:
        with _plugin_process(job, store).running():
            server.run(sockets=[sock])
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
