"""GETs and HEADs over HTTP/2 that take time: a task for each, on a connection whose frames others read.

They go on as they are when mitmproxy gets the connection; whoever reads the frames tells of streams that the
client gave up (`Lane.drop`). A task writes what the windows of the client let through, and waits for more
(`Lane.moved`), so a stream keeps at most one chunk in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from buffy_proxy.addons.body import Body
from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.addons.lane import Lane
from buffy_proxy.answer import Answer
from buffy_proxy.core import fields as f
from buffy_proxy.core.blocks import field_list
from buffy_proxy.core.model import Fields, Request, Response
from buffy_proxy.origin import interim_sink
from buffy_proxy.selectors import Selectors

log = logging.getLogger("buffy.proxy")


class Streams:
    """`write` takes bytes for the client, `paused` tells whether it does not take what was written."""

    def __init__(
        self,
        interceptor: Interceptor,
        lane: Lane,
        write: Callable[[bytes], None],
        paused: Callable[[], bool],
    ) -> None:
        self._interceptor = interceptor
        self._lane = lane
        self._write = write
        self._paused = paused
        self._tasks: dict[int, asyncio.Task[None]] = {}
        lane.drop = self._drop

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, stream: int, request: Request, session: Selectors) -> None:
        task = asyncio.ensure_future(self._answer(stream, request, session))
        self._tasks[stream] = task
        task.add_done_callback(lambda _: self._tasks.pop(stream, None))

    def _drop(self, stream: int) -> None:
        if (task := self._tasks.get(stream)) is not None:
            task.cancel()

    def close(self) -> None:
        """The client is gone."""
        for task in list(self._tasks.values()):
            task.cancel()

    async def ended(self) -> None:
        """Waits for all that were begun."""
        if self._tasks:
            await asyncio.wait([*self._tasks.values()])

    # -- one of them --------------------------------------------------------------------------------------
    async def _answer(self, stream: int, request: Request, session: Selectors) -> None:
        interim_sink.set(lambda head: self._hear(stream, head))
        try:
            answer = await self._interceptor.cache.open(request)
        except Exception:
            log.exception("no answer for %s", request.url)
            self._break_off(stream)
            return
        body = StreamBody(self, stream, answer, request)
        try:
            await body.send()
        finally:
            answer.close()
            self._interceptor.note(answer, body.sent, session, request, early=not body.whole)
        if not body.whole:
            self._break_off(stream)

    def _hear(self, stream: int, head: Response) -> None:
        """An interim response (RFC 9110 §15.2); none is expected after the final one."""
        machine = self._lane.h2.streams[stream].state_machine if stream in self._lane.h2.streams else None
        if machine is not None and not machine.headers_sent and not self._lane.closed:
            self.head(stream, head.status, f.end_to_end(head.fields), end=False)

    def _break_off(self, stream: int) -> None:
        """The client must see that what it got is not all (RFC 9113 §8.1)."""
        try:
            self._lane.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        except ProtocolError:
            return
        self.flush()

    # -- for the body -------------------------------------------------------------------------------------
    def head(self, stream: int, status: int, fields: Fields, *, end: bool) -> None:
        self._lane.h2.send_headers(stream, field_list(status, fields), end_stream=end)
        self.flush()

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        if data:
            self._lane.h2.send_data(stream, data)
        if end:
            self._lane.h2.end_stream(stream)
        self.flush()

    def flush(self) -> None:
        if data := self._lane.h2.data_to_send():
            self._write(data)

    async def room(self, stream: int) -> None:
        """Waits until the client has taken what was sent on this stream."""
        await self._lane.window_open(stream, self._paused)


class StreamBody(Body):
    """On one stream of an HTTP/2 connection."""

    def __init__(self, streams: Streams, stream: int, answer: Answer, request: Request) -> None:
        super().__init__(answer, request)
        self._streams = streams
        self._stream = stream

    async def _send(self) -> None:
        streams, stream, answer = self._streams, self._stream, self._answer
        content = b"" if self._without else answer.content or b""
        streamed = not self._without and answer.stream is not None
        streams.head(stream, answer.status, answer.fields, end=not content and not streamed)
        if content:
            streams.data(stream, content, end=True)
            await streams.room(stream)
            self.sent = len(content)
        if not streamed:
            return
        assert answer.stream is not None
        async for chunk in answer.stream:
            streams.data(stream, chunk)
            await streams.room(stream)
            self.sent += len(chunk)
        streams.data(stream, b"", end=True)
