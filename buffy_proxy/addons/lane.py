"""Hits for HTTP/2 clients, answered from the frame that asks for them; all else goes to an H2Connection.

    bytes ─> frames ─┬─> HEADERS of a new stream, whole, a GET or HEAD that is a hit now ──> HEADERS, DATA
                     └─> anything else ──> the H2Connection, whose events mitmproxy or the front handles

A stream that begins and ends here is none that the H2Connection ever has, it only hears its number. It keeps
what concerns the connection: settings, flow control, HPACK. Both decode with one table: a block that was
decoded here and is no hit after all is decoded again from memory. Blocks that go out from here use no table.

An answer must fit the flow-control windows as they are (RFC 9113 §5.2), or it goes the other way and waits.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import h2.connection
import hpack
from mitmproxy.proxy.layers.http import Http2Server
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from buffy_proxy.addons.interceptor import Interceptor
from buffy_proxy.core import fields as f
from buffy_proxy.core.blocks import CONNECTION_SPECIFIC
from buffy_proxy.core.model import Fields, Request
from buffy_proxy.selectors import Selectors

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PUSH_PROMISE, CONTINUATION = 0, 1, 5, 9
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32
HEADER_SIZE: Final = 9
WRITE_SIZE: Final = 64 * 1024
"""Bytes of answers that are put together before the client must take some."""
AT_ONCE: Final = 100
"""Streams that a client may have at a time, by our settings. More in one piece are not answered here."""

_OTHERS: Final = frozenset({DATA, HEADERS, PUSH_PROMISE, CONTINUATION})
_PSEUDO: Final = {b":method", b":scheme", b":authority", b":path"}
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]+)?")
_PATH: Final = re.compile(rb"/[!-~]*")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"([^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?")
_COMPLICATED: Final = CONNECTION_SPECIFIC | {b"content-length", b"expect", b"host", b"proxy-authorization"}
Lines = Sequence[tuple[bytes, bytes]]


class Decoder(hpack.Decoder):
    """Knows the last block that was looked into, so that it can be decoded once more."""

    def __init__(self) -> None:
        super().__init__()
        self.max_header_list_size = h2.connection.H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE
        self._block: bytes | None = None
        self._result: Any = None

    def look(self, block: bytes) -> Lines | None:
        """What the block says, None where it is not valid; `decode` will give, or raise, the same."""
        if block != self._block:
            try:
                self._result = super().decode(block, raw=True)
            except Exception as error:
                self._result = error
            self._block = block
        return None if isinstance(self._result, Exception) else self._result

    def forget(self) -> None:
        self._block = None

    def decode(self, data: bytes, raw: bool = False) -> Any:
        if data != self._block:
            return super().decode(data, raw)
        self._block = None
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


class Desk:
    """Where the requests of one connection are asked for. `base`: scheme and authority of its CONNECT."""

    def __init__(self, interceptor: Interceptor, base: str, session: Selectors) -> None:
        self._interceptor = interceptor
        self._now = interceptor.cache.now
        self._hot = interceptor.hot
        self._base = base
        self._session = session
        self._key = f"h2 {base} {session!r} ".encode()

    def ask(self, lines: Lines, room: int) -> tuple[bytes, bytes] | None:
        """The field block and the content of a hit that needs no waiting, and no more than `room` bytes of
        content; else None. Counted and logged as any other."""
        flat = b"\n".join(itertools.chain.from_iterable(lines))
        key = self._key + flat
        entry = self._hot.get(key)
        if entry is not None:
            if entry.size > room:
                return None
            said = self._interceptor.say_again(entry, self._now())
            if said is not None:
                cut = len(said) - entry.size
                return said[:cut], said[cut:]
            self._hot.drop(key)
        request = self.request_of(lines)
        if request is None:
            return None
        return self._interceptor.answer_block(request, self._session, key, room)

    def request_of(self, lines: Lines) -> Request | None:
        """None for what is not plainly a valid GET or HEAD."""
        simple = _simple(lines)
        if simple is None:
            return None
        method, path, fields = simple
        try:
            url = f.normalise_url(self._base + path)
        except ValueError:
            return None
        return self._interceptor.asked(self._session, method, url, fields)


def _simple(lines: Lines) -> tuple[str, str, Fields] | None:
    """Method, path and fields of a plainly valid GET or HEAD (RFC 9113 §8.2, §8.3)."""
    pseudo, fields = dict(lines[:4]), tuple(lines[4:])
    if pseudo.keys() != _PSEUDO or pseudo[b":scheme"] != b"https":
        return None
    if not _PATH.fullmatch(pseudo[b":path"]) or not _AUTHORITY.fullmatch(pseudo[b":authority"]):
        return None
    for name, value in fields:
        if name in _COMPLICATED or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return None
        if name == b"te" and value != b"trailers":
            return None
    method = pseudo[b":method"].decode("latin-1")
    return (method, pseudo[b":path"].decode(), fields) if method in ("GET", "HEAD") else None


class Lane:
    """One client's connection: `feed` it, then take `answers` and `frames` in turn until both are empty.

    h2     the H2Connection. Whoever takes `frames` gives them to it before asking for more answers; what it
           has to send goes out before those
    quiet  whether the frames that were taken last begin no stream and go on with none: settings, pings …
    moved  is set when a window may have opened
    drop   is told the number of a stream that the client gave up
    """

    def __init__(self, desk: Desk) -> None:
        self.h2 = BufferedH2Connection(Http2Server.h2_conf)
        self._decoder = self.h2.decoder = Decoder()
        self.quiet = True
        self.moved = asyncio.Event()
        self.drop: Callable[[int], None] = lambda stream: None
        self._desk = desk
        self._buffer = b""
        self._at = 0
        self._greeted = False  # the connection preface went by
        self._continues = False  # a field block goes on in the next frame
        self._lost = False  # where a frame begins: h2 will say what is wrong
        self._asked = 0
        self._declined = -1
        self._opened = False

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data
        self._at = self._asked = 0
        self._declined = -1

    def rest(self) -> bytes:
        """What was fed and not taken."""
        rest, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return rest

    @property
    def closed(self) -> bool:
        """Whether either side ended the connection (RFC 9113 §6.8)."""
        return self.h2.state_machine.state is h2.connection.ConnectionState.CLOSED

    def answers(self) -> bytes:
        """To the requests that come next, as far as they are hits; at most some WRITE_SIZE."""
        parts: list[bytes] = []
        size = 0
        while size < WRITE_SIZE and self._at != self._declined and (end := self._asks(self._at)):
            said = self._answer(self._buffer[self._at : end]) if self._asked < AT_ONCE else None
            if said is None:
                self._declined = self._at
                break
            parts.append(said)
            size += len(said)
            self._at = end
            self._asked += 1
        return b"".join(parts)

    def question(self) -> tuple[int, Request, bytes] | None:
        """Stream, request and frame of the GET or HEAD that comes next and is no hit at once. It is taken
        then, as with `frames`. None for anything else."""
        end = self._asks(self._at) if self._at == self._declined else 0
        if not end:
            return None
        frame = self._buffer[self._at : end]
        lines = self._decoder.look(_block(frame))
        request = None if lines is None else self._desk.request_of(lines)
        if request is None:
            return None
        self._at = end
        return int.from_bytes(frame[5:9], "big"), request, frame

    async def window_open(self, stream: int, paused: Callable[[], bool]) -> None:
        """Waits until what was sent on the stream is on its way, and the connection is not `paused`."""
        while self.h2.stream_buffers.get(stream) or paused():
            self.moved.clear()
            await self.moved.wait()

    def frames(self) -> bytes:
        """The whole frames that come next, all `quiet` or none, up to one that `answers` should see first."""
        self.quiet = True
        start = at = self._at
        if not self._greeted:
            at = self._greet(at)
        while not self._lost and (end := self._end(at)) and (at == start or not self._asks(at)):
            kind, flags = self._buffer[at + 3], self._buffer[at + 4]
            quiet = kind not in _OTHERS
            if at > start and quiet is not self.quiet:
                break
            if kind in (HEADERS, CONTINUATION):
                self._continues = not flags & END_HEADERS
            self.quiet = quiet
            at = end
        if self._lost:
            self.quiet, at = False, len(self._buffer)
        self._at = at
        return self._buffer[start:at]

    def _greet(self, at: int) -> int:
        found = self._buffer[at : at + len(PREFACE)]
        self._greeted = found == PREFACE
        self._lost = not PREFACE.startswith(found)
        return at + len(PREFACE) if self._greeted else at

    def _end(self, at: int) -> int:
        """Where the frame ends that begins at `at`, 0 if it is not whole yet."""
        buffer = self._buffer
        if not self._greeted or len(buffer) < at + HEADER_SIZE:
            return 0
        size = int.from_bytes(buffer[at : at + 3], "big")
        self._lost = self._lost or size > self.h2.max_inbound_frame_size
        end = at + HEADER_SIZE + size
        return end if end <= len(buffer) else 0

    def _asks(self, at: int) -> int:
        """Where the frame at `at` ends, if it is whole and a whole request of a new stream; else 0."""
        buffer = self._buffer
        if self._continues or len(buffer) < at + HEADER_SIZE or buffer[at + 3] != HEADERS:
            return 0
        if buffer[at + 4] & (END_STREAM | END_HEADERS | PADDED) != END_STREAM | END_HEADERS:
            return 0
        stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
        if not stream & 1 or not self.h2.highest_inbound_stream_id < stream < 1 << 31 or self.closed:
            return 0
        return self._end(at)

    def _answer(self, frame: bytes) -> bytes | None:
        connection = self.h2
        lines = self._decoder.look(_block(frame))
        room = min(connection.outbound_flow_control_window, connection.remote_settings.initial_window_size)
        said = None if lines is None else self._desk.ask(lines, room)
        if said is None:
            return None
        self._decoder.forget()
        block, content = said
        if not self._opened:
            self._opened = True
            connection.state_machine.process_input(h2.connection.ConnectionInputs.RECV_HEADERS)
        connection.highest_inbound_stream_id = int.from_bytes(frame[5:9], "big")
        connection.outbound_flow_control_window -= len(content)
        if connection.encoder.header_table.resized:
            block = connection.encoder.encode([]) + block
        return message(frame[5:9], block, content, connection.max_outbound_frame_size)


def _block(frame: bytes) -> bytes:
    return frame[HEADER_SIZE + (5 if frame[4] & WITH_PRIORITY else 0) :]


def message(stream: bytes, block: bytes, content: bytes, most: int) -> bytes:
    """The frames of a whole response on a stream (its number as four bytes); none is longer than `most`."""
    end = 0 if content else END_STREAM
    if len(block) <= most and len(content) <= most:
        parts = [_frame_head(len(block), HEADERS, END_HEADERS | end, stream), block]
        if content:
            parts += (_frame_head(len(content), DATA, END_STREAM, stream), content)
        return b"".join(parts)
    parts = []
    for at in range(0, len(block), most):
        part = block[at : at + most]
        flags = (END_HEADERS if at + most >= len(block) else 0) | (end if at == 0 else 0)
        parts += (_frame_head(len(part), CONTINUATION if at else HEADERS, flags, stream), part)
    for at in range(0, len(content), most):
        part = content[at : at + most]
        parts += (_frame_head(len(part), DATA, END_STREAM if at + most >= len(content) else 0, stream), part)
    return b"".join(parts)


def _frame_head(size: int, kind: int, flags: int, stream: bytes) -> bytes:
    return b"%b%c%c%b" % (size.to_bytes(3, "big"), kind, flags, stream)
