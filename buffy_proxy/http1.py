"""HTTP/1.1 towards an origin, without I/O: bytes in, events out.

Most exchanges are plain: a GET without content, answered by a final response with one Content-Length on a
connection that stays. Those are written and read here. Everything else, down to the first thing that looks
odd, is h11's, which then hears the exchange from its beginning: what is strict here is lenient there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import h11

from buffy_proxy.core.fields import first, framed
from buffy_proxy.core.head import parse_response_head, write_request_head
from buffy_proxy.core.model import Fields, Response

MAX_HEAD: Final = 256 * 1024
_SIMPLE_HEAD: Final = 32 * 1024
_START: Final = b"HTTP/1.1 "


class Malformed(Exception):
    """What the origin sends is no HTTP/1.1, or ends too early."""


class Unwritable(Exception):
    """This request cannot be written as HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Interim:
    """A 1xx response (RFC 9110 §15.2)."""

    response: Response


@dataclass(frozen=True, slots=True)
class Head:
    """The final response; `size` is the announced length of its content in bytes, None where only the end
    tells."""

    response: Response
    size: int | None


@dataclass(frozen=True, slots=True)
class Content:
    """Some bytes of the content."""

    data: bytes


class Signal:
    """An event that says nothing more."""


END: Final = Signal()
"""The response is whole."""
NEED_DATA: Final = Signal()
CLOSED: Final = Signal()
"""Nothing more comes."""

Event = Interim | Head | Content | Signal


class Http1:
    """The client's side of one connection. One exchange after the other: `request`, then `receive` and
    `next_event` until END, then `next_exchange`."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._h11: h11.Connection | None = None
        self._asked: tuple[str, str, Fields] = ("", "", ())
        self._pieces: deque[bytes] = deque()
        self._left: int | None = None  # bytes of content to come; None before the head
        self._ended = False
        self._eof = False
        self._fed = 0  # bytes that h11 has heard since the last head

    # -- requests -----------------------------------------------------------------------------------------
    def request(self, method: str, target: str, fields: Fields, body: bytes) -> bytes:
        """The bytes of a request. Raises Unwritable."""
        self._asked = (method, target, fields)
        if not body and (head := write_request_head(method, target, fields)) is not None:
            return head
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        return self._tell_h11(self._h11, body)

    def _tell_h11(self, connection: h11.Connection, body: bytes) -> bytes:
        method, target, fields = self._asked
        try:
            data = connection.send(h11.Request(method=method, target=target, headers=list(fields))) or b""
            if body:
                data += connection.send(h11.Data(data=body)) or b""
            return data + (connection.send(h11.EndOfMessage()) or b"")
        except (h11.LocalProtocolError, UnicodeError) as error:
            raise Unwritable(str(error)) from error

    # -- responses ----------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> None:
        """What came; b"" for the end of the stream."""
        if self._h11 is not None:
            self._h11.receive_data(data)
            self._fed += len(data)
        elif data:
            self._pieces.append(data)
        else:
            self._eof = True

    def next_event(self) -> Event:
        """Raises Malformed."""
        if self._h11 is not None:
            return self._from_h11(self._h11)
        if self._left is None:
            return self._head()
        if self._left == 0:
            self._ended = True
            return END
        if not self._pieces:
            return self._hand_to_h11() if self._eof else NEED_DATA
        piece = self._pieces.popleft()
        if len(piece) > self._left:
            self._pieces.appendleft(piece[self._left :])
            piece = piece[: self._left]
        self._left -= len(piece)
        return Content(piece)

    def _head(self) -> Event:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        head = parse_response_head(data)
        if head is None or not head.simple:
            more = (
                not self._eof and len(data) < _SIMPLE_HEAD and b"\n\r\n" not in data and b"\n\n" not in data
            )
            if more and (data.startswith(_START) or _START.startswith(data)):
                return NEED_DATA
            return self._hand_to_h11()
        _check_size(head.size)
        self._pieces.clear()
        if len(data) > head.size:
            self._pieces.append(data[head.size :])
        self._left = 0 if self._asked[0] == "HEAD" or head.status == 304 else head.length
        return Head(Response(head.status, head.reason, head.fields), head.length)

    def _hand_to_h11(self) -> Event:
        """All of this exchange so far. Of a simple response that ends too early, what is missing is told."""
        if self._left is not None:
            raise Malformed(f"{self._left} bytes of the content are missing")
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._tell_h11(self._h11, b"")
        self._fed = sum(map(len, self._pieces))
        self._h11.receive_data(b"".join(self._pieces))
        if self._eof:
            self._h11.receive_data(b"")
        self._pieces.clear()
        return self._from_h11(self._h11)

    def _from_h11(self, connection: h11.Connection) -> Event:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise Malformed(str(error)) from error
        if isinstance(event, h11.Data):
            return Content(bytes(event.data)) if event.data else self._from_h11(connection)
        if event is h11.NEED_DATA:
            return NEED_DATA
        if isinstance(event, h11.EndOfMessage):
            return END
        if isinstance(event, h11.Response | h11.InformationalResponse):
            rest = len(connection.trailing_data[0])
            _check_size(self._fed - rest)
            self._fed = rest
        if isinstance(event, h11.Response):
            fields = framed(event.status_code, tuple(event.headers.raw_items()))
            length = first(fields, b"content-length")
            response = Response(event.status_code, bytes(event.reason), fields)
            return Head(response, None if length is None else int(length))
        if isinstance(event, h11.InformationalResponse):
            fields = framed(event.status_code, tuple(event.headers.raw_items()))
            return Interim(Response(event.status_code, bytes(event.reason), fields))
        return CLOSED

    @property
    def waiting(self) -> int:
        """Bytes of content that can be taken at once, where the exchange is a plain one; else 0."""
        return sum(map(len, self._pieces)) if self._left is not None else 0

    # -- from one exchange to the next --------------------------------------------------------------------
    def next_exchange(self) -> bool:
        """False: this connection is good for no other."""
        if (connection := self._h11) is not None:
            done = connection.our_state is h11.DONE and connection.their_state is h11.DONE
            usable = done and not connection.trailing_data[0]
        else:
            usable = self._ended and not self._pieces and not self._eof
        self._begin()
        return usable


def _check_size(size: int) -> None:
    """h11 looks at the limit only while a head is incomplete, so it depends on how the bytes come."""
    if size > MAX_HEAD:
        raise Malformed(f"the head is longer than {MAX_HEAD} bytes")
