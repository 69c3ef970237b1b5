"""Proxies between Buffy and the origins: which one, and what is said to it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from buffy_proxy.config import Timeouts
from buffy_proxy.errors import ConfigError, OriginError
from buffy_proxy.upstream import UpstreamProxies, UpstreamProxy, from_environment, parse_proxy_url
from tests.support import answers
from tests.support.authority import Authority
from tests.support.listeners import Listener, Relay
from tests.support.origin import Origin
from tests.support.shell import QUICK, origins_client, run

BASIC = ((b"Proxy-Authorization", b"Basic bWU6czpyJGV0"),)  # me:s:r$et


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy:3128", UpstreamProxy("http", "proxy", 3128)),
        ("proxy:3128", UpstreamProxy("http", "proxy", 3128)),
        ("http://proxy", UpstreamProxy("http", "proxy", 80)),
        ("https://proxy/", UpstreamProxy("https", "proxy", 443)),
        ("http://[::1]:8080", UpstreamProxy("http", "::1", 8080)),
        ("http://me:s%3Ar%24et@proxy:1", UpstreamProxy("http", "proxy", 1, BASIC)),
    ],
)
def test_proxy_urls(url: str, expected: UpstreamProxy) -> None:
    assert parse_proxy_url(url, "HTTPS_PROXY") == expected


@pytest.mark.parametrize("url", ["socks5://me:secret@proxy:1", "http://", "http://proxy:x", "http://p:99999"])
def test_unusable_proxy_urls_are_named_without_their_secret(url: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        parse_proxy_url(url, "HTTPS_PROXY")
    assert "secret" not in str(caught.value)


A, B, C = (UpstreamProxy("http", name, 1) for name in "abc")


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "a:1"}, A, None),
        ({"HTTPS_PROXY": "a:1"}, None, A),
        ({"https_proxy": "a:1", "HTTPS_PROXY": "b:1"}, None, A),
        ({"ALL_PROXY": "c:1", "HTTPS_PROXY": "a:1"}, C, A),
        ({"HTTP_PROXY": "a:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"HTTP_PROXY": " "}, None, None),
    ],
)
def test_variables(environ: dict[str, str], http: UpstreamProxy | None, https: UpstreamProxy | None) -> None:
    found = from_environment(environ)
    assert (found.http, found.https) == (http, https)
    assert from_environment(environ, "http://b:1").https == B


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("", "x.org", False),
        ("*", "x.org", True),
        ("x.org", "x.org", True),
        ("x.org", "a.X.org", True),
        (".x.org, *.y.org", "b.y.org", True),
        ("x.org", "ax.org", False),
        ("x.org:443", "x.org", True),
        ("x.org:80", "x.org", False),
        ("a, ,x.org", "x.org", True),
    ],
)
def test_no_proxy(no_proxy: str, host: str, direct: bool) -> None:
    proxies = from_environment({"HTTPS_PROXY": "a:1", "NO_PROXY": no_proxy})
    assert proxies.for_origin("https", host, 443) == (None if direct else A)


def proxies(url: str) -> UpstreamProxies:
    proxy = parse_proxy_url(url, "upstream_proxy")
    return UpstreamProxies(proxy, proxy)


def test_absolute_form_for_http_and_connect_for_https(
    origin: Origin, tls_origin: Origin, authority: Authority, path: str
) -> None:
    plain = origin.on(path, answers.fixed(b"plain"))
    secure = tls_origin.on(path, answers.fixed(b"secure")).replace("127.0.0.1", "known.origin.test")
    with Relay({"known.origin.test": ("127.0.0.1", tls_origin.port)}) as relay:

        async def test() -> None:
            through = proxies(relay.url.replace("//", "//me:s%3Ar%24et@"))
            async with origins_client(authority.ca_file, QUICK, through) as origins:
                for url, body in ((plain, b"plain"), (secure, b"secure"), (secure, b"secure")):
                    host = url.split("/")[2].encode()
                    response = await origins.fetch("GET", url, ((b"Host", host),))
                    assert b"".join([chunk async for chunk in response.chunks()]) == body

        run(test())
        first, second = relay.heads
    assert first.startswith(b"GET " + plain.encode() + b" HTTP/1.1\r\n")
    assert second.startswith(b"CONNECT known.origin.test:%d HTTP/1.1\r\n" % tls_origin.port)
    assert all(b"Proxy-Authorization: Basic bWU6czpyJGV0\r\n" in head for head in relay.heads)
    assert tls_origin.seen(path)[0].get("proxy-authorization") is None
    assert tls_origin.hits(path) == 2


def says(data: bytes):  # type: ignore[no-untyped-def]
    def serve(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(data)
        if not data:
            client.close()
        else:
            client.recv(65536)

    return serve


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "connection_refused"),
        (b"", "connection_terminated"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "http_protocol_error"),
        (b"HTTP/1.1 200", "connection_timeout"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "destination_unavailable"),
    ],
    ids=["refuses", "hangs up", "is no proxy", "stalls", "hangs up in TLS"],
)
def test_a_proxy_that_fails_is_an_error_of_the_origin_and_leaves_no_connection(
    data: bytes, word: str
) -> None:
    with Listener(says(data)) as listener:

        async def test() -> None:
            through = proxies(f"http://127.0.0.1:{listener.port}")
            async with origins_client(None, Timeouts(0.3, 1, 1), through) as origins:
                watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
                before = len(watched)
                with pytest.raises(OriginError) as caught:
                    await origins.fetch("GET", "https://x.invalid/", ((b"Host", b"x.invalid"),))
                assert caught.value.word == word
                await asyncio.sleep(0.05)
                assert len(watched) == before

        run(test())


def test_an_origin_reached_directly_when_no_proxy_says_so(origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"near"))
    dead = UpstreamProxy("http", "127.0.0.1", 1)

    async def test() -> None:
        async with origins_client(None, QUICK, UpstreamProxies(dead, dead, ("127.0.0.1",))) as origins:
            assert (await origins.fetch("GET", url, ((b"Host", b"x"),))).head.status == 200
        async with origins_client(None, QUICK, UpstreamProxies(dead, dead)) as origins:
            with pytest.raises(OriginError, match="through the proxy"):
                await origins.fetch("GET", url, ((b"Host", b"x"),))

    run(test())
