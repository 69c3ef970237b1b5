"""Hosts that are not decrypted: named in `tunnel`, or learned from clients that reject our certificate."""

from __future__ import annotations

import ssl

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.authority import Authority
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until
from tests.support.wire import Connection, request_bytes, start_tls, tunnel


def pinned(server: Buffy, origin: Origin, authority: Authority, host: str = "127.0.0.1") -> Connection:
    """A client that trusts the origin's CA alone: it works only where nobody decrypts."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    return start_tls(tunnel(server.proxy, host, origin.port, timeout=10), host, context)


@pytest.mark.parametrize("pattern", ["127.0.0.*", "127.0.0.1:{port}"])
def test_listed_hosts_are_tunnelled(
    buffy: Factory, tls_origin: Origin, authority: Authority, path: str, pattern: str
) -> None:
    tls_origin.on(path, answers.fixed(b"untouched", answers.FRESH))
    server = buffy(config=f'tunnel = ["{pattern.format(port=tls_origin.port)}"]\n')
    for _ in range(2):
        with pinned(server, tls_origin, authority) as connection:
            connection.send(request_bytes("GET", path, tls_origin.authority))
            reply = connection.read()
            assert reply.body == b"untouched" and not reply.all("via") and not reply.cache.raw
    assert tls_origin.hits(path) == 2


def test_hosts_whose_clients_reject_our_certificate_are_learned(
    buffy: Factory, tls_origin: Origin, authority: Authority, path: str
) -> None:
    tls_origin.on(path, answers.fixed(b"untouched"))
    server = buffy()
    with pytest.raises(ssl.SSLError):
        pinned(server, tls_origin, authority)

    def works() -> bool:
        try:
            with pinned(server, tls_origin, authority) as connection:
                connection.send(request_bytes("GET", path, tls_origin.authority))
                return connection.read().body == b"untouched"
        except ssl.SSLError:
            return False

    wait_until(works, 5)
    for _ in range(3):
        assert works()
    hints = [line for line in server.log().splitlines() if "tunnel" in line.lower()]
    assert len(hints) == 1, server.log()


def test_learning_can_be_switched_off(buffy: Factory, tls_origin: Origin, authority: Authority) -> None:
    server = buffy(config="learn_tunnels = false\n")
    for _ in range(3):
        with pytest.raises(ssl.SSLError):
            pinned(server, tls_origin, authority)


def test_other_hosts_are_still_decrypted(buffy: Factory, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"x", answers.FRESH))
    server = buffy(config='tunnel = ["elsewhere.example", "*.elsewhere.example:443"]\n')
    server.get(url)
    assert server.get(url).cache.hit
