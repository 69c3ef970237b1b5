"""Orders: explicit wishes for a resource, as values and as records in the store.

An order is what `PUT /v1/request/` makes when what is stored may not answer any more. Its states:

    wait ──taken up──> in_progress ──new bytes stored─────────────> ready
                            │      ──identical bytes, or a version
                            │        that came another way─────────> duplicate   `result` names the version
                            │      ──failed for good───────────────> failed      `error` says why
                            └──killed──> taken up again by the next process (nothing is lost but progress)

The control API writes orders, one proxy process carries them out (order_runner.py); both see each other's
records at the next read. An order is announced under the name that its version will bear, so a client that
has seen the name can use it from then on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from buffy_proxy import bell
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import CacheKey, Request, Resource
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.versions import next_name
from buffy_proxy.plugins import Plugins
from buffy_proxy.store import Store

Status = Literal["wait", "in_progress", "ready", "duplicate", "failed"]
FINISHED: frozenset[str] = frozenset({"ready", "duplicate", "failed"})
KEPT_S = 600.0
"""How long a finished order stays on record (clients may use its name for at least two minutes)."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order. Times are POSIX s, sizes bytes.

    name        the version name it was announced under
    result      the name of the version that answers it, once `ready` or `duplicate`
    fields      response fields as far as they are known: ((name, value), …), for the content attributes
    not_before  no attempt earlier than this (back-off, Retry-After)
    """

    resource_id: str
    name: str
    created_at: float
    status: Status = "wait"
    started_at: float | None = None
    finished_at: float | None = None
    not_before: float = 0.0
    attempts: int = 0
    downloaded: int = 0
    total: int | None = None
    fields: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    result: str | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Order:
        values = json.loads(data)
        values["fields"] = tuple((name, value) for name, value in values["fields"])
        return cls(**values)


class OrderBook:
    """The orders on record. Reads see what any process wrote; writes return after the commit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, resource_id: str, name: str) -> Order | None:
        data = self._store.document("order", f"{resource_id}/{name}")
        return None if data is None else Order.from_json(data)

    def of(self, resource_id: str) -> list[Order]:
        """All on record for one resource, newest first."""
        found = self._store.documents("order", prefix=f"{resource_id}/")
        return sorted(
            (Order.from_json(data) for _, data in found), key=lambda order: order.name, reverse=True
        )

    def pending(self) -> Iterator[Order]:
        """Orders that are not finished, of all resources; O(pending)."""
        for key, _ in self._store.documents("pending-order"):
            resource_id, _, name = key.partition("/")
            if (order := self.get(resource_id, name)) is not None:
                yield order

    def active(self, resource_id: str) -> Order | None:
        """The order of a resource that has not been answered, if there is one: a second would bring the same.

        One whose version is stored has been answered, though its record may not say so yet.
        """
        running = (order for order in self.of(resource_id) if not order.finished)
        return next((one for one in running if self._store.version(resource_id, one.name) is None), None)

    def create(self, resource_id: str, now: float | None = None) -> Order:
        """A new order, announced under a name newer than all of its resource. Raises StoreError."""
        now = time.time() if now is None else now
        names = [order.name for order in self.of(resource_id)]
        names += [version.name for version in self._store.versions(resource_id)[:1]]
        order = Order(resource_id, next_name(now, max(names, default=None)), now)
        self.put(order)
        return order

    def put(self, order: Order) -> None:
        """Writes an order's state; durable when it returns."""
        self.put_soon(order).result()

    def put_soon(self, order: Order) -> Future[None]:
        """The same without waiting, for progress."""
        key = f"{order.resource_id}/{order.name}"
        pending = None if order.finished else b""
        return self._store.put_documents([("order", key, order.to_json()), ("pending-order", key, pending)])

    def forget_old(self, now: float) -> None:
        """Removes orders that finished more than KEPT_S ago."""
        old = [
            ("order", key, None)
            for key, data in self._store.documents("order")
            if (order := Order.from_json(data)).finished and now - (order.finished_at or 0.0) > KEPT_S
        ]
        if old:
            self._store.put_documents(old)


