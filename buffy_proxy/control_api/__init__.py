"""The control API: the only place that imports fastapi. It shares nothing with the proxy but the store."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware

from buffy_proxy import __version__
from buffy_proxy.config import Config
from buffy_proxy.control_api import description, health, metrics, plugins, problems, requests, responses
from buffy_proxy.control_api.desk import Desk
from buffy_proxy.control_api.digests import Digests
from buffy_proxy.control_api.gate import Gate
from buffy_proxy.control_api.shelf import Shelf
from buffy_proxy.control_api.translate import Translator
from buffy_proxy.core.strategies import STRATEGIES
from buffy_proxy.store import Store


def create_app(store: Store, config: Config) -> FastAPI:
    """The application; `store` stays the caller's to close."""
    # FastAPI's own documentation page loads its script from a CDN; people without a link must see it too.
    app: FastAPI = FastAPIOffline(
        title="Buffy",
        version=__version__,
        description=description.TEXT,
        openapi_tags=description.TAGS,
        middleware=[Middleware(Gate, config=config)],
    )
    problems.install(app)
    desk, shelf = Desk(store, config), Shelf(store)
    out = Translator(desk, Digests(store), store.secret)
    app.include_router(requests.router(store, desk, shelf, out))
    app.include_router(responses.router(store, shelf, out))
    app.include_router(health.router(store, config))
    app.include_router(metrics.router(store))
    app.add_api_route("/", _to_the_docs, include_in_schema=False)
    plugins.mount(app, config.plugins)
    custom = {name: kind for name, kind in config.plugins.strategies.items() if name not in STRATEGIES}
    description.complete(app, secured=config.api_credentials is not None, strategies=custom)
    return app


def _to_the_docs(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")
