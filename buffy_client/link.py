"""One kept-alive connection to one server, and what its errors become."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from buffy_client.errors import BuffyServerError, BuffyUnreachableError, BuffyUsageError
from buffy_client.wording import cause

GATEWAY_FAILURES = (502, 503, 504)


class Settings(Protocol):
    """What a link reads from its client at each call, so that changes of the client take effect."""

    http_auth: AuthBase | tuple[str, str] | None
    http_headers: dict[str, str]
    buffy_server_timeout_sec: float
    buffy_server_read_timeout_sec: float
    buffy_server_verify_ssl_request: bool | str

    @property
    def api_url(self) -> str: ...


def is_loopback(host: str) -> bool:
    """This machine itself: no proxy, whatever the environment says, leads there."""
    name = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


class Link:
    """Sends calls to the server of `settings`. Used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        more_time_sec: float = 0,
    ) -> requests.Response:
        """`path` begins behind `/v1`. `more_time_sec`: how much longer than usual the answer may take.

        Raises BuffyUnreachableError, BuffyUsageError, BuffyServerError; a status is the caller's to judge.
        """
        ours = self._settings
        url = f"{ours.api_url}/{path.lstrip('/')}"
        # A program inside `buffy run` has HTTP_PROXY set: the way to a local server must not lead through it.
        self._session.trust_env = not is_loopback(urlsplit(url).hostname or "")
        timeout = (ours.buffy_server_timeout_sec, ours.buffy_server_read_timeout_sec + more_time_sec)
        sent = {"Accept-Encoding": "identity", **ours.http_headers, **(headers or {})}
        prepared = {"params": _told(params), "json": json, "headers": sent, "auth": ours.http_auth}
        verify = ours.buffy_server_verify_ssl_request
        try:
            answer = self._send(method, url, stream=stream, timeout=timeout, verify=verify, **prepared)
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise BuffyUnreachableError(_unreachable(ours.api_url, cause(error))) from error
        except ValueError as error:  # an address or a header field that cannot be sent at all
            raise BuffyUsageError(f"cannot ask the Buffy server at {ours.api_url}: {error}") from error
        except requests.exceptions.RequestException as error:
            raise BuffyServerError(f"the Buffy server at {ours.api_url} cannot be asked: {error}") from error
        if answer.status_code in GATEWAY_FAILURES and "problem" not in answer.headers.get("content-type", ""):
            raise BuffyUnreachableError(
                _unreachable(ours.api_url, f"a gateway answered {answer.status_code}")
            )
        return answer

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        try:
            return self._session.request(method, url, **options)
        except requests.exceptions.Timeout:
            raise
        except requests.exceptions.ConnectionError:
            # A kept-alive connection may have been closed just now. All v1 calls may be repeated.
            return self._session.request(method, url, **options)


def checked(answer: requests.Response, what: str) -> requests.Response:
    """The answer if it is a success; else BuffyServerError, whose message says `what` failed."""
    if answer.ok:
        return answer
    detail = _detail(answer)
    advice = {401: ": give the client http_auth", 403: ": is http_auth right?"}.get(answer.status_code, "")
    message = f"{what}: the Buffy server answered {answer.status_code}, {detail}{advice}"
    raise BuffyServerError(message, answer.status_code, detail)


def _detail(answer: requests.Response) -> str:
    try:
        said = answer.json().get("detail")
    except (ValueError, AttributeError, requests.exceptions.RequestException):
        said = None
    return str(said) if said else answer.reason or "without a reason"


def _told(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without what is None; booleans in the spelling of JSON."""
    known = {name: value for name, value in (params or {}).items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in known.items()}


def _unreachable(url: str, why: str) -> str:
    return f"no Buffy server answers at {url} ({why}): start one with `buffy serve`, or correct the address"
