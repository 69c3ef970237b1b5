"""An answer on its way to a client, head and content, as the front sends it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from h2.exceptions import ProtocolError

from buffy_proxy.answer import Answer
from buffy_proxy.core import fields as f
from buffy_proxy.core.model import Fields, Request

log = logging.getLogger("buffy.proxy")


class Body:
    """`sent` bytes of the content went; `whole`: all of them. A version of HTTP says how, in `_send`."""

    def __init__(self, answer: Answer, request: Request) -> None:
        self.sent = 0
        self.whole = False
        self._answer = answer
        self._url = request.url
        self._without = request.method == "HEAD" or answer.status in (204, 304)

    async def send(self) -> None:
        """Sets `whole`, and raises nothing but CancelledError, when the client is gone."""
        try:
            if self._without and self._answer.stream is not None:
                await anext(self._answer.stream, b"")  # what is to be stored must have come to its end
            await self._send()
            self.whole = True
        except (ConnectionError, ProtocolError):
            pass  # the client, or the stream
        except Exception as error:
            log.info("%s ended early: %s", self._url, error)
        finally:
            # A client may hang up as soon as it has the last byte.
            size = self._answer.size
            self.whole = self.whole or (size is not None and self.sent >= size)

    async def _send(self) -> None:
        raise NotImplementedError


class Http1Body(Body):
    """`write` takes bytes, `drain` waits until the client has taken most of them."""

    def __init__(
        self,
        answer: Answer,
        request: Request,
        write: Callable[[bytes], None],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(answer, request)
        self._write = write
        self._drain = drain

    async def _send(self) -> None:
        answer = self._answer
        if answer.content is not None or self._without or answer.stream is None:
            content = b"" if self._without else answer.content or b""
            self._write(self._head(answer.fields) + content)
            self.sent = len(content)
            return
        if answer.size is None:
            await self._send_chunked()
            return
        self._write(self._head(answer.fields))
        async for chunk in answer.stream:
            await self._drain()
            self._write(chunk)
            self.sent += len(chunk)

    async def _send_chunked(self) -> None:
        """Where only the end of the content tells how long it is (RFC 9112 §7.1)."""
        answer = self._answer
        assert answer.stream is not None
        self._write(self._head((*answer.fields, (b"Transfer-Encoding", b"chunked"))))
        async for chunk in answer.stream:
            await self._drain()
            self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.sent += len(chunk)
        self._write(b"0\r\n\r\n")

    def _head(self, fields: Fields) -> bytes:
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (
            self._answer.status,
            self._answer.reason,
            f.serialise_block(fields),
        )
