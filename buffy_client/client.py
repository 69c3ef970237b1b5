"""The way in: where the server is, who asks, and what happens where it cannot be reached."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from copy import deepcopy
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from requests.auth import AuthBase, HTTPBasicAuth

from buffy_client.api import Api
from buffy_client.errors import BuffyUsageError
from buffy_client.link import Link
from buffy_client.models import RequestIn
from buffy_client.request import Request as _Request
from buffy_client.strategies import RequestCacheConfiguration

log = logging.getLogger(__package__)

DEFAULT_PORT = 8008
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
FALSE = frozenset({"0", "false", "f", "no", "n", "off"})
METHODS = ("get", "post", "put")


class BuffyPyClient:
    """A client of one Buffy server. Use one for each thread; connections are kept and reused.

    `url` (`https://example.org:3444/buffy`) and the single parts `host`, `port`, `base_path`, `ssl` exclude
    each other; without any of them the server is on this machine. `group_name` is a sandbox: requests of
    other groups are not seen. With `local_download_fallback` content comes directly from its origin where
    the server cannot be reached. Raises BuffyUsageError.
    """

    Request = _Request

    buffy_server_timeout_sec: float = 5
    """Seconds to connect."""
    buffy_server_read_timeout_sec: float = 60
    """Seconds without any byte of an answer."""
    buffy_server_verify_ssl_request: bool | str = True
    """False trusts every certificate; a path names a bundle of trusted ones."""
    outage_sec: float = 30
    """How long a server may stay away in the middle of an order before the client gives it up."""
    download_attempts: int = 8
    """How many failures in a row, without a byte of progress, end a download."""
    first_retry_sec: float = 0.25
    """The pause after the first failure; it doubles with each further one."""

    def __init__(
        self,
        url: str | None = None,
        host: str | None = None,
        port: int = DEFAULT_PORT,
        base_path: str | None = None,
        group_name: str | None = None,
        api_version: str = "v1",
        ssl: bool = False,
        http_auth: AuthBase | tuple[str, str] | None = None,
        http_headers: Mapping[str, str] | None = None,
        local_download_fallback: bool = True,
    ) -> None:
        if url is not None and (host or base_path or ssl or port != DEFAULT_PORT):
            raise BuffyUsageError(
                "url and host, port, base_path, ssl exclude each other: give one or the other"
            )
        self.ssl, self.host, self.port = ssl, host or "localhost", port
        self.base_path = (base_path or "").strip("/")
        self.http_auth = http_auth
        if url is not None:
            self._take_url(url)
        self.http_headers = dict(http_headers or {})
        self.group_name, self.api_version = group_name, api_version
        self.local_download_fallback = local_download_fallback
        self._warned = False
        self._link = Link(self)
        self.api = Api(self._link)

    def _take_url(self, url: str) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BuffyUsageError(f"{url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise BuffyUsageError(
                f"{url!r} is not the URL of a server: it takes http:// or https:// and a host"
            )
        self.ssl, self.host = parts.scheme == "https", host
        self.port = port or (443 if self.ssl else 80)
        self.base_path = parts.path.strip("/")
        if parts.username and self.http_auth is None:
            self.http_auth = HTTPBasicAuth(unquote(parts.username), unquote(parts.password or ""))

    @classmethod
    def from_env(
        cls,
        fallback_val_group_name: str | None = None,
        fallback_val_url: str = "http://localhost:8008",
        fallback_val_http_auth_name: str | None = None,
        fallback_val_http_auth_password: str | None = None,
        fallback_value_local_download_fallback: bool = True,
    ) -> BuffyPyClient:
        """From the environment: BUFFY_SERVER_URL, BUFFY_GROUP_NAME, BUFFY_SERVER_HTTP_AUTH_NAME,
        BUFFY_SERVER_HTTP_AUTH_PASSWORD, BUFFY_LOCAL_DOWNLOAD_FALLBACK (true, false, yes, no, on, off, 1, 0).

        What is unset or empty falls back to the argument. Raises BuffyUsageError.
        """
        env = {name: value for name, value in os.environ.items() if value}
        name = env.get("BUFFY_SERVER_HTTP_AUTH_NAME", fallback_val_http_auth_name)
        password = env.get("BUFFY_SERVER_HTTP_AUTH_PASSWORD", fallback_val_http_auth_password)
        fallback = env.get("BUFFY_LOCAL_DOWNLOAD_FALLBACK")
        return cls(
            url=env.get("BUFFY_SERVER_URL", fallback_val_url),
            group_name=env.get("BUFFY_GROUP_NAME", fallback_val_group_name),
            http_auth=HTTPBasicAuth(name, password or "") if name else None,
            local_download_fallback=fallback_value_local_download_fallback
            if fallback is None
            else truth("BUFFY_LOCAL_DOWNLOAD_FALLBACK", fallback),
        )

    @property
    def api_url(self) -> str:
        """Where v1 is: `http://localhost:8008/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = "/".join(part for part in (self.base_path, self.api_version) if part)
        return f"http{'s' if self.ssl else ''}://{host}:{self.port}/{path}"

    def create_request(
        self,
        url: str,
        http_method: str = "get",
        http_query_params: Mapping[str, Any] | None = None,
        http_request_body: Mapping[str, Any] | None = None,
        http_header_fields: Mapping[str, str] | None = None,
        info_description: str | None = None,
        info_link: str | None = None,
        hold_request_order: bool = False,
        cache_configuration: RequestCacheConfiguration | None = None,
    ) -> _Request:
        """A request for `url`, ordered at once unless `hold_request_order`.

        `http_method` is get, post or put; the body goes out as JSON, or as a form where the header fields
        say so. `info_description` and `info_link` are notes that the server keeps with it. Without a
        `cache_configuration` the server's stands. Raises BuffyUsageError, BuffyServerError.
        """
        method = http_method.lower()
        if method not in METHODS:
            raise BuffyUsageError(f"http_method {http_method!r} is none of {', '.join(METHODS)}")
        wanted = RequestIn(
            url=url,
            http_method=method,
            http_query_params=dict(http_query_params or {}),
            http_request_body=dict(http_request_body or {}),
            http_header_fields=dict(http_header_fields or {}),
            group_name=self.group_name,
            description=info_description,
            documentation_link=info_link,
            cache_configuration=deepcopy(cache_configuration),
        )
        request = _Request(wanted, self)
        if not hold_request_order:
            request.order()
        return request

    def say_unreachable(self, why: object) -> None:
        """Warns that content now comes directly from its origin; once for each client."""
        log.log(logging.DEBUG if self._warned else logging.WARNING, "%s; downloading directly, uncached", why)
        self._warned = True

    def close(self) -> None:
        """Gives up the kept connections; a later call opens new ones."""
        self._link.close()

    def __enter__(self) -> BuffyPyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def truth(name: str, text: str) -> bool:
    """A boolean of the environment. Raises BuffyUsageError that names the variable."""
    word = text.strip().lower()
    if word not in TRUE | FALSE:
        raise BuffyUsageError(f"{name} is {text!r}: it takes true or false")
    return word in TRUE
