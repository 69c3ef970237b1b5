"""Hits on HTTP/1.1 connections that mitmproxy owns, answered straight from the parsed head.

Most requests of a busy cache are plain GETs for something fresh and small. For those this server reads the
head itself, asks the cache without any hook or task, and writes the answer in one piece. Whatever is not that
simple (a body, an upgrade, odd syntax, a miss, a long body) goes the ordinary way, with not a byte consumed.
Both ways ask the same `Cache`, so they give the same answers.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HTTPMode

from buffy_proxy.addons.http1 import MAX_HEAD, PlainSpoken, closing_answer
from buffy_proxy.core import fields as f
from buffy_proxy.core.head import RequestHead, head_objection, parse_request_head
from buffy_proxy.literals import address_text

if TYPE_CHECKING:
    from buffy_proxy.addons.layers import BuffyHttpLayer


class BuffyHttp1Server(PlainSpoken):
    """mitmproxy's HTTP/1 server with a short cut."""

    def __init__(self, context: Context, http_layer: BuffyHttpLayer) -> None:
        super().__init__(context)
        self._layer = http_layer

    def read_headers(self, event: events.ConnectionEvent) -> Generator[commands.Command, Any, None]:
        if isinstance(event, events.DataReceived):
            while data := self._next_hit():
                yield commands.SendData(self.conn, data)
            if not self.buf:
                return
            if objection := head_objection(bytes(self.buf)):
                yield from self._refuse(objection.status, objection.text)
                return
        yield from super().read_headers(event)
        if self.state == self.read_headers and len(self.buf) > MAX_HEAD:
            yield from self._refuse(431, "the head of this request is longer than 256 KiB")

    def _refuse(self, status: int, text: str) -> Generator[commands.Command, Any, None]:
        self.state = self.done
        yield commands.SendData(self.conn, closing_answer(status, text))
        yield commands.CloseConnection(self.conn)

    def _next_hit(self) -> bytes | None:
        """The whole answer to the request at the start of the buffer, which it then consumes; or None."""
        while bytes(self.buf)[:2] == b"\r\n":  # empty lines before a request are nothing (RFC 9112 §2.2)
            self.buf.maybe_extract_at_most(2)
        found = parse_request_head(bytes(self.buf))
        if found is None or not found.simple:
            return None
        url = self._target_uri(found)
        answer = (
            None if url is None else self._layer.interceptor.quick_answer(self.context.client, found, url)
        )
        if answer is None:
            return None
        self.buf.maybe_extract_at_most(found.size)
        return answer

    def _target_uri(self, head: RequestHead) -> str | None:
        try:
            if reverse := self._layer.interceptor.config.reverse:
                return f.normalise_url(reverse + head.target) if head.target.startswith("/") else None
            if self._layer.mode is HTTPMode.regular:
                usable = head.target.startswith("http://") and "@" not in head.target.split("/", 3)[2]
                return f.normalise_url(head.target) if usable else None
            address = self.context.server.address
            if address is None or not head.target.startswith("/"):
                return None
            scheme = "https" if self.context.client.tls else "http"
            return f.normalise_url(f"{scheme}://{address_text((address[0], address[1]))}{head.target}")
        except ValueError:
            return None
