"""Real input: the tools' own registries, as they are configured here; skipped where none can be reached.

A run online, then the same with `--offline`: identical files, and no connection to a registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buffy_proxy.testing.process import FOREIGN
from tests.support.buffy import Buffy
from tests.support.procs import clean_env

pytestmark = [pytest.mark.registry, pytest.mark.slow]
OWN = {
    name: value
    for name, value in os.environ.items()
    if FOREIGN.match(name) and not name.startswith(("BUFFY", "PY"))
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buffy]:
    """A server with this machine's own proxies and trust."""
    running = Buffy(tmp_path_factory.mktemp("server"), env=OWN).start()
    yield running
    running.discard()


def command_at(target: Path, *command: str) -> list[str]:
    return [part.replace("{target}", str(target)) for part in command]


def online_then_offline(
    server: Buffy, tmp_path: Path, command: list[str], collect: Callable[[Path], dict[str, bytes]]
) -> None:
    targets = [tmp_path / name for name in ("online", "offline", "direct")]
    for target in targets:
        (target / "partial").mkdir(parents=True)
    env = {**OWN, "PIP_FIND_LINKS": str(tmp_path / "no-wheels-here"), "HOME": str(tmp_path)}
    done = server.cli("run", "--", *command_at(targets[0], *command), cwd=targets[0], env=env, timeout=280)
    if done.returncode != 0:
        direct = [*command_at(targets[2], *command)]
        alone = subprocess.run(direct, cwd=targets[2], env=clean_env(**env), capture_output=True, timeout=280)
        if alone.returncode != 0:
            pytest.skip("no registry can be reached")
        raise AssertionError((done.stdout + done.stderr).decode(errors="replace")[-4000:])
    known = server.cli("ls", "--json").stdout
    done = server.cli("run", "--offline", "--", *command_at(targets[1], *command), cwd=targets[1], env=env)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-4000:]
    online, offline = collect(targets[0]), collect(targets[1])
    assert online and online == offline
    assert len(known) > 10


def files(target: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(target.iterdir()) if f.is_file() and f.name != "lock"}


def test_pip_download(server: Buffy, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "-q", "-d", "{target}", "requests"]
    online_then_offline(server, tmp_path, command, files)


def test_npm_pack(server: Buffy, tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    command = ["npm", "pack", "--cache", "{target}/cache", "--no-update-notifier", "is-number"]
    online_then_offline(server, tmp_path, command, files)


def test_apt_get_update(server: Buffy, tmp_path: Path) -> None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        pytest.skip("wants apt-get and root")
    command = ["apt-get", "update", "-q", "-oDir::State::lists={target}", "-oDir::Cache={target}/cache"]
    command += ["-oAPT::Sandbox::User=root", "-oAPT::Update::Error-Mode=any"]
    online_then_offline(server, tmp_path, command, files)
