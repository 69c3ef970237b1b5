"""A range answer is the slice of the whole, to the byte: RFC 9110 §14 and §15.3.7.

The answers are made by `serving` from a stored body and joined as a client would see them.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy.answer import Answer
from buffy_proxy.core.fields import first, get_all
from buffy_proxy.core.model import Fields, Request, Retention, Version
from buffy_proxy.core.rules import answer_fields
from buffy_proxy.serving import from_store
from buffy_proxy.store.memory import MemoryStore
from tests.core.make import KEY, URL, T, date, fields, version

BODIES = st.binary(max_size=40) | st.lists(
    st.sampled_from([b"\r\n", b"--", b"buffy-", b"Content-Range: bytes 0-0/1", b"a"]), max_size=12
).map(b"".join)
Spec = tuple[int | None, int | None]
ENDS = st.tuples(st.integers(0, 45), st.integers(0, 45)).map(sorted)
SPECS: st.SearchStrategy[Spec] = st.one_of(
    ENDS.map(lambda ends: (ends[0], ends[1])),
    ENDS.map(lambda ends: (ends[0], None)),
    ENDS.map(lambda ends: (None, ends[0])),
)


def stored(body: bytes, *lines: str) -> tuple[MemoryStore, Version]:
    store = MemoryStore()
    writer = store.new_body()
    writer.write(body)
    ref = writer.finish()
    made = replace(version(*lines), resource_id=KEY.id, body=ref)
    store.add_version(KEY, made, writer, Retention(), now=T).result(timeout=10)
    return store, made


def get(store: MemoryStore, made: Version, *lines: str, method: str = "GET") -> tuple[Answer, bytes]:
    answer = from_store(
        store,
        Request(method, URL, fields(*lines)),
        made,
        answer_fields(made, T, b"buffy; hit"),
        b"buffy; hit",
    )
    content = asyncio.run(joined(answer))
    answer.close()
    return answer, content


async def joined(answer: Answer) -> bytes:
    if answer.stream is None:
        return answer.content or b""
    return b"".join([chunk async for chunk in answer.stream])


def written(specs: list[Spec]) -> str:
    return "Range: bytes=" + ", ".join("-".join("" if n is None else str(n) for n in spec) for spec in specs)


def meant(spec: Spec, body: bytes) -> bytes:
    """What one member names (RFC 9110 §14.1.2), by slicing."""
    start, end = spec
    if start is None:
        return body[-end:] if end else b""
    return body[start:] if end is None else body[start : end + 1]


def parts_of(answer: Answer, content: bytes) -> list[tuple[Fields, bytes]]:
    """The parts of a multipart/byteranges (RFC 2046 §5.1.1)."""
    kind = first(answer.fields, b"content-type") or b""
    found = re.fullmatch(rb"multipart/byteranges; boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})", kind)
    assert found is not None
    preamble, *parts, epilogue = content.split(b"\r\n--" + found[1])
    assert (preamble, epilogue) == (b"", b"--\r\n")
    split = [part.removeprefix(b"\r\n").partition(b"\r\n\r\n") for part in parts]
    return [(fields(*head.decode().split("\r\n")), body) for head, _, body in split]


def named(content_range: bytes | None, body: bytes) -> bytes:
    """The bytes that a Content-Range claims."""
    found = re.fullmatch(rb"bytes ([0-9]+)-([0-9]+)/([0-9]+)", content_range or b"")
    assert found is not None and int(found[3]) == len(body) and int(found[1]) <= int(found[2]) < len(body)
    return body[int(found[1]) : int(found[2]) + 1]


@given(BODIES, st.lists(SPECS, min_size=1, max_size=4))
def test_an_answer_to_a_range_is_the_slice_of_the_whole(body: bytes, specs: list[Spec]) -> None:
    answer, content = get(*stored(body, "Content-Type: text/x"), written(specs))
    slices = [s for spec in specs if (s := meant(spec, body))]
    assert get_all(answer.fields, b"content-length") == [b"%d" % len(content)]
    if answer.status == 416:
        assert not slices and first(answer.fields, b"content-range") == b"bytes */%d" % len(body)
    elif answer.status == 200:
        assert content == body and sum(map(len, slices)) > len(body)
    elif len(slices) == 1:
        assert (answer.status, content) == (206, slices[0])
        assert named(first(answer.fields, b"content-range"), body) == content
    else:
        parts = parts_of(answer, content)
        assert [part for _, part in parts] == slices
        assert [named(first(head, b"content-range"), body) for head, _ in parts] == slices
        assert all(first(head, b"content-type") == b"text/x" for head, _ in parts)
        assert first(answer.fields, b"content-range") is None


@given(BODIES.filter(lambda body: len(body) > 1), st.data())
def test_consecutive_ranges_join_to_the_whole(body: bytes, data: st.DataObject) -> None:
    """Asked for one by one, and all in one request."""
    cuts = data.draw(st.sets(st.integers(1, len(body) - 1), min_size=1, max_size=5))
    edges = [0, *sorted(cuts), len(body)]
    specs: list[Spec] = [(a, b - 1) for a, b in pairwise(edges)]
    store, made = stored(body)
    assert b"".join(get(store, made, written([spec]))[1] for spec in specs) == body
    answer, content = get(store, made, written(specs))
    assert b"".join(part for _, part in parts_of(answer, content)) == body


ETAG, NOW, THEN = '"a"', date(T), date(T - 3600)
IF_RANGE = st.sampled_from(
    [  # Last-Modified, If-Range, status; all is dated T
        (THEN, ETAG, 206),
        (THEN, 'W/"a"', 200),
        (THEN, '"b"', 200),
        (THEN, THEN, 206),
        (THEN, date(T - 3599), 200),
        (THEN, NOW, 200),
        (NOW, NOW, 200),  # RFC 9110 §8.8.2.2: it may have changed again within the second
        (date(T - 1), date(T - 1), 206),
        (THEN, "x", 200),
    ]
)


@given(BODIES.filter(bool), st.integers(0, 39), IF_RANGE)
def test_if_range_gives_the_slice_or_the_whole(
    body: bytes, start: int, condition: tuple[str, str, int]
) -> None:
    """Never a slice of what the client does not have the rest of (RFC 9110 §13.1.5)."""
    modified, value, status = condition
    store, made = stored(body, f"ETag: {ETAG}", f"Last-Modified: {modified}")
    start %= len(body)
    answer, content = get(store, made, f"Range: bytes={start}-", f"If-Range: {value}")
    assert (answer.status, content) == (status, body[start:] if status == 206 else body)


@given(BODIES, st.lists(SPECS, min_size=1, max_size=3))
def test_head_ignores_range(body: bytes, specs: list[Spec]) -> None:
    """RFC 9110 §14.2: Range is defined for GET."""
    answer, content = get(*stored(body), written(specs), method="HEAD")
    assert (answer.status, content) == (200, b"")
    assert first(answer.fields, b"content-length") == b"%d" % len(body)
