"""500 MiB from an origin that has a bad day: whole, once, with progress that only grows."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from buffy_client import BuffyPyClient
from tests.support.answers import FRESH, head
from tests.support.bodies import slices
from tests.support.origin import Origin, Peer, Received

pytestmark = pytest.mark.slow

SIZE, SEED, BREAKS, REFUSALS = 500 << 20, 11, 6, 2


class BadDay:
    """Breaks off after each seventh; refuses the second and the fourth request."""

    def __init__(self) -> None:
        self.requests, self.broken, self.refused = 0, 0, 0
        self.sent = 0

    async def __call__(self, request: Received, peer: Peer) -> None:
        self.requests += 1
        if self.requests in (2, 4):
            self.refused += 1
            await peer.send(head(429, {"Content-Length": "0", "Retry-After": "0"}))
            return
        wanted = request.get("range")
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        fields = {"ETag": '"b"', "Accept-Ranges": "bytes", "Content-Length": str(SIZE - first), **FRESH}
        if first:
            fields["Content-Range"] = f"bytes {first}-{SIZE - 1}/{SIZE}"
        stop = min(SIZE, first + SIZE // (BREAKS + 1) + 1)
        await peer.send(head(206 if first else 200, fields))
        for part in slices(SEED, first, stop):
            await peer.send(part)
            self.sent += len(part)
        if stop < SIZE:
            self.broken += 1
            await peer.close()


class Watch(threading.Thread):
    """Looks at the progress of the one order there is, as another client."""

    def __init__(self, client: BuffyPyClient, request: BuffyPyClient.Request) -> None:
        super().__init__()
        self._url, self._group, self._what = client.api_url.removesuffix("/v1"), client.group_name, request
        self.seen: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        with BuffyPyClient(self._url, group_name=self._group) as other:
            ticket = self._what._placed("watch").ticket
            while not self.over.wait(0.05):
                for version in other.api.versions(ticket):
                    assert version.download_stats is not None
                    self.seen.append(version.download_stats.downloaded_bytes)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expected_digest() -> str:
    whole = hashlib.sha256()
    for part in slices(SEED, 0, SIZE):
        whole.update(part)
    return whole.hexdigest()


def test_half_a_gigabyte(client: BuffyPyClient, origin: Origin, path: str, tmp_path: Path) -> None:
    script = BadDay()
    request = client.create_request(origin.on(path, script))
    watch = Watch(client, request)
    watch.start()
    try:
        target = request.download_response_content_to(tmp_path / "big", timeout_sec=240)
    finally:
        watch.over.set()
        watch.join(10)
    try:
        assert digest(target) == expected_digest()
    finally:
        target.unlink()  # pytest keeps temporary directories
    assert (script.broken, script.refused, script.requests) == (BREAKS, REFUSALS, BREAKS + REFUSALS + 1)
    assert script.sent < SIZE * 1.1
    assert watch.seen == sorted(watch.seen) and len(set(watch.seen)) > 3
    assert len(request.list_cached_versions(status=None)) == 1
