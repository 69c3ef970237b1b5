"""The store: an index of resources and versions, and the bodies they name.

Writes are values handed to one writing thread per process, which commits them in groups; every write
method returns a `Future` that resolves after the commit is durable, or raises `StoreFull` / `StoreError`.
Reads are synchronous, cheap, and always see the last commit of any process. All methods may be called from
any thread. Nothing is cached in the process that another process would need.

Order of writes: body to a temporary file, fsync, (in the index transaction) link to its digest path,
index, commit. A crash leaves an orphan body, never a record without its body; the next start removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from buffy_proxy.core.model import BodyRef, CacheKey, Resource, Retention, Version


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of `add_version`.

    kind         "stored": a new version; "freshened": the bytes were identical to the newest stored version
                 of the same variant, whose metadata was renewed instead
    version      the record as it now stands
    changed      True if an older version of that variant existed with other bytes
    dropped      names of the versions that retention removed
    """

    kind: Literal["stored", "freshened"]
    version: Version
    changed: bool = False
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals. `body_bytes` counts each distinct body once; `capacity` is the configured cap in bytes."""

    resources: int
    versions: int
    bodies: int
    body_bytes: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Due:
    """A renewal that is due: the version `name` of `resource_id` wanted one at `at` (POSIX s)."""

    at: float
    resource_id: str
    name: str


class BodyReader(Protocol):
    """Random access to one stored body; stays readable after the body was evicted, until closed."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; b"" at the end. May block on the disk for file bodies."""

    def read_now(self, offset: int, length: int) -> bytes | None:
        """As much of that as needs no waiting; None: use `read_at`, in a thread."""

    def close(self) -> None: ...


class BodyWriter(Protocol):
    """Receives one body while it arrives. Used by one thread at a time; blocks on the disk.

    Bytes up to the in-line threshold stay in memory, beyond it they go to a temporary file.
    """

    size: int

    def write(self, chunk: bytes) -> None:
        """Appends. Raises StoreFull when disk or cap have no room; then only abort() is left."""

    def read_at(self, offset: int, length: int) -> bytes:
        """What was written so far, for those who read along. Safe from another thread while write() runs."""

    def finish(self) -> BodyRef:
        """Flushes to the disk and names the content. The body is not in the store before add_version().

        Further read_at() calls keep working until close(). Raises StoreFull.
        """

    def abort(self) -> None:
        """Forgets everything written."""

    def close(self) -> None:
        """Releases the file handle. The content lives on if add_version() took it; else it is forgotten."""


@dataclass(frozen=True, slots=True)
class Look:
    """All that a decision about one resource needs, of one moment. `resource` is there only if it has a
    policy of its own. `stamp`: see `Store.peek`."""

    versions: Sequence[Version] = ()
    error: Version | None = None
    resource: Resource | None = None
    stamp: bytes | None = None


NOTHING = Look()
"""For what can be no id."""