def wake(data_dir: Path) -> None:
    """Tells the process that carries orders out that there is a new one. Never raises."""
    bell.ring(data_dir)


# -- what is ordered -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `PUT /v1/request/` describes: enough to make the request to the origin again at any time.

    `body` and `params` are JSON objects. Header fields and body belong to the identity; the order of keys in
    the objects does not.
    """

    url: str
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    header_fields: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    group: str = "DEFAULT_GROUP"

    def request(self) -> Request:
        """Raises ValueError for a URL that cannot be requested or a field that cannot be sent."""
        url = f.normalise_url(_with_params(self.url, self.params))
        fields = [_field(name, value) for name, value in self.header_fields.items()]
        content, kind = self._content()
        if content:
            if f.first(tuple(fields), b"content-type") is None:
                fields.append((b"Content-Type", kind))
            fields.append((b"Content-Length", b"%d" % len(content)))
        for name, value in ((b"Accept", b"*/*"), (b"User-Agent", b"buffy")):
            if f.first(tuple(fields), name) is None:
                fields.append((name, value))
        return Request(self.method, url, tuple(fields), content, self.group)

    def _content(self) -> tuple[bytes, bytes]:
        """The body as it is sent: a form where the header says so, else JSON with sorted keys."""
        if not self.body or self.method == "GET":
            return b"", b""
        fields = tuple(_field(name, value) for name, value in self.header_fields.items())
        kind = (f.first(fields, b"content-type") or b"").lower()
        if kind.startswith(b"application/x-www-form-urlencoded"):
            return urlencode(sorted(self.body.items()), doseq=True).encode(), kind
        return json.dumps(self.body, sort_keys=True, separators=(",", ":")).encode(), b"application/json"


def wanted_of(resource: Resource) -> Wanted:
    """What a resource is a cache of: what was ordered, or what its key says if it came through the proxy."""
    stored = resource.info.get("wanted")
    if stored is not None:
        return Wanted(**stored)
    return Wanted(resource.key.url, resource.key.method, group=resource.key.group)


def key_of(wanted: Wanted, request: Request, policy: Policy, secret: bytes, plugins: Plugins) -> CacheKey:
    """The resource that an order names. Without header fields of its own it is the one that proxied requests
    for the same URL use; with some, another one, since nobody knows whether the answer depends on them."""
    own = sorted(
        (name.lower(), value)
        for name, value in wanted.header_fields.items()
        if name.lower().encode("latin-1", "replace") not in rules.SECRET_FIELDS
    )
    if not own:
        return plugins.cache_key(request, policy, secret)
    apart = replace(request, group=f"{request.group}\0{json.dumps(own)}")
    return replace(plugins.cache_key(apart, policy, secret), group=request.group)


def _with_params(url: str, params: Mapping[str, Any]) -> str:
    if not params:
        return url
    base, mark, fragment = url.partition("#")
    query = urlencode(sorted((str(key), value) for key, value in params.items()), doseq=True)
    joint = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return f"{base}{joint}{query}{mark}{fragment}"


def _field(name: str, value: object) -> tuple[bytes, bytes]:
    text = str(value)
    if (
        not name
        or not name.isascii()
        or any(c in name for c in " \t\r\n:")
        or any(c in text for c in "\r\n\0")
    ):
        raise ValueError(f"the header field {name!r} cannot be sent")
    return name.encode("ascii"), text.encode("utf-8")


def progress(order: Order, now: float) -> tuple[float, float]:
    """Seconds that the download has run, and its average bytes per second."""
    if order.started_at is None:
        return 0.0, 0.0
    seconds = max(0.0, (order.finished_at or now) - order.started_at)
    return seconds, order.downloaded / seconds if seconds > 0 and math.isfinite(seconds) else 0.0
