"""What the `http` strategy does beyond plain freshness: RFC 5861, RFC 9213, HEAD, parts, POST and more."""

from __future__ import annotations

import threading
import time

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received

CONFIG = """
[[rule]]
match = "{http}/test_a_rule_replays**"
replay_set_cookie = true
"""

WHOLE = bytes(range(200))


def until(check, seconds: float = 10) -> bool:  # type: ignore[no-untyped-def]
    """Waits for something that happens in the background."""
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(check())


# -- RFC 5861 -----------------------------------------------------------------------------------------------


def test_stale_while_revalidate(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=1, stale-while-revalidate=60"})
    url = origin.on(path, resource)
    server.get(url)
    time.sleep(1.6)
    reply = server.get(url)
    assert reply.body == b"one" and reply.cache.hit and "stale-while-revalidate" in reply.cache.detail
    assert until(lambda: origin.hits(path) == 2)
    assert origin.seen(path)[-1].get("if-none-match") == resource.etag  # a real validation


def test_stale_while_revalidate_brings_what_is_new(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=1, stale-while-revalidate=60"})
    url = origin.on(path, resource)
    server.get(url)
    time.sleep(1.6)
    resource.body, resource.fields = b"two", {"Cache-Control": "max-age=3600"}
    assert server.get(url).body == b"one"
    assert until(lambda: server.get(url).body == b"two")
    assert origin.hits(path) == 2


def test_one_validation_for_many_stale_answers(server: Buffy, origin: Origin, path: str) -> None:
    release = threading.Event()
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=1, stale-while-revalidate=60"})
    url = origin.on(path, resource)
    server.get(url)
    time.sleep(1.6)

    async def slow(request: Received, peer: Peer) -> None:
        await peer.wait(release)
        await resource(request, peer)

    origin.on(path, slow)
    before = origin.hits(path)
    try:
        assert all(server.get(url).cache.hit for _ in range(5))
        assert origin.hits(path) == before + 1
    finally:
        release.set()


@pytest.mark.parametrize("way", ["reset", "503"])
def test_strict_mode_and_stale_if_error(buffy: Factory, origin: Origin, path: str, way: str) -> None:
    server = buffy("[http]\nstrict = true\n")
    fails = ["reset"] if way == "reset" else answers.fixed(b"busy", status=503)
    allowed = origin.on(path, answers.fixed(b"x", {"Cache-Control": "max-age=1, stale-if-error=60"}))
    silent = origin.on(path + "/silent", answers.fixed(b"x", {"Cache-Control": "max-age=1"}))
    for url in (allowed, silent):
        server.get(url)
    time.sleep(1.6)
    for name in (path, path + "/silent"):
        origin.on(name, fails)
    reply = server.get(allowed)
    assert (reply.status, reply.body) == (200, b"x")
    assert "buffy; error=" in (reply.get("proxy-status") or "")  # RFC 9209
    assert server.get(silent).status == (502 if way == "reset" else 503)
    asked = server.get(silent, [("Cache-Control", "stale-if-error=60")])
    assert (asked.status, asked.body) == (200, b"x")


# -- RFC 9213 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targeted", "ordinary", "hit"),
    [("max-age=3600", "no-store", True), ("no-store", "max-age=3600", False), ("&&&", "max-age=3600", True)],
)
def test_targeted_fields(
    server: Buffy, origin: Origin, path: str, targeted: str, ordinary: str, hit: bool
) -> None:
    url = origin.on(path, answers.fixed(b"x", {"CDN-Cache-Control": targeted, "Cache-Control": ordinary}))
    server.get(url)
    reply = server.get(url)
    assert reply.cache.hit is hit
    assert reply.get("cache-control") == ordinary  # it is there for others (§2.2)


def test_another_target_list(buffy: Factory, origin: Origin, path: str) -> None:
    fields = {"CDN-Cache-Control": "max-age=3600", "Buffy-Cache-Control": "no-store"}
    url = origin.on(path, answers.fixed(b"x", {**fields, "Cache-Control": "max-age=0"}))
    server = buffy('[http]\ntargets = ["Buffy-Cache-Control", "CDN-Cache-Control"]\n')
    assert not any(server.get(url).cache.hit for _ in range(2))
    none = buffy("[http]\ntargets = []\n")
    assert not any(none.get(url).cache.hit for _ in range(2))


# -- directives that name fields ----------------------------------------------------------------------------


@pytest.mark.parametrize("directive", ["no-cache", "private"])
def test_named_fields_stay_with_who_asked(server: Buffy, origin: Origin, path: str, directive: str) -> None:
    fields = {"Cache-Control": f'max-age=3600, {directive}="X-Mine"', "X-Mine": "secret", "X-All": "1"}
    url = origin.on(path, answers.fixed(b"x", fields))
    assert server.get(url).get("x-mine") == "secret"
    reply = server.get(url)
    assert reply.cache.hit and reply.get("x-mine") is None and reply.get("x-all") == "1"


# -- HEAD ---------------------------------------------------------------------------------------------------


def test_head_freshens_a_stored_get(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=1", "X-Old": "kept"})
    url = origin.on(path, resource)
    server.get(url)
    time.sleep(1.6)
    resource.fields = {"Cache-Control": "max-age=3600", "X-New": "1"}
    head = server.request("HEAD", url)
    assert (head.status, head.body) == (200, b"") and head.get("x-new") == "1" and head.get("x-old") == "kept"
    reply = server.get(url)
    assert reply.cache.hit and reply.body == b"one" and reply.get("x-new") == "1"
    assert [request.method for request in origin.seen(path)] == ["GET", "HEAD"]


def test_head_that_differs_makes_it_stale(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", {"Cache-Control": "max-age=1"})
    url = origin.on(path, resource)
    server.get(url)
    time.sleep(1.6)
    resource.body = b"another"
    resource.fields = {"Cache-Control": "max-age=3600"}
    assert server.request("HEAD", url).get("content-length") == "7"
    assert server.get(url).body == b"another"


# -- parts --------------------------------------------------------------------------------------------------


def ranged(fields: dict[str, str] | None = None) -> answers.Handler:
    """WHOLE, or the one range that is asked for."""

    async def script(request: Received, peer: Peer) -> None:
        wanted = request.get("range")
        common = {"ETag": '"w"', "Cache-Control": "max-age=3600", **(fields or {})}
        if wanted is None:
            await answers.fixed(WHOLE, common)(request, peer)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        body = WHOLE[int(first) : int(last) + 1]
        place = {"Content-Range": f"bytes {first}-{last}/{len(WHOLE)}"}
        await answers.fixed(body, {**common, **place}, 206)(request, peer)

    return script


def part(server: Buffy, url: str, first: int, last: int):  # type: ignore[no-untyped-def]
    reply = server.get(url, [("Range", f"bytes={first}-{last}")])
    assert (reply.status, reply.body) == (206, WHOLE[first : last + 1])
    assert reply.get("content-range") == f"bytes {first}-{last}/{len(WHOLE)}"
    return reply


def test_a_part_answers_what_lies_within(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranged())
    part(server, url, 50, 99)
    assert part(server, url, 50, 99).cache.hit
    assert part(server, url, 60, 70).cache.hit
    assert not part(server, url, 60, 100).cache.hit
    assert not server.get(url).cache.hit  # a part is never the whole


def test_parts_that_touch_become_the_whole(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranged())
    part(server, url, 0, 99)
    part(server, url, 80, 149)
    assert part(server, url, 20, 140).cache.hit
    assert part(server, url, 80, 149).cache.hit  # what brought the part asks again
    server.check_store()
    part(server, url, 150, 199)
    reply = server.get(url)
    assert (reply.status, reply.body) == (200, WHOLE)
    assert reply.cache.hit and reply.get("content-range") is None and reply.get("content-length") == "200"
    assert origin.hits(path) == 3
    server.check_store()


@pytest.mark.parametrize(
    "fields", [{"ETag": 'W/"w"'}, {"Cache-Control": "no-store"}, {"Cache-Control": "max-age=0"}]
)
def test_parts_that_are_not_combined(
    server: Buffy, origin: Origin, path: str, fields: dict[str, str]
) -> None:
    url = origin.on(path, ranged(fields))
    part(server, url, 0, 99)
    part(server, url, 100, 199)
    assert not server.get(url).cache.hit


def test_an_unsafe_request_makes_a_part_invalid(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranged())
    part(server, url, 0, 99)
    origin.on(path, answers.fixed(b"done"))
    server.request("PUT", url, body=b"new")
    origin.on(path, ranged())
    assert not part(server, url, 0, 99).cache.hit


# -- POST, OPTIONS, TRACE -----------------------------------------------------------------------------------


def test_an_answer_to_post_that_get_would_give(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.url(path)
    origin.on(path, answers.fixed(b"posted", {**answers.FRESH, "Content-Location": url}))
    assert server.request("POST", url, body=b"change").body == b"posted"
    assert until(lambda: server.get(url).cache.hit)
    assert server.get(url).body == b"posted"


@pytest.mark.parametrize("fields", [{}, {"Content-Location": "/elsewhere"}])
def test_other_answers_to_post_are_not_kept(
    server: Buffy, origin: Origin, path: str, fields: dict[str, str]
) -> None:
    url = origin.on(path, answers.fixed(b"posted", {**answers.FRESH, **fields}))
    server.request("POST", url, body=b"change")
    assert not server.get(url).cache.hit


def test_max_forwards(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"from the origin"))
    echo = server.request("TRACE", url, [("Max-Forwards", "0"), ("X-Seen", "1"), ("Cookie", "s=1")])
    assert echo.status == 200 and echo.get("content-type") == "message/http"
    assert b"X-Seen: 1" in echo.body and b"s=1" not in echo.body
    assert server.request("OPTIONS", url, [("Max-Forwards", "0")]).get("allow")
    assert origin.hits(path) == 0
    server.request("OPTIONS", url, [("Max-Forwards", "4")])
    assert origin.seen(path)[-1].get("max-forwards") == "3"


# -- Set-Cookie, invalidation -------------------------------------------------------------------------------


def test_set_cookie_is_for_who_asked(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"x", {**answers.FRESH, "Set-Cookie": "s=1"}))
    assert server.get(url).get("set-cookie") == "s=1"
    assert server.get(url).cache.hit and server.get(url).get("set-cookie") is None


def test_a_rule_replays_set_cookie(server: Buffy, origin: Origin) -> None:
    url = origin.on("/test_a_rule_replays/x", answers.fixed(b"x", {**answers.FRESH, "Set-Cookie": "s=1"}))
    server.get(url)
    assert server.get(url).cache.hit and server.get(url).get("set-cookie") == "s=1"


def test_a_response_on_its_way_is_outdated_by_an_unsafe_request(
    server: Buffy, origin: Origin, path: str
) -> None:
    release = threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        if request.method == "PUT":
            await answers.fixed(b"done")(request, peer)
            return
        await peer.send(answers.head(200, {"Content-Length": "3", **answers.FRESH}) + b"o")
        await peer.wait(release)
        await peer.send(b"ld")

    url = origin.on(path, script)
    replies = []
    client = threading.Thread(target=lambda: replies.append(server.get(url)))
    client.start()
    origin.wait(path)
    server.request("PUT", url, body=b"new")
    release.set()
    client.join(20)
    assert [reply.body for reply in replies] == [b"old"]
    assert not server.get(url).cache.hit


# -- interim responses --------------------------------------------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hint: 1\r\n\r\n"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_interim_responses_pass_at_once_and_are_not_stored(
    server: Buffy, origin: Origin, tls_origin: Origin, path: str, scheme: str
) -> None:
    release = threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS)
        await peer.wait(release)
        await answers.fixed(b"final", answers.FRESH)(request, peer)

    url = (origin if scheme == "http" else tls_origin).on(path, script)
    with server.open(url) as connection:
        server.send(connection, "GET", url)
        early = connection.head()
        assert (early.status, early.get("x-hint")) == (103, "1")  # the final response is not there yet
        release.set()
        final = connection.read()
        assert (final.status, final.body, final.get("x-hint")) == (200, b"final", None)
    again = server.get(url)
    assert again.cache.hit and (again.status, again.get("x-hint")) == (200, None)


def test_interim_responses_reach_http2_clients(server: Buffy, tls_origin: Origin, path: str) -> None:
    url = tls_origin.on(path, [HINTS, 0.2, *answers.sized([b"final"])])
    done = server.curl(url, "--http2", "-D", "-")
    assert done.returncode == 0, done.stderr
    assert b"HTTP/2 103" in done.stdout and b"HTTP/2 200" in done.stdout and done.stdout.endswith(b"final")


def test_a_client_that_leaves_after_an_interim_response(server: Buffy, origin: Origin, path: str) -> None:
    release = threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        await peer.send(HINTS)
        await peer.wait(release)

    url = origin.on(path, script)
    with server.open(url) as connection:
        server.send(connection, "GET", url)
        assert connection.head().status == 103
    release.set()
    origin.on(path, answers.fixed(b"there"))
    assert server.get(url).body == b"there"
