"""HTTP/1.1 as mitmproxy speaks it, without two of its traps for what it forwards itself (uploads, upgrades).

It takes an interim response (1xx) for the final one, and it crashes on trailer fields; either way the client
waits for ever. Here interim responses are passed over and trailer fields dropped (RFC 9110 §15.2, §6.5.1).
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import Http1Client
from mitmproxy.proxy.layers.http._http1 import Http1Connection

_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")

CommandGenerator = Generator[commands.Command, Any, None]


class _Chunks:
    """mitmproxy's reader of chunked bodies, with the trailer fields left out."""

    def __init__(self, reader: ChunkedReader) -> None:
        self._reader = reader
        self.read_eof = reader.read_eof

    def __call__(self, buf: ReceiveBuffer) -> h11.Event | None:
        event = self._reader(buf)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


class WithoutTrailers(Http1Connection):
    """For both sides."""

    def read_body(self, event: events.Event) -> CommandGenerator:
        if isinstance(self.body_reader, ChunkedReader):
            self.body_reader = _Chunks(self.body_reader)  # type: ignore[assignment]
        yield from super().read_body(event)


class BuffyHttp1Client(WithoutTrailers, Http1Client):
    """mitmproxy's HTTP/1 client, patient with interim responses."""

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator:
        while _INTERIM.match(bytes(self.buf)[:16]) and self.buf.maybe_extract_lines():
            pass
        yield from super().read_headers(event)


def replace_client(stack: Any) -> None:
    """Puts our client where mitmproxy put its own; `stack` are the layers of a connection that was just
    established (TLS, an upstream proxy …). HTTP/2 origins keep mitmproxy's."""
    while not isinstance(stack, http.HttpClient):
        stack = stack.child_layer
    if isinstance(stack.child_layer, Http1Client):
        client = BuffyHttp1Client(stack.context)
        for _ in client.handle_event(events.Start()):
            pass  # it only says that heads come next
        stack.child_layer = client
        stack._handle_event = client.handle_event
