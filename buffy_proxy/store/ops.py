"""The write operations of the Store protocol, each a function over a Tx. Whoever calls them commits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from buffy_proxy.core.model import CacheKey, Resource, Retention, Version
from buffy_proxy.core.versions import next_name, retained, same_variant
from buffy_proxy.errors import NotFound, StoreError
from buffy_proxy.store import Outcome
from buffy_proxy.store.bodies import Spool
from buffy_proxy.store.records import (
    FRESH_UNTIL_AT,
    LRU_AT_AT,
    REFRESH_AT_AT,
    REQUESTED_AT_AT,
    get_time,
    put_time,
)
from buffy_proxy.store.tx import Tx, document_key, id_key, version_key

TOUCH_STEP_S: Final = 60.0
"""Uses closer together than this are noted as one."""


def add_version(
    tx: Tx, key: CacheKey, version: Version, spool: Spool, retention: Retention, now: float
) -> Outcome:
    tx.require_room()
    entry = tx.ensure_entry(key, now)
    siblings = tx.versions(key.id)
    version = replace(
        version, resource_id=key.id, body=spool.finish(), name=name_among(version, siblings, now)
    )
    variant = [old for old in siblings if same_variant(old, version)]
    tx.drop_error(key.id.encode(), now)
    if variant and variant[0].body == version.body:
        return Outcome("freshened", freshen(tx, variant[0], version))
    tx.ref_body(spool)
    tx.put_version(version)
    tx.mark_evictable(entry)
    supersede(tx, variant)
    dropped = apply_retention(tx, (version, *siblings), retention, now) if siblings else ()
    return Outcome("stored", version, bool(variant), dropped)


def name_among(version: Version, siblings: Sequence[Version], now: float) -> str:
    """A name that was announced is kept, unless a newer version came in between: names sort by time."""
    newest = siblings[0].name if siblings else None
    if version.name and (newest is None or version.name > newest):
        return version.name
    return next_name(now, newest)


def freshen(tx: Tx, stored: Version, by: Version) -> Version:
    """The stored version with the metadata of `by`: all but name, body, cached_at, pin and tags."""
    renewed = renew(stored, by)
    tx.put_version(renewed)
    return renewed


def renew(stored: Version, by: Version) -> Version:
    return replace(
        by,
        resource_id=stored.resource_id,
        name=stored.name,
        body=stored.body,
        cached_at=stored.cached_at,
        pinned_until=stored.pinned_until,
        tags=stored.tags,
    )


def supersede(tx: Tx, older: Iterable[Version]) -> None:
    """Only the newest version of a variant is renewed by the background."""
    for version in older:
        if version.refresh_at is not None:
            tx.put_version(replace(version, refresh_at=None))


def apply_retention(tx: Tx, versions: Sequence[Version], retention: Retention, now: float) -> tuple[str, ...]:
    _, drop = retained(versions, retention, now)
    for version in drop:
        tx.drop_version(version, now)
    return tuple(version.name for version in drop)


def update_version(tx: Tx, version: Version) -> Version:
    return freshen(tx, existing(tx, version.resource_id, version.name), version)


def existing(tx: Tx, resource_id: str, name: str) -> Version:
    if (found := tx.version(resource_id, name)) is None:
        raise NotFound(f"there is no version {name!r} of resource {resource_id!r} (any more)")
    return found


def put_error(tx: Tx, key: CacheKey, version: Version, spool: Spool, now: float) -> None:
    tx.require_room()
    entry = tx.ensure_entry(key, now)
    tx.ref_body(spool)
    tx.put_error(replace(version, resource_id=key.id, name="", body=spool.finish()), now)
    tx.mark_evictable(entry)


def invalidate(tx: Tx, resource_id: str, now: float) -> int:
    if (entry := tx.entry(resource_id)) is None:
        return 0
    count = 0
    for version in tx.versions(resource_id):
        rewrite_time(tx, resource_id, version.name, FRESH_UNTIL_AT, -math.inf)
        count += 1
    if tx.drop_error(resource_id.encode(), now):
        tx.settle(entry)
    return count


def schedule(tx: Tx, resource_id: str, name: str, refresh_at: float | None) -> None:
    rewrite_time(tx, resource_id, name, REFRESH_AT_AT, refresh_at)


def rewrite_time(tx: Tx, resource_id: str, name: str, at: int, value: float | None) -> None:
    """Changes one of a record's leading times without decoding it. An unknown version is no error."""
    key = version_key(resource_id, name)
    if key is not None and (record := tx.txn.get(key, db=tx.db.versions)) is not None:
        tx.put_record(key, put_time(record, at, value), record)


