"""Any sequence of operations leaves the store on disk as the one in memory, and sound."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from buffy_proxy.core.model import Retention
from buffy_proxy.errors import StoreError
from buffy_proxy.store import Store
from buffy_proxy.store.memory import MemoryStore
from tests.store.kit import LARGE, NOW, content_of, findings, key, lmdb_store, put, put_error, version

NAMES = [f"{n}" for n in range(4)]
CONTENTS = [b"", b"a", b"b" * 3000, b"c" * LARGE, b"d" * LARGE]
VARY = ((b"Vary", b"Accept"),)


class Sequence:
    """Makes operations that can be run on either store: all their arguments are drawn beforehand."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = NOW

    def __call__(self, known: list[str]) -> Callable[[Store], object]:
        self.now += self.chance.random() * 100
        return self.chance.choice([self.put, self.put, self.put, self.change, self.remove, self.other])(known)

    def time(self) -> float | None:
        return self.chance.choice([None, self.now + self.chance.random() * 500, math.inf, -math.inf])

    def put(self, known: list[str]) -> Callable[[Store], object]:
        content, name, now = self.chance.choice(CONTENTS), self.chance.choice(NAMES), self.now
        if self.chance.random() < 0.2:
            return lambda store: put_error(store, content, name, now, fresh_until=now + 50)
        retention = Retention(self.chance.randrange(4), self.chance.randrange(3))
        accept = ((b"Accept", self.chance.choice([b"x", b"y"])),)
        refresh_at, pinned_until, group = self.time(), self.time(), f"group{int(name) % 2}"

        def run(store: Store) -> object:
            return put(
                store, content, name, now, retention=retention, group=group, fields=VARY,
                request_fields=accept, refresh_at=refresh_at, pinned_until=pinned_until,
            )  # fmt: skip

        return run

    def change(self, known: list[str]) -> Callable[[Store], object]:
        name, at, now = f"id-{self.chance.choice(NAMES)}", self.time(), self.now
        which, tag = self.chance.choice(known or ["none"]), self.chance.choice(["t", "u"])
        made = version(now, resource_id=name, name=which, refresh_at=at, fields=VARY)
        present = self.chance.random() < 0.8
        return self.chance.choice(
            [
                lambda store: store.update_version(made).result(20),
                lambda store: store.set_pin(name, which, at, now=now).result(20),
                lambda store: store.set_tag(name, which, tag, present, now=now).result(20),
                lambda store: store.schedule(name, which, at).result(20),
            ]
        )

    def remove(self, known: list[str]) -> Callable[[Store], object]:
        name, now = f"id-{self.chance.choice(NAMES)}", self.now
        which = self.chance.choice([None, *known])
        return self.chance.choice(
            [
                lambda store: store.delete(name, which).result(20),
                lambda store: store.invalidate(name).result(20),
                lambda store: store.gc(now, 0.0).result(20),
                lambda store: store.gc(now + 10**6, 120.0).result(20),
            ]
        )

    def other(self, known: list[str]) -> Callable[[Store], object]:
        name, now = self.chance.choice(NAMES), self.now
        policy, group = self.chance.choice([None, {"a": 1}]), f"group{int(name) % 2}"
        return self.chance.choice(
            [
                lambda store: store.touch([f"id-{name}", "nobody"], now).result(20),
                lambda store: store.count(name, {"n": 1}).result(20),
                lambda store: store.set_policy(key(name, group), policy, None, now=now).result(20),
            ]
        )


def result_of(operation: Callable[[Store], object], store: Store) -> object:
    try:
        return operation(store)
    except StoreError as error:
        return type(error)


def state(store: Store) -> dict[str, object]:
    """All that can be seen from outside."""
    resources = list(store.resources())
    versions = {r.id: list(store.versions(r.id)) for r in resources}
    return {
        "resources": resources,
        "groups": [[r.id for r in store.resources(group=f"group{n}")] for n in range(2)],
        "versions": versions,
        "contents": {v.body: content_of(store, v) for found in versions.values() for v in found},
        "errors": {r.id: store.error_response(r.id) for r in resources},
        "due": list(store.due(math.inf, 999)),
        "next": store.next_due(),
        "usage": store.usage(),
        "counters": [store.counters(name) for name in NAMES],
    }


@pytest.mark.parametrize("seed", range(10))
def test_as_in_memory(seed: int, tmp_path: Path) -> None:
    on_disk, in_memory = lmdb_store(tmp_path), MemoryStore()
    draw = Sequence(seed)
    for _ in range(60):
        known = [v.name for r in in_memory.resources() for v in in_memory.versions(r.id)]
        operation = draw(known)
        assert result_of(operation, on_disk) == result_of(operation, in_memory)
        assert state(on_disk) == state(in_memory)
    assert findings(tmp_path) == []
    on_disk.close()
