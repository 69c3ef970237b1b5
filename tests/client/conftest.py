"""Clients of the real server, and of a scripted one for what the real one never does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buffy_client import BuffyPyClient
from tests.client.plain import PlainServer
from tests.support.buffy import Buffy


def address(server: Buffy) -> str:
    host, port = server.api
    return f"http://{host}:{port}"


@pytest.fixture
def client(server: Buffy, path: str) -> Iterator[BuffyPyClient]:
    """A client in a group of its own; it never downloads directly."""
    with BuffyPyClient(address(server), group_name=path.strip("/"), local_download_fallback=False) as made:
        yield made


@pytest.fixture
def plain() -> Iterator[PlainServer]:
    """A v1 server without any extension, scripted."""
    made = PlainServer()
    yield made
    made.origin.shut_down()


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty directory to download into."""
    made = tmp_path / "downloads"
    made.mkdir()
    return made
