"""The hash of a stored body by the algorithm that a request names, computed once and remembered.

Version names stay, bodies never change, so a digest is true for ever. sha256 is the name of the body itself;
others are read from the store's documents, or computed here. That reads the whole body: call it from a
thread, never from the event loop.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Final

from buffy_proxy.core.model import BodyRef
from buffy_proxy.store import Store

HASH_TYPES: Final = tuple(sorted(hashlib.algorithms_guaranteed))
SHAKE_BYTES: Final[Mapping[str, int]] = {"shake_128": 32, "shake_256": 64}
"""Output lengths of the extendable functions: twice their security strength, so that collisions are as hard
to find as the strength promises."""

CHUNK: Final = 1 << 20
REMEMBERED_FROM: Final = 64 * 1024
"""Smaller bodies are hashed faster than a result is written."""


class Digests:
    """Hex digests of stored bodies. All methods may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks = tuple(threading.Lock() for _ in range(16))

    def hex(self, body: BodyRef, hash_type: str) -> str:
        """Lower-case hex. Raises BodyMissing, and ValueError for an unknown type."""
        if hash_type == "sha256":
            return body.digest
        if body.size < REMEMBERED_FROM:
            return self._compute(body, hash_type)
        with self._locks[int(body.digest[:2], 16) % len(self._locks)]:  # the second asker waits, then reads
            return self._known(body, hash_type) or self._learn(body, hash_type)

    def _known(self, body: BodyRef, hash_type: str) -> str | None:
        stored = self._store.document("hash", f"{body.digest}/{hash_type}")
        return None if stored is None else stored.decode()

    def _learn(self, body: BodyRef, hash_type: str) -> str:
        value = self._compute(body, hash_type)
        self._store.put_documents([("hash", f"{body.digest}/{hash_type}", value.encode())])
        return value

    def _compute(self, body: BodyRef, hash_type: str) -> str:
        running = hashlib.new(hash_type, usedforsecurity=False)
        reader = self._store.open_body(body)
        try:
            offset = 0
            while chunk := reader.read_at(offset, CHUNK):
                running.update(chunk)
                offset += len(chunk)
        finally:
            reader.close()
        if hash_type in SHAKE_BYTES:
            return hashlib_hex(running, SHAKE_BYTES[hash_type])
        return running.hexdigest()


def hashlib_hex(running: object, length: int) -> str:
    """The first `length` bytes of an extendable hash, whose type `hashlib.new` does not tell."""
    return bytes(running.digest(length)).hex()  # type: ignore[attr-defined]
