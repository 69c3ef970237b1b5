"""Undoes Content-Encoding (RFC 9110 §8.4.1): gzip and deflate always, br and zstd where a library is there.

The server sends stored bytes as the origin sent them, with their Content-Encoding. Callers get the content
itself, as from requests. A coding that nothing here can undo is handed on as it is, with a warning.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

from buffy_client.errors import BuffyDownloadError
from buffy_client.transfer import Transfer

log = logging.getLogger(__package__)


class Decoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bool:
        """Whether the stream was whole."""


class Inflate:
    """gzip (several members, too), zlib, and the raw deflate that some servers send instead of it.

    `window` is zlib's wbits; None: zlib or raw, told by the first two bytes (RFC 1950 §2.2).
    """

    def __init__(self, window: int | None) -> None:
        self._window, self._held, self._begun = window, b"", False
        self._stream = zlib.decompressobj(window or zlib.MAX_WBITS)

    def feed(self, data: bytes) -> bytes:
        if self._window is None:
            data = self._held = self._held + data
            if len(data) < 2:
                return b""
            self._window = _window_of(data)
            self._stream = zlib.decompressobj(self._window)
        out = b""
        while data:
            if self._stream.eof:
                if not data.strip(b"\0"):  # padding, as tapes and some servers add it
                    break
                self._stream = zlib.decompressobj(self._window)
            out += self._stream.decompress(data)
            data, self._begun = self._stream.unused_data, True
        return out

    def finish(self) -> bool:
        return self._stream.eof or not (self._begun or self._held)


def _window_of(data: bytes) -> int:
    zlib_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS


class Foreign:
    """A decompressor of another library: `step` takes bytes and gives bytes, `whole` tells if it ended."""

    def __init__(self, step: Callable[[bytes], bytes], whole: Callable[[], bool]) -> None:
        self.feed, self.finish = step, whole


def _brotli() -> Decoder:
    stream: Any = import_module("brotli").Decompressor()
    return Foreign(stream.process if hasattr(stream, "process") else stream.decompress, stream.is_finished)


def _zstd() -> Decoder:
    stream: Any = import_module("zstandard").ZstdDecompressor().decompressobj()
    return Foreign(stream.decompress, lambda: getattr(stream, "eof", True))


MAKERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: Inflate(16 + zlib.MAX_WBITS),
    "x-gzip": lambda: Inflate(16 + zlib.MAX_WBITS),
    "deflate": lambda: Inflate(None),
    "br": _brotli,
    "zstd": _zstd,
}


def decoders(encoding: str) -> list[Decoder]:
    """Those that undo `encoding`, in the order of their use; [] if any of them is missing."""
    names = [name.strip().lower() for name in encoding.split(",")]
    made = []
    for name in reversed([name for name in names if name not in ("", "identity")]):
        try:
            made.append(MAKERS[name]())
        except (KeyError, ImportError):
            log.warning("content stays %s-encoded: no library here undoes that", encoding)
            return []
    return made


def decoded(transfer: Transfer, what: str, size: int) -> Iterator[bytes]:
    """The content of a transfer. Raises BuffyDownloadError where its coding is damaged or not whole."""
    chain: list[Decoder] | None = None
    for data in transfer.chunks(size):
        if chain is None:
            chain = decoders(transfer.head.get("Content-Encoding", ""))
        try:
            for decoder in chain:
                data = decoder.feed(data)
        except Exception as error:  # each library has errors of its own
            raise BuffyDownloadError(f"{what}: its content coding is damaged ({error})") from error
        if data:
            yield data
    if not all(decoder.finish() for decoder in chain or ()):
        raise BuffyDownloadError(f"{what}: its content coding ends too early")
