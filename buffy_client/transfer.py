"""One body, however many connections it takes.

    open ──> read ──> whole: verify, done
     ^         └────> broken at byte N: open again with Range: bytes=N- and If-Range
     └── 429, 5xx, refused: after a pause

A second answer only continues the first one if it proves to be a part of the same representation: a 206 that
begins at N behind a strong validator (RFC 9110 §13.1.5), or a 200 with the same one, of which N bytes are
skipped. Otherwise `Restart` is raised, and whoever holds what came so far throws it away.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import requests
import urllib3

from buffy_client.errors import BuffyDownloadError
from buffy_client.retry import RETRIED, Patience, retry_after

Open = Callable[[Mapping[str, str]], requests.Response]

BROKEN = (OSError, urllib3.exceptions.HTTPError)  # requests' own errors are OSErrors
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


class Restart(Exception):
    """The rest does not fit what came so far. `at` is how much that was, in bytes."""

    def __init__(self, at: int) -> None:
        super().__init__("the connection broke, and the sender cannot resume")
        self.at = at


class Digest:
    """A running digest of the kind `name`, to be compared with `expected` (hex)."""

    def __init__(self, name: str, expected: str) -> None:
        self.name, self._expected = name, expected
        self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def matches(self) -> bool:
        size = len(self._expected) // 2
        variable = self.name.startswith("shake_")  # these have no length of their own
        value = self._hash.hexdigest(size) if variable else self._hash.hexdigest()  # type: ignore[call-arg]
        return value == self._expected.lower()


def known_digest(name: str, expected: str | None) -> Digest | None:
    """None where there is nothing to compare with, or this Python does not know the kind."""
    return Digest(name, expected) if expected and name in hashlib.algorithms_available else None


class Transfer:
    """Iterate `chunks` once; `head` holds the first answer's headers from the first chunk on."""

    def __init__(self, what: str, open_: Open, patience: Patience, digest: Digest | None = None) -> None:
        self.head: Mapping[str, str] = {}
        self.position = 0
        self.total: int | None = None
        self._what, self._open, self._patience, self._digest = what, open_, patience, digest

    def chunks(self, size: int) -> Iterator[bytes]:
        """Wire bytes. Raises BuffyDownloadError, BuffyTimeoutError, Restart, and errors of `open`."""
        while True:
            try:
                answer = self._open(self._condition())
            except BROKEN as error:
                self._patience.failed(error)
                continue
            with closing(answer):
                if answer.status_code in RETRIED:
                    wait = retry_after(answer.headers, time.time())
                    self._patience.failed(f"status {answer.status_code}", wait)
                    continue
                skip = self._begin(answer)
                try:
                    yield from self._read(answer, size, skip)
                except BROKEN as error:
                    self._patience.failed(error)
                    continue
            return self._verify()

    def _condition(self) -> dict[str, str]:
        """The fields that ask for the rest."""
        validator = _strong_validator(self.head)
        if not self.position or validator is None:
            return {}
        return {"Range": f"bytes={self.position}-", "If-Range": validator}

    def _begin(self, answer: requests.Response) -> int:
        """Looks at an answer's head: how many bytes of its body are already there? Raises Restart."""
        if answer.status_code == 416 and self.position:
            raise Restart(self.position)
        if not answer.ok:
            message = f"{self._what}: the answer is {answer.status_code} {answer.reason or ''}".rstrip()
            raise BuffyDownloadError(f"{message}; there is nothing to fetch")
        if not self.position:
            self.head, self.total = answer.headers, _length(answer.headers)
            return 0
        if answer.status_code == 206:
            return self._check_part(answer)
        validator = _strong_validator(self.head)
        if validator is None or validator != _strong_validator(answer.headers):
            raise Restart(self.position)
        return self.position

    def _check_part(self, answer: requests.Response) -> int:
        found = CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        if not found or int(found[1]) != self.position:
            raise Restart(self.position)
        if self.total is not None and found[2] not in ("*", str(self.total)):
            raise Restart(self.position)
        return 0

    def _read(self, answer: requests.Response, size: int, skip: int) -> Iterator[bytes]:
        for chunk in answer.raw.stream(size, decode_content=False):
            dropped, skip = min(skip, len(chunk)), max(0, skip - len(chunk))
            fresh = chunk[dropped:]
            if fresh:
                self.position += len(fresh)
                self._patience.progressed()
                if self._digest:
                    self._digest.update(fresh)
                yield fresh
        if self.total is not None and self.position < self.total:
            raise ConnectionError(f"the connection ended after {self.position} of {self.total} bytes")

    def _verify(self) -> None:
        if self.total is not None and self.position != self.total:
            message = f"{self._what}: {self.position} bytes came where {self.total} were announced"
            raise BuffyDownloadError(message)
        if self._digest and not self._digest.matches():
            message = f"{self._what}: the {self._digest.name} digest does not match: the bytes were damaged"
            raise BuffyDownloadError(f"{message} on their way; fetch it again")


def _length(head: Mapping[str, Any]) -> int | None:
    text = head.get("Content-Length", "")
    return int(text) if text.isdigit() and "Transfer-Encoding" not in head else None


def _strong_validator(head: Mapping[str, Any]) -> str | None:
    """A strong ETag, or else None: a date would need the origin's clock to be right."""
    etag: str = head.get("ETag", "")
    return etag if etag.startswith('"') else None
