"""`buffy doctor`: prints what was looked at and tried, and what to mend."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buffy_proxy.cli import talk

if TYPE_CHECKING:
    from buffy_proxy.config import Config
    from buffy_proxy.doctor import Finding

_COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, talk.JSON] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Check this machine, and really run curl, wget, pip, npm, git, node, apt and Python through Buffy.

    It uses a server of its own on free ports and leaves the running one alone. Exit code 1: something failed.
    """
    from buffy_proxy.config import load

    settings = load(config, data_dir=data_dir)
    found = []
    for finding in _findings(settings):
        found.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        talk.print_json([asdict(finding) for finding in found])
    failed = sum(finding.state == "failed" for finding in found)
    talk.say(f"buffy: {failed} of {len(found)} checks failed" if failed else "buffy: all is well")
    raise typer.Exit(1 if failed else 0)


def _findings(settings: Config) -> Iterator[Finding]:
    from buffy_proxy import shell_env
    from buffy_proxy.doctor import Finding, machine, trials
    from buffy_proxy.errors import BuffyError

    yield from machine.findings(settings, time.time())
    talk.say("buffy: trying tools, some seconds each …")
    try:
        yield from trials.trials(shell_env.original(os.environ))
    except (BuffyError, OSError) as error:
        yield Finding("server", "failed", str(error), "run `buffy serve` to see what stops it")


def _print(finding: Finding) -> None:
    state = talk.paint(finding.state.ljust(7), _COLOURS[finding.state])
    typer.echo(f"{state}  {finding.name.ljust(17)}  {finding.detail}")
    if finding.fix:
        typer.echo(f"{'':26}  → {finding.fix}")
