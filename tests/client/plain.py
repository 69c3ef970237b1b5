"""A scripted v1 server that speaks the plain contract: no `current_response`, no `wait_sec`.

`versions` are the records it knows, newest first; a row of records is one that changes with each look at it.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from buffy_client import BuffyPyClient
from tests.support.answers import fixed, head
from tests.support.origin import Origin, Peer, Received

JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}
CONFIG: dict[str, Any] = {
    "recaching_strategy": {"strategy_name": "never"},
    "max_cached_unpinned_versions": 2,
    "max_cached_pinned_versions": 10,
}


def record(version: str, status: str = "ready", **more: Any) -> dict[str, Any]:
    """A Response of the contract."""
    return {
        "id": f"r-{version}",
        "request_id": "r",
        "version": version,
        "status": status,
        "tags": [],
        "pinned": False,
        "content_download_path": f"request/r/response/v/{version}/content",
        "content_attributes": {"filename": "data.bin"},
        "download_stats": {"state": "finished", "downloaded_bytes": 1},
        **more,
    }


class PlainServer:
    def __init__(self) -> None:
        self.origin = Origin()
        self.versions: list[dict[str, Any] | list[dict[str, Any]]] = []
        self.unregistered = 0
        self.config = dict(CONFIG)
        self.order_extra: dict[str, Any] = {}
        self.origin.on("/v1/request/", self._order)
        self.origin.on("/v1/request/r/*", self._rest)

    @property
    def url(self) -> str:
        return self.origin.url("")

    def client(self, **options: Any) -> BuffyPyClient:
        made = BuffyPyClient(self.url, **{"local_download_fallback": False, **options})
        made.outage_sec, made.first_retry_sec = 0.5, 0.01
        return made

    def content(self, version: str, body: bytes, **fields: str) -> None:
        etag = {"ETag": f'"{version}"', **fields}
        self.origin.on(f"/v1/request/r/response/v/{version}/content", fixed(body, etag))

    def asked(self) -> list[str]:
        """Methods and targets so far, without the prefix."""
        return [f"{one.method} {one.target.removeprefix('/v1/request/')}" for one in self.origin.received]

    async def _order(self, request: Received, peer: Peer) -> None:
        wanted = json.loads(request.body)
        known = {"id": "r", "request_timestamp": 12.5, "cache_configuration": self.config}
        await self._say(peer, {**wanted, **known, **self.order_extra}, 201)

    async def _rest(self, request: Received, peer: Peer) -> None:
        path = request.path.removeprefix("/v1/request/r/")
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        if path.startswith("status/"):
            self.unregistered -= 1
            registered = self.unregistered < 0
            word = "registered" if registered else "not_registered"
            await self._say(peer, {"status": word}, 200 if registered else 202)
        elif path == "cache-config":
            self.config = json.loads(request.body)
            await self._say(peer, self.config)
        elif path == "response/latest":
            found = self._matching(query)
            await (self._say(peer, found[0]) if found else peer.send(head(204, {})))
        elif path == "response":
            await self._say(peer, self._matching(query))
        else:
            await self._one(peer, path.removeprefix("response/v/"))

    async def _one(self, peer: Peer, name: str) -> None:
        for number, row in enumerate(self.versions):
            if self._now(row)["version"] == name:
                await self._say(peer, self._now(row))
                if isinstance(row, list) and len(row) > 1:
                    self.versions[number] = row[1:]
                return
        await self._say(peer, {"title": "Not Found", "detail": f"no version {name}"}, 404)

    def _matching(self, query: dict[str, str]) -> list[dict[str, Any]]:
        found = [self._now(row) for row in self.versions]
        for name, value in query.items():
            if name == "status":
                found = [one for one in found if one["status"] == value]
            elif name == "tag":
                found = [one for one in found if value in one["tags"]]
            elif name == "pinned":
                found = [one for one in found if one["pinned"] == (value == "true")]
        skip = int(query.get("skip", 0))
        return found[skip : skip + int(query.get("limit", 1000))]

    @staticmethod
    def _now(row: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
        return row[0] if isinstance(row, list) else row

    @staticmethod
    async def _say(peer: Peer, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        kind = PROBLEM if status >= 400 else JSON
        await peer.send(head(status, {"Content-Length": str(len(body)), **kind}) + body)
