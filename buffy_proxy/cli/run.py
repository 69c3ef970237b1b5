"""`buffy run`: one command through Buffy, with the running server or one started for the command."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buffy_proxy.cli import talk
from buffy_proxy.cli.child import NotRunnable, locate, run_child
from buffy_proxy.cli.env import PROXY_LOOPBACK, client_for

if TYPE_CHECKING:
    from buffy_proxy.config import Config
    from buffy_proxy.store import Store

SETTLED_S = 0.6
"""The proxy writes counters this long behind; unchanged for that long, they are complete."""


def register(app: typer.Typer) -> None:
    app.command("run", context_settings={"allow_interspersed_args": False})(run)


def run(
    command: Annotated[list[str], typer.Argument(metavar="CMD…", help="The command and its arguments.")],
    group: Annotated[str | None, typer.Option("--group", metavar="G", help="Use the sandbox G.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Answer from what is stored only.")] = False,
    proxy_loopback: Annotated[bool, PROXY_LOOPBACK] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary at the end.")] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Run a command so that what it fetches comes through Buffy.

    The exit code is the command's: 128+n if signal n ended it, 127 if it is not found, 126 if it cannot run.
    """
    from buffy_proxy.config import load

    try:
        program = locate(command[0])
        settings = load(config, data_dir=data_dir)
        raise typer.Exit(_through(settings, program, command, group, offline, proxy_loopback, quiet))
    except NotRunnable as error:
        talk.fail(str(error), code=error.code)
    except OSError as error:
        talk.fail(f"cannot prepare {error.filename or 'the command'}: {error.strerror or error}")


def _through(
    settings: Config,
    program: str,
    command: list[str],
    group: str | None,
    offline: bool,
    proxy_loopback: bool,
    quiet: bool,
) -> int:
    from buffy_proxy import lease, shell_env

    environ = shell_env.original(os.environ)
    run_id = secrets.token_hex(6)
    options = [*(("--config", str(settings.config_file)) if settings.config_file else ())]
    options += ["--offline"] if offline else []
    _end_by_exception()
    with lease.server(settings.data_dir, options, environ) as held:
        client = client_for(settings, held.server, environ, group, offline, proxy_loopback, run_id)
        for note in () if quiet else client.notes:
            talk.say(f"buffy: {note}")
        code = run_child(program, command, client.applied(environ))
    if not quiet:
        talk.say(_summary(settings, run_id, complete=held.ended))
    return code


def _end_by_exception() -> None:
    """SIGTERM and SIGHUP unwind like ^C, so that a server that was started for us does not stay behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda caught, _: sys.exit(128 + caught))


def _summary(settings: Config, run_id: str, *, complete: bool) -> str:
    from buffy_proxy.config import open_store
    from buffy_proxy.errors import StoreError

    try:
        store = open_store(settings)
    except StoreError as error:
        return f"buffy: what came through is not known: {error}"
    try:
        return _sentence(_counted(store, f"run/{run_id}", complete))
    finally:
        store.close()


def _counted(store: Store, name: str, complete: bool) -> Mapping[str, int]:
    """The counters, once the proxy has written them all; waits 1 s at most."""
    count = store.counters(name)
    end = time.monotonic() + 1.0
    settled = time.monotonic() + SETTLED_S
    while not complete and time.monotonic() < min(settled, end):
        time.sleep(0.1)
        newer = store.counters(name)
        if newer != count:
            count, settled = newer, time.monotonic() + SETTLED_S
    return count


def _sentence(count: Mapping[str, int]) -> str:
    requests, hits = (_number(count.get(name, 0), name) for name in ("requests", "hits"))
    cache, origins = (talk.size_text(count.get(name, 0)) for name in ("bytes_cache", "bytes_origin"))
    hint = "" if count.get("requests") else " (nothing went through Buffy; loopback needs --proxy-loopback)"
    return f"buffy: {requests}, {hits}, {cache} from the cache, {origins} from origins{hint}"


def _number(count: int, plural: str) -> str:
    return f"{count} {plural.removesuffix('s') if count == 1 else plural}"
