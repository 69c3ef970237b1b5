"""A real store in a temporary directory, filled by hand, and the command line that looks at it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.cli import main
from buffy_proxy.core import rules
from buffy_proxy.core.model import DEFAULT_GROUP, BodyRef, Fields, Request, Retention, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http
from buffy_proxy.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


@dataclass(slots=True)
class Shelf:
    data_dir: Path
    capture: pytest.CaptureFixture[bytes]
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = open_store(self.data_dir, max_size=1 << 30, map_size=1 << 28)

    def add(
        self,
        url: str,
        body: bytes = b"body",
        *,
        group: str = DEFAULT_GROUP,
        fields: Fields = (),
        method: str = "GET",
        age_s: float = 0.0,
        fresh_s: float = 3600.0,
        refresh_s: float | None = None,
    ) -> Version:
        """Stores a response to a request with these fields, as if it came `age_s` seconds ago."""
        now = time.time()
        policy = Policy(strategy=Http(), methods=frozenset({method}))
        key = rules.cache_key(Request(method, url, fields, group=group), policy, self.store.secret)
        then = now - age_s
        version = Version(
            key.id, "", 200, b"OK", (), BodyRef("", len(body)), (), then, then, then, then, now + fresh_s,
            None if refresh_s is None else now + refresh_s,
        )  # fmt: skip
        writer = self.store.new_body()
        writer.write(body)
        writer.finish()
        return self.store.add_version(key, version, writer, Retention(10, 10), now=then).result().version

    def versions(self, version: Version) -> list[Version]:
        return list(self.store.versions(version.resource_id))

    def buffy(self, *arguments: str) -> Ran:
        """Runs `buffy` with this data directory, in this process."""
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--data-dir", str(self.data_dir), *arguments])
        captured = self.capture.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err.decode())
