"""Looking: `buffy ls`, `buffy show`, `buffy why`. Nothing here writes to the store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from buffy_proxy.cli import talk

if TYPE_CHECKING:
    from buffy_proxy.cli.library import Library, Stored
    from buffy_proxy.core.model import Version
    from buffy_proxy.core.policy import Policy


def register(app: typer.Typer) -> None:
    app.command("ls")(list_resources)
    app.command("show")(show)
    app.command("why")(why)


def list_resources(
    pattern: Annotated[str | None, typer.Argument(help='URLs to list, such as "example.org/**".')] = None,
    group: Annotated[str | None, talk.GROUP] = None,
    as_json: Annotated[bool, talk.JSON] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """List what is stored.

    Columns: versions, size and age of the newest one, strategy, what is next, group, URL. The
    age is the time since the origin last confirmed that version.
    """
    from buffy_proxy.cli.library import opened
    from buffy_proxy.errors import NotFound

    try:
        with opened(data_dir, config) as library:
            found = library.matching(pattern, group)
            if as_json:
                talk.print_json_list(_resource_json(library, stored) for stored in found)
            else:
                _print_list(library, found)
    except NotFound as empty:
        if as_json:
            talk.print_json([])
        talk.say(str(empty))


def show(
    url: Annotated[str, typer.Argument(help="A URL, or the id of a resource.")],
    group: Annotated[str | None, talk.GROUP] = None,
    as_json: Annotated[bool, talk.JSON] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Show the stored versions of a URL.

    Newest first: name, when it was stored, status, size, age, what is next, tags.
    """
    from buffy_proxy.cli.library import opened

    with opened(data_dir, config) as library:
        found = library.named(url, group)
        if as_json:
            talk.print_json([_with_versions(library, stored) for stored in found])
            return
        for stored in found:
            _print_versions(library, stored)


def why(
    url: Annotated[str, typer.Argument(help="A URL.")],
    group: Annotated[str | None, talk.GROUP] = None,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Explain what a request would get, and why."""
    from buffy_proxy.cli.library import opened
    from buffy_proxy.lookup import explain

    with opened(data_dir, config) as library:
        typer.echo(explain(library.store, library.config, library.request(url, group)))


def next_step(version: Version, policy: Policy, now: float, url: str = "") -> str:
    """What happens to a version next, in a few words."""
    if version.pinned_until is not None and version.pinned(now):
        return f"pinned for {talk.span_text(version.pinned_until - now)}"
    renewal = policy.strategy.plan(version, now, url).renewal.value
    if version.refresh_at is not None:
        wait = version.refresh_at - now
        return f"{renewal} in {talk.span_text(wait)}" if wait > 0 else f"{renewal} is due"
    if version.fresh_until > now:
        return f"fresh for {talk.span_text(version.fresh_until - now)}"
    return f"{renewal} when asked"


def _print_list(library: Library, found: Iterator[Stored]) -> None:
    head = ("VERSIONS", "SIZE", "AGE", "STRATEGY", "NEXT", "GROUP", "URL")
    count = talk.print_rows(head, (8, 10, 9, 19, 23, 13), (_row(library, stored) for stored in found))
    usage = library.store.usage()
    used = f"{talk.size_text(usage.body_bytes)} of {talk.size_text(usage.capacity)} in use"
    hint = (
        "" if count or not usage.resources else " (nothing matches; a pattern names the port too: **name**)"
    )
    talk.say(f"{count} {'resource' if count == 1 else 'resources'}; {used}{hint}")


def _row(library: Library, stored: Stored) -> tuple[str, ...]:
    policy = library.policy(stored.resource)
    method = "" if stored.key.method == "GET" else f" ({stored.key.method})"
    return (
        str(len(stored.versions)),
        talk.size_text(stored.newest.body.size),
        talk.span_text(library.now - stored.newest.validated_at),
        policy.strategy.strategy_name,
        next_step(stored.newest, policy, library.now, stored.key.url),
        stored.key.group,
        stored.key.url + method + (" (with credentials)" if stored.key.partition else ""),
    )


def _print_versions(library: Library, stored: Stored) -> None:
    from buffy_proxy.cli.library import describe

    policy = library.policy(stored.resource)
    typer.echo(talk.paint(describe(stored.resource), "cyan", bold=True))
    asked = talk.span_text(library.now - stored.resource.requested_at)
    typer.echo(f"strategy {policy.strategy.strategy_name} by {policy.source}; last asked for {asked} ago")
    for version in stored.versions:
        typer.echo(_version_line(version, policy, library.now, stored.key.url))


def _version_line(version: Version, policy: Policy, now: float, url: str) -> str:
    age = talk.span_text(now - version.validated_at)
    parts = (
        f"  {talk.paint(version.name, 'green')}",
        talk.time_text(version.cached_at),
        str(version.status),
        f"{talk.size_text(version.body.size):>10}",
        f"age {age}, {_freshness(version, now)}{next_step(version, policy, now, url)}",
        *(f"[{tag}]" for tag in sorted(version.tags)),
    )
    return "  ".join(parts)


def _freshness(version: Version, now: float) -> str:
    """Until when it answers without asking, where `next_step` does not say that already."""
    if version.fresh_until <= now or (version.refresh_at is None and not version.pinned(now)):
        return ""
    return (
        "fresh for ever, "
        if math.isinf(version.fresh_until)
        else f"fresh until {talk.time_text(version.fresh_until)}, "
    )


def _with_versions(library: Library, stored: Stored) -> dict[str, Any]:
    policy = library.policy(stored.resource)
    listed = [_version_json(version, policy, library.now, stored.key.url) for version in stored.versions]
    return {**_resource_json(library, stored), "versions": listed}


def _resource_json(library: Library, stored: Stored) -> dict[str, Any]:
    from buffy_proxy.core.strategies import to_json

    policy = library.policy(stored.resource)
    return {
        "id": stored.key.id,
        "url": stored.key.url,
        "method": stored.key.method,
        "group": stored.key.group,
        "credentials": bool(stored.key.partition),
        "versions": len(stored.versions),
        "size": stored.newest.body.size,
        "age_s": round(library.now - stored.newest.validated_at, 3),
        "requested_at": stored.resource.requested_at,
        "strategy": to_json(policy.strategy),
        "source": policy.source,
        "next": next_step(stored.newest, policy, library.now, stored.key.url),
    }


def _version_json(version: Version, policy: Policy, now: float, url: str) -> dict[str, Any]:
    return {
        "name": version.name,
        "status": version.status,
        "size": version.body.size,
        "sha256": version.body.digest,
        "cached_at": version.cached_at,
        "validated_at": version.validated_at,
        "age_s": round(now - version.validated_at, 3),
        "fresh_until": talk.time_json(version.fresh_until),
        "refresh_at": version.refresh_at,
        "pinned": version.pinned(now),
        "pinned_until": talk.time_json(version.pinned_until),
        "tags": sorted(version.tags),
        "next": next_step(version, policy, now, url),
    }