class Store(Protocol):
    """Where versions live. `store/index.py` keeps them in LMDB, `store/memory.py` in dicts for tests."""

    secret: bytes
    """32 random bytes made with the store: the key of all keyed digests (credential partitions)."""

    # -- reading ------------------------------------------------------------------------------------------
    def resource(self, resource_id: str) -> Resource | None: ...

    def look(self, resource_id: str) -> Look:
        """The versions, the error response, the stamp; and, where there is content, the resource if it has a
        policy."""

    def versions(self, resource_id: str) -> Sequence[Version]:
        """All versions of all variants, newest first (by name); () when there are none."""

    def version(self, resource_id: str, name: str) -> Version | None: ...

    def error_response(self, resource_id: str) -> Version | None:
        """The error response kept beside the versions (see put_error), whether or not it is still fresh."""

    def resources(
        self, *, group: str | None = None, after: str | None = None, skip: int = 0
    ) -> Iterator[Resource]:
        """All resources, oldest first; `after` a resource id: from behind that one (NotFound if unknown);
        `skip`: without the first so many. Lazy; pages cost O(page), and skipping about 0.3 µs each."""

    def due(self, now: float, limit: int) -> Sequence[Due]:
        """Renewals due at `now`, earliest first: O(limit)."""

    def next_due(self) -> float | None:
        """When the earliest renewal is due, None if none is planned."""

    def open_body(self, ref: BodyRef) -> BodyReader:
        """Raises BodyMissing."""

    def peek(self, resource: bytes, digest: bytes | None) -> tuple[bytes | None, bytes | None]:
        """For hits: the stamp of a resource (by its id), which is another one after each change to its
        versions, its error response or its policy, by any process; and a content that is kept in-line."""

    def usage(self) -> Usage: ...

    def counters(self, name: str) -> Mapping[str, int]:
        """The counters that `count` added up under this name; {} if unknown."""

    def document(self, kind: str, key: str) -> bytes | None:
        """What `put_documents` stored under this name: records of parts of Buffy that are not the store's."""

    def documents(
        self, kind: str, *, prefix: str = "", after: str | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Key and content of all documents of a kind whose key starts with `prefix`, by key; `after`: from
        behind that key. Lazy, in pages; sees changes made meanwhile."""

    # -- writing ------------------------------------------------------------------------------------------
    def new_body(self) -> BodyWriter:
        """Raises StoreFull when there is plainly no room."""

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
        """Stores a response with a finished body, creates its resource if needed, applies retention.

        A version with a name keeps it, unless a newer one came in between; "" lets the store choose.
        Identical bytes in the newest version of the same variant (core.versions.same_variant) freshen that
        version: it keeps name, cached_at, pin and tags and takes all other metadata from `version`.
        A stored version removes the resource's error response, and takes over the renewal: older versions
        of the variant keep no refresh_at. `version.name` "" lets the store choose (core.versions.next_name).
        `patient`: nobody waits for it yet; the commit may take some ms longer, to be shared with others.
        """

    def hurry(self) -> None:
        """Somebody waits now for what is being stored with patience."""

    def update_version(self, version: Version) -> Future[Version]:
        """Replaces the metadata of an existing version after a validation (all but body, pin and tags, which
        stay as they are stored). Raises NotFound."""

    def put_error(self, key: CacheKey, version: Version, body: BodyWriter, *, now: float) -> Future[None]:
        """Keeps an error response of the origin (status >= 400) beside the versions, replacing the last one.
        It is not a version: no retention, no tags, invisible to versions(); gc removes it once not fresh."""

    def invalidate(self, resource_id: str) -> Future[int]:
        """All versions must be validated before they answer again (fresh_until = -inf), the error response
        goes. Returns how many versions were touched. Unknown ids are no error. (RFC 9111 §4.4)"""

    def schedule(self, resource_id: str, name: str, refresh_at: float | None) -> Future[None]:
        """Moves a version's renewal (back-off, "refresh now"). An unknown version is no error: it went."""

    def set_pin(
        self, resource_id: str, name: str, pinned_until: float | None, *, now: float
    ) -> Future[Version]:
        """Raises NotFound. None unpins."""

    def set_tag(self, resource_id: str, name: str, tag: str, present: bool, *, now: float) -> Future[Version]:
        """Adds or removes a tag. Adding moves the tag: no other version of that resource keeps it.
        Removing an absent tag is no error. Raises NotFound."""

    def set_policy(
        self, key: CacheKey, policy: Mapping[str, Any] | None, info: Mapping[str, Any] | None, *, now: float
    ) -> Future[Resource]:
        """Creates the resource if needed; stores its explicit cache configuration and/or info (None:
        unchanged). Counts as a use: `requested_at` becomes `now`, exactly."""

    def delete(self, resource_id: str, name: str | None = None) -> Future[int]:
        """Removes one version, or the resource with all of them (pinned or not). Returns how many versions
        went; a resource that nobody configured goes with its last version. Bodies nobody names any more
        go with the next gc()."""

    def touch(self, resource_ids: Iterable[str], now: float) -> Future[None]:
        """Notes use, for eviction; uses less than a minute apart count as one. Unknown ids are no error."""

    def put_documents(self, changes: Sequence[tuple[str, str, bytes | None]]) -> Future[None]:
        """Writes (kind, key, content) in one commit; None removes. Kinds and keys are 1 to 200 printable
        ASCII characters."""

    def count(self, name: str, amounts: Mapping[str, int]) -> Future[None]:
        """Adds amounts to named counters (e.g. one name per `buffy run`)."""

    def gc(self, now: float, grace_s: float = 120.0) -> Future[int]:
        """Evicts least-recently-used unpinned, untagged versions while over the cap, removes stale error
        responses and bodies unreferenced for `grace_s` (who just saw a version may still read it).
        Returns the bytes of content removed from the disk. Runs by itself after commits that pass the cap."""

    def close(self) -> None:
        """Finishes what was handed in (within seconds) and closes. Idempotent."""


def open_store(
    data_dir: Path,
    *,
    max_size: int,
    map_size: int,
    on_evicted: Callable[[CacheKey, Version], object] | None = None,
) -> Store:
    """The store under `data_dir`, made if it is not there. Raises StoreUnusable, saying what to do.
    `on_evicted` hears, in the writing thread, of versions that went to make room.

    Any number of processes may open the same directory, and one process may open it several times.
    """
    from buffy_proxy.store.index import LmdbStore

    return LmdbStore(data_dir, max_size=max_size, map_size=map_size, on_evicted=on_evicted)
