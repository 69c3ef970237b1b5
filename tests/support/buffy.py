"""The real server in a subprocess (`python -m buffy_proxy serve`, free ports), and clients through it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.procs import ROOT, adopt_orphans, anonymous_memory, clean_env, session
from tests.support.wire import (
    Address,
    Connection,
    Pairs,
    Reply,
    open_through,
    proxy_authorization,
    request_bytes,
    target_of,
)

__all__ = ["ROOT", "Buffy", "StartFailed", "clean_env", "selectors"]


class StartFailed(Exception):
    """The server ended instead of listening; `code` and `stderr` tell why."""

    def __init__(self, code: int | None, stderr: str) -> None:
        super().__init__(f"exit code {code}: {stderr[-2000:]}")
        self.code, self.stderr = code, stderr


class Buffy:
    """One server with its own data directory. Stopped servers can be started again on the same ports."""

    def __init__(
        self,
        directory: Path,
        config: str = "",
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> None:
        self.data_dir = directory / "data"
        self.config_file = directory / "buffy.toml"
        self.config_file.write_text(config)
        self.log_file = directory / "stderr.log"
        self.env = clean_env(**(env or {}))
        self.args = list(args)
        self.proxy: Address = ("127.0.0.1", 0)
        self.api: Address = ("127.0.0.1", 0)
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    # -- its life --------------------------------------------------------------------------------------------
    def start(self, timeout: float = 30) -> Buffy:
        """Returns as soon as the five lines are there. Raises StartFailed."""
        command = [sys.executable, "-m", "buffy_proxy", "serve", *self._options(), *self.args]
        adopt_orphans()
        with self.log_file.open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        self.lines = self._read_lines(timeout)
        self.proxy = self._address("proxy")
        self.api = self._address("api")
        return self

    def _options(self) -> list[str]:
        proxy, api = (f"{host}:{port}" for host, port in (self.proxy, self.api))
        data, config = str(self.data_dir), str(self.config_file)
        return ["--proxy", proxy, "--api", api, "--data-dir", data, "--config", config]

    def _read_lines(self, timeout: float) -> list[str]:
        assert self.process is not None and self.process.stdout is not None
        lines: list[str] = []
        stream, deadline = self.process.stdout, time.monotonic() + timeout
        while len(lines) < 5:
            line = stream.readline() if time.monotonic() < deadline else ""
            if not line:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(5)
                code = self.process.returncode
                self.kill()
                raise StartFailed(code, self.log())
            lines.append(line.rstrip("\n"))
        return lines

    def _address(self, word: str) -> Address:
        line = next(line for line in self.lines if line.lower().startswith(word))
        found = re.search(r"(127\.0\.0\.1|localhost|\[::1\]):(\d+)", line)
        assert found, line
        return found[1].strip("[]"), int(found[2])

    def stop(self, timeout: float = 10) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9 of every process of the server at once."""
        if self.process is None:
            return
        killed = self.pids()
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        for pid in killed:  # orphans come to us, see adopt_orphans
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def discard(self) -> None:
        """Kills it and removes its data: pytest keeps temporary directories, and bodies are large."""
        self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def restart(self) -> Buffy:
        self.stop()
        return self.start()

    # -- looking at it ---------------------------------------------------------------------------------------
    def pids(self) -> list[int]:
        """Its processes: the supervisor and its children."""
        assert self.process is not None
        return session(self.process.pid)

    def memory(self) -> int:
        """Anonymous resident bytes of all its processes."""
        return sum(map(anonymous_memory, self.pids()))

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def ca_file(self) -> Path:
        return Path(json.loads((self.data_dir / "server.json").read_text())["ca_file"])

    def trust(self) -> ssl.SSLContext:
        """A client context that trusts Buffy's CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    # -- through it ------------------------------------------------------------------------------------------
    def open(self, url: str, user: str | None = None, timeout: float = 30) -> Connection:
        return open_through(self.proxy, url, self.trust(), user, timeout)

    def request(
        self,
        method: str,
        url: str,
        fields: Pairs = (),
        body: bytes = b"",
        user: str | None = None,
        timeout: float = 30,
    ) -> Reply:
        """One request on a connection of its own, read to its end."""
        with self.open(url, user, timeout) as connection:
            self.send(connection, method, url, fields, body, user)
            return connection.read(method)

    def get(self, url: str, fields: Pairs = (), user: str | None = None, timeout: float = 30) -> Reply:
        return self.request("GET", url, fields, user=user, timeout=timeout)

    @staticmethod
    def send(
        connection: Connection,
        method: str,
        url: str,
        fields: Pairs = (),
        body: bytes = b"",
        user: str | None = None,
    ) -> None:
        target, host = target_of(url)
        if user and target == url:
            fields = [*fields, proxy_authorization(user)]
        connection.send(request_bytes(method, target, host, fields, body))

    def proxy_url(self, user: str | None = None) -> str:
        host, port = self.proxy
        return f"http://{user + '@' if user else ''}{host}:{port}"

    def curl(self, url: str, *options: str, user: str | None = None) -> subprocess.CompletedProcess[bytes]:
        command = ["curl", "-sS", "--proxy", self.proxy_url(user), "--noproxy", "", "--max-time", "60"]
        trust = ["--cacert", str(self.ca_file)]
        return subprocess.run(
            [*command, *trust, *options, url], capture_output=True, env=clean_env(), timeout=90
        )

    def curl_reply(self, url: str, *options: str, user: str | None = None) -> Reply:
        """What curl received, as a Reply; AssertionError with curl's words where it failed."""
        done = self.curl(url, "-D", "-", *options, user=user)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        data = done.stdout
        while True:  # the heads of CONNECT and 1xx come first
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            if not re.match(rb"HTTP/[\d.]+ \d", data):
                break
        pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Reply(int(first.split()[1]), first.partition(" ")[2][4:], pairs, data)

    def cli(
        self, *args: str, timeout: float = 120, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """`python -m buffy_proxy ARGS` with this server's data directory and configuration.

        The environment is clean: the server's trust in scripted origins is not its clients' trust."""
        known = {"BUFFY_DATA_DIR": str(self.data_dir), "BUFFY_CONFIG": str(self.config_file)}
        command = [sys.executable, "-m", "buffy_proxy", *args]
        every = clean_env(**known, **(env or {}))
        return subprocess.run(command, env=every, capture_output=True, timeout=timeout, cwd=cwd)

    def check_store(self) -> str:
        """`buffy store check`; raises AssertionError unless it is clean."""
        done = self.cli("store", "check")
        text = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, text
        return text

    def api_get(self, path: str) -> tuple[int, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.api[0]}:{self.api[1]}{path}", timeout=10) as answer:
            body = answer.read()
            kind = answer.headers.get("content-type", "")
            return answer.status, json.loads(body) if "json" in kind else body.decode()


def selectors(raw: str) -> str:
    """A proxy user name, percent-encoded the way URL libraries do it."""
    return quote(raw, safe="")
