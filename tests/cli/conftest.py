"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shelf import Shelf


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("BUFFY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def shelf(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "data", capsysbinary)
    yield shelf
    shelf.store.close()
