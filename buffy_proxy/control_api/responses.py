"""The routes of `/v1/request/{id}/response`: the versions of a request, their content, pins and tags."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from buffy_proxy.control_api import content
from buffy_proxy.control_api import schemas as s
from buffy_proxy.control_api.problems import documented
from buffy_proxy.control_api.requests import RequestId, Skip
from buffy_proxy.control_api.shelf import Entry, Shelf, select
from buffy_proxy.control_api.translate import Translator
from buffy_proxy.core.model import Version
from buffy_proxy.store import Store

POLL_S = 0.02
TOUCH_S = 60.0

VersionName = Annotated[
    str, Path(description="The name of a version, or `latest`.", examples=["latest", "1htc2v5h2a0"])
]
Tag = Annotated[str | None, Query(description="Only those with this tag.")]
OnlyStatus = Annotated[s.Status | None, Query(description="Only those in this state.")]
HEADERS = {
    name: {"schema": {"type": "string"}, "description": what}
    for name, what in (
        ("ETag", "Strong: names the bytes."),
        ("Accept-Ranges", "`bytes`"),
        ("Content-Disposition", "As stored, if it was sent by the origin."),
        ("Content-Encoding", "As stored: the bytes are as they came over the wire."),
    )
}
BYTES: dict[str, Any] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The stored bytes.", "headers": HEADERS, "content": BYTES},
    206: {"description": "The parts that `Range` asked for.", "headers": HEADERS, "content": BYTES},
    304: {"description": "The client has these bytes already (`If-None-Match`)."},
    412: {"description": "`If-Match` names other bytes."},
    416: {"description": "The range lies outside."},
    **documented(404, 409, 410, 422),
}


def router(store: Store, shelf: Shelf, out: Translator) -> APIRouter:
    routes = APIRouter(prefix="/v1/request/{request_id}/response", tags=["Response"])

    def told(request_id: str, entry: Entry) -> s.Response:
        return out.response(shelf.resource(request_id), entry)

    def updated(request_id: str, version: Version) -> s.Response:
        return told(request_id, shelf.entry(request_id, version.name))

    @routes.get("", summary="All versions, newest first", responses=documented(404, 422))
    def responses(
        request_id: RequestId,
        status: OnlyStatus = None,
        tag: Tag = None,
        skip: Skip = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    ) -> list[s.Response]:
        found = select(shelf.entries(request_id), time.time(), status=status, tag=tag)
        return [told(request_id, entry) for entry in found[skip : skip + limit]]

    @routes.get(
        "/latest",
        summary="The newest version that matches",
        response_model=s.Response,
        responses={204: {"description": "None matches."}, **documented(404, 422)},
    )
    def latest(
        request_id: RequestId,
        status: OnlyStatus = None,
        tag: Tag = None,
        pinned: Annotated[bool | None, Query(description="Only pinned ones, or only others.")] = None,
    ) -> Any:
        found = select(shelf.entries(request_id), time.time(), status=status, tag=tag, pinned=pinned)
        return told(request_id, found[0]) if found else Response(status_code=204)

    @routes.get("/t/{tag}", summary="The versions with a tag", responses=documented(404, 422))
    def tagged(request_id: RequestId, tag: str) -> list[s.Response]:
        found = select(shelf.entries(request_id), time.time(), tag=tag)
        return [told(request_id, entry) for entry in found]

    @routes.get("/v/{version}", summary="One version", responses=documented(404, 422))
    async def response(
        request_id: RequestId,
        version: VersionName,
        wait_sec: Annotated[
            float,
            Query(ge=0, le=60, description="Answer once it is neither `wait` nor `in_progress`, or then."),
        ] = 0,
    ) -> s.Response:
        entry = await _settled(shelf, request_id, version, wait_sec)
        return await run_in_threadpool(told, request_id, entry)

    def bytes_of(request_id: RequestId, version: VersionName, request: Request) -> Response:
        """`Range`, `If-Range`, `If-None-Match` and `If-Match` work; the ETag is that of the bytes, not the
        origin's. An order that ended as `duplicate` gives the bytes of its result."""
        answer = content.answer_for(store, shelf.stored(request_id, version), request)
        if time.time() - shelf.resource(request_id).requested_at > TOUCH_S:
            store.touch([request_id], time.time())
        return answer

    for method, register in (("get", routes.get), ("head", routes.head)):
        register(
            "/v/{version}/content",
            summary="The stored bytes" if method == "get" else "The head of the same answer",
            operation_id=f"content_{method}",
            response_class=Response,
            responses=CONTENT,
        )(bytes_of)

    @routes.put(
        "/v/{version}/pin",
        summary="Pin or unpin a version",
        responses=documented(403, 404, 409, 413, 422, 507),
    )
    def pin(request_id: RequestId, version: VersionName, claim: s.PinClaim) -> s.Response:
        """A pinned version is not removed, and answers until it is unpinned or its time is over."""
        meant, now = content.with_content(shelf.stored(request_id, version)), time.time()
        until = None if not claim.value else now + (claim.duration_sec or float("inf"))
        return updated(request_id, store.set_pin(request_id, meant.name, until, now=now).result())

    @routes.put(
        "/v/{version}/tag",
        summary="Tag a version, or remove a tag",
        responses=documented(403, 404, 409, 413, 422, 507),
    )
    def tag(request_id: RequestId, version: VersionName, claim: s.TagClaim) -> s.Response:
        """A tag is on one version of a request: adding it takes it from another one."""
        meant, now = content.with_content(shelf.stored(request_id, version)), time.time()
        present = not claim.delete
        tagged = store.set_tag(request_id, meant.name, claim.value, present, now=now).result()
        return updated(request_id, tagged)

    return routes


async def _settled(shelf: Shelf, request_id: str, name: str, seconds: float) -> Entry:
    """The entry once nothing is under way for it, or as it is when the time is over. The store is asked again
    and again: its records come from another process."""
    deadline = time.monotonic() + seconds
    entry = shelf.entry(request_id, name)
    while entry.pending and (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(POLL_S, left))
        entry = shelf.entry(request_id, entry.name)
    return entry
