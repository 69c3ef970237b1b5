"""Unmodified tools under `buffy run`: a first run, then a second one that never reaches the origin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.registries import (
    QUIET_GIT,
    make_repository,
    serve_apt,
    serve_dumb_git,
    serve_npm,
    serve_smart_git,
    serve_wheel_index,
)

CONFIG = """
[[rule]]
match = "{https}/**"
strategy = "never"

[[rule]]
match = "https://localhost*/**"
strategy = "never"
"""
BODY = piece(8, 0, 300_000)
PYTHON = {
    "requests": "import requests; b = requests.get(url).content",
    "httpx": "import httpx; b = httpx.get(url).content",
    "urllib": "import urllib.request; b = urllib.request.urlopen(url).read()",
    "aiohttp": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(url) as answer:
            return await answer.read()
b = asyncio.run(main())
""",
}
NODE = "fetch(process.argv[1]).then(r => r.arrayBuffer()).then(b => process.stdout.write(Buffer.from(b)))"


def wants(tool: str) -> str:
    found = shutil.which(tool)
    if not found:
        pytest.skip(f"{tool} is not installed")
    return found


def node_version() -> tuple[int, ...]:
    text = subprocess.run([wants("node"), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in text.strip().lstrip("v").split(".")[:2])


def run(server: Buffy, *command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> bytes:
    """`buffy run -- COMMAND`; gives its stdout, AssertionError with all it said where it fails."""
    done = server.cli("run", "--proxy-loopback", "--", *command, cwd=cwd, env=env)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-4000:]
    last = done.stderr.decode().strip().splitlines()[-1]
    assert "request" in last and "hit" in last, last
    return done.stdout


def twice(origin: Origin, work: Callable[[int], object]) -> None:
    """The first run reaches the origin, the second one gives the same and does not, not even for TLS."""
    before = len(origin.received)
    first = work(1)
    assert len(origin.received) > before
    asked, connections = len(origin.received), origin.connections
    assert work(2) == first
    assert (len(origin.received), origin.connections) == (asked, connections), origin.received[asked:]


def file_url(origin: Origin, path: str) -> str:
    origin.on(path, answers.fixed(BODY, {"Content-Type": "application/octet-stream", "ETag": '"e"'}))
    return origin.url(path, "localhost")


def at_localhost(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir()) if file.is_file()}


@pytest.mark.parametrize("client", PYTHON)
def test_python(server: Buffy, tls_origin: Origin, path: str, client: str) -> None:
    url = file_url(tls_origin, path)
    code = f"import sys; url = {url!r}\n{PYTHON[client]}\nsys.stdout.buffer.write(b)"

    def work(_: int) -> bytes:
        out = run(server, sys.executable, "-c", code)
        assert out == BODY
        return out

    twice(tls_origin, work)


@pytest.mark.parametrize("command", [["curl", "-sSf"], ["curl", "-sSf", "--http2"], ["wget", "-qO-"]])
def test_downloaders(server: Buffy, tls_origin: Origin, path: str, command: list[str]) -> None:
    wants(command[0])
    url = file_url(tls_origin, path)

    def work(_: int) -> bytes:
        out = run(server, *command, url)
        assert out == BODY
        return out

    twice(tls_origin, work)


def test_node_fetch(server: Buffy, tls_origin: Origin, path: str) -> None:
    if node_version() < (22, 21):
        pytest.skip("node's fetch uses a proxy from the environment since 22.21")
    url = file_url(tls_origin, path)
    twice(tls_origin, lambda _: run(server, "node", "-e", NODE, url))
    assert run(server, "node", "-e", NODE, url) == BODY


def test_pip(server: Buffy, tls_origin: Origin, path: str, tmp_path: Path) -> None:
    index = at_localhost(serve_wheel_index(tls_origin, path))
    env = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }

    def work(turn: int) -> dict[str, bytes]:
        target = tmp_path / str(turn)
        command = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--index-url", index]
        run(server, *command, "-d", str(target), "demopkg", env=env)
        assert list(contents(target)) == ["demopkg-1.0-py3-none-any.whl"]
        return contents(target)

    twice(tls_origin, work)


def test_npm(server: Buffy, tls_origin: Origin, path: str, tmp_path: Path) -> None:
    wants("npm")
    base = tls_origin.url("", "localhost")
    registry = at_localhost(serve_npm(tls_origin, path, base))

    def work(turn: int) -> dict[str, bytes]:
        target = tmp_path / str(turn)
        target.mkdir()
        cache = str(tmp_path / f"cache{turn}")
        options = ["--registry", registry, "--cache", cache, "--no-update-notifier"]
        run(server, "npm", "pack", *options, "demo", cwd=target, env={"HOME": str(tmp_path)})
        assert list(contents(target)) == ["demo-1.0.0.tgz"]
        return contents(target)

    twice(tls_origin, work)


def test_git_clone(server: Buffy, tls_origin: Origin, path: str, tmp_path: Path) -> None:
    wants("git")
    url = at_localhost(serve_dumb_git(tls_origin, path, make_repository(tmp_path)))

    def work(turn: int) -> bytes:
        target = tmp_path / f"clone{turn}"
        run(server, "git", "clone", "-q", url, str(target), env=QUIET_GIT)
        return (target / "hello.txt").read_bytes()

    twice(tls_origin, work)


def test_gits_smart_protocol_passes(server: Buffy, tls_origin: Origin, path: str, tmp_path: Path) -> None:
    """Its POSTs are forwarded each time: a clone is never answered with the pack of another one."""
    wants("git")
    url = at_localhost(serve_smart_git(tls_origin, path, make_repository(tmp_path)))
    for turn in range(2):
        run(server, "git", "clone", "-q", url, str(tmp_path / f"clone{turn}"), env=QUIET_GIT)
        assert (tmp_path / f"clone{turn}" / "hello.txt").exists()
    assert len([r for r in tls_origin.received if r.path == f"{path}/git-upload-pack"]) >= 2


def test_apt(server: Buffy, tls_origin: Origin, path: str, tmp_path: Path) -> None:
    wants("apt-get")
    source = at_localhost(serve_apt(tls_origin, path))
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] {source} ./\n")

    def work(turn: int) -> dict[str, bytes]:
        lists = tmp_path / f"lists{turn}"
        (lists / "partial").mkdir(parents=True)
        options = {
            "Dir::State::lists": lists,
            "Dir::Cache": tmp_path / f"cache{turn}",
            "Dir::Etc::sourcelist": tmp_path / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "APT::Sandbox::User": "root",
        }
        run(server, "apt-get", "update", *[f"-o{name}={value}" for name, value in options.items()])
        found = contents(lists)
        assert any(name.endswith("Release") for name in found)
        assert any("Packages" in name for name in found)
        return {name: data for name, data in found.items() if name != "lock"}

    twice(tls_origin, work)


def test_the_exit_code_is_the_tools(server: Buffy, tls_origin: Origin, path: str) -> None:
    wants("curl")
    url = tls_origin.url(path + "/missing", "localhost")
    done = server.cli("run", "--proxy-loopback", "--", "curl", "-sf", url)
    assert done.returncode == 22
