"""What the OpenAPI page says beyond the routes themselves."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from buffy_proxy.control_api.problems import Problem

TEXT: Final = """
Buffy is a versioned cache between a program and the web. This API is its second door: explicit access to
versions, over the same store as the proxy.

1. `PUT /v1/request/` orders a resource. `current_response` in the answer is a version that may be used now,
   or the order that will bring one.
2. `GET /v1/request/{id}/response/v/{version}?wait_sec=60` waits for it.
3. `GET /v1/request/{id}/response/v/{version}/content` gives the bytes.

Datetimes are naive ISO 8601 in UTC. Errors are `application/problem+json` (RFC 9457).
"""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "Request", "description": "What is wanted from the web, and how it is cached."},
    {"name": "Response", "description": "The versions of what was wanted: metadata, content, pins, tags."},
    {"name": "operation", "description": "For those who run the server."},
]


def complete(app: FastAPI, *, secured: bool) -> None:
    """Adds to the generated document what FastAPI cannot know: the schema of problems, and HTTP Basic."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _amend(generate(), secured)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _amend(document: dict[str, Any], secured: bool) -> None:
    components = document["components"]
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"].update(schema.pop("$defs", {}))
    components["schemas"]["Problem"] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    if secured:
        components["securitySchemes"] = {"basic": {"type": "http", "scheme": "basic"}}
        for path, operations in document["paths"].items():
            if path != "/health":
                for operation in operations.values():
                    operation["security"] = [{"basic": []}]
