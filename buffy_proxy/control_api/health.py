"""`GET /health`: is the store readable, and how full is it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from buffy_proxy import __version__
from buffy_proxy.config import Config
from buffy_proxy.control_api.problems import documented
from buffy_proxy.store import Store


class Health(BaseModel):
    """What a monitor wants to know. Sizes are bytes."""

    status: Literal["ok"] = "ok"
    version: str = Field(examples=["0.1.0"])
    offline: bool
    resources: int = Field(examples=[120])
    versions: int = Field(examples=[150])
    bodies: int = Field(examples=[140])
    body_bytes: int = Field(examples=[73400320])
    capacity_bytes: int = Field(examples=[21474836480])


def router(store: Store, config: Config) -> APIRouter:
    routes = APIRouter(tags=["operation"])

    @routes.get("/health", summary="Is the server up, and how full is its store?", responses=documented())
    def health() -> Health:
        usage = store.usage()
        return Health(
            version=__version__,
            offline=config.offline,
            resources=usage.resources,
            versions=usage.versions,
            bodies=usage.bodies,
            body_bytes=usage.body_bytes,
            capacity_bytes=usage.capacity,
        )

    return routes
