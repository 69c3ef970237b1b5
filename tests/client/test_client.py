"""Where the server is, what comes from the environment, what is sent, and which errors come back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from buffy_client import (
    BuffyError,
    BuffyPyClient,
    BuffyServerError,
    BuffyUnreachableError,
    BuffyUsageError,
    ReCachingStrategy,
    RequestCacheConfiguration,
)
from buffy_client.link import is_loopback
from tests.client.plain import PROBLEM, PlainServer, record
from tests.support.answers import fixed
from tests.support.procs import free_port


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "http://localhost:8008/v1"),
        ({"host": "example.org"}, "http://example.org:8008/v1"),
        ({"host": "example.org", "port": 1, "ssl": True}, "https://example.org:1/v1"),
        ({"host": "example.org", "base_path": "/a/b/"}, "http://example.org:8008/a/b/v1"),
        ({"host": "::1"}, "http://[::1]:8008/v1"),
        ({"url": "https://example.org:3444/buffy"}, "https://example.org:3444/buffy/v1"),
        ({"url": "https://example.org/buffy/"}, "https://example.org:443/buffy/v1"),
        ({"url": "http://example.org"}, "http://example.org:80/v1"),
        ({"url": "http://[::1]:8008"}, "http://[::1]:8008/v1"),
        ({"url": "localhost:8008"}, "http://localhost:8008/v1"),
        ({"url": "http://example.org", "api_version": "v2"}, "http://example.org:80/v2"),
    ],
)
def test_where_the_server_is(options: dict[str, Any], expected: str) -> None:
    assert BuffyPyClient(**options).api_url == expected


@pytest.mark.parametrize(
    "parts", [{"host": "b.example"}, {"port": 1}, {"base_path": "x"}, {"ssl": True}], ids=str
)
def test_a_url_and_its_parts_exclude_each_other(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        BuffyPyClient("http://a.example", **parts)


@pytest.mark.parametrize("url", ["ftp://example.org", "http://", "http://a.example:port", "http://[::1"])
def test_what_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(BuffyUsageError, match="is not"):
        BuffyPyClient(url)


def test_name_and_password_in_the_url() -> None:
    auth = BuffyPyClient("http://me%40home:se%3Acret@example.org").http_auth
    assert isinstance(auth, requests.auth.HTTPBasicAuth)
    assert (auth.username, auth.password) == ("me@home", "se:cret")


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUFFY_SERVER_URL", "https://example.org/buffy")
    monkeypatch.setenv("BUFFY_GROUP_NAME", "paper")
    monkeypatch.setenv("BUFFY_SERVER_HTTP_AUTH_NAME", "me")
    monkeypatch.setenv("BUFFY_SERVER_HTTP_AUTH_PASSWORD", "secret")
    made = BuffyPyClient.from_env()
    assert (made.api_url, made.group_name) == ("https://example.org:443/buffy/v1", "paper")
    assert made.http_auth == requests.auth.HTTPBasicAuth("me", "secret")
    assert made.local_download_fallback is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("true", "True", "1", "YES", " on ", "y")),
        *((text, False) for text in ("false", "False", "0", "No", "off", "n")),
        ("", True),
    ],
)
def test_spellings_of_the_fallback(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool) -> None:
    monkeypatch.setenv("BUFFY_LOCAL_DOWNLOAD_FALLBACK", text)
    assert BuffyPyClient.from_env().local_download_fallback is expected


def test_what_is_no_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUFFY_LOCAL_DOWNLOAD_FALLBACK", "maybe")
    with pytest.raises(BuffyUsageError, match="BUFFY_LOCAL_DOWNLOAD_FALLBACK is 'maybe'"):
        BuffyPyClient.from_env()


def test_from_env_falls_back_to_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER_URL", "GROUP_NAME", "SERVER_HTTP_AUTH_NAME", "LOCAL_DOWNLOAD_FALLBACK"):
        monkeypatch.delenv(f"BUFFY_{name}", raising=False)
    made = BuffyPyClient.from_env("g", "http://b.example:1", "n", "p", False)
    assert (made.group_name, made.api_url) == ("g", "http://b.example:1/v1")
    assert made.http_auth == requests.auth.HTTPBasicAuth("n", "p")
    assert made.local_download_fallback is False


def test_clients_share_no_defaults() -> None:
    one, other = BuffyPyClient(), BuffyPyClient()
    one.http_headers["X-One"] = "1"
    assert other.http_headers == {}


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.8.8.8", "::1", "[::1]", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example", "::2", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_local_server_is_not_asked_through_a_proxy(
    plain: PlainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    plain.versions = [record("a")]
    assert plain.client().create_request("http://b.example/x").response_version == "a"


def test_a_far_server_is_asked_through_the_proxy(plain: PlainServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, plain.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    client = BuffyPyClient("http://buffy.example", local_download_fallback=False)
    client.create_request("http://b.example/x")
    assert plain.origin.received[0].target == "http://buffy.example:80/v1/request/"


def test_what_an_order_sends(plain: PlainServer) -> None:
    plain.versions = [record("a")]
    client = plain.client(group_name="g", http_auth=("me", "secret"), http_headers={"X-Mine": "1"})
    config = RequestCacheConfiguration(ReCachingStrategy.never())
    client.create_request(
        "http://b.example/x",
        "POST",
        http_query_params={"q": 1},
        http_request_body={"k": [1, 2]},
        http_header_fields={"Accept": "text/csv"},
        info_description="why",
        info_link="http://b.example/about",
        cache_configuration=config,
    )
    sent = plain.origin.received[0]
    assert (sent.get("x-mine"), sent.get("authorization")) == ("1", "Basic bWU6c2VjcmV0")
    assert json.loads(sent.body) == {
        "url": "http://b.example/x",
        "http_method": "post",
        "http_query_params": {"q": 1},
        "http_request_body": {"k": [1, 2]},
        "http_header_fields": {"Accept": "text/csv"},
        "group_name": "g",
        "description": "why",
        "documentation_link": "http://b.example/about",
        "cache_configuration": {
            "request_id": None,
            "recaching_strategy": {"strategy_name": "never"},
            "max_cached_unpinned_versions": 2,
            "max_cached_pinned_versions": 10,
        },
    }


def test_calls_of_one_client_share_a_connection(plain: PlainServer) -> None:
    plain.versions = [record("a")]
    plain.content("a", b"x")
    client = plain.client()
    for _ in range(3):
        assert b"".join(client.create_request("http://b.example/x").download_response_content()) == b"x"
    assert plain.origin.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(plain: PlainServer) -> None:
    plain.versions = [record("a")]
    client = plain.client()
    client.create_request("http://b.example/x")
    plain.origin.stop()
    plain.origin.start()
    assert client.create_request("http://b.example/x").response_version == "a"


def test_an_unknown_method() -> None:
    with pytest.raises(BuffyUsageError, match="'patch' is none of get, post, put"):
        BuffyPyClient().create_request("http://b.example/", "patch")


@pytest.mark.parametrize(("status", "advice"), [(422, "field url"), (401, "http_auth"), (500, "field url")])
def test_the_servers_refusals(plain: PlainServer, status: int, advice: str) -> None:
    problem = json.dumps({"title": "t", "detail": "field url: not a URL"}).encode()
    plain.origin.on("/v1/request/", fixed(problem, PROBLEM, status))
    with pytest.raises(BuffyServerError, match=advice) as caught:
        plain.client().create_request("nonsense")
    assert (caught.value.status, caught.value.detail) == (status, "field url: not a URL")


def test_a_server_that_is_no_buffy(plain: PlainServer) -> None:
    plain.origin.on("/v1/request/", fixed(b"<html>hello</html>", {"Content-Type": "text/html"}))
    with pytest.raises(BuffyServerError, match="is that a Buffy server"):
        plain.client().create_request("http://b.example/")


def test_a_gateway_without_a_server_behind_it(plain: PlainServer) -> None:
    plain.origin.on("/v1/request/", fixed(b"bad gateway", {}, 502))
    with pytest.raises(BuffyUnreachableError, match="a gateway answered 502"):
        plain.client().create_request("http://b.example/")


def test_nobody_there_is_also_what_requests_calls_a_connection_error() -> None:
    client = BuffyPyClient(host="127.0.0.1", port=free_port(), local_download_fallback=False)
    with pytest.raises(requests.exceptions.ConnectionError, match="buffy serve") as caught:
        client.create_request("http://b.example/")
    assert isinstance(caught.value, BuffyError)


def test_header_fields_that_cannot_be_sent() -> None:
    client = BuffyPyClient(http_headers={"X-Mine": "one\ntwo"})
    with pytest.raises(BuffyUsageError, match="cannot ask the Buffy server"):
        client.create_request("http://b.example/")
