"""What reaches the origin, and what comes back: the duties of an intermediary (RFC 9110 §7.6)."""

from __future__ import annotations

import json

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until
from tests.support.wire import Reply, connect

NOT_FORWARDED = [
    ("Connection", "X-Named, close"),
    ("X-Named", "only for this hop"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authorization", "Basic Z3JvdXA9ZzE6"),
    ("TE", "trailers"),
    ("Upgrade", "example/1"),
]


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


def sent(either: Origin, path: str) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in either.seen(path)[-1].fields]


def test_fields_for_this_hop_never_reach_the_origin(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.echo)
    assert server.get(url, NOT_FORWARDED).status == 200
    arrived = {name for name, _ in sent(either, path)}
    assert not arrived & {name.lower() for name, _ in NOT_FORWARDED[1:]}
    assert "x-named" not in str(sent(either, path)).lower()


def test_end_to_end_fields_reach_the_origin_as_they_are(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.echo)
    fields = [
        ("X-Twice", "1"),
        ("x-twice", "2, 3"),
        ("X-Empty", ""),
        ("User-Agent", "test/1 (x; y)"),
        ("X-High", "é"),
    ]
    server.get(url, fields)
    arrived = either.seen(path)[-1].fields
    assert [(n, v) for n, v in arrived if n.lower().startswith(("x-", "user-agent"))] == fields


def test_host_follows_the_target(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.echo)
    server.get(url, [("Host", "elsewhere.example")])
    assert dict(sent(origin, path))["host"] == origin.authority


