"""Deterministic bodies of any size, made in slices: nobody has to hold them in memory.

A body is a row of 1 MiB blocks: the block's number (8 bytes), then the same pseudo-random filler for all
blocks of one seed. Comparing is a memcmp, so that a GiB is checked in well under a second.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

BLOCK = 1 << 20


@functools.cache
def _filler(seed: int) -> bytes:
    return random.Random(seed).randbytes(BLOCK - 8)


def block(seed: int, number: int) -> bytes:
    """Block `number` of the endless body named by `seed`."""
    return number.to_bytes(8, "big") + _filler(seed)


def piece(seed: int, first: int, stop: int) -> bytes:
    """The bytes from `first` up to, not including, `stop`."""
    return b"".join(slices(seed, first, stop))


def slices(seed: int, first: int, stop: int) -> Iterator[bytes]:
    """The same bytes, a block or less at a time."""
    while first < stop:
        number, offset = divmod(first, BLOCK)
        part = block(seed, number)[offset : offset + stop - first]
        yield part
        first += len(part)


class Checker:
    """Compares a body that arrives in chunks of any size; `at` is how many bytes were right so far."""

    def __init__(self, seed: int, first: int = 0) -> None:
        self.seed = seed
        self.first = self.at = first

    def feed(self, chunk: bytes) -> None:
        if chunk != piece(self.seed, self.at, self.at + len(chunk)):
            raise AssertionError(f"the body differs somewhere in bytes {self.at}–{self.at + len(chunk)}")
        self.at += len(chunk)
