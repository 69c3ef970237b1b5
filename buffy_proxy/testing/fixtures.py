"""pytest fixtures: `origin`, `tls_origin`, `buffy`, `buffy_factory`.

    pytest_plugins = ["buffy_proxy.testing.fixtures"]     # in the conftest.py at the top

`buffy` is made from the fixtures `buffy_config` and `buffy_plugins`, which test files override. The logs of
all servers of a test that fails are shown with its report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from buffy_proxy.testing.origin import Origin
from buffy_proxy.testing.process import TAIL, Plugin
from buffy_proxy.testing.running import RunningBuffy

_RUNNING = pytest.StashKey[list[RunningBuffy]]()


class BuffyFactory(Protocol):
    """Makes and starts servers, as many as a test wants; arguments are those of RunningBuffy."""

    def __call__(
        self,
        config: str = "",
        *,
        plugins: Iterable[Plugin] = (),
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> RunningBuffy: ...


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An HTTP origin."""
    with Origin() as made:
        yield made


@pytest.fixture
def tls_origin() -> Iterator[Origin]:
    """An HTTPS origin that Buffy trusts."""
    with Origin(tls=True) as made:
        yield made


@pytest.fixture
def buffy_config() -> str:
    """The buffy.toml of `buffy`: override it, with `origin` as an argument where its URL matters."""
    return ""


@pytest.fixture
def buffy_plugins() -> Sequence[Plugin]:
    """The plugins of `buffy`: override it."""
    return ()


@pytest.fixture
def buffy_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BuffyFactory]:
    """Makes servers that end with the test."""
    made = request.node.stash.setdefault(_RUNNING, [])
    with contextlib.ExitStack() as stack:

        def factory(config: str = "", **options: Any) -> RunningBuffy:
            directory = tmp_path / f"buffy{len(made)}"
            directory.mkdir()
            one = RunningBuffy(config, directory=directory, **options)
            made.append(one)
            stack.callback(one.close)
            one.start()
            return one

        yield factory


@pytest.fixture
def buffy(buffy_factory: BuffyFactory, buffy_config: str, buffy_plugins: Sequence[Plugin]) -> RunningBuffy:
    """A running Buffy with `buffy_config` and `buffy_plugins`."""
    return buffy_factory(buffy_config, plugins=buffy_plugins)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the servers' logs to the report of a test that failed."""
    report = yield
    if report.failed:
        running = item.stash.get(_RUNNING, None)
        for number, one in enumerate(running or []):
            report.sections.append((f"log of Buffy {number}", one.log[-TAIL:]))
    return report
