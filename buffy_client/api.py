"""The v1 calls, one method each: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests

from buffy_client.errors import BuffyServerError
from buffy_client.link import Link, checked
from buffy_client.models import RequestIn, Response, Ticket
from buffy_client.strategies import RequestCacheConfiguration
from buffy_client.wording import shown


class Api:
    """All methods raise BuffyServerError, BuffyUnreachableError among them."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def order(self, wanted: RequestIn) -> Ticket:
        answer = self._link.call("PUT", "request/", json=wanted.to_json())
        return Ticket.from_json(_json(checked(answer, f"cannot order {shown(wanted.url)}")))

    def registered(self, ticket: Ticket) -> bool:
        """Whether the order is on the books, so that a Response exists."""
        path = f"{_request(ticket)}/status/{ticket.request_timestamp}"
        return checked(self._link.call("GET", path), "cannot see the order").status_code == 200

    def configure(self, ticket: Ticket, config: RequestCacheConfiguration) -> RequestCacheConfiguration:
        answer = self._link.call("PUT", f"{_request(ticket)}/cache-config", json=config.to_json())
        return RequestCacheConfiguration.from_json(_json(checked(answer, f"cannot configure {ticket.url}")))

    def versions(self, ticket: Ticket, **filters: Any) -> list[Response]:
        """Newest first. Filters: status, tag, skip, limit; None is no filter."""
        answer = self._link.call("GET", f"{_request(ticket)}/response", params=filters)
        rows = _json(checked(answer, f"cannot list the versions of {ticket.url}"))
        return [Response.from_json(row) for row in rows]

    def latest(self, ticket: Ticket, **filters: Any) -> Response | None:
        """The newest version that matches. Filters: status, tag, pinned; None is no filter."""
        answer = self._link.call("GET", f"{_request(ticket)}/response/latest", params=filters)
        return _found(answer, f"cannot look up the newest version of {ticket.url}")

    def version(self, ticket: Ticket, name: str, wait_sec: int = 0) -> Response | None:
        """One version; None if there is none of that name. With `wait_sec` the server may hold its answer
        back that long until the version is no longer pending."""
        params = {"wait_sec": wait_sec} if wait_sec else None
        answer = self._link.call("GET", _version(ticket, name), params=params, more_time_sec=wait_sec)
        return _found(answer, f"cannot look up version {name} of {ticket.url}")

    def pin(self, ticket: Ticket, name: str, value: bool, duration_sec: int | None) -> Response:
        claim = {"request_id": ticket.id, "response_version": name}
        return self._claim(ticket, name, "pin", {**claim, "value": value, "duration_sec": duration_sec})

    def tag(self, ticket: Ticket, name: str, tag: str, delete: bool) -> Response:
        claim = {"request_id": ticket.id, "response_version": name}
        return self._claim(ticket, name, "tag", {**claim, "value": tag, "delete": delete})

    def _claim(self, ticket: Ticket, name: str, kind: str, claim: Mapping[str, Any]) -> Response:
        answer = self._link.call("PUT", f"{_version(ticket, name)}/{kind}", json=claim)
        what = f"cannot {kind} version {name} of {ticket.url}"
        return Response.from_json(_json(checked(answer, what)))

    def content(self, response: Response, headers: Mapping[str, str]) -> requests.Response:
        """The content's answer as it comes, its body unread; any status. The caller closes it."""
        default = f"request/{quote(response.request_id)}/response/v/{quote(response.version)}/content"
        path = response.content_download_path or default
        return self._link.call("GET", path, headers=headers, stream=True)


def _request(ticket: Ticket) -> str:
    return f"request/{quote(ticket.id, safe='')}"


def _version(ticket: Ticket, name: str) -> str:
    return f"{_request(ticket)}/response/v/{quote(name, safe='')}"


def _found(answer: requests.Response, what: str) -> Response | None:
    if answer.status_code in (204, 404):
        return None
    return Response.from_json(_json(checked(answer, what)))


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        message = f"{answer.url} does not answer JSON: is that a Buffy server?"
        raise BuffyServerError(message, answer.status_code) from error
