"""A running Buffy for tests, and the ways in: requests through it, its client, its commands, its numbers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import requests

from buffy_client import BuffyPyClient
from buffy_proxy import presence
from buffy_proxy.core.model import DEFAULT_GROUP
from buffy_proxy.literals import address_text
from buffy_proxy.selectors import username
from buffy_proxy.testing.process import TAIL, Plugin, ServerProcess

TIMEOUT_S = 30.0
"""How long a request or a command may take, so that no test waits for ever."""


class RunningBuffy(ServerProcess):
    """A real `buffy serve` on free ports of loopback, with a data directory of its own.

    config     the text of its buffy.toml
    plugins    files of plugins, or modules imported from them (they become `plugin_files`)
    env        variables of its environment; BUFFY_*, proxies and trust stores of yours do not reach it
    args       more options for `buffy serve`
    directory  where its files go; else a temporary directory that goes with it

    with RunningBuffy('[[rule]]\\nmatch = "**"\\nstrategy = "never"') as buffy:
        buffy.get(origin.url("/data"))

    Where the block raises, the server's log is printed to stderr.
    """

    def __init__(
        self,
        config: str = "",
        *,
        plugins: Iterable[Plugin] = (),
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        directory: Path | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="buffy-test-") if directory is None else None
        chosen = directory or Path(self._temporary.name if self._temporary else "")
        super().__init__(chosen, config, plugins, env or {}, args)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            print(f"-- log of Buffy\n{self.log[-TAIL:]}", file=sys.stderr)
        self.close()

    def close(self) -> None:
        """Stops it; a temporary directory is gone then."""
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def restart(self) -> None:
        """Stops it and starts it again, on the same ports and the same data."""
        self.stop()
        self.start()

    # -- requests through it ------------------------------------------------------------------------------
    @property
    def proxy_url(self) -> str:
        return f"http://{address_text(self.proxy)}"

    @property
    def api_url(self) -> str:
        return f"http://{address_text(self.api)}"

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) that clients have to trust."""
        found = presence.read(self.data_dir)
        if found is None:
            raise RuntimeError("this Buffy does not run: start it first")
        return found.ca_file

    @property
    def proxies(self) -> dict[str, str]:
        """For `requests`: `requests.get(url, proxies=buffy.proxies, verify=buffy.ca_file)`."""
        return self._proxies("")

    def session(self, *, group: str = DEFAULT_GROUP, offline: bool = False) -> requests.Session:
        """Requests of this session go through Buffy, trust its authority and no other, and fail after 30 s of
        silence unless they say otherwise. Close it, or use it in a `with`."""
        made = _BoundedSession()
        made.trust_env = False  # else NO_PROXY keeps requests to loopback away from us
        made.proxies = self._proxies(username(group, offline))
        made.verify = str(self.ca_file)
        return made

    def get(self, url: str, **options: Any) -> requests.Response:
        """One request on a connection of its own; what it did stands in the field Cache-Status. `options` are
        those of `requests.get`."""
        with self.session() as session:
            return session.get(url, **options)

    def _proxies(self, user: str) -> dict[str, str]:
        prefix = f"{quote(user, safe='')}:@" if user else ""  # without a colon requests drops the user
        url = f"http://{prefix}{address_text(self.proxy)}"
        return {"http": url, "https": url}

    # -- asking about it ----------------------------------------------------------------------------------
    def client(self, **options: Any) -> BuffyPyClient:
        """A client of its control API that never downloads directly. `options` are those of BuffyPyClient."""
        return BuffyPyClient(self.api_url, **{"local_download_fallback": False, **options})

    def cli(self, *args: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """`buffy ARGS` for its data and configuration; look at `returncode`, `stdout` and `stderr`."""
        command = self.command(*args)
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s
        )

    def why(self, url: str) -> str:
        """What `buffy why URL` prints; AssertionError with its words where it fails."""
        done = self.cli("why", url)
        assert done.returncode == 0, f"buffy why {url}: {done.stderr}"
        return done.stdout

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics, by name and labels as they are written there. Requests are counted up to a
        second late, so `wait_until` they are; what never happened may be missing."""
        with _BoundedSession() as session:
            session.trust_env = False
            answer = session.get(f"{self.api_url}/metrics")
        answer.raise_for_status()
        lines = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


class _BoundedSession(requests.Session):
    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{"timeout": TIMEOUT_S, **options})
