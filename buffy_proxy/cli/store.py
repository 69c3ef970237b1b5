"""`buffy store check|backup|gc`: care for the data directory. All of it may be done while a server runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from buffy_proxy.cli import talk


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Check, back up and tidy what is stored.")
    for command in (check, backup, gc):
        group.command()(command)
    app.add_typer(group, name="store")


def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
    as_json: Annotated[bool, talk.JSON] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Verify every record, reference and digest.

    Prints what is wrong, with which thing, and how --repair mends it. Exit code 1 if something was found and
    not mended.
    """
    from buffy_proxy.config import load
    from buffy_proxy.store import check as checking

    found = []
    for finding in checking.check(load(config, data_dir=data_dir).data_dir, repair=repair):
        found.append(asdict(finding))
        if not as_json:
            mark = talk.paint(finding.kind, "yellow", bold=True)
            typer.echo(
                f"{mark}: {finding.which}: {finding.problem}; {'done' if repair else 'mend'}: {finding.mend}"
            )
    if as_json:
        talk.print_json(found)
    talk.say(_verdict(len(found), repair))
    raise typer.Exit(1 if found and not repair else 0)


def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.", show_default=False)],
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Copy the store into a directory.

    The copy is consistent, also while a server runs, and is itself a data directory. Large bodies are
    hard-linked where both are on one file system.
    """
    from buffy_proxy.config import load
    from buffy_proxy.store import backup as copying

    target = directory.expanduser().absolute()
    made = copying.backup(load(config, data_dir=data_dir).data_dir, target)
    talk.say(f"{target}: {made.versions} versions, {made.bodies} bodies, {talk.size_text(made.body_bytes)}")
    if made.skipped:
        talk.say(f"{made.skipped} bodies were removed while the backup ran, and are not in it")


def gc(
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Remove what nothing refers to any more, and the least recently used beyond max_size."""
    from buffy_proxy.cli.library import opened

    with opened(data_dir, config) as library:
        freed = library.store.gc(library.now).result()
        talk.say(f"freed {talk.size_text(freed)}")


def _verdict(count: int, repaired: bool) -> str:
    if not count:
        return "the store is in order"
    things = "1 thing" if count == 1 else f"{count} things"
    return f"{things} found and mended" if repaired else f"{things} found; `buffy store check --repair` mends"
