"""`buffy serve`: the composition root and supervisor.

This process makes the data directory, binds the listening sockets, and starts
the processes of the proxy (as many as `workers` says) and one for the control API. Each inherits a socket of
its own, so when one dies its clients queue in the kernel until its successor runs, and the others do not
notice. This process itself serves nobody; it can only restart, announce and end them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from buffy_proxy import __version__, peers, presence, trust
from buffy_proxy.config import Address, Config, check_exposure, open_store
from buffy_proxy.errors import ConfigError, StoreError
from buffy_proxy.flight_table import FlightTable, make_table
from buffy_proxy.literals import address_text
from buffy_proxy.logs import configure_logging
from buffy_proxy.settings import default_data_dir
from buffy_proxy.worker import Job

log = logging.getLogger("buffy.server")

START_S = 60.0
LOOK_S = 0.2
"""How often the supervisor looks after its workers and at the signals that came."""
TERM_S = 4.0
"""Seconds that workers get between SIGTERM and SIGKILL."""
RESTART_S = (0.1, 0.5, 1.0, 2.0, 5.0)
HEALTHY_S = 30.0


def serve(config: Config) -> int:
    """Runs until SIGTERM or SIGINT. Raises ConfigError or StoreUnusable for what a user must mend first."""
    check_exposure(config)
    _make_data_dir(config.data_dir)
    configure_logging(config.log_level)
    socks, (api,) = _bind("proxy", config.proxy, config.workers), _bind("api", config.api)
    _, ca_file = trust.ca_files(config.data_dir)
    trusted = trust.write_bundle(config.data_dir / "trust.pem", trust.origin_bundle(os.environ))
    _tidy_store(config)
    peers.tidy(config.data_dir)
    own, where = _own_addresses(socks[0]), (_address(socks[0]), _address(api))
    table_fd = make_table() if config.workers > 1 else None
    workers = [
        Worker("proxy", number, config, sock, trusted, own, where, table_fd)
        for number, sock in enumerate(socks, 1)
    ]
    workers.append(Worker("api", 1, config, api, trusted, own, where, None))
    return _supervise(config, workers, *where, ca_file)


@dataclass
class Worker:
    """One child process and what it takes to start it again."""

    role: str
    number: int
    config: Config
    sock: socket.socket
    trust: Path
    own: frozenset[Address]
    where: tuple[Address, Address]
    table_fd: int | None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    crashes: int = 0
    starts: int = field(default=0)
    ready_fd: int = -1

    @property
    def title(self) -> str:
        return f"{self.role} process" if self.table_fd is None else f"{self.role} process {self.number}"

    def start(self) -> None:
        fd = self.sock.fileno()
        self.ready_fd, ready = os.pipe()
        job = Job(
            self.role,
            self.config,
            fd,
            ready,
            self.trust,
            self.own,
            *self.where,
            first_start=self.starts == 0,
            number=self.number,
            table_fd=self.table_fd,
            server_pid=os.getpid(),
        )
        inherited = [fd, ready] if self.table_fd is None else [fd, ready, self.table_fd]
        # -P: modules in the directory where somebody starts a server are none of ours.
        command = [sys.executable, "-P", "-m", "buffy_proxy.worker"]
        environ = {**os.environ, "PYTHONPATH": _module_path()}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=inherited, env=environ)
        os.close(ready)
        self.starts += 1
        self.started_at = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()  # stays open: its end tells the worker that we are gone

    def wait_until_ready(self, seconds: float) -> bool:
        """False if the process ended, or did not serve in time."""
        readable, _, _ = select.select([self.ready_fd], [], [], seconds)
        return bool(readable) and os.read(self.ready_fd, 1) != b""

    def check(self, now: float) -> None:
        """Notices an end, and starts again after a pause that grows with each crash in a row."""
        if self.process is None:
            if now >= self.restart_at:
                self.start()
        elif (code := self.process.poll()) is not None:
            self.crashes = 0 if now - self.started_at > HEALTHY_S else self.crashes + 1
            pause = RESTART_S[min(self.crashes, len(RESTART_S) - 1)]
            log.error("the %s ended (%s); starting it again in %g s", self.title, _ending(code), pause)
            self.process, self.restart_at = None, now + pause
            os.close(self.ready_fd)
            if self.table_fd is not None:
                FlightTable(self.table_fd, 0).clear(self.number)

    def stop(self, deadline: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("the %s did not end in time, killing it", self.title)
            self.process.kill()
            self.process.wait()


def _supervise(config: Config, workers: list[Worker], proxy: Address, api: Address, ca_file: Path) -> int:
    stopping: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    if (other := presence.find(config.data_dir)) is not None:
        log.warning(
            "another server of this data directory runs (pid %d, proxy %s); both work, on one store",
            other.pid,
            address_text(other.proxy),
        )
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            if not worker.wait_until_ready(START_S) and not stopping:
                print(f"buffy: the {worker.title} did not start; see above", file=sys.stderr)
                return 1
        found = presence.Presence(os.getpid(), proxy, api, __version__, ca_file, config.plugin_files)
        presence.announce(config.data_dir, found)
        _print_lines(config, proxy, api)
        while not stopping:
            with contextlib.suppress(OSError):
                presence.keep(config.data_dir, found)
            for worker in workers:
                worker.check(time.monotonic())
            time.sleep(LOOK_S)
    finally:
        presence.withdraw(config.data_dir, os.getpid())
        for worker in workers:
            if worker.process is not None:
                worker.process.terminate()
        deadline = time.monotonic() + TERM_S
        for worker in workers:
            worker.stop(deadline)
    return 0


def _print_lines(config: Config, proxy: Address, api: Address) -> None:
    """The five lines. The third is the way in; all are stable enough to be read by programs."""
    offline = " (offline: nothing is fetched)" if config.offline else ""
    lines = (
        ("proxy", f"http://{address_text(proxy)}{offline}"),
        ("api", f"http://{address_text(api)}/docs"),
        ("data", str(config.data_dir)),
        ("use", f'eval "$({_command("env", config)})"   or: {_command("run", config)} -- COMMAND'),
        ("version", f"Buffy {__version__}"),
    )
    for name, text in lines:
        print(f"{name + ':':<9}{text}", flush=True)


def _command(verb: str, config: Config) -> str:
    """`buffy VERB` as it has to be typed to reach this server."""
    words = [*_program(), verb]
    if config.data_dir != default_data_dir(os.environ):
        words += ["--data-dir", str(config.data_dir)]
    return shlex.join(words)


def _program() -> list[str]:
    """The command that started this server; its full path where a shell would not find it."""
    called, found = Path(sys.argv[0]).resolve(), shutil.which("buffy")
    if called.name != "buffy":
        return [sys.executable, "-m", "buffy_proxy"]
    return ["buffy"] if found and Path(found).resolve() == called else [str(called)]


def _module_path() -> str:
    """PYTHONPATH under which a worker finds the same modules as this process."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def _make_data_dir(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = data_dir / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"data_dir: {data_dir} cannot be used ({error.strerror}); "
            "make it writable or name another with --data-dir"
        ) from error


