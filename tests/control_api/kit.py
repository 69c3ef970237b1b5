"""The API over a real store, and what another process would do to that store: carry out orders, and store
what came through the proxy."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests
import uvicorn

from buffy_proxy.config import Config, policy_for
from buffy_proxy.control_api import create_app
from buffy_proxy.core import rules
from buffy_proxy.core.model import DEFAULT_GROUP, BodyRef, Fields, Request, Retention, Version
from buffy_proxy.lookup import policy_of
from buffy_proxy.orders import Order, OrderBook, wanted_of
from buffy_proxy.store import Outcome, Store
from buffy_proxy.store.index import LmdbStore

URL = "http://origin.test/data.csv"
PLAIN: Fields = ((b"Content-Type", b"text/csv; charset=utf-8"), (b"ETag", b'"v1"'))


def open_store(directory: Path) -> LmdbStore:
    return LmdbStore(directory, max_size=1 << 30, map_size=1 << 30)


class Web(requests.Session):
    """A session towards one server; paths instead of URLs. Nothing of the environment is used."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.trust_env = False
        self.base = base

    def request(self, method: Any, url: Any, *args: Any, **more: Any) -> requests.Response:
        return super().request(method, self.base + url, *args, **{"timeout": 30, **more})


class Api:
    """An application on a port of its own, as `buffy serve` runs it, and a client of it."""

    def __init__(self, store: Store, directory: Path, **changes: Any) -> None:
        self.store = store
        self.config = Config(data_dir=directory, **changes)
        self.orders = OrderBook(store)
        self._socket = socket.create_server(("127.0.0.1", 0))
        settings = uvicorn.Config(
            create_app(store, self.config), log_config=None, access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        self.port: int = self._socket.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.http = Web(self.base)

    def close(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(10)
        with contextlib.suppress(OSError):
            self._socket.close()

    # -- asking ----------------------------------------------------------------------------------------------
    def get(self, path: str, expect: int = 200, **params: Any) -> Any:
        given = {key: value for key, value in params.items() if value is not None}
        answer = self.http.get(f"/v1{path}", params=given)
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    def put(self, path: str, body: Any, expect: int = 200) -> Any:
        answer = self.http.put(f"/v1{path}", json=body)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def order(self, url: str = URL, expect: int | None = None, **more: Any) -> Any:
        answer = self.http.put("/v1/request/", json={"url": url, **more})
        assert answer.status_code in ((201, 202) if expect is None else (expect,)), answer.text
        return answer.json()

    def versions(self, request_id: str, **params: Any) -> list[str]:
        return [found["version"] for found in self.get(f"/request/{request_id}/response", **params)]

    # -- the other processes ---------------------------------------------------------------------------------
    def add(
        self, request_id: str, content: bytes, fields: Fields = PLAIN, name: str = "", **more: Any
    ) -> Outcome:
        """Stores a version of a known resource, planned as its policy says."""
        resource = self.store.resource(request_id)
        assert resource is not None
        policy = policy_of(self.config, wanted_of(resource).request(), resource)
        made = _version(content, fields, name, **more)
        planned = rules.planned(made, policy, resource.key, time.time())
        body = self.store.new_body()
        body.write(content)
        body.finish()
        planned = replace(planned, **{key: more[key] for key in ("fresh_until",) if key in more})
        outcome = self.store.add_version(resource.key, planned, body, policy.retention, now=time.time())
        body.close()
        return outcome.result(20)

    def finish(self, request_id: str, content: bytes, fields: Fields = PLAIN, **more: Any) -> Order:
        """Carries out the order under way: new bytes are stored, identical ones make it a duplicate."""
        order = self.orders.active(request_id)
        assert order is not None
        outcome = self.add(request_id, content, fields, order.name, **more)
        now = time.time()
        done = replace(
            order,
            status="ready" if outcome.kind == "stored" else "duplicate",
            started_at=order.created_at,
            finished_at=now,
            downloaded=len(content),
            total=len(content),
            fields=tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in fields),
            result=outcome.version.name,
        )
        self.orders.put(done)
        return done

    def fail(self, request_id: str, error: str = "the origin answered 404") -> Order:
        order = self.orders.active(request_id)
        assert order is not None
        failed = replace(order, status="failed", finished_at=time.time(), error=error)
        self.orders.put(failed)
        return failed

    def expire(self, request_id: str) -> None:
        """No stored version is fresh any more."""
        for version in self.store.versions(request_id):
            self.store.update_version(replace(version, fresh_until=time.time() - 1)).result(20)

    def proxied(self, url: str, content: bytes, at: float | None = None, group: str = DEFAULT_GROUP) -> str:
        """What the proxy does with a response, at that time; gives the resource's id."""
        request = Request("GET", url, group=group)
        policy = policy_for(self.config, "GET", url)
        key = rules.cache_key(request, policy, self.store.secret)
        body = self.store.new_body()
        body.write(content)
        body.finish()
        made = _version(content, PLAIN, "")
        self.store.add_version(key, made, body, Retention(), now=at or time.time()).result(20)
        body.close()
        return key.id


def _version(content: bytes, fields: Fields, name: str, **more: Any) -> Version:
    now = time.time()
    made = Version(
        resource_id="",
        name=name,
        status=200,
        reason=b"OK",
        fields=fields,
        body=BodyRef(hashlib.sha256(content).hexdigest(), len(content)),
        request_fields=((b"Accept", b"*/*"),),
        requested_at=now,
        received_at=now,
        cached_at=now,
        validated_at=now,
        fresh_until=now + 3600,
    )
    return replace(made, **more)
