"""An HTTP/2 client inside a CONNECT tunnel, frame by frame, with windows under the test's control."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.wire import tunnel

Lines = list[tuple[str, str]]
HEADER_SIZE = 9
END_HEADERS = 4
CONTINUATION = b"\x09"


class Client:
    """Opens windows only when it is told to: `acknowledge` is False at first.

    heads, fields, bodies  what came, by stream; `fields` without `:status`, in their order
    interim                the interim responses, by stream
    prompt                 streams that ended with the frame of their last byte, as answers in one piece do
    left                   the error code with which the server said goodbye, None if it did not
    """

    def __init__(
        self,
        server: Buffy,
        origin: Origin,
        window: int = 65_535,
        *,
        connection_window: int = 1 << 30,
        settings: dict[h2.settings.SettingCodes, int] | None = None,
        user: str | None = None,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.origin = origin
        context = context or ssl.create_default_context(cafile=str(server.ca_file))
        context.set_alpn_protocols(["h2"])
        raw = tunnel(server.proxy, "127.0.0.1", origin.port, user, timeout=20)
        self.sock = context.wrap_socket(raw.sock, server_hostname="127.0.0.1", session=session)
        assert self.sock.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            header_encoding=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window, **(settings or {})})
        if connection_window:
            self.h2.increment_flow_control_window(connection_window)
        self.acknowledge = False
        self.heads: dict[int, dict[str, str]] = {}
        self.fields: dict[int, Lines] = {}
        self.interim: defaultdict[int, list[Lines]] = defaultdict(list)
        self.bodies: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.owed: defaultdict[int, int] = defaultdict(int)
        self.ended: set[int] = set()
        self.prompt: set[int] = set()
        self.resets: set[int] = set()
        self.left: int | None = None
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def request(
        self, path: str, method: str = "GET", fields: Iterable[tuple[str, str]] = (), *, split: bool = False
    ) -> int:
        """Sends a request without a body and gives its stream; `split`: in two frames, which is as good as
        one (RFC 9113 §4.3), but goes the ordinary way."""
        pseudo = [(":method", method), (":scheme", "https"), (":authority", self.origin.authority)]
        return self.request_lines([*pseudo, (":path", path), *fields], split=split)

    def request_lines(self, lines: Lines, *, split: bool = False) -> int:
        """As `request`, with just these lines, valid or not."""
        self.flush()
        stream, data = self.written(lines)
        self.sock.sendall(in_two(data) if split else data)
        return stream

    def written(self, lines: Lines) -> tuple[int, bytes]:
        """The stream and the bytes of a request that is not sent yet."""
        stream = self.h2.get_next_available_stream_id()
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        self.h2.send_headers(stream, encoded, end_stream=True)
        return stream, self.h2.data_to_send()

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                return
            assert data, "the proxy closed the connection"
            for event in self.h2.receive_data(data):
                self._handle(event)
            if self.left is None:
                self.flush()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                lines = [(bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v in event.headers]
                self.heads[event.stream_id] = dict(lines)
                self.fields[event.stream_id] = [line for line in lines if line[0] != ":status"]
            case h2.events.InformationalResponseReceived():
                lines = [(bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v in event.headers]
                self.interim[event.stream_id].append(lines)
            case h2.events.DataReceived():
                self.bodies[event.stream_id] += event.data
                self.owed[event.stream_id] += event.flow_controlled_length
                if event.stream_ended is not None:
                    self.ended.add(event.stream_id)
                    self.prompt |= {event.stream_id} if event.data else set()
                if self.acknowledge:
                    self.open(event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets.add(event.stream_id)
            case h2.events.ConnectionTerminated():
                self.left = int(event.error_code)

    def has(self, stream: int, size: int) -> bool:
        return len(self.bodies[stream]) >= size

    def open(self, stream: int) -> None:
        """Gives back the window that the stream's data used."""
        if stream not in self.ended and self.owed[stream]:
            with contextlib.suppress(h2.exceptions.StreamClosedError):  # its end came in the same piece
                self.h2.increment_flow_control_window(self.owed.pop(stream), stream)
            self.flush()

    def finish(self, *streams: int, seconds: float = 20) -> None:
        self.acknowledge = True
        for stream in streams:
            self.open(stream)
        self.read(seconds, lambda: self.ended >= set(streams))
        assert self.ended >= set(streams)

    def get(self, path: str, fields: Iterable[tuple[str, str]] = (), *, split: bool = False) -> int:
        """A whole GET; gives its stream."""
        stream = self.request(path, fields=fields, split=split)
        self.finish(stream)
        return stream

    def close(self) -> None:
        self.sock.close()


def in_two(frame: bytes) -> bytes:
    """A HEADERS frame as one that begins the block and one that ends it."""
    block, stream = frame[HEADER_SIZE:], frame[5:9]
    assert len(block) == int.from_bytes(frame[:3], "big") and frame[4] & END_HEADERS
    first = b"\0\0\1" + frame[3:4] + bytes([frame[4] & ~END_HEADERS]) + stream + block[:1]
    return first + (len(block) - 1).to_bytes(3, "big") + CONTINUATION + b"\4" + stream + block[1:]
