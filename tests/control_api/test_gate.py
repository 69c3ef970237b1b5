"""Who may ask: Host, credentials, other sites' pages, paths before the API's own."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from requests.auth import HTTPBasicAuth

from buffy_proxy.config import Credentials
from buffy_proxy.control_api.gate import one_path
from tests.control_api.kit import URL, Api

Make = Callable[..., Api]
HERE = socket.gethostname()


@pytest.fixture
def api(shared: Api) -> Api:
    return shared


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8008",
        "LOCALHOST:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8008",
        HERE,
        f"{HERE}:1",
    ],
)
def test_own_names(api: Api, host: str) -> None:
    assert api.http.get("/v1/request/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "8.8.8.8", "evil.test:8008", "127.evil"]
)
@pytest.mark.parametrize("path", ["/v1/request/", "/health", "/docs", "/metrics"])
def test_other_names_are_misdirected(api: Api, host: str, path: str) -> None:
    """DNS rebinding: a page reaches this server under a name of its own."""
    answer = api.http.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert "api_hosts" in answer.json()["detail"]


@pytest.mark.parametrize(
    "head", ["", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: \r\n", "Host: a/b\r\n"]
)
def test_a_request_names_one_host(api: Api, head: str) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as sock:
        sock.sendall(f"GET /health HTTP/1.0\r\n{head}\r\n".encode())
        assert b" 400 " in sock.recv(100).split(b"\r\n")[0] + b" "


def test_more_names(make: Make) -> None:
    api = make(api_hosts=("buffy.example", "*.corp.example:8008"))
    for host, status in (
        ("buffy.example", 200),
        ("Buffy.Example:81", 200),
        ("a.corp.example:8008", 200),
        ("a.corp.example", 421),
        ("evil.test", 421),
    ):
        assert api.http.get("/health", headers={"Host": host}).status_code == status, host


def test_listening_everywhere_takes_any_address(make: Make) -> None:
    api = make(api=("0.0.0.0", 8008))
    assert api.http.get("/health", headers={"Host": "10.1.2.3:8008"}).status_code == 200
    assert api.http.get("/health", headers={"Host": "evil.test"}).status_code == 421


# -- credentials ---------------------------------------------------------------------------------------------


def test_credentials(make: Make) -> None:
    api = make(api_credentials=Credentials("user", "passwörd"))
    for path in ("/v1/request/", "/docs", "/openapi.json", "/metrics", "/v1/request/x/response/v/y/content"):
        refused = api.http.get(path)
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic realm=")
        assert refused.json()["detail"]
    right = HTTPBasicAuth(b"user", "passwörd".encode())
    assert api.http.get("/v1/request/", auth=right).status_code == 200
    assert api.http.put("/v1/request/", auth=right, json={"url": URL}).status_code == 201
    assert api.http.put("/v1/request/", json={"url": URL}).status_code == 401
    assert api.http.get("/health").status_code == 200


@pytest.mark.parametrize("value", ["", "Basic", "Basic !!", "Basic dXNlcjp4", "Bearer x", "Basic dXNlcg=="])
def test_wrong_credentials(make: Make, value: str) -> None:
    api = make(api_credentials=Credentials("user", "right"))
    assert api.http.get("/v1/request/", headers={"Authorization": value}).status_code == 401


def test_the_document_says_that_credentials_are_wanted(make: Make, api: Api) -> None:
    assert "securitySchemes" not in api.http.get("/openapi.json").json()["components"]
    secured = make(api_credentials=Credentials("u", "p")).http
    document = secured.get("/openapi.json", auth=("u", "p")).json()
    assert document["components"]["securitySchemes"] == {"basic": {"type": "http", "scheme": "basic"}}
    assert document["paths"]["/v1/request/"]["put"]["security"] == [{"basic": []}]
    assert "security" not in document["paths"]["/health"]["get"]


# -- pages of other sites ------------------------------------------------------------------------------------

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:{port}"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_writes_of_other_sites_are_refused(api: Api, headers: dict[str, str]) -> None:
    made = api.order()
    sent = {name: value.replace("{port}", str(api.port)) for name, value in headers.items()}
    for path in ("/", f"/{made['id']}/cache-config", f"/{made['id']}/response/v/latest/pin"):
        answer = api.http.put(f"/v1/request{path}", headers=sent, json={"url": URL, "value": True})
        assert answer.status_code == 403 and answer.json()["detail"]
    assert api.http.get("/v1/request/", headers=sent).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:{port}"}],
)
def test_own_writes_are_not(api: Api, headers: dict[str, str]) -> None:
    sent = {name: value.replace("{port}", str(api.port)) for name, value in headers.items()}
    assert api.http.put("/v1/request/", headers=sent, json={"url": URL}).status_code in (201, 202)


def test_behind_a_proxy_that_ends_tls(make: Make) -> None:
    api = make(api_hosts=("buffy.example",))
    sent = {"Host": "buffy.example", "Origin": "https://buffy.example:443"}
    assert api.http.put("/v1/request/", headers=sent, json={"url": URL}).status_code == 201


def test_nothing_is_shared_with_other_origins(api: Api) -> None:
    headers = {"Origin": "http://evil.test", "Access-Control-Request-Method": "PUT"}
    for answer in (
        api.http.options("/v1/request/", headers=headers),
        api.http.get("/v1/request/", headers=headers),
    ):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# -- paths ---------------------------------------------------------------------------------------------------

PATHS = [
    ("/v1/request/", "", "/v1/request/"),
    ("//v1/request/", "", "/v1/request/"),
    ("/v1/request/", "/buffy", "/buffy/v1/request/"),
    ("/buffy/v1/request/", "/buffy", "/buffy/v1/request/"),
    ("//buffy/v1/request/", "/buffy", "/buffy/v1/request/"),
    ("//buffy//v1/request/", "/buffy", "/buffy/v1/request/"),
    ("///v1/x", "/a/b", "/a/b/v1/x"),
    ("/buffyx/v1", "/buffy", "/buffy/buffyx/v1"),
    ("/buffy", "/buffy", "/buffy/"),
]


@pytest.mark.parametrize(("path", "root", "expected"), PATHS)
def test_one_path(path: str, root: str, expected: str) -> None:
    assert one_path(path, root) == expected


def test_doubled_slashes_and_a_root_path(make: Make) -> None:
    """The old client writes `//buffy/v1` for a server at http://host/buffy."""
    api = make(api_root_path="/buffy")
    for prefix in ("", "/", "/buffy", "//buffy", "//buffy/"):
        answer = api.http.put(f"{prefix}/v1/request/", json={"url": URL})
        assert answer.status_code in (201, 202), prefix
        assert api.http.get(f"{prefix}/health").status_code == 200
    docs = api.http.get("/buffy/docs").text
    assert "/buffy/openapi.json" in docs
    assert api.http.get("/buffy/openapi.json").json()["servers"] == [{"url": "/buffy"}]


def test_problems_of_unknown_places(api: Api) -> None:
    answer = api.http.get("/v2/nothing")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is nothing at /v2/nothing.")
    answer = api.http.delete("/v1/request/")
    assert answer.status_code == 405 and answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"