def test_via_is_added_both_ways(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x", {**answers.FRESH, "Via": "1.0 far"}))
    first, second = server.get(url, [("Via", "1.0 near")]), server.get(url)
    via = ", ".join(value for name, value in sent(either, path) if name == "via")
    assert via.startswith("1.0 near, 1.1 ") and "buffy" in via
    for reply in (first, second):
        assert ", ".join(reply.all("via")).startswith("1.0 far, 1.1 ")
        assert "buffy" in ", ".join(reply.all("via"))


def test_the_answers_hop_by_hop_fields_stay_behind(server: Buffy, either: Origin, path: str) -> None:
    script = answers.fixed(
        b"x", {**answers.FRESH, "Connection": "X-Hop", "X-Hop": "1", "Proxy-Connection": "a"}
    )
    url = either.on(path, script)
    for reply in (server.get(url), server.get(url)):
        assert reply.body == b"x"
        assert not reply.all("x-hop") and not reply.all("proxy-connection")


def test_every_answer_has_a_cache_status_and_age_when_stored(
    server: Buffy, either: Origin, path: str
) -> None:
    url = either.on(path, answers.fixed(b"x", answers.FRESH))
    miss, hit = server.get(url), server.get(url)
    assert (miss.cache.hit, miss.cache.fwd, miss.cache.stored) == (False, "uri-miss", True)
    assert miss.get("age") is None
    assert hit.cache.hit and int(hit.cache.params["ttl"]) > 3500
    assert 0 <= int(hit.get("age") or "-1") < 10
    post = server.request("POST", url, body=b"a")
    assert post.cache.fwd == "method"


def test_one_log_line_a_request_with_its_cache_status(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x", answers.FRESH))
    replies = [server.get(url) for _ in range(2)]
    wait_until(lambda: len(lines_of(server, url)) == 2, 5)
    for line, reply in zip(lines_of(server, url), replies, strict=True):
        assert " 200 " in line and reply.cache.raw.partition("; ttl")[0] in line


def lines_of(server: Buffy, url: str) -> list[str]:
    return [line for line in server.log().splitlines() if url in line]


def end_to_end(reply: Reply) -> list[tuple[str, str]]:
    ours = ("via", "age", "cache-status", "connection", "transfer-encoding")
    return [(name, value) for name, value in reply.fields if name.lower() not in ours]


def test_a_hit_has_the_same_bytes_and_fields_as_the_miss(server: Buffy, either: Origin, path: str) -> None:
    fields = {
        "content-TYPE": "text/x; charset=latin-1",
        "X-A": "1",
        "x-a": "2",
        "X-Empty": "",
        "X-Json": json.dumps({"a": [1, 2]}),
        "Link": "</a>; rel=x, </b>; rel=y",
        **answers.FRESH,
    }
    script, wire = answers.zipped(b"compressed " * 999, fields)
    url = either.on(path, script)
    miss, hit = server.get(url), server.get(url)
    assert hit.cache.hit
    assert miss.body == hit.body == wire
    assert end_to_end(miss) == end_to_end(hit)
    assert ("content-TYPE", "text/x; charset=latin-1") in end_to_end(hit)


def test_chunked_with_trailers_arrives_whole(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.chunked([b"one", b"two"], answers.FRESH, [("X-Sum", "6")]))
    assert server.get(url).body == b"onetwo"
    again = server.get(url)
    assert again.body == b"onetwo" and again.cache.hit


def test_interim_answers_do_not_end_the_exchange(server: Buffy, either: Origin, path: str) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    url = either.on(path, [early, *answers.sized([b"final"])])
    reply = server.get(url)
    assert (reply.status, reply.body) == (200, b"final")


def test_a_body_until_close(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.until_close(b"all of it", answers.FRESH))
    assert server.get(url).body == b"all of it"


def test_redirects_and_error_pages_pass_as_they_are(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.redirect("/elsewhere?a=1", 307))
    reply = server.get(url)
    assert (reply.status, reply.get("location")) == (307, "/elsewhere?a=1")
    missing = server.get(either.url(path + "/missing"))
    assert (missing.status, missing.body) == (404, b"not here\r\n")


def test_head_is_forwarded_as_head(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"12345", {"X-E": "1"}))
    reply = server.request("HEAD", url)
    assert (reply.status, reply.get("content-length"), reply.get("x-e"), reply.body) == (200, "5", "1", b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_other_methods_pass(server: Buffy, either: Origin, path: str, method: str) -> None:
    url = either.on(path, answers.echo)
    reply = server.request(method, url, body=b"payload")
    assert reply.status == 200 and reply.body.endswith(b"payload")
    assert reply.body.startswith(method.encode())


def test_kept_alive_connections_mix_misses_and_hits(server: Buffy, either: Origin, path: str) -> None:
    urls = [either.on(f"{path}/{n}", answers.fixed(b"%d" % n * 100, answers.FRESH)) for n in range(5)]
    with server.open(urls[0]) as connection:
        for url in [*urls, *urls]:
            server.send(connection, "GET", url)
            assert connection.read().body == urls[int(url[-1])][-1:].encode() * 100
    assert all(either.hits(f"{path}/{n}") == 1 for n in range(5))


def test_pipelined_requests_are_answered_in_order(server: Buffy, either: Origin, path: str) -> None:
    urls = [either.on(f"{path}/{n}", answers.fixed(b"%d" % n, answers.FRESH)) for n in range(4)]
    with server.open(urls[0]) as connection:
        for url in urls:
            server.send(connection, "GET", url)
        assert [connection.read().body for _ in urls] == [b"0", b"1", b"2", b"3"]


def test_an_http10_client(server: Buffy, origin: Origin, path: str) -> None:
    """No chunked coding towards it, and the connection ends with the answer (RFC 9112 §7.1, §9.3)."""
    url = origin.on(path, answers.chunked([b"one", b"two"], answers.FRESH))
    for _ in range(2):
        with connect(server.proxy, 10) as connection:
            connection.send(f"GET {url} HTTP/1.0\r\n\r\n".encode())
            reply = connection.head()
            assert reply.status == 200 and reply.get("transfer-encoding") is None
            assert b"".join(connection.body_chunks(reply)) == b"onetwo"
            assert connection.recv() == b""


def test_a_client_that_asks_to_close(server: Buffy, either: Origin, path: str) -> None:
    url = either.on(path, answers.fixed(b"x", answers.FRESH))
    for _ in range(2):
        with server.open(url, timeout=10) as connection:
            server.send(connection, "GET", url, [("Connection", "close")])
            assert connection.read().body == b"x"
            assert connection.recv() == b""


def test_an_origin_at_an_ipv6_address(server: Buffy, path: str) -> None:
    try:
        origin = Origin(host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    try:
        origin.on(path, answers.fixed(b"six", answers.FRESH))
        url = f"http://[::1]:{origin.port}{path}"
        assert [(reply.body, reply.cache.hit) for reply in (server.get(url), server.get(url))] == [
            (b"six", False),
            (b"six", True),
        ]
        assert origin.seen(path)[0].get("host") == f"[::1]:{origin.port}"
    finally:
        origin.shut_down()
