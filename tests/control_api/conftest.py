"""An API over an empty LMDB store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.store.index import LmdbStore
from tests.control_api.kit import Api, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    opened = open_store(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def make(store: LmdbStore, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """APIs with other settings over the same store: `make(offline=True)`."""
    running: list[Api] = []

    def made(**changes: Any) -> Api:
        running.append(Api(store, tmp_path / "data", **changes))
        return running[-1]

    yield made
    for api in running:
        api.close()


@pytest.fixture
def api(make: Callable[..., Api]) -> Api:
    return make()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One API for the tests of a module that do not mind what others stored."""
    directory = tmp_path_factory.mktemp("shared")
    opened = open_store(directory)
    running = Api(opened, directory)
    yield running
    running.close()
    opened.close()
