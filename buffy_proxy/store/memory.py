"""`MemoryStore`: the same store in dicts, for tests and for plugin authors. Nothing outlives the process.

It keeps no indexes: everything is looked up by walking, which is what makes it easy to compare with.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from buffy_proxy.core.model import BodyRef, CacheKey, Resource, Retention, Version
from buffy_proxy.core.versions import retained, same_variant
from buffy_proxy.errors import BodyMissing, BuffyError, NotFound, StoreError, StoreUnusable
from buffy_proxy.store import BodyReader, BodyWriter, Due, Look, Outcome, Usage
from buffy_proxy.store.bodies import BodyFiles, MemoryReader, Spool
from buffy_proxy.store.evict import LOW_MARK, protected
from buffy_proxy.store.ops import TOUCH_STEP_S, name_among, renew
from buffy_proxy.store.tx import document_key

R = TypeVar("R")


class MemoryStore:
    """See `store.Store`. Futures are resolved when the method returns."""

    def __init__(self, *, max_size: int = 1 << 30) -> None:
        self.secret = secrets.token_bytes(32)
        self._max_size = max_size
        self._lock = threading.RLock()
        self._closed = False
        self._resources: dict[str, Resource] = {}
        self._versions: dict[str, dict[str, Version]] = {}
        self._errors: dict[str, Version] = {}
        self._writes = 0
        self._content: dict[str, bytes] = {}
        self._trashed_at: dict[str, float] = {}
        self._counters: dict[str, dict[str, int]] = {}
        self._documents: dict[tuple[str, str], bytes] = {}
        self._files = BodyFiles(Path())  # never used: bodies stay below the in-line limit

    # -- reading --------------------------------------------------------------------------------------------

    def resource(self, resource_id: str) -> Resource | None:
        return self._resources.get(resource_id)

    def versions(self, resource_id: str) -> Sequence[Version]:
        found = list(self._versions.get(resource_id, {}).values())
        return tuple(sorted(found, key=lambda version: version.name, reverse=True))

    def version(self, resource_id: str, name: str) -> Version | None:
        return self._versions.get(resource_id, {}).get(name)

    def error_response(self, resource_id: str) -> Version | None:
        return self._errors.get(resource_id)

    def resources(
        self, *, group: str | None = None, after: str | None = None, skip: int = 0
    ) -> Iterator[Resource]:
        found = list(self._resources.values())
        if after is not None:
            if after not in self._resources:
                raise NotFound(f"there is no resource {after!r} to go on from")
            found = found[1 + [resource.id for resource in found].index(after) :]
        found = [resource for resource in found if group is None or resource.key.group == group]
        yield from found[skip:]

    def due(self, now: float, limit: int) -> Sequence[Due]:
        return [due for due in self._planned() if due.at <= now][:limit]

    def next_due(self) -> float | None:
        planned = [due.at for due in self._planned() if due.at < math.inf]
        return planned[0] if planned else None

    def _planned(self) -> list[Due]:
        everything = [v for versions in list(self._versions.values()) for v in list(versions.values())]
        found = [Due(v.refresh_at, v.resource_id, v.name) for v in everything if v.refresh_at is not None]
        return sorted(found, key=lambda due: (due.at, due.resource_id, due.name))

    def open_body(self, ref: BodyRef) -> BodyReader:
        if (content := self._content.get(ref.digest)) is None:
            raise BodyMissing(f"the body {ref.digest} is not there")
        return MemoryReader(content)

    def look(self, resource_id: str) -> Look:
        with self._lock:
            versions, error = self.versions(resource_id), self.error_response(resource_id)
            stamp, _ = self.peek(resource_id.encode(), None)
            resource = self.resource(resource_id) if versions or error else None
            ordered = None if resource is None or resource.policy is None else resource
            return Look(versions, error, ordered, stamp)

    def peek(self, resource: bytes, digest: bytes | None) -> tuple[bytes | None, bytes | None]:
        content = None if digest is None else self._content.get(digest.hex())
        return self._writes.to_bytes(8, "big"), content

    def usage(self) -> Usage:
        with self._lock:
            live = self._content.keys() - self._trashed_at.keys()
            size = sum(len(self._content[digest]) for digest in live)
            count = sum(map(len, self._versions.values()))
            return Usage(len(self._resources), count, len(live), size, self._max_size)

    def document(self, kind: str, key: str) -> bytes | None:
        return self._documents.get((kind, key))

    def documents(
        self, kind: str, *, prefix: str = "", after: str | None = None
    ) -> Iterator[tuple[str, bytes]]:
        for (of_kind, key), value in sorted(self._documents.items()):
            if of_kind == kind and key.startswith(prefix) and (after is None or key > after):
                yield key, value

    def counters(self, name: str) -> Mapping[str, int]:
        return dict(self._counters.get(name, {}))

    # -- writing --------------------------------------------------------------------------------------------

    def new_body(self) -> BodyWriter:
        return Spool(self._files, self._max_size, self._max_size)

    def _do(self, run: Callable[[], R]) -> Future[R]:
        future: Future[R] = Future()
        with self._lock:
            try:
                if self._closed:
                    raise StoreUnusable("the store was closed")
                self._writes += 1
                future.set_result(run())
            except BuffyError as error:
                future.set_exception(error)
        return future

    def add_version(
        self,
        key: CacheKey,
        version: Version,
        body: BodyWriter,
        retention: Retention,
        *,
        now: float,
        patient: bool = False,
    ) -> Future[Outcome]:
        return self._do(lambda: self._add_version(key, version, _spool(body), retention, now))

    def _add_version(
        self, key: CacheKey, version: Version, spool: Spool, retention: Retention, now: float
    ) -> Outcome:
        version = replace(version, resource_id=key.id, body=spool.take())
        self._ensure(key, now)
        siblings = self.versions(key.id)
        variant = [old for old in siblings if same_variant(old, version)]
        self._drop_error(key.id, now)
        if variant and variant[0].body == version.body:
            return Outcome("freshened", self._put(renew(variant[0], version)))
        version = replace(version, name=name_among(version, siblings, now))
        self._keep(spool)
        self._put(version)
        for old in variant:
            self._put(replace(old, refresh_at=None))
        _, drop = retained(self.versions(key.id), retention, now)
        for old in drop:
            self._drop(old, now)
        if self.usage().body_bytes > self._max_size:
            self._evict(time.time())
        return Outcome("stored", version, bool(variant), tuple(old.name for old in drop))

    def update_version(self, version: Version) -> Future[Version]:
        return self._do(lambda: self._put(renew(self._existing(version.resource_id, version.name), version)))

    def put_error(self, key: CacheKey, version: Version, body: BodyWriter, *, now: float) -> Future[None]:
        def run() -> None:
            spool = _spool(body)
            ref = spool.take()
            self._ensure(key, now)
            self._keep(spool)
            old = self._errors.get(key.id)
            self._errors[key.id] = replace(version, resource_id=key.id, name="", body=ref)
            self._unreferenced(old, now)

        return self._do(run)

    def invalidate(self, resource_id: str) -> Future[int]:
        def run() -> int:
            versions = self.versions(resource_id)
            for version in versions:
                self._put(replace(version, fresh_until=-math.inf))
            if self._drop_error(resource_id, time.time()):
                self._settle(resource_id)
            return len(versions)

        return self._do(run)

    def schedule(self, resource_id: str, name: str, refresh_at: float | None) -> Future[None]:
        def run() -> None:
            if (version := self.version(resource_id, name)) is not None:
                self._put(replace(version, refresh_at=refresh_at))

        return self._do(run)

    def set_pin(
        self, resource_id: str, name: str, pinned_until: float | None, *, now: float
    ) -> Future[Version]:
        return self._do(
            lambda: self._put(replace(self._existing(resource_id, name), pinned_until=pinned_until))
        )

    def set_tag(self, resource_id: str, name: str, tag: str, present: bool, *, now: float) -> Future[Version]:
        def run() -> Version:
            self._existing(resource_id, name)
            for version in self.versions(resource_id):
                if version.name == name or (present and tag in version.tags):
                    tags = version.tags - {tag} | ({tag} if present and version.name == name else set())
                    self._put(replace(version, tags=tags))
            return self._existing(resource_id, name)

        return self._do(run)

    def set_policy(
        self, key: CacheKey, policy: Mapping[str, Any] | None, info: Mapping[str, Any] | None, *, now: float
    ) -> Future[Resource]:
        def run() -> Resource:
            old = self._ensure(key, now)
            self._resources[key.id] = resource = replace(
                old,
                policy=old.policy if policy is None else policy,
                info=old.info if info is None else info,
                requested_at=max(old.requested_at, now),
            )
            return resource

        return self._do(run)

    def delete(self, resource_id: str, name: str | None = None) -> Future[int]:
        def run() -> int:
            doomed = [version for version in self.versions(resource_id) if name in (None, version.name)]
            for version in doomed:
                self._drop(version, time.time())
            if name is None:
                self._drop_error(resource_id, time.time())
                self._resources.pop(resource_id, None)
            elif doomed:
                self._settle(resource_id)
            return len(doomed)

        return self._do(run)

    def touch(self, resource_ids: Iterable[str], now: float) -> Future[None]:
        def run() -> None:
            for resource_id in resource_ids:
                found = self._resources.get(resource_id)
                if found is not None and found.requested_at + TOUCH_STEP_S <= now:
                    self._resources[resource_id] = replace(found, requested_at=now)

        return self._do(run)

    def put_documents(self, changes: Sequence[tuple[str, str, bytes | None]]) -> Future[None]:
        def run() -> None:
            for kind, key, value in changes:
                if document_key(kind, key) is None:
                    raise StoreError(f"{key!r} cannot name a document")
                if value is None:
                    self._documents.pop((kind, key), None)
                else:
                    self._documents[kind, key] = value

        return self._do(run)

    def count(self, name: str, amounts: Mapping[str, int]) -> Future[None]:
        def run() -> None:
            sums = self._counters.setdefault(name, {})
            sums.update({what: sums.get(what, 0) + amount for what, amount in amounts.items()})

        return self._do(run)

    def hurry(self) -> None:
        """Nothing waits here."""

    def gc(self, now: float, grace_s: float = 120.0) -> Future[int]:
        def run() -> int:
            if self.usage().body_bytes > self._max_size:
                self._evict(now)
            for resource_id, error in list(self._errors.items()):
                if error.fresh_until <= now:
                    self._drop_error(resource_id, now)
                    self._settle(resource_id)
            gone = [digest for digest, at in self._trashed_at.items() if at <= now - grace_s]
            for digest in gone:
                del self._trashed_at[digest]
            return sum(len(self._content.pop(digest)) for digest in gone)

        return self._do(run)

    def close(self) -> None:
        self._closed = True

    # -- under the lock -------------------------------------------------------------------------------------

    def _ensure(self, key: CacheKey, now: float) -> Resource:
        return self._resources.setdefault(key.id, Resource(key, now, now))

    def _existing(self, resource_id: str, name: str) -> Version:
        if (found := self.version(resource_id, name)) is None:
            raise NotFound(f"there is no version {name!r} of resource {resource_id!r} (any more)")
        return found

    def _put(self, version: Version) -> Version:
        self._versions.setdefault(version.resource_id, {})[version.name] = version
        return version

    def _keep(self, spool: Spool) -> None:
        digest = spool.finish().digest
        self._content.setdefault(digest, spool.content())
        self._trashed_at.pop(digest, None)

    def _drop(self, version: Version, now: float) -> None:
        del self._versions[version.resource_id][version.name]
        self._unreferenced(version, now)

    def _drop_error(self, resource_id: str, now: float) -> bool:
        old = self._errors.pop(resource_id, None)
        self._unreferenced(old, now)
        return old is not None

    def _unreferenced(self, gone: Version | None, now: float) -> None:
        named = [v.body for versions in self._versions.values() for v in versions.values()]
        if gone is not None and gone.body not in [*named, *(e.body for e in self._errors.values())]:
            self._trashed_at[gone.body.digest] = now

    def _settle(self, resource_id: str) -> None:
        resource = self._resources.get(resource_id)
        empty = not self._versions.get(resource_id) and resource_id not in self._errors
        if empty and resource is not None and resource.policy is None and not resource.info:
            del self._resources[resource_id]

    def _evict(self, now: float) -> None:
        for resource_id in sorted(self._resources, key=lambda each: self._resources[each].requested_at):
            if self.usage().body_bytes <= self._max_size * LOW_MARK:
                return
            for version in self.versions(resource_id):
                if not protected(version, now):
                    self._drop(version, now)
            self._drop_error(resource_id, now)
            self._settle(resource_id)


def _spool(body: BodyWriter) -> Spool:
    if not isinstance(body, Spool):
        raise TypeError("the body must come from this store's new_body()")
    return body