def _tidy_store(config: Config) -> None:
    """Makes the store if there is none, and removes what a killed server left behind."""
    store = open_store(config)
    try:
        store.gc(time.time()).result(timeout=60)
    except (StoreError, TimeoutError) as error:
        log.warning("cannot tidy the store: %s", error)
    finally:
        store.close()


def _bind(name: str, address: Address, count: int = 1) -> list[socket.socket]:
    """Listening sockets of one address, each with a queue of its own; the kernel spreads connections over
    them. The first is bound alone, so that a port that is in use is noticed, and fixes the port for all."""
    host, port = address
    socks: list[socket.socket] = []
    try:
        family, _, _, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        for _ in range(count):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(socks[0].getsockname() if socks else target)
            if count > 1 and not socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            socks.append(sock)
        for sock in socks:
            sock.listen(1024)
            sock.setblocking(False)
    except OSError as error:
        why = (
            "another program listens there"
            if error.errno == errno.EADDRINUSE
            else error.strerror or str(error)
        )
        raise ConfigError(
            f"{name}: cannot listen on {address_text(address)} ({why}); "
            f"choose another with --{name} HOST:PORT"
        ) from error
    return socks


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return str(name[0]), int(name[1])


def _own_addresses(sock: socket.socket) -> frozenset[Address]:
    """Names under which a request would come straight back to this proxy."""
    host, port = _address(sock)
    return frozenset(
        (name, port) for name in (host, "127.0.0.1", "::1", "localhost", socket.gethostname().lower())
    )


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
