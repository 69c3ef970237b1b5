"""Changing what is stored: `buffy pin|unpin|tag|untag`, `buffy purge`, `buffy refresh`.

Every command hands its change to the store and waits until it is durable; a running server sees it at once.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from buffy_proxy.cli import talk

if TYPE_CHECKING:
    from buffy_proxy.cli.library import Stored

T = TypeVar("T")
PORTION = 256

Url = Annotated[str, typer.Argument(help="A URL, or the id of a resource.", show_default=False)]
Pattern = Annotated[
    str, typer.Argument(help='URLs, such as "https://example.org/data/**".', show_default=False)
]
VersionName = Annotated[
    str | None, typer.Option("--version", metavar="NAME", help="Which version.", show_default=False)
]
Group = Annotated[str | None, talk.GROUP]
DataDir = Annotated[Path | None, talk.DATA_DIR]
ConfigFile = Annotated[Path | None, talk.CONFIG]

_TAG = re.compile(r"[A-Za-z0-9_-]{2,64}")


def register(app: typer.Typer) -> None:
    for command in (pin, unpin, tag, untag, purge, refresh):
        app.command()(command)


def pin(
    url: Url,
    version: VersionName = None,
    lasting: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help='How long, such as "2h" or "30d"; else for ever.'),
    ] = None,
    group: Group = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Keep a version, and let it answer.

    It is the newest one unless --version says another. A pinned version is not removed by retention or
    eviction, and answers instead of newer ones.
    """
    from buffy_proxy.cli.library import opened

    seconds = _seconds(lasting)
    with opened(data_dir, config) as library:
        stored = library.one(url, group)
        chosen = stored.version(library.now, name=version) if version else stored.newest
        library.store.set_pin(stored.key.id, chosen.name, library.now + seconds, now=library.now).result()
        talk.say(f"pinned {chosen.name} of {stored.key.url} for {talk.span_text(seconds)}")


def unpin(
    url: Url,
    version: VersionName = None,
    group: Group = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Take the pin from a version, or from all of a URL."""
    from buffy_proxy.cli.library import opened

    with opened(data_dir, config) as library:
        stored = library.one(url, group)
        chosen = [stored.version(library.now, name=version)] if version else stored.versions
        pinned = [one for one in chosen if one.pinned_until is not None]
        for one in pinned:
            library.store.set_pin(stored.key.id, one.name, None, now=library.now).result()
        talk.say(f"unpinned {', '.join(one.name for one in pinned) or 'nothing'} of {stored.key.url}")


def tag(
    url: Url,
    name: Annotated[
        str, typer.Argument(metavar="TAG", help="2 to 64 of A-Z a-z 0-9 _ -", show_default=False)
    ],
    version: VersionName = None,
    group: Group = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a version a name of your own.

    It is the one that answers unless --version says another. A tag moves: no other version of that URL
    keeps it. Tagged versions are not removed by retention or eviction.
    """
    from buffy_proxy.cli.library import opened

    _check_tag(name)
    with opened(data_dir, config) as library:
        stored = library.one(url, group)
        chosen = stored.version(library.now, name=version)
        library.store.set_tag(stored.key.id, chosen.name, name, True, now=library.now).result()
        talk.say(f"tagged {chosen.name} of {stored.key.url} as {name}")


def untag(
    url: Url,
    name: Annotated[str, typer.Argument(metavar="TAG", help="The tag to remove.", show_default=False)],
    version: VersionName = None,
    group: Group = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Take a tag from the version that has it."""
    from buffy_proxy.cli.library import opened

    _check_tag(name)
    with opened(data_dir, config) as library:
        stored = library.one(url, group)
        chosen = stored.version(library.now, name=version, tag=name)
        library.store.set_tag(stored.key.id, chosen.name, name, False, now=library.now).result()
        talk.say(f"{chosen.name} of {stored.key.url} is no longer tagged {name}")


def purge(
    pattern: Pattern,
    yes: Annotated[bool, talk.YES] = False,
    group: Group = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Remove what is stored of matching URLs.

    All versions go, pinned and tagged ones too. The space is free a few minutes later, or after
    `buffy store gc`.
    """
    from buffy_proxy.cli.library import opened
    from buffy_proxy.errors import NotFound

    with opened(data_dir, config) as library:
        found = Matches()
        for stored in library.matching(pattern, group):
            found.add(stored, library.now)
        if not found.ids:
            raise NotFound(f"nothing that is stored matches {pattern}")
        if not yes:
            _ask(found)
        count = sum(sum(_wait(map(library.store.delete, portion))) for portion in _portions(found.ids))
        talk.say(f"removed {_count(len(found.ids), 'resource')} with {_count(count, 'version')}")


def refresh(
    pattern: Pattern,
    group: Group = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Have matching URLs renewed now.

    The server does it in the background, as the strategy of each URL says.
    """
    from buffy_proxy.cli.library import opened
    from buffy_proxy.errors import NotFound
    from buffy_proxy.presence import find

    with opened(data_dir, config) as library:
        count = secret = 0
        for portion in _portions(library.matching(pattern, group)):
            plain = [stored for stored in portion if not stored.key.partition]
            count, secret = count + len(plain), secret + len(portion) - len(plain)
            _wait(library.store.schedule(s.key.id, s.newest.name, library.now) for s in plain)
        if not count + secret:
            raise NotFound(f"nothing that is stored matches {pattern}")
        when = "now" if find(library.config.data_dir) else "once `buffy serve` runs"
        talk.say(f"{_count(count, 'resource')} will be renewed {when}")
        if secret:
            talk.say(f"{_count(secret, 'resource')} left out: stored for a client's credentials")


@dataclass
class Matches:
    """What a pattern matches, in numbers: a store may hold millions."""

    ids: list[str] = field(default_factory=list)
    versions: int = 0
    kept: int = 0
    size: int = 0

    def add(self, stored: Stored, now: float) -> None:
        self.ids.append(stored.key.id)
        self.versions += len(stored.versions)
        self.kept += sum(1 for version in stored.versions if version.tags or version.pinned(now))
        self.size += sum(version.body.size for version in stored.versions)


def _portions(things: Iterable[T]) -> Iterator[list[T]]:
    """As many at a time as the store commits together."""
    source = iter(things)
    while portion := list(islice(source, PORTION)):
        yield portion


def _wait(futures: Iterable[Future[T]]) -> list[T]:
    return [future.result() for future in list(futures)]


def _seconds(lasting: str | None) -> float:
    from buffy_proxy.errors import ConfigError
    from buffy_proxy.literals import duration

    try:
        return math.inf if lasting is None else duration(lasting)
    except ValueError as error:
        raise ConfigError(f"--for {error}") from error


def _check_tag(name: str) -> None:
    from buffy_proxy.errors import ConfigError

    if not _TAG.fullmatch(name):
        raise ConfigError(f"{name!r} is no tag; one has 2 to 64 of the characters A-Z a-z 0-9 _ -")


def _ask(found: Matches) -> None:
    """Goes on only after a yes. Where nobody can be asked, --yes is wanted."""
    from buffy_proxy.errors import ConfigError

    size = talk.size_text(found.size)
    detail = f"{_count(found.versions, 'version')}, {size}, {found.kept} pinned or tagged"
    what = f"{_count(len(found.ids), 'resource')} ({detail})"
    if not sys.stdin.isatty():
        raise ConfigError(f"would remove {what}; say --yes to do it")
    typer.confirm(f"Remove {what}?", abort=True, err=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
