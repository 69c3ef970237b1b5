"""Real tools carry the selectors: what each one asks for is counted for its run and kept in its group."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffy_proxy import lease
from buffy_proxy.clients import client_env
from buffy_proxy.doctor import trials
from buffy_proxy.doctor.origin import Origin, origin
from buffy_proxy.doctor.tools import TOOLS, Tool
from buffy_proxy.presence import Presence
from buffy_proxy.store import Store, open_store
from tests.support.buffy import clean_env


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with origin(tmp_path_factory.mktemp("origin")) as served:
        yield served


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tools") / "data"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture(scope="module")
def server(target: Origin, data_dir: Path) -> Iterator[Presence]:
    with lease.started(data_dir, (), clean_env(SSL_CERT_FILE=str(target.ca_file))) as server:
        yield server


@pytest.fixture(scope="module")
def store(server: Presence, data_dir: Path) -> Iterator[Store]:
    opened = open_store(data_dir, max_size=20 << 30, map_size=64 << 30)
    yield opened
    opened.close()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_selectors_arrive(server: Presence, store: Store, target: Origin, tmp_path: Path, tool: Tool) -> None:
    tmp_path.chmod(0o755)
    client = client_env(
        clean_env(),
        proxy=server.proxy,
        ca_file=server.ca_file,
        bundle_dir=tmp_path / "clients",
        group=f"group-{tool.name}",
        run=f"run-{tool.name}",
        proxy_loopback=True,
    )
    finding = trials.try_tool(tool, target, tmp_path, client.applied(clean_env()))
    if finding.state == "skipped":
        assert not shutil.which(tool.program or tool.name) or tool.lacks()
        pytest.skip(finding.detail)
    assert finding.state == "ok", finding
    asked, _ = target.asked(f"/{tool.name}/")
    assert _counted(store, f"run/run-{tool.name}", asked) >= asked > 0
    urls = {resource.key.url for resource in store.resources(group=f"group-{tool.name}")}
    assert urls and all(url.startswith(f"{target.url}/{tool.name}/") for url in urls)


def _counted(store: Store, name: str, wanted: int) -> int:
    """Counters are written behind: waits up to 5 s for them."""
    deadline = time.monotonic() + 5
    while store.counters(name).get("requests", 0) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return store.counters(name).get("requests", 0)
