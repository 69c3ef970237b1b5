"""Ranges of what is not stored: parts are kept, combined, and complete the whole (RFC 9111 §3.3, §3.4)."""

from __future__ import annotations

import re

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.wire import Reply

BODY = bytes(range(256)) * 8
ETAG = '"whole"'


async def ranges(request: Received, peer: Peer) -> None:
    """One range of BODY, or all of it."""
    common = {"ETag": ETAG, "Accept-Ranges": "bytes", **answers.FRESH}
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.get("range") or "")
    if match is None:
        await peer.send(answers.head(200, {"Content-Length": str(len(BODY)), **common}) + BODY)
        return
    begin, end = int(match[1]), int(match[2])
    sent = BODY[begin : end + 1]
    told = {"Content-Range": f"bytes {begin}-{end}/{len(BODY)}", "Content-Length": str(len(sent))}
    await peer.send(answers.head(206, {**told, **common}) + sent)


def asked(server: Buffy, url: str, begin: int, end: int) -> Reply:
    """The reply, which must be just these bytes."""
    reply = server.get(url, [("Range", f"bytes={begin}-{end}")])
    assert (reply.status, reply.get("content-range")) == (206, f"bytes {begin}-{end}/{len(BODY)}")
    assert reply.body == BODY[begin : end + 1]
    return reply


def test_a_part_answers_ranges_within_it(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    assert asked(server, url, 100, 199).cache.fwd == "partial"
    assert asked(server, url, 100, 199).cache.hit
    assert asked(server, url, 150, 160).cache.hit
    assert not asked(server, url, 190, 210).cache.hit
    assert origin.hits(path) == 2


def test_parts_that_touch_are_one_part(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 0, 99)
    asked(server, url, 100, 199)
    assert asked(server, url, 50, 149).cache.hit
    assert asked(server, url, 100, 199).cache.hit  # just these, though more is held
    assert origin.hits(path) == 2


def test_all_parts_together_are_the_whole(server: Buffy, origin: Origin, path: str) -> None:
    url, half = origin.on(path, ranges), len(BODY) // 2
    asked(server, url, half, len(BODY) - 1)
    asked(server, url, 0, half)
    reply = server.get(url)
    assert (reply.status, reply.body, reply.cache.hit) == (200, BODY, True)
    assert reply.get("content-range") is None and reply.get("content-length") == str(len(BODY))
    assert server.request("HEAD", url).cache.hit
    assert origin.hits(path) == 2


def test_a_part_never_answers_for_the_whole(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 0, 99)
    reply = server.get(url)
    assert (reply.status, reply.body, reply.cache.hit) == (200, BODY, False)


def test_parts_of_different_representations_are_not_mixed(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 0, 99)
    lines = {"ETag": '"other"', "Content-Range": f"bytes 100-199/{len(BODY)}", "Content-Length": "100"}
    origin.on(path, answers.fixed(b"x" * 100, {**lines, **answers.FRESH}, 206))
    assert server.get(url, [("Range", "bytes=100-199")]).body == b"x" * 100
    origin.on(path, ranges)
    assert not asked(server, url, 50, 149).cache.hit


def test_an_unsafe_request_invalidates_a_part_rfc9111_4_4(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 100, 199)
    assert server.request("DELETE", url).status == 200
    assert not asked(server, url, 100, 199).cache.hit


def test_a_new_whole_ends_an_old_part(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 100, 199)
    origin.on(path, answers.fixed(b"n" * len(BODY), {"Cache-Control": "max-age=10", "Age": "20"}))
    server.get(url)
    origin.on(path, ranges)
    reply = server.get(url, [("Range", "bytes=100-199")])
    assert not reply.cache.hit and reply.body in (BODY, BODY[100:200])


def test_if_range_that_does_not_hold_is_the_origins_business(
    server: Buffy, origin: Origin, path: str
) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 100, 199)
    assert not server.get(url, [("Range", "bytes=100-199"), ("If-Range", '"other"')]).cache.hit


def test_the_clients_condition_is_answered_from_a_part(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, ranges)
    asked(server, url, 100, 199)
    reply = server.get(url, [("Range", "bytes=100-199"), ("If-None-Match", ETAG)])
    assert (reply.status, reply.body) == (304, b"")
    assert origin.hits(path) == 1
