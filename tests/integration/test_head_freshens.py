"""What an answer to HEAD says about the stored answer to GET: RFC 9111 §4.3.5."""

from __future__ import annotations

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin

AGED = {"Cache-Control": "max-age=10", "Age": "20"}
RENEWED = {"Cache-Control": "max-age=600"}
AT_ONCE = [("Cache-Control", "no-cache")]


def test_the_same_representation_is_fresh_again(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", AGED)
    url = origin.on(path, resource)
    server.get(url)
    resource.fields = {**RENEWED, "X-New": "1"}
    assert server.request("HEAD", url).get("x-new") == "1"
    reply = server.get(url)
    assert (reply.cache.hit, reply.body, reply.get("x-new")) == (True, b"one", "1")
    assert [request.method for request in origin.seen(path)] == ["GET", "HEAD"]


def test_another_representation_makes_it_stale(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", RENEWED)
    url = origin.on(path, resource)
    server.get(url)
    resource.body = b"another"
    assert server.request("HEAD", url, AT_ONCE).get("etag") == resource.etag
    reply = server.get(url)
    assert (reply.cache.hit, reply.body) == (False, b"another")


def test_a_length_that_differs_is_another_one(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", RENEWED, validators="")
    url = origin.on(path, resource)
    server.get(url)
    resource.body = b"another"
    server.request("HEAD", url, AT_ONCE)
    assert server.get(url).body == b"another"


def test_an_error_says_nothing_about_it(server: Buffy, origin: Origin, path: str) -> None:
    resource = answers.Changing(b"one", RENEWED)
    url = origin.on(path, resource)
    server.get(url)
    resource.status = 404
    server.request("HEAD", url, AT_ONCE)
    reply = server.get(url)
    assert (reply.cache.hit, reply.body) == (True, b"one")
