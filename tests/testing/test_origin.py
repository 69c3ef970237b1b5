"""The kit's origin, asked directly: every answer a test may want from it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import pytest
import requests

from buffy_proxy.testing import Origin, Received, Route, wait_until
from buffy_proxy.testing.origin import authority_file


@pytest.fixture
def site() -> Iterator[Origin]:
    with Origin() as made:
        yield made


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def get(client: requests.Session, route: Route, **fields: str) -> requests.Response:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return client.get(route.url, headers=headers, timeout=10)


def test_what_is_served_may_change(site: Origin, client: requests.Session) -> None:
    route = site.serve("/data", b"one", {"Content-Type": "text/plain"})
    one = get(client, route)
    assert (one.status_code, one.content, one.headers["Content-Type"]) == (200, b"one", "text/plain")
    assert {"Date", "ETag"} <= set(one.headers)
    route.body, route.status, route.fields["Content-Type"] = b"two", 404, "text/html"
    two = get(client, route)
    assert (two.status_code, two.content, two.headers["Content-Type"]) == (404, b"two", "text/html")
    assert two.headers["ETag"] != one.headers["ETag"]
    assert route.count == 2


def test_what_was_asked_for_is_kept(site: Origin, client: requests.Session) -> None:
    route = site.serve("/form", lambda request: request.body.upper())
    chunks = iter([b"first ", b"second"])
    assert client.post(route.url + "?a=b", data=chunks, headers={"X-A": "1"}, timeout=10).content == (
        b"FIRST SECOND"
    )
    seen = route.wait(1)
    assert (seen.method, seen.path, seen.query, seen.body) == ("POST", "/form", "a=b", b"first second")
    assert (seen.get("x-a"), seen.get("x-b")) == ("1", None)
    client.get(site.url("/nowhere"), timeout=10)
    assert [request.path for request in site.requests] == ["/form", "/nowhere"]
    assert route.count == 1


def test_where_nothing_is_served(site: Origin, client: requests.Session) -> None:
    assert client.get(site.url("/nowhere"), timeout=10).status_code == 404


@pytest.mark.parametrize(
    ("fields", "request_fields", "status"),
    [
        ({}, {"If_None_Match": f'"{hashlib.sha256(b"same").hexdigest()[:16]}"'}, 304),
        ({}, {"If_None_Match": '"other"'}, 200),
        ({"ETag": '"mine"'}, {"If_None_Match": '"mine"'}, 304),
        ({"ETag": None}, {"If_None_Match": '"mine"'}, 200),
        ({"Last-Modified": "yesterday"}, {"If_Modified_Since": "yesterday"}, 304),
        ({"Last-Modified": "yesterday"}, {"If_Modified_Since": "today"}, 200),
        ({"Last-Modified": "yesterday"}, {"If_Modified_Since": "yesterday", "If_None_Match": '"x"'}, 200),
    ],
)
def test_conditional_requests(
    site: Origin,
    client: requests.Session,
    fields: dict[str, str | None],
    request_fields: dict[str, str],
    status: int,
) -> None:
    """RFC 9110 §13.2.2."""
    answer = get(client, site.serve("/data", b"same", fields), **request_fields)
    assert (answer.status_code, answer.content) == (status, b"" if status == 304 else b"same")


def test_head_has_the_fields_of_get(site: Origin, client: requests.Session) -> None:
    route = site.serve("/data", b"12345")
    answer = client.head(route.url, timeout=10)
    assert (answer.headers["Content-Length"], answer.content) == ("5", b"")
    assert get(client, route).content == b"12345"  # on the same connection


def test_failing_and_recovering(site: Origin, client: requests.Session) -> None:
    route = site.serve("/data", b"0123456789")
    route.fail()
    assert get(client, route).status_code == 503
    route.fail("close")
    with pytest.raises(requests.ConnectionError):
        get(client, route)
    route.fail("truncate")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError), match="5"):
        get(client, route)
    route.recover()
    assert get(client, route).content == b"0123456789"
    assert route.count == 4


def test_gone_and_back_on_the_same_port(site: Origin, client: requests.Session) -> None:
    route = site.serve("/data", b"here")
    assert get(client, route).content == b"here"
    site.stop()
    site.stop()
    with pytest.raises(requests.ConnectionError):
        get(client, route)
    site.start()
    site.start()
    assert get(client, route).content == b"here"
    assert route.count == 2


def test_a_slow_answer_keeps_nobody_waiting(site: Origin, client: requests.Session) -> None:
    release = threading.Event()

    def slowly(request: Received) -> bytes:
        assert release.wait(20)
        return b"at last"

    slow, quick = site.serve("/slow", slowly), site.serve("/quick", b"now")
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(requests.get(slow.url, timeout=30).content))
    thread.start()
    slow.wait(1)
    assert get(client, quick).content == b"now"
    release.set()
    thread.join(20)
    assert answers == [b"at last"]


def test_tls_with_an_authority_of_its_own(client: requests.Session) -> None:
    with Origin(tls=True) as site:
        route = site.serve("/data", b"secret")
        with pytest.raises(requests.exceptions.SSLError):
            get(client, route)
        client.verify = str(authority_file())
        assert get(client, route).content == b"secret"
        site.stop()
        with pytest.raises(requests.ConnectionError):
            get(client, route)
        site.start()
        assert get(client, route).content == b"secret"


def test_waiting_ends(site: Origin) -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: 1 requests for .*/data"):
        site.serve("/data").wait(1, timeout_s=0.05)
    with pytest.raises(AssertionError, match="not within 0 s: the moon"):
        wait_until(lambda: False, 0, "the moon")
