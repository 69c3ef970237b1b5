"""The routes of `/v1/request/`: what is ordered, and how it is cached."""

from __future__ import annotations

import time
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from buffy_proxy.control_api import schemas as s
from buffy_proxy.control_api import translate
from buffy_proxy.control_api.desk import Desk
from buffy_proxy.control_api.problems import documented
from buffy_proxy.control_api.shelf import Shelf
from buffy_proxy.control_api.translate import Translator
from buffy_proxy.errors import NotFound
from buffy_proxy.store import Store

RequestId = Annotated[str, Path(description="The `id` of a request.", examples=["mzxw6ytboi4dcmrt"])]
Skip = Annotated[int, Query(ge=0, le=2**31, description="How many to leave out.")]


def router(store: Store, desk: Desk, shelf: Shelf, out: Translator) -> APIRouter:
    routes = APIRouter(prefix="/v1/request", tags=["Request"])

    @routes.get("/", summary="All known requests, oldest first", responses=documented(404, 422))
    def requests(
        group_name: Annotated[str | None, Query(description="Only those of this group.")] = None,
        skip: Skip = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[
            str | None,
            Query(
                description="Go on behind this request: as fast as the first page, however many there are."
            ),
        ] = None,
    ) -> list[s.Request]:
        found = store.resources(group=group_name or None, after=after, skip=skip)
        return [out.request(resource) for resource in islice(found, limit)]

    @routes.put(
        "/",
        summary="Find or create a request: one order",
        status_code=202,
        response_description="The request was known already.",
        responses={
            201: {"model": s.OrderedRequest, "description": "The request is new."},
            **documented(403, 413, 422, 507),
        },
    )
    def order(wish: s.RequestIn, answer: Response) -> s.OrderedRequest:
        """What is stored answers where the cache configuration allows it. Else the version that
        `current_response` names is fetched in the background; ask for it with `wait_sec`."""
        placed = desk.order(translate.wanted(wish), translate.card(wish))
        answer.status_code = 201 if placed.created else 202
        current = None if placed.name is None else shelf.entry(placed.resource.id, placed.name)
        return out.ordered(placed.resource, current)

    @routes.get("/{request_id}", summary="One request", responses=documented(404, 422))
    def request(request_id: RequestId) -> s.Request:
        return out.request(shelf.resource(request_id))

    @routes.get(
        "/{request_id}/status/{request_timestamp}",
        summary="Has this order been registered?",
        responses={
            202: {"model": s.RegistrationStatus, "description": "Not yet."},
            404: {"model": s.RegistrationStatus, "description": "There is no such request."},
            **documented(422),
        },
    )
    def status(
        request_id: RequestId,
        request_timestamp: Annotated[
            float, Path(allow_inf_nan=False, description="The `request_timestamp` of an order.")
        ],
        answer: Response,
    ) -> s.RegistrationStatus:
        """An order is registered before it is answered, so this says yes to every timestamp that was given
        out."""
        try:
            resource = shelf.resource(request_id)
        except NotFound:
            answer.status_code = 404
            return s.RegistrationStatus(status="not_existent")
        if request_timestamp <= max(resource.requested_at, time.time()):
            return s.RegistrationStatus(status="registered")
        answer.status_code = 202
        return s.RegistrationStatus(status="not_registered")

    @routes.get("/{request_id}/cache-config", summary="How it is cached", responses=documented(404, 422))
    def cache_config(request_id: RequestId) -> s.RequestCacheConfiguration:
        return out.configuration(shelf.resource(request_id))

    @routes.put(
        "/{request_id}/cache-config",
        summary="Change how it is cached",
        responses=documented(403, 404, 413, 422, 507),
    )
    def configure(request_id: RequestId, wish: s.CacheConfigurationIn) -> s.RequestCacheConfiguration:
        """Stored versions follow the new strategy at once; how many are kept applies when the next one
        comes."""
        resource = shelf.resource(request_id)
        return out.configuration(desk.configure(resource, translate.policy(wish)))

    return routes
