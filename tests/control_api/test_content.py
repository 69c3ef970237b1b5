"""`…/content`: exact bytes, ranges, conditions, streams."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import socket
import time
from pathlib import Path

import pytest
import requests

from buffy_proxy.core.model import Fields
from tests.control_api.kit import PLAIN, URL, Api

COUNTER = itertools.count()


@pytest.fixture
def api(shared: Api) -> Api:
    return shared


def stored(api: Api, content: bytes, fields: Fields = PLAIN) -> str:
    """The path of a version's content, of a request of its own."""
    made = api.order(f"{URL}?content={next(COUNTER)}")
    done = api.finish(made["id"], content, fields)
    return f"/v1/request/{made['id']}/response/v/{done.name}/content"


def raw(api: Api, path: str) -> tuple[requests.Response, bytes]:
    """Without undoing content codings."""
    answer = api.http.get(path, stream=True)
    return answer, answer.raw.read(decode_content=False)


LATIN = "größe;ß\r\n\0".encode("latin-1")


@pytest.mark.parametrize("kind", [b"text/plain", b"text/csv; charset=latin-1", b"application/json"])
def test_text_is_not_decoded_and_encoded_again(api: Api, kind: bytes) -> None:
    answer = api.http.get(stored(api, LATIN, ((b"Content-Type", kind),)))
    assert answer.content == LATIN
    assert answer.headers["content-type"] == kind.decode()
    assert answer.headers["content-length"] == str(len(LATIN))


def test_fields_are_as_stored(api: Api) -> None:
    disposition = b'attachment; filename="a b.csv"'
    fields = ((b"Content-Type", b"x/y"), (b"Content-Disposition", disposition), (b"Set-Cookie", b"a=b"))
    answer = api.http.get(stored(api, b"1", fields))
    assert answer.headers["content-disposition"] == disposition.decode()
    assert answer.headers["etag"] == f'"{hashlib.sha256(b"1").hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert "set-cookie" not in answer.headers and "cache-status" not in answer.headers


def test_no_type_is_made_up(api: Api) -> None:
    assert "content-type" not in api.http.get(stored(api, b"1", ())).headers


def test_pages_from_the_web_have_no_power_here(api: Api) -> None:
    answer = api.http.get(stored(api, b"<script>", ((b"Content-Type", b"text/html"),)))
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_content_codings_stay(api: Api) -> None:
    packed = gzip.compress(b"text" * 100)
    path = stored(api, packed, ((b"Content-Encoding", b"gzip"), (b"Content-Type", b"text/plain")))
    answer, content = raw(api, path)
    assert content == packed and answer.headers["content-encoding"] == "gzip"
    assert api.http.get(path).content == b"text" * 100  # as old clients see it


def test_the_status_of_the_origin_is_not_ours(api: Api) -> None:
    made = api.order(URL + "?moved")
    done = api.finish(made["id"], b"moved", status=301)
    answer = api.http.get(f"/v1/request/{made['id']}/response/v/{done.name}/content", allow_redirects=False)
    assert (answer.status_code, answer.content) == (200, b"moved")


RANGES = [
    ({}, 200, b"0123456789", None),
    ({"Range": "bytes=4-"}, 206, b"456789", "bytes 4-9/10"),
    ({"Range": "bytes=0-0"}, 206, b"0", "bytes 0-0/10"),
    ({"Range": "bytes=-3"}, 206, b"789", "bytes 7-9/10"),
    ({"Range": "bytes=10-"}, 416, b"", "bytes */10"),
    ({"Range": "lines=1-2"}, 200, b"0123456789", None),
    ({"Range": "bytes=4-", "If-Range": "{etag}"}, 206, b"456789", "bytes 4-9/10"),
    ({"Range": "bytes=4-", "If-Range": '"other"'}, 200, b"0123456789", None),
    ({"Range": "bytes=4-", "If-Range": "W/{etag}"}, 200, b"0123456789", None),
    ({"If-None-Match": "{etag}"}, 304, b"", None),
    ({"If-None-Match": "*"}, 304, b"", None),
    ({"If-None-Match": '"other"'}, 200, b"0123456789", None),
    ({"If-Match": '"other"'}, 412, b"", None),
    ({"If-Match": "{etag}"}, 200, b"0123456789", None),
]


@pytest.mark.parametrize(("headers", "status", "content", "content_range"), RANGES)
def test_ranges_and_conditions(
    api: Api, headers: dict[str, str], status: int, content: bytes, content_range: str | None
) -> None:
    path = stored(api, b"0123456789")
    etag = f'"{hashlib.sha256(b"0123456789").hexdigest()}"'
    answer = api.http.get(path, headers={k: v.replace("{etag}", etag) for k, v in headers.items()})
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == content_range
    if status in (200, 206, 304):
        assert answer.headers["etag"] == etag


def test_several_ranges(api: Api) -> None:
    answer = api.http.get(stored(api, b"0123456789" * 100), headers={"Range": "bytes=0-1,998-999"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"\r\n\r\n01\r\n" in answer.content and b"\r\n\r\n89\r\n" in answer.content
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_head_is_get_without_content(api: Api) -> None:
    path = stored(api, b"x" * 700_000)
    get, head = api.http.get(path), api.http.head(path)
    assert head.status_code == 200 and head.content == b""
    ignored = ("date",)
    assert {k: v for k, v in head.headers.items() if k not in ignored} == {
        k: v for k, v in get.headers.items() if k not in ignored
    }
    assert api.http.head(path.replace("/v/", "/v/x")).status_code == 404


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 3_000_000])
def test_all_sizes(api: Api, size: int) -> None:
    content = os.urandom(size)
    path = stored(api, content)
    answer = api.http.get(path)
    assert answer.content == content and answer.headers["content-length"] == str(size)
    if size:
        rest = api.http.get(path, headers={"Range": f"bytes={size // 2}-"})
        assert (rest.status_code, rest.content) == (206, content[size // 2 :])


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_client_that_leaves_frees_what_it_read(api: Api) -> None:
    path = stored(api, bytes(30_000_000))
    before = open_files()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", api.port)) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 20
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files() <= before
    assert api.get("/request/")


def test_what_is_not_there(api: Api) -> None:
    made = api.order(URL + "?missing")
    waiting = made["current_response"]["version"]
    path = f"/v1/request/{made['id']}/response/v"
    pending = api.http.get(f"{path}/{waiting}/content")
    assert (pending.status_code, pending.headers["retry-after"]) == (409, "1")
    assert "still being fetched" in pending.json()["detail"]
    assert api.http.get(f"{path}/latest/content").status_code == 404
    assert api.http.get(f"{path}/unknown/content").status_code == 404
    assert api.http.get("/v1/request/unknown/response/v/latest/content").status_code == 404
    api.fail(made["id"], "no such host")
    failed = api.http.get(f"{path}/{waiting}/content")
    assert failed.status_code == 404 and "no such host" in failed.json()["detail"]


def test_use_is_noted_for_eviction(api: Api) -> None:
    long_ago = time.time() - 1000
    made = api.proxied("http://origin.test/old", b"1", at=long_ago)
    api.http.get(f"/v1/request/{made}/response/v/latest/content")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        known = api.store.resource(made)
        assert known is not None
        if known.requested_at > long_ago + 900:
            return
        time.sleep(0.02)
    raise AssertionError("the use was not noted")
