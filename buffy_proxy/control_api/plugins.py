"""The routes that plugins add, each plugin's under /plugins/NAME."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from buffy_proxy.control_api.problems import MEDIA_TYPE, content
from buffy_proxy.errors import BuffyError
from buffy_proxy.plugins import Plugins


def mount(app: FastAPI, plugins: Plugins) -> None:
    """A plugin whose `register_routes` fails has no routes; one whose routes do not fit is counted, too."""
    for one in plugins.each("register_routes"):
        kind = _guarded(plugins, one.plugin)
        router = APIRouter(prefix=f"/plugins/{one.plugin}", tags=[one.plugin], route_class=kind)
        before = plugins.failures.total
        plugins.ask("register_routes", one, router=router)
        if plugins.failures.total > before:
            continue
        try:
            app.include_router(router)
        except Exception as error:
            plugins.failures.note(one.plugin, "register_routes", error)


def _guarded(plugins: Plugins, plugin: str) -> type[APIRoute]:
    """Routes whose bugs are the plugin's: noted as its failures, and a problem for whoever asked."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    return await handler(request)
                except (HTTPException, RequestValidationError, BuffyError):
                    raise
                except Exception as error:
                    plugins.failures.note(plugin, f"route {self.path}", error)
                    detail = f"The plugin {plugin} failed; the server's log says more."
                    return Response(content(500, detail), 500, media_type=MEDIA_TYPE)

            return guarded

    return Guarded
