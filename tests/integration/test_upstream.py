"""Buffy behind another proxy: the one that HTTPS_PROXY named when the server started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.authority import Authority
from tests.support.listeners import Relay
from tests.support.origin import Origin
from tests.support.procs import free_port


@pytest.fixture
def relay(origin: Origin, tls_origin: Origin) -> Iterator[Relay]:
    """Knows names that no resolver knows."""
    hosts = {
        "plain.origin.test": ("127.0.0.1", origin.port),
        "secure.origin.test": ("127.0.0.1", tls_origin.port),
    }
    with Relay(hosts) as running:
        yield running


def through(relay: Relay) -> dict[str, str]:
    return dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), relay.url)


@pytest.mark.parametrize("url", ["http://plain.origin.test", "https://secure.origin.test"])
def test_misses_go_through_it_and_hits_do_not(
    buffy: Factory, relay: Relay, origin: Origin, tls_origin: Origin, path: str, url: str
) -> None:
    for each in (origin, tls_origin):
        each.on(path, answers.fixed(b"behind", answers.FRESH))
    server = buffy(env=through(relay))
    assert server.get(url + path).body == b"behind"
    assert [name.partition(":")[0] for name in relay.asked] == [url.partition("//")[2]]
    assert server.get(url + path).cache.hit
    assert relay.connections == 1


def test_credentials_of_the_upstream_proxy(
    buffy: Factory, relay: Relay, tls_origin: Origin, path: str
) -> None:
    tls_origin.on(path, answers.fixed(b"behind"))
    port = relay.port
    server = buffy(env={"HTTPS_PROXY": f"http://user:pass@127.0.0.1:{port}"})
    assert server.get("https://secure.origin.test" + path, user="group=g").body == b"behind"
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in relay.heads[0]
    assert tls_origin.seen(path)[0].get("proxy-authorization") is None


def test_no_proxy_is_honoured(buffy: Factory, relay: Relay, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"direct"))
    server = buffy(env={**through(relay), "NO_PROXY": "127.0.0.1,localhost"})
    assert server.get(url).body == b"direct"
    assert relay.connections == 0


def test_an_upstream_proxy_that_is_down(buffy: Factory, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"x"))
    server = buffy(env={"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"})
    assert server.get(url).status == 502
    assert tls_origin.hits(path) == 0


def test_two_buffies_in_a_row(
    buffy: Factory, authority: Authority, tls_origin: Origin, origin: Origin, path: str
) -> None:
    far = buffy()
    near = buffy(env={"HTTPS_PROXY": far.proxy_url(), "HTTP_PROXY": far.proxy_url(), **both(far, authority)})
    for each in (tls_origin, origin):
        url = each.on(path, answers.fixed(b"twice", answers.FRESH))
        reply = near.get(url)
        assert reply.body == b"twice" and len(", ".join(reply.all("via")).split(",")) == 2
        assert reply.cache.raw.count("buffy") == 2
        assert near.get(url).cache.hit and far.get(url).cache.hit
        assert each.hits(path) == 1


def both(far, authority: Authority) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Trust in the first server's CA, added to the origins' one."""
    bundle = far.data_dir.parent / "both.pem"
    bundle.write_bytes(far.ca_file.read_bytes() + authority.ca_file.read_bytes())
    return {"SSL_CERT_FILE": str(bundle)}
