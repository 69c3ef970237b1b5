"""How release pages, object stores and package indexes serve files, from scripted origins."""

from __future__ import annotations

import itertools

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received
from tests.support.wire import Reply

CONFIG = """
[[rule]]
match = "{https}/kept-store/**"
strategy = "never"
ignore_query = ["X-Amz-*"]
shared = true
"""

FILE = bytes(range(256)) * 40
STORE_FIELDS = {
    "ETag": '"5d41402a"',
    "Last-Modified": "Mon, 06 Nov 2023 08:00:00 GMT",
    "Accept-Ranges": "bytes",
}


class ReleasePage:
    """A download URL that answers 302 to a signed URL, another at each request, and an object store that
    knows each signature; `expired` ones get 403."""

    def __init__(self, page: Origin, store: Origin, path: str, shelf: str) -> None:
        self.numbers = itertools.count(1)
        self.expired: set[str] = set()
        self.page, self.store, self.file = page, store, f"{shelf}{path}/x.tar.gz"
        self.url = page.on(f"{path}/releases/download/v1/x.tar.gz", self.redirect)
        store.on(self.file, self.serve)

    async def redirect(self, request: Received, peer: Peer) -> None:
        where = f"{self.store.url(self.file)}?X-Amz-Expires=300&X-Amz-Signature=secret-{next(self.numbers)}"
        await answers.redirect(where, 302, {"Cache-Control": "no-cache"})(request, peer)

    async def serve(self, request: Received, peer: Peer) -> None:
        signature = request.query.rpartition("=")[2]
        if signature in self.expired:
            await answers.fixed(b"<Error>expired</Error>", status=403)(request, peer)
        else:
            await answers.fixed(FILE, STORE_FIELDS)(request, peer)

    def download(self, server: Buffy) -> tuple[Reply, Reply]:
        """As a client does it: the redirect, then its target."""
        redirect = server.get(self.url)
        return redirect, server.get(redirect.get("location") or "")


def test_a_release_download(server: Buffy, origin: Origin, tls_origin: Origin, path: str) -> None:
    page = ReleasePage(origin, tls_origin, path, "/store")
    first, file = page.download(server)
    assert (first.status, file.status, file.body) == (302, 200, FILE)
    second, again = page.download(server)
    assert not second.cache.hit and first.get("location") != second.get("location")
    assert again.body == FILE and not again.cache.hit, "another signature is another resource"
    assert server.get(first.get("location") or "").cache.hit, "the same signature is the same resource"
    for secret in ("secret-1", "secret-2"):
        assert secret not in server.log() and secret not in server.cli("ls", "--json").stdout.decode()


def test_a_rule_makes_one_resource_of_all_signatures(
    server: Buffy, origin: Origin, tls_origin: Origin, path: str
) -> None:
    page = ReleasePage(origin, tls_origin, path, "/kept-store")
    files = [page.download(server)[1] for _ in range(3)]
    assert [(file.body, file.cache.hit) for file in files] == [(FILE, False), (FILE, True), (FILE, True)]
    assert tls_origin.hits(page.file) == 1


def test_an_expired_signature_is_an_error_and_never_the_file(
    server: Buffy, origin: Origin, tls_origin: Origin, path: str
) -> None:
    page = ReleasePage(origin, tls_origin, path, "/store")
    page.expired.add("secret-1")
    _, refused = page.download(server)
    assert (refused.status, refused.cache.stored) == (403, False)
    _, file = page.download(server)
    assert (file.status, file.body) == (200, FILE)


def test_a_permanent_redirect_is_kept_and_a_temporary_one_is_not(
    server: Buffy, origin: Origin, path: str
) -> None:
    """RFC 9110 §15.4.2, §15.4.3: 301 is heuristically cacheable, 302 is not."""
    dated = {"Last-Modified": "Mon, 06 Nov 2023 08:00:00 GMT"}
    for status, hit in ((301, True), (308, True), (302, False), (307, False)):
        url = origin.on(f"{path}/{status}", answers.redirect("/elsewhere", status, dated))
        replies = [server.get(url) for _ in range(2)]
        assert [reply.status for reply in replies] == [status] * 2
        assert replies[1].cache.hit is hit, status


@pytest.fixture
def index(origin: Origin, path: str) -> answers.Changing:
    """A simple index as package indexes serve it; `no-cache` stands for a freshness that has run out."""
    fields = {
        "Cache-Control": "max-age=0, public",
        "Content-Type": "application/vnd.pypi.simple.v1+json",
        "Vary": "Accept, Accept-Encoding",
        "X-PyPI-Last-Serial": "1",
    }
    script = answers.Changing(b'{"files": [1]}', fields)
    origin.on(path, script)
    return script


def test_a_package_index_is_validated_by_its_etag(
    server: Buffy, origin: Origin, path: str, index: answers.Changing
) -> None:
    url, fields = origin.url(path), [("Accept", "application/vnd.pypi.simple.v1+json")]
    first = server.get(url, fields)
    index.extra = {"X-PyPI-Last-Serial": "2"}
    second = server.get(url, fields)
    assert second.body == first.body and second.cache.params["fwd-status"] == "304"
    assert origin.seen(path)[1].get("if-none-match") == index.etag
    assert second.all("x-pypi-last-serial") == ["2"], "a 304 freshens what it names (RFC 9111 §3.2)"
    index.body = b'{"files": [1, 2]}'
    assert server.get(url, fields).body == index.body


def test_a_clients_own_etag_is_answered_by_buffy(
    server: Buffy, origin: Origin, path: str, index: answers.Changing
) -> None:
    """pip keeps a cache of its own and sends its validator through ours."""
    url, old = origin.url(path), index.etag
    server.get(url)
    reply = server.get(url, [("If-None-Match", old)])
    assert (reply.status, reply.body, reply.get("etag")) == (304, b"", old)
    index.body = b"changed"
    reply = server.get(url, [("If-None-Match", old)])
    assert (reply.status, reply.body, reply.get("etag")) == (200, b"changed", index.etag)


def test_html_and_json_of_one_index_do_not_mix(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request: Received, peer: Peer) -> None:
        kind = "json" if "json" in (request.get("accept") or "") else "html"
        fields = {"Vary": "Accept", "Content-Type": f"text/{kind}", "ETag": f'"{kind}"', **answers.FRESH}
        await answers.fixed(kind.encode(), fields)(request, peer)

    url = origin.on(path, script)
    for hit in (False, True):
        for kind in ("json", "html"):
            reply = server.get(url, [("Accept", f"text/{kind}")])
            assert (reply.body, reply.cache.hit) == (kind.encode(), hit)


def test_files_of_an_index_are_immutable(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 8246 §2: a reload asks nobody."""
    fields = {"Cache-Control": "max-age=365000000, immutable, public", "ETag": '"abc"'}
    url = origin.on(path, answers.fixed(FILE, fields))
    server.get(url)
    again = server.get(url, [("Cache-Control", "max-age=0")])
    assert again.cache.hit and again.body == FILE and origin.hits(path) == 1
