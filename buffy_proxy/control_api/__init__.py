"""The control API: the only place that imports fastapi. It shares nothing with the proxy but the store."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from buffy_proxy import __version__
from buffy_proxy.config import Config
from buffy_proxy.control_api import health
from buffy_proxy.store import Store

DESCRIPTION = """
Buffy is a versioned cache between a program and the web. This API is its second door: explicit access to
what the proxy stored, over the same store.
"""


def create_app(store: Store, config: Config) -> FastAPI:
    """The application; `store` stays the caller's to close."""
    # FastAPI's own documentation page loads its script from a CDN; people without a link must see it too.
    app: FastAPI = FastAPIOffline(title="Buffy", version=__version__, description=DESCRIPTION)
    app.include_router(health.router(store, config))
    return app
