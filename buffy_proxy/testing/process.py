"""The life of a real `buffy serve` in a subprocess: its files, its environment, its beginning and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import buffy_proxy
from buffy_proxy import presence, trust
from buffy_proxy.literals import address_text
from buffy_proxy.testing.origin import authority_file

Plugin = Path | str | ModuleType
"""A plugin's file, or the module that was imported from it."""

START_S = 60.0
STOP_S = 15.0
TAIL = 20_000
"""Characters of a log that are worth showing."""

FOREIGN = re.compile("|".join(("BUFFY_.*", "(https?|all|no)_proxy", *trust.NAMED_BY)), re.I)
"""Variables of whoever runs the tests that would change what a server does."""


class StartFailed(Exception):
    """The server ended instead of serving, with exit code `code` (None: it took too long); `log` is all that
    it said."""

    def __init__(self, code: int | None, log: str) -> None:
        what = "did not serve in time" if code is None else f"ended with exit code {code}"
        super().__init__(f"buffy serve {what}:\n{log[-TAIL:]}")
        self.code, self.log = code, log


class ServerProcess:
    """Its files are `buffy.toml`, `buffy.log` and `data/` in `directory`. A stopped server can be started
    again, on the same ports and the same data."""

    def __init__(
        self,
        directory: Path,
        config: str,
        plugins: Iterable[Plugin],
        env: Mapping[str, str],
        args: Sequence[str],
    ) -> None:
        self.config_file, self.data_dir = directory / "buffy.toml", directory / "data"
        self.log_file = directory / "buffy.log"
        self.config_file.write_text(_with_plugins(config, plugins), encoding="utf-8")
        self.env = {**clean_env(), "SSL_CERT_FILE": str(authority_file()), **env}
        self.args = tuple(args)
        self.proxy: presence.Address = ("127.0.0.1", 0)
        self.api: presence.Address = ("127.0.0.1", 0)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that was started, None while none runs. It has children of its own."""
        return None if self._process is None else self._process.pid

    def start(self, timeout_s: float = START_S) -> None:
        """Returns once both ports serve. Raises StartFailed."""
        if self._process is not None:
            return
        listen = ("--proxy", address_text(self.proxy), "--api", address_text(self.api))
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command("serve", *listen, *self.args),
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        found = self._await(self._process, time.monotonic() + timeout_s)
        self.proxy, self.api = presence.reachable(found.proxy), presence.reachable(found.api)

    def stop(self, timeout_s: float = STOP_S) -> int | None:
        """SIGTERM, and after `timeout_s` SIGKILL. Gives the exit code: 0 if it ended as it should, None where
        nothing ran."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return _kill(process)

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as when a machine loses power."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)

    def command(self, *args: str) -> list[str]:
        """`buffy ARGS` in this interpreter, for this server's configuration and data."""
        options = ("--data-dir", str(self.data_dir), "--config", str(self.config_file))
        return [sys.executable, "-P", "-m", "buffy_proxy", *options, *args]

    @property
    def log(self) -> str:
        """All that the server said on stdout and stderr so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _await(self, process: subprocess.Popen[bytes], deadline: float) -> presence.Presence:
        while process.poll() is None and time.monotonic() < deadline:
            found = presence.read(self.data_dir)
            if found is not None and found.pid == process.pid:
                return found
            time.sleep(0.02)
        code = process.poll()
        self.kill()
        raise StartFailed(code, self.log)


def clean_env() -> dict[str, str]:
    """This environment without proxies, trust stores and BUFFY_*; modules come from where this `buffy_proxy`
    came from."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    here = str(Path(buffy_proxy.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def _kill(process: subprocess.Popen[bytes]) -> int:
    """The server leads a process group of its own: whatever it started is in there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(STOP_S)


def _with_plugins(config: str, plugins: Iterable[Plugin]) -> str:
    """The key comes first, since TOML has no way back from a table; JSON strings are TOML strings."""
    files = [str(_file_of(plugin)) for plugin in plugins]
    return f"plugin_files = {json.dumps(files)}\n{config}" if files else config


def _file_of(plugin: Plugin) -> Path:
    if not isinstance(plugin, ModuleType):
        return Path(plugin).absolute()
    file = getattr(plugin, "__file__", None)
    if file is None:
        raise ValueError(f"the module {plugin.__name__} was not imported from a file; give the plugin's path")
    return Path(file).absolute()
