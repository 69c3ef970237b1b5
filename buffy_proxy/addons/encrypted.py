"""TLS towards a client, over a transport that is already there.

asyncio's own `start_tls` wants the handshake from its first byte. Here that byte was read already, since the
ClientHello says who is to handle the connection; so the TLS machine is fed by hand (ssl.MemoryBIO).
"""

from __future__ import annotations

import asyncio
import ssl

from buffy_proxy.addons.hello import Hello

READ_SIZE = 256 * 1024


class Encrypted:
    """`hello` is what the client said first. All methods may raise ssl.SSLError."""

    def __init__(self, transport: asyncio.Transport, context: ssl.SSLContext, hello: Hello) -> None:
        self.hello = hello
        self.ended = False
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def protocol(self) -> str | None:
        """What was agreed on (ALPN), None before the handshake is done and with clients that do not ask."""
        return self._tls.selected_alpn_protocol()

    def handshake(self, data: bytes) -> bool:
        """Goes on with it; True once it is done. What the client then sends is there for `decrypt`."""
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def decrypt(self, data: bytes) -> bytes:
        """What the client said; sets `ended` when it closed its side."""
        self._incoming.write(data)
        try:
            plain = self._tls.read(READ_SIZE)
        except ssl.SSLWantReadError:
            self._flush()
            return b""
        except ssl.SSLZeroReturnError:
            self.ended = True
            return b""
        if not plain:
            self.ended = True
        elif self._incoming.pending or self._tls.pending():
            plain += self._rest()
        return plain

    def _rest(self) -> bytes:
        parts = []
        try:
            while part := self._tls.read(READ_SIZE):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        written = self._tls.write(data)
        while written < len(data):
            written += self._tls.write(memoryview(data)[written:])
        self._transport.write(self._outgoing.read())

    def close(self) -> None:
        """Says goodbye (close_notify)."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
