"""What the OpenAPI page says beyond the routes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from pydantic import TypeAdapter

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


def complete(app: FastAPI, *, secured: bool, strategies: Mapping[str, type[Any]]) -> None:
    """Adds to the generated document what FastAPI cannot know: the schema of problems, HTTP Basic, and the
    strategies of plugins (`strategies`: the classes by name, without the built-in ones)."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _amend(document, secured)
            _name_strategies(document["components"]["schemas"], strategies)
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


def _name_strategies(schemas: dict[str, Any], strategies: Mapping[str, type[Any]]) -> None:
    """Each strategy of a plugin by its name and with its parameters, in the place of "some plugin's"."""
    anyones = {"$ref": f"{_REF}PluginStrategy"}
    schemas.pop("PluginStrategy", None)
    for name, kind in strategies.items():
        schemas[name] = _schema(name, kind)
    for schema in schemas.values():
        field = schema.get("properties", {}).get("recaching_strategy", {})
        if anyones in field.get("oneOf", ()):
            refs = [ref for ref in field["oneOf"] if ref != anyones]
            field["oneOf"] = [*refs, *({"$ref": f"{_REF}{name}"} for name in strategies)]
            field["discriminator"] = {
                "propertyName": "strategy_name",
                "mapping": {_name_of(schemas, ref["$ref"]): ref["$ref"] for ref in field["oneOf"]},
            }


_REF: Final = "#/components/schemas/"


def _name_of(schemas: Mapping[str, Any], ref: str) -> str:
    return str(schemas[ref.removeprefix(_REF)]["properties"]["strategy_name"]["const"])


def _schema(name: str, kind: type[Any]) -> dict[str, Any]:
    """From the dataclass: types, defaults, and its docstring."""
    schema = TypeAdapter(kind).json_schema()
    own = {"strategy_name": {"type": "string", "const": name, "title": "Strategy Name"}}
    return {
        "type": "object",
        "title": name,
        "description": (kind.__doc__ or "").strip(),
        "properties": {**own, **schema.get("properties", {})},
        "required": ["strategy_name"],
        "additionalProperties": False,
    }
