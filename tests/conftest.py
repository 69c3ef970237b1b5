"""Fixtures that start real parts: scripted origins and the server itself, everything on loopback."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.authority import Authority
from tests.support.buffy import Buffy
from tests.support.origin import Origin

Factory = Callable[..., Buffy]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that take long come first, then those with many tests: what begins last must not be what the
    others wait for."""
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell that runs the tests in the background makes them, and so their children, ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority of the HTTPS origins."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A scripted HTTP origin."""
    server = Origin()
    yield server
    server.shut_down()


@pytest.fixture(scope="module")
def tls_origin(authority: Authority) -> Iterator[Origin]:
    """A scripted HTTPS origin that Buffy trusts."""
    server = Origin(authority.context())
    yield server
    server.shut_down()


@pytest.fixture
def buffy(tmp_path: Path, authority: Authority) -> Iterator[Factory]:
    """Makes and starts servers: `buffy(config="…", env={…}, args=[…])`; all are killed afterwards."""
    made: list[Buffy] = []

    def factory(
        config: str = "", env: dict[str, str] | None = None, args: tuple[str, ...] = (), start: bool = True
    ) -> Buffy:
        directory = tmp_path / f"buffy{len(made)}"
        directory.mkdir()
        made.append(Buffy(directory, config, {"SSL_CERT_FILE": str(authority.ca_file), **(env or {})}, args))
        return made[-1].start() if start else made[-1]

    yield factory
    for server in made:
        server.discard()


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    origin: Origin,
    tls_origin: Origin,
) -> Iterator[Buffy]:
    """One server for a whole module. The module's CONFIG may name {http} and {https}, the origins' URLs."""
    text = getattr(request.module, "CONFIG", "")
    for scheme, which in (("http", origin), ("https", tls_origin)):
        text = text.replace("{" + scheme + "}", which.url(""))
    env = {"SSL_CERT_FILE": str(authority.ca_file), **getattr(request.module, "ENV", {})}
    running = Buffy(tmp_path_factory.mktemp("server"), text, env).start()
    yield running
    running.discard()


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """A path that no other test uses."""
    name = request.node.name.replace("[", "/").replace("]", "")
    return "/" + "".join(char if char.isalnum() or char in "_/-" else "-" for char in name)
