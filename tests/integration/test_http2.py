"""Clients that speak HTTP/2 inside the tunnel."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Iterator

import httpx
import pytest

from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import CacheStatus


class OnlyHttp2(ssl.SSLContext):
    """httpx offers "http/1.1" first, and a proxy may well take the client's first choice."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


@pytest.fixture
def client(server: Buffy) -> Iterator[httpx.Client]:
    context = OnlyHttp2(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(server.ca_file))
    with httpx.Client(http2=True, proxy=server.proxy_url(), verify=context, timeout=20) as made:
        yield made


def test_curl_speaks_http2(server: Buffy, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"two", answers.FRESH))
    for hit in (False, True):
        reply = server.curl_reply(url, "--http2")
        assert reply.body == b"two" and reply.cache.hit is hit
    version = server.curl(url, "--http2", "-o", "/dev/null", "-w", "%{http_version}")
    assert version.stdout == b"2"


def test_misses_and_hits_on_one_connection(client: httpx.Client, tls_origin: Origin, path: str) -> None:
    for number in range(5):
        url = tls_origin.on(f"{path}/{number}", answers.fixed(b"%d" % number * 1000, answers.FRESH))
        for hit in (False, True):
            reply = client.get(url)
            assert reply.http_version == "HTTP/2" and reply.content == b"%d" % number * 1000
            assert CacheStatus.parse(reply.headers["cache-status"]).hit is hit


def test_bodies_of_some_size_both_ways(client: httpx.Client, tls_origin: Origin, path: str) -> None:
    data = piece(4, 0, 5 << 20)
    url = tls_origin.on(path, answers.big(5 << 20, 4, answers.FRESH))
    assert client.get(url).content == data
    assert client.get(url).content == data
    up = tls_origin.on(path + "/up", answers.fixed(b"thanks"))
    assert client.put(up, content=data).content == b"thanks"
    assert tls_origin.seen(path + "/up")[0].digest == hashlib.sha256(data).hexdigest()


def test_head_ranges_and_conditions(client: httpx.Client, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.fixed(b"0123456789", {"ETag": '"a"', **answers.FRESH}))
    client.get(url)
    assert client.head(url).headers["content-length"] == "10"
    part = client.get(url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert client.get(url, headers={"If-None-Match": '"a"'}).status_code == 304
    assert tls_origin.hits(path) == 1


def test_the_origin_sees_a_proper_http1_request(client: httpx.Client, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, answers.echo)
    client.get(url, headers={"X-Mine": "1", "Cookie": "a=1; b=2"})
    seen = tls_origin.seen(path)[0]
    assert seen.get("host") == tls_origin.authority and seen.get("x-mine") == "1"
    assert seen.all("cookie") == ["a=1; b=2"]
    assert not [name for name, _ in seen.fields if name.startswith(":")]


def test_an_origin_that_fails(client: httpx.Client, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, ["reset"])
    assert client.get(url).status_code == 502
    tls_origin.on(path, answers.truncated(b"half", 1000))
    with pytest.raises(httpx.HTTPError):
        client.get(url)
    tls_origin.on(path, answers.fixed(b"well"))
    assert client.get(url).content == b"well"
