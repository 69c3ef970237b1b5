"""The package DZDBuffy 0.7.3, unmodified and in an environment of its own, against our server.

The environment is made once and kept in pytest's cache. pydantic 1, which that package needs, ends with
Python 3.12.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import address
from tests.support.answers import fixed, head
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.procs import clean_env

pytestmark = [pytest.mark.registry, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("old_cases.py")
REQUIREMENTS = ("DZDBuffy==0.7.3", "pydantic<2")
NEWEST, OLDEST = (3, 12), (3, 9)
CASES = (
    "order_and_stream",
    "cached_order",
    "download_to",
    "get_filename",
    "methods_and_bodies",
    "hold_and_order",
    "strategies",
    "set_configuration",
    "listing_and_neighbours",
    "pin_for_a_time",
    "tag_and_fetch",
    "force_and_prefer_versions",
    "groups",
    "failed_download",
    "from_env",
    "single_parts_and_base_path",
    "server_down",
)
METHODS = {
    "create_request",
    "from_env",
    "order",
    "download_response_content",
    "download_response_content_to",
    "get_filename",
    "list_cached_response_versions",
    "pin",
    "unpin",
    "tag",
    "next_version",
    "previous_version",
    "response_version",
    "cache_configuration",
    "api_url",
    "Request",
    "buffy_server_timeout_sec",
    "buffy_server_verify_ssl_request",
}


def version_of(python: str) -> tuple[int, int]:
    """Of a Python that can make environments; (0, 0) if it is none."""
    ask = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=30)
        major, minor = done.stdout.split()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return (0, 0)
    return (int(major), int(minor))


def usable_python() -> tuple[str, tuple[int, int]] | None:
    candidates = [sys.executable, "python3", *(f"python3.{minor}" for minor in range(12, 8, -1))]
    found = [(version_of(python), python) for python in candidates]
    usable = [(version, python) for version, python in found if OLDEST <= version <= NEWEST]
    return (max(usable)[1], max(usable)[0]) if usable else None


def install(python: str, directory: Path) -> str:
    """Makes the environment where it is not there yet; gives what went wrong, or "" if nothing did."""
    done = directory / "complete"
    if done.exists():
        return ""
    subprocess.run([python, "-m", "venv", "--clear", directory / "env"], check=True, capture_output=True)
    command = [directory / "env/bin/python", "-m", "pip", "install", "-q", "--retries", "1", *REQUIREMENTS]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=240, env=dict(os.environ))
    except subprocess.TimeoutExpired:
        return "the package index does not answer in time"
    if pip.returncode == 0:
        done.touch()
    return "" if pip.returncode == 0 else (pip.stderr.strip().splitlines() or ["pip failed"])[-1]


@pytest.fixture(scope="session")
def old_python(request: pytest.FixtureRequest) -> Path:
    """The Python of the environment that has the package."""
    python = usable_python()
    if python is None:
        pytest.skip("no Python from 3.9 to 3.12, which pydantic 1 needs")
    cache: pytest.Cache = request.config.cache  # type: ignore[attr-defined]
    directory = cache.mkdir("old-client-{}.{}".format(*python[1]))
    with (directory / "lock").open("w") as lock:  # test processes share the cache
        fcntl.flock(lock, fcntl.LOCK_EX)
        if problem := install(python[0], directory):
            pytest.skip(f"DZDBuffy cannot be installed here: {problem}")
    return directory / "env/bin/python"


class Counting:
    """Another number with each request for a path; nothing to validate it by."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    async def __call__(self, request: Received, peer: Peer) -> None:
        number = self.numbers[request.path] = self.numbers.get(request.path, 0) + 1
        body = b"number %d" % number
        await peer.send(head(200, {"Content-Length": str(len(body)), "Content-Type": "text/plain"}) + body)


async def said(request: Received, peer: Peer) -> None:
    """Answers with what it was asked."""
    await fixed(request.head + request.body)(request, peer)


@pytest.fixture(scope="module")
def scripted(origin: Origin) -> Iterator[Origin]:
    origin.on("/counting/*", Counting())
    disposition = {"Content-Disposition": 'attachment; filename="my data.csv"'}
    origin.on("/named/*", fixed(b"named", disposition))
    origin.on("/gone", fixed(b"no", status=404))
    origin.on("/echo", said)
    yield origin


def run(python: Path, case: str, server: Buffy, origin: Origin) -> str:
    command = [str(python), str(SCRIPT), case, address(server), origin.url("")]
    env = {name: value for name, value in clean_env().items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0 and done.stdout.endswith("ok\n"), done.stdout + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_the_old_client(old_python: Path, case: str, server: Buffy, scripted: Origin) -> None:
    run(old_python, case, server, scripted)


def test_no_method_is_forgotten(old_python: Path, server: Buffy, scripted: Origin) -> None:
    """All its public names are known here; each of the methods stands in at least one case."""
    names = set(run(old_python, "surface", server, scripted).split()) - {"ok"}
    assert names == METHODS
    cases = SCRIPT.read_text()
    assert all(f".{name}" in cases for name in METHODS if not name.startswith("buffy_server"))
