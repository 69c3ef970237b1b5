"""`buffy env`: lines for a shell's `eval` that send its tools through the running server, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buffy_proxy.cli import talk
from buffy_proxy.shell_env import Changes, Shell, entering, leaving, original, script

if TYPE_CHECKING:
    from buffy_proxy.clients import ClientEnv
    from buffy_proxy.config import Config
    from buffy_proxy.presence import Presence

PROXY_LOOPBACK = typer.Option("--proxy-loopback", help="Send requests to this machine through Buffy, too.")


def register(app: typer.Typer) -> None:
    app.command("env")(env)


def env(
    unset: Annotated[bool, typer.Option("--unset", help="Undo it: everything as it was before.")] = False,
    group: Annotated[str | None, typer.Option("--group", metavar="G", help="Use the sandbox G.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Answer from what is stored only.")] = False,
    shell: Annotated[Shell, typer.Option("--shell", help="Whose syntax to print.")] = Shell.sh,
    proxy_loopback: Annotated[bool, PROXY_LOOPBACK] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Print what sends the tools of a shell through Buffy.

    Use it as eval "$(buffy env)", in fish as: buffy env --shell fish | source
    """
    if unset:
        changes: Changes = leaving(os.environ)
        if not changes:
            talk.say("buffy: nothing to undo in this environment")
    else:
        changes = _entering(group, offline, proxy_loopback, data_dir, config)
    # Values of the environment may be any bytes: they leave as they came.
    sys.stdout.buffer.write(script(changes, shell).encode(errors="surrogateescape"))
    sys.stdout.buffer.flush()


def _entering(
    group: str | None, offline: bool, proxy_loopback: bool, data_dir: Path | None, config: Path | None
) -> Changes:
    from buffy_proxy import lease, presence
    from buffy_proxy.config import load

    settings = load(config, data_dir=data_dir)
    server = presence.find(settings.data_dir)
    if server is None:
        talk.fail(f"no server runs for {settings.data_dir}: start one with `buffy serve`")
    if lease.is_temporary(settings.data_dir, server):
        talk.fail("the server that runs ends with its `buffy run`: start a lasting one with `buffy serve`")
    try:
        client = client_for(settings, server, original(os.environ), group, offline, proxy_loopback)
    except OSError as error:
        talk.fail(f"cannot write {error.filename}: {error.strerror}")
    for note in client.notes:
        talk.say(f"buffy: {note}")
    return entering(os.environ, client)


def client_for(
    settings: Config,
    server: Presence,
    environ: Mapping[str, str],
    group: str | None,
    offline: bool,
    proxy_loopback: bool,
    run: str | None = None,
) -> ClientEnv:
    """The environment for tools that use that server. Raises OSError when bundles cannot be written."""
    from buffy_proxy.clients import client_env
    from buffy_proxy.core.model import DEFAULT_GROUP

    try:
        return client_env(
            environ,
            proxy=server.proxy,
            ca_file=server.ca_file,
            bundle_dir=settings.data_dir.absolute() / "clients",
            group=group or DEFAULT_GROUP,
            offline=offline,
            run=run,
            credentials=settings.credentials,
            proxy_loopback=proxy_loopback,
        )
    except ValueError as error:  # a bad group name
        talk.fail(str(error), code=2)
