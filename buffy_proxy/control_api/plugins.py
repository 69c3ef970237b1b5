"""The routes that plugins add, each plugin's under /plugins/NAME."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from buffy_proxy.plugins import Plugins


def mount(app: FastAPI, plugins: Plugins) -> None:
    """A plugin whose `register_routes` fails has no routes; one whose routes do not fit is counted, too."""
    for one in plugins.each("register_routes"):
        router = APIRouter(prefix=f"/plugins/{one.plugin}", tags=[one.plugin])
        before = plugins.failures.total
        plugins.ask("register_routes", one, router=router)
        if plugins.failures.total > before:
            continue
        try:
            app.include_router(router)
        except Exception as error:
            plugins.failures.note(one.plugin, "register_routes", error)
