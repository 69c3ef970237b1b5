"""What a command's URL or PATTERN means: opens the store and finds resources and versions in it.

A URL means the resource that requests without credentials get in that group. Only where there is none are the
others looked at (other groups, other credentials, other methods); the id of a resource is always exact.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from buffy_proxy.config import Config, load, open_store, policy_for
from buffy_proxy.core import versions
from buffy_proxy.core.model import DEFAULT_GROUP, CacheKey, Request, Resource, Version
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.urls import normalise_url
from buffy_proxy.errors import ConfigError, NotFound
from buffy_proxy.lookup import policy_of
from buffy_proxy.patterns import compile_glob
from buffy_proxy.store import Store

_ID = re.compile(r"[a-z2-7]{24}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A resource with its versions (at least one), newest first, as they were at one moment."""

    resource: Resource
    versions: Sequence[Version]

    @property
    def key(self) -> CacheKey:
        return self.resource.key

    @property
    def newest(self) -> Version:
        return self.versions[0]

    def version(self, now: float, name: str | None = None, tag: str | None = None) -> Version:
        """A version by name or tag, else the one that answers: the newest pinned one, else the newest."""
        found = versions.select(self.versions, None, now, name=name, tag=tag)
        if found is None:
            what = f"version {name}" if name else f"version tagged {tag}"
            raise NotFound(f"{self.key.url} has no {what}; `buffy show` lists what there is")
        return found


@dataclass(frozen=True, slots=True)
class Library:
    """An open store with the configuration it belongs to, at one moment (POSIX s)."""

    store: Store
    config: Config
    now: float

    def policy(self, resource: Resource) -> Policy:
        """What applies to a stored resource: its own configuration, else the matching rule, else `http`."""
        key = resource.key
        return policy_of(self.config, Request(key.method, key.url, group=key.group), resource)

    def matching(self, pattern: str | None, group: str | None) -> Iterator[Stored]:
        """What is stored of the URLs that the glob matches (or under that id), oldest first."""
        if pattern and (one := self._by_id(pattern)):
            yield one
            return
        glob = _glob(pattern or "**")
        for resource in self.store.resources(group=group):
            if glob.match(resource.key.url) and (stored := self._with_versions(resource)):
                yield stored

    def named(self, url: str, group: str | None) -> list[Stored]:
        """All that is stored of a URL, the plain resource first; one if it is an id. Raises NotFound."""
        if one := self._by_id(url):
            return [one]
        request, plain = self._plain_key(url, group)
        same = (r for r in self.store.resources(group=group) if r.key.url in (plain.url, request.url))
        found = [stored for resource in same if (stored := self._with_versions(resource))]
        if not found:
            raise NotFound(f"nothing is stored for {request.url}" + (f" in group {group}" if group else ""))
        return sorted(found, key=lambda stored: stored.key.id != plain.id)

    def one(self, url: str, group: str | None) -> Stored:
        """What a URL (or id) means. Raises NotFound, or ConfigError if several are equally meant."""
        if found := self._by_id(url) or self._plain(url, group):
            return found
        several = self.named(url, group)
        if len(several) > 1:
            ids = "\n".join(f"  {describe(stored.resource)}" for stored in several)
            raise ConfigError(f"{url} means several stored resources; name one by its id:\n{ids}")
        return several[0]

    def request(self, url: str, group: str | None) -> Request:
        """The request for that URL without any credentials."""
        return Request("GET", url_argument(url), group=group or DEFAULT_GROUP)

    def _by_id(self, text: str) -> Stored | None:
        return self._with_versions(self.store.resource(text)) if _ID.fullmatch(text) else None

    def _plain(self, url: str, group: str | None) -> Stored | None:
        """One read, however much is stored."""
        _, key = self._plain_key(url, group)
        return self._with_versions(self.store.resource(key.id))

    def _plain_key(self, url: str, group: str | None) -> tuple[Request, CacheKey]:
        request = self.request(url, group)
        return request, self.config.plugins.cache_key(
            request, policy_for(self.config, "GET", request.url), self.store.secret
        )

    def _with_versions(self, resource: Resource | None) -> Stored | None:
        found = self.store.versions(resource.id) if resource else ()
        return Stored(resource, found) if resource and found else None


@contextmanager
def opened(data_dir: Path | None, config_file: Path | None) -> Iterator[Library]:
    """The store that the command line and the configuration name. Raises NotFound where there is none yet."""
    config = load(config_file, data_dir=data_dir)
    if not has_store(config):
        raise NotFound(
            f"nothing is stored in {config.data_dir} yet; `buffy serve` or `buffy run` begins a store"
        )
    store = open_store(config)
    try:
        yield Library(store, config, time.time())
    finally:
        store.close()


def has_store(config: Config) -> bool:
    return (config.data_dir / "index").is_dir()


def url_argument(url: str) -> str:
    """A URL as somebody typed it, normalised; without a scheme it is https. Raises ConfigError."""
    try:
        return normalise_url(url if "://" in url else f"https://{url}")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def describe(resource: Resource) -> str:
    """What tells a resource from others of the same URL: id, method, group, whether it needs credentials."""
    key = resource.key
    secret = ", only with the credentials it was fetched with" if key.partition else ""
    return f"{key.id}  {key.method} {key.url} (group {key.group}{secret})"


def _glob(pattern: str) -> re.Pattern[str]:
    try:
        return compile_glob(pattern)
    except ValueError as error:
        raise ConfigError(str(error)) from error