def set_pin(tx: Tx, resource_id: str, name: str, pinned_until: float | None) -> Version:
    pinned = replace(existing(tx, resource_id, name), pinned_until=pinned_until)
    tx.put_version(pinned)
    return pinned


def set_tag(tx: Tx, resource_id: str, name: str, tag: str, present: bool) -> Version:
    target = existing(tx, resource_id, name)
    for version in tx.versions(resource_id) if present else ():
        if tag in version.tags and version.name != name:
            tx.put_version(replace(version, tags=version.tags - {tag}))
    tagged = replace(target, tags=target.tags | {tag} if present else target.tags - {tag})
    tx.put_version(tagged)
    return tagged


def set_policy(
    tx: Tx, key: CacheKey, policy: Mapping[str, Any] | None, info: Mapping[str, Any] | None, now: float
) -> Resource:
    tx.require_room()
    entry = tx.ensure_entry(key, now)
    old = entry.resource
    resource = replace(
        old,
        policy=old.policy if policy is None else policy,
        info=old.info if info is None else info,
        requested_at=max(old.requested_at, now),
    )
    if resource.requested_at > old.requested_at:
        tx.move_in_lru(key.id.encode(), entry.lru_at, now)
        entry = replace(entry, lru_at=now)
    tx.put_entry(replace(entry, resource=resource))
    return resource


def delete(tx: Tx, resource_id: str, name: str | None, now: float) -> int:
    if (entry := tx.entry(resource_id)) is None:
        return 0
    doomed = [version for version in tx.versions(resource_id) if name in (None, version.name)]
    for version in doomed:
        tx.drop_version(version, now)
    if name is None:
        tx.drop_error(resource_id.encode(), now)
    if name is None or doomed:
        tx.settle(entry, drop=name is None)
    return len(doomed)


def touch(tx: Tx, resource_ids: Iterable[str], now: float) -> None:
    for resource_id in set(resource_ids):
        rid = id_key(resource_id)
        record = None if rid is None else tx.txn.get(rid, db=tx.db.resources)
        if rid is None or record is None or (get_time(record, REQUESTED_AT_AT) or 0.0) + TOUCH_STEP_S > now:
            continue
        tx.move_in_lru(rid, get_time(record, LRU_AT_AT), now)
        moved = put_time(put_time(record, REQUESTED_AT_AT, now), LRU_AT_AT, now)
        tx.txn.put(rid, moved, db=tx.db.resources)


def put_documents(tx: Tx, changes: Sequence[tuple[str, str, bytes | None]]) -> None:
    for kind, name, value in changes:
        if (key := document_key(kind, name)) is None:
            raise StoreError(f"{name!r} cannot name a document: 1 to 200 printable ASCII characters can")
        if value is None:
            tx.txn.delete(key, db=tx.db.documents)
        else:
            tx.require_room()
            tx.txn.put(key, value, db=tx.db.documents)


def count(tx: Tx, name: str, amounts: Mapping[str, int]) -> None:
    if (key := id_key(name)) is None:
        raise StoreError(f"{name!r} cannot name counters: 1 to 200 printable ASCII characters can")
    stored = tx.txn.get(key, db=tx.db.counters)
    sums: dict[str, int] = json.loads(stored) if stored else {}
    for what, amount in amounts.items():
        sums[what] = sums.get(what, 0) + amount
    tx.txn.put(key, json.dumps(sums, separators=(",", ":")).encode(), db=tx.db.counters)
