"""What CDNs and web servers do to messages: codings, ages, clocks, validators, cookies."""

from __future__ import annotations

import gzip
import time
from email.utils import formatdate

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received

HOUR = 3600
CODINGS = {"br": b"not really brotli", "gzip": gzip.compress(b"text", mtime=0), "identity": b"text"}


async def negotiating(request: Received, peer: Peer) -> None:
    """As web servers do it: the best coding that is accepted, an ETag for each."""
    accepted = request.get("accept-encoding") or ""
    coding = next((name for name in ("br", "gzip") if name in accepted), "identity")
    fields = {"Vary": "Accept-Encoding", "ETag": f'"x-{coding}"', **answers.FRESH}
    if coding != "identity":
        fields["Content-Encoding"] = coding
    if f'"x-{coding}"' in (request.get("if-none-match") or ""):
        await peer.send(answers.head(304, fields))
    else:
        await answers.fixed(CODINGS[coding], fields)(request, peer)


def test_codings_are_variants(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9110 §12.5.5: nobody gets a coding that it did not ask for, and each is kept."""
    url = origin.on(path, negotiating)
    for hit in (False, True):
        for accepted, coding in (("gzip", "gzip"), ("gzip, deflate, br", "br"), ("identity", "identity")):
            reply = server.get(url, [("Accept-Encoding", accepted)])
            assert (reply.body, reply.cache.hit) == (CODINGS[coding], hit)
            assert reply.get("content-encoding") == (None if coding == "identity" else coding)
            assert reply.get("etag") == f'"x-{coding}"'


def test_a_variants_etag_confirms_only_that_variant(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9110 §8.8.3.3: strong ETags differ by coding, so the br one does not hold for gzip."""
    url = origin.on(path, negotiating)
    for accepted in ("br", "gzip"):
        server.get(url, [("Accept-Encoding", accepted)])
    same = server.get(url, [("Accept-Encoding", "br"), ("If-None-Match", '"x-br"')])
    other = server.get(url, [("Accept-Encoding", "gzip"), ("If-None-Match", '"x-br"')])
    assert (same.status, other.status, other.body) == (304, 200, CODINGS["gzip"])


def test_a_part_of_a_coded_body_is_a_part_of_the_coded_bytes(
    server: Buffy, origin: Origin, path: str
) -> None:
    """RFC 9110 §14.1.2: ranges are over the representation, coding included."""
    url = origin.on(path, negotiating)
    fields = [("Accept-Encoding", "gzip")]
    server.get(url, fields)
    part = server.get(url, [*fields, ("Range", "bytes=2-5")])
    assert (part.status, part.body) == (206, CODINGS["gzip"][2:6])
    assert part.get("content-range") == f"bytes 2-5/{len(CODINGS['gzip'])}"


@pytest.mark.parametrize(("age", "hit"), [(0, True), (300, True), (599, True), (601, False), (10**9, False)])
def test_age_of_a_cdn_counts(server: Buffy, origin: Origin, path: str, age: int, hit: bool) -> None:
    """RFC 9111 §4.2.3: what a CDN kept for a while is that much older here."""
    fields = {"Cache-Control": "max-age=630" if age == 599 else "max-age=600", "Age": str(age), "ETag": '"a"'}
    url = origin.on(path, answers.fixed(b"x", fields))
    first, again = server.get(url), server.get(url)
    assert first.all("age") == [str(age)]
    assert again.cache.hit is hit
    if hit:
        assert age <= int(again.get("age") or "-1") < age + 30
        assert int(again.cache.params["ttl"]) <= 630 - age


OFF = [
    ("Date an hour ago, max-age", -HOUR, {"Cache-Control": "max-age=600"}, False, "RFC 9111 §4.2.3"),
    ("Date an hour ago, long max-age", -HOUR, {"Cache-Control": "max-age=7200"}, True, "RFC 9111 §4.2.3"),
    ("Date an hour ahead, max-age", HOUR, {"Cache-Control": "max-age=600"}, True, "RFC 9111 §4.2.3"),
    ("Date an hour ahead, Expires in step", HOUR, {"Expires": HOUR + 600}, True, "RFC 9111 §4.2.1"),
    ("Date an hour ahead, Expires before it", HOUR, {"Expires": HOUR - 60}, False, "RFC 9111 §4.2.1"),
    ("Date an hour ago, Expires in step", -HOUR, {"Expires": -HOUR + 600}, False, "RFC 9111 §4.2.3"),
]


@pytest.mark.parametrize(("name", "offset", "fields", "hit", "section"), OFF)
def test_a_clock_an_hour_off(
    server: Buffy,
    origin: Origin,
    path: str,
    name: str,
    offset: int,
    fields: dict[str, object],
    hit: bool,
    section: str,
) -> None:
    now = time.time()
    lines = {
        key: formatdate(now + value, usegmt=True) if isinstance(value, int) else str(value)
        for key, value in fields.items()
    }
    date = formatdate(now + offset, usegmt=True)
    url = origin.on(path, answers.fixed(b"x", {"Date": date, **lines}))
    first, again = server.get(url), server.get(url)
    assert first.body == again.body == b"x"
    assert again.cache.hit is hit, (name, section)
    assert again.all("date") == [date], "the origin's Date is the origin's"
    if hit:
        assert int(again.get("age") or "-1") >= max(0, -offset)
        assert 0 < int(again.cache.params["ttl"]) <= 7200


def test_last_modified_in_the_future(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9110 §8.8.2.1: no negative age, no heuristic freshness from it."""
    fields = {"Last-Modified": formatdate(time.time() + HOUR, usegmt=True)}
    url = origin.on(path, answers.fixed(b"x", fields))
    replies = [server.get(url) for _ in range(2)]
    assert [reply.body for reply in replies] == [b"x", b"x"] and not replies[1].cache.hit


WRONG = [
    ("a length of nothing", {"Content-Length": "0"}),
    ("the length of the whole", {"Content-Length": "10"}),
    ("another type", {"Content-Type": "text/html"}),
    ("a coding", {"Content-Encoding": "gzip"}),
    ("a range", {"Content-Range": "bytes 0-0/1"}),
    ("chunked", {"Transfer-Encoding": "chunked"}),
    ("a weak form of the ETag", {"ETag": 'W/"v1"'}),
    ("no ETag", {"ETag": ""}),
    ("hop-by-hop fields", {"Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "timeout=5"}),
    ("a cookie", {"Set-Cookie": "session=1; Max-Age=60"}),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_304_with_wrong_fields(
    server: Buffy, origin: Origin, path: str, name: str, wrong: dict[str, str]
) -> None:
    """RFC 9111 §3.2, RFC 9110 §15.4.5: the stored body keeps its own length, coding and range."""

    async def script(request: Received, peer: Peer) -> None:
        fields = {"ETag": '"v1"', "Content-Type": "text/plain", "Cache-Control": "max-age=0"}
        if request.get("if-none-match") is None:
            await answers.fixed(b"0123456789", fields)(request, peer)
            return
        pairs = {**fields, "Cache-Control": "max-age=600", **wrong}
        await peer.send(answers.head(304, {key: value for key, value in pairs.items() if value}))

    url = origin.on(path, script)
    replies = [server.get(url) for _ in range(4)]
    for reply in replies:
        assert (reply.status, reply.body, reply.all("content-length")) == (200, b"0123456789", ["10"])
        for field in ("content-encoding", "content-range", "x-hop", "keep-alive", "transfer-encoding"):
            assert reply.get(field) is None, field
    assert replies[3].get("set-cookie") is None
    assert replies[3].cache.hit
    assert server.get(url, [("Range", "bytes=3-4")]).body == b"34"


def test_weak_etags(server: Buffy, origin: Origin, path: str) -> None:
    """They confirm the whole (RFC 9110 §8.8.3.2), and never glue parts together (§13.1.5)."""
    url = origin.on(path, answers.fixed(b"0123456789", {"ETag": 'W/"w"', **answers.FRESH}))
    server.get(url)
    for tag in ('W/"w"', '"w"', '"a", W/"w"', "*"):
        assert server.get(url, [("If-None-Match", tag)]).status == 304
    assert server.get(url, [("Range", "bytes=1-2"), ("If-Range", 'W/"w"')]).status == 200
    assert server.get(url, [("Range", "bytes=1-2"), ("If-Range", '"w"')]).status == 200
    assert origin.hits(path) == 1


def test_a_weak_etag_validates(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request: Received, peer: Peer) -> None:
        fields = {"ETag": 'W/"w"', **answers.STALE}
        if request.get("if-none-match") == 'W/"w"':
            await peer.send(answers.head(304, fields))
        else:
            await answers.fixed(b"body", fields)(request, peer)

    url = origin.on(path, script)
    first, second = server.get(url), server.get(url)
    assert first.body == second.body == b"body" and second.cache.params["fwd-status"] == "304"


def test_chunked_with_trailers(server: Buffy, origin: Origin, path: str) -> None:
    """The trailers go (RFC 9110 §6.5.1), and so does what announced them; a hit has a length."""
    fields = {"Trailer": "X-Checksum, Server-Timing", **answers.FRESH}
    trailers = [
        ("X-Checksum", "6"),
        ("Server-Timing", "a;dur=1"),
        ("Content-Length", "1"),
        ("ETag", '"late"'),
    ]
    url = origin.on(path, answers.chunked([b"one", b"two"], fields, trailers))
    for hit in (False, True):
        reply = server.get(url)
        assert (reply.body, reply.cache.hit, reply.trailers) == (b"onetwo", hit, [])
        assert reply.get("trailer") is None and reply.get("etag") is None
    assert server.get(url).get("content-length") == "6"


@pytest.mark.parametrize("control", ["max-age=600", "public, max-age=600", "public, s-maxage=600"])
def test_a_cookie_set_beside_max_age(server: Buffy, origin: Origin, path: str, control: str) -> None:
    """RFC 9111 §7.3: the answer may be stored; the cookie is for the one who asked."""
    fields = {"Set-Cookie": "session=first; Max-Age=3600", "Cache-Control": control}
    url = origin.on(path, answers.fixed(b"page", fields))
    first, second = server.get(url), server.get(url)
    assert first.get("set-cookie") == "session=first; Max-Age=3600"
    assert (second.body, second.get("set-cookie")) == (b"page", None)
    assert "session=first" not in server.log()


def test_no_cache_set_cookie_hides_the_cookie_only(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9111 §5.2.2.4: the qualified form, as frameworks send it."""
    fields = {"Set-Cookie": "a=b", "Cache-Control": 'max-age=600, no-cache="Set-Cookie"'}
    url = origin.on(path, answers.fixed(b"page", fields))
    replies = [server.get(url) for _ in range(2)]
    assert [reply.body for reply in replies] == [b"page"] * 2
    assert replies[1].get("set-cookie") is None or not replies[1].cache.hit
