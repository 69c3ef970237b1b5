"""Answers from stored versions: the whole, ranges, conditions, and bodies read chunk by chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from buffy_proxy.answer import Answer
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import Fields, Request, Version
from buffy_proxy.errors import BodyMissing
from buffy_proxy.spool import READ_SIZE
from buffy_proxy.store import BodyReader, Store

SHORT_BODY = "a stored body is shorter than its record says; run `buffy store check`"


def from_store(store: Store, request: Request, version: Version, fields: Fields, status: bytes) -> Answer:
    """The answer to `request` from a version that was chosen for it. `fields` come from core's
    `answer_fields`, `status` is the Cache-Status in them. Raises BodyMissing."""
    answer = _without_body(request, version, fields, status) or _with_body(
        store, request, version, fields, status
    )
    answer.resource_id = version.resource_id
    return answer


def conditional(request: Request, version: Version, fields: Fields, status: bytes) -> Answer | None:
    """304 or 412 where the client's own conditions say so (RFC 9110 §13), else None."""
    match rules.precondition(request, version):
        case "304":
            kept = f.without(fields, (b"content-length",))
            return Answer(304, b"Not Modified", kept, cache_status=status, source="cache")
        case "412":
            fields = ((b"Content-Length", b"0"), (b"Cache-Status", status))
            return Answer(
                412, b"Precondition Failed", fields, cache_status=status, content=b"", source="buffy"
            )
        case None:
            return None


def _without_body(request: Request, version: Version, fields: Fields, status: bytes) -> Answer | None:
    if answer := conditional(request, version, fields, status):
        return answer
    if request.method != "HEAD":
        return None
    size = version.body.size
    fields = _with_length(fields, size)
    return Answer(version.status, version.reason, fields, cache_status=status, size=size, source="cache")


def _with_body(store: Store, request: Request, version: Version, fields: Fields, status: bytes) -> Answer:
    ranges = rules.byte_range(request, version)
    if isinstance(ranges, f.Unsatisfiable):
        fields = f.with_field(_with_length(fields, 0), b"Content-Range", ranges.content_range())
        return Answer(416, b"Range Not Satisfiable", fields, cache_status=status, content=b"", source="cache")
    part = rules.slice_of(request, version) if version.status == 206 else None
    body = store.open_body(version.body)
    if part is not None:
        return _from_part(part, version, fields, status, body)
    if ranges is None:
        return _whole(version, fields, status, body)
    return _partial(ranges, version, fields, status, body)


def _whole(version: Version, fields: Fields, status: bytes, body: BodyReader) -> Answer:
    size = version.body.size
    if version.status not in (204, 304):
        fields = _with_length(fields, size)
    content = None
    if size <= READ_SIZE:
        content = body.read_at(0, size)
        body.close()
        if len(content) != size:
            raise BodyMissing(SHORT_BODY)
    return Answer(
        version.status,
        version.reason,
        fields,
        cache_status=status,
        content=content,
        stream=None if content is not None else _read(body, 0, size),
        size=size,
        source="cache",
        on_close=body.close,
    )


def _partial(
    ranges: list[f.ByteRange], version: Version, fields: Fields, status: bytes, body: BodyReader
) -> Answer:
    """206 with one part or several (RFC 9110 §15.3.7)."""
    if len(ranges) == 1:
        first, last = ranges[0]
        length, stream = last - first + 1, _read(body, first, last - first + 1)
        fields = f.with_field(fields, b"Content-Range", f.content_range(first, last, version.body.size))
    else:
        parts = rules.multipart(version, ranges)
        length, stream = parts.length, _read_parts(body, parts)
        fields = f.with_field(fields, b"Content-Type", parts.content_type)
    return Answer(
        206,
        b"Partial Content",
        _with_length(fields, length),
        cache_status=status,
        stream=stream,
        size=length,
        source="cache",
        on_close=body.close,
    )


def _from_part(
    part: rules.Slice, version: Version, fields: Fields, status: bytes, body: BodyReader
) -> Answer:
    """206 out of a stored 206 (RFC 9111 §3.3)."""
    fields = _with_length(f.with_field(fields, b"Content-Range", part.content_range), part.length)
    return Answer(
        206,
        b"Partial Content",
        fields,
        cache_status=status,
        stream=_read(body, part.offset, part.length),
        size=part.length,
        source="cache",
        on_close=body.close,
    )


def _with_length(fields: Fields, size: int) -> Fields:
    return f.with_field(fields, b"Content-Length", b"%d" % size)


async def _read(body: BodyReader, offset: int, length: int) -> AsyncIterator[bytes]:
    """Chunks of a stored body. What may have to wait for the disk is read in a thread."""
    end = offset + length
    while offset < end:
        wanted = min(READ_SIZE, end - offset)
        chunk = body.read_at(offset, wanted) if length <= READ_SIZE else body.read_now(offset, wanted)
        if chunk is None:
            chunk = await asyncio.to_thread(body.read_at, offset, wanted)
        if not chunk:
            raise BodyMissing(SHORT_BODY)
        yield chunk
        offset += len(chunk)
        await asyncio.sleep(0)  # a client that takes everything at once is not the only one


async def _read_parts(body: BodyReader, parts: rules.Multipart) -> AsyncIterator[bytes]:
    for head, (first, last) in parts.parts:
        yield head
        async for chunk in _read(body, first, last - first + 1):
            yield chunk
    yield parts.tail
