"""Errors as answers: one table, and `application/problem+json` (RFC 9457) for all of them.

Every problem also has the key `detail`, which clients of the old API read. No other module of the control
API chooses a status code for an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from buffy_proxy.control_api.refusals import BadOrder, NotReady
from buffy_proxy.errors import BodyMissing, BuffyError, NotFound, StoreError, StoreFull, StoreUnusable

log = logging.getLogger("buffy.api")

STATUS_OF: Final[Mapping[type[BuffyError], int]] = {
    BadOrder: 422,
    NotReady: 409,
    NotFound: 404,
    BodyMissing: 410,
    StoreFull: 507,
    StoreUnusable: 503,
    StoreError: 503,
    BuffyError: 500,
}
"""The nearest class in an error's ancestry decides."""

WHEN: Final[Mapping[int, str]] = {
    400: "The request is malformed, or names no host.",
    401: "The API asks for HTTP Basic credentials (`api_credentials`).",
    403: "A page of another site tried to change something.",
    404: "Unknown request or version.",
    409: "The version is not there yet.",
    410: "The content of this version is gone.",
    413: "The body is too large.",
    421: "The Host is none of this server's names (`api_hosts`).",
    422: "The request cannot be understood; `errors` names the places.",
    503: "The store cannot be read or written.",
    507: "There is no room to store anything.",
}
MEDIA_TYPE: Final = "application/problem+json"


class Place(BaseModel):
    """What is wrong where."""

    location: str = Field(examples=["body.url"])
    message: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(default="about:blank", description="The status code says it all.")
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no request 'mzxw6ytboi'."])
    errors: list[Place] | None = Field(default=None, description="With 422: every place that is wrong.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: these errors, and those that any request may get."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    every = sorted({*statuses, 400, 401, 421, 503})
    return {status: {"description": WHEN[status], "content": content} for status in every}


def content(status: int, detail: str, errors: Sequence[Place] = ()) -> bytes:
    """A problem's JSON."""
    problem = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors) or None
    )
    return json.dumps(problem.model_dump(exclude_none=True)).encode()


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem, and the schema `Problem` part of its documentation."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(BuffyError, _known)
    app.add_exception_handler(Exception, _unknown)


def _answer(
    status: int, detail: str, errors: Sequence[Place] = (), headers: Mapping[str, str] | None = None
) -> Response:
    return Response(
        content(status, detail, errors), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    places = [_place(found) for found in error.errors()]
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return _answer(422, f"{places[0].location}: {places[0].message}{more}", places)


def _place(found: Mapping[str, Any]) -> Place:
    location = ".".join(str(part) for part in found["loc"])
    message = str(found["msg"]).removeprefix("Value error, ")
    return Place(location=_printable(location), message=_printable(message))


def _printable(text: str) -> str:
    """Whatever a client sent may be quoted in here, lone surrogates included."""
    return text.encode("utf-8", "backslashreplace").decode()


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"There is nothing at {request.url.path}."
    elif error.status_code == 405:
        detail = f"{request.method} is not possible at {request.url.path}."
    return _answer(error.status_code, _printable(str(detail)), headers=error.headers)


def _known(request: Request, error: Exception) -> Response:
    status = next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)
    headers = {"Retry-After": "1"} if isinstance(error, NotReady) else None
    return _answer(status, _printable(str(error)), headers=headers)


def _unknown(request: Request, error: Exception) -> Response:
    return _answer(500, "A bug in Buffy; its log says more.")
