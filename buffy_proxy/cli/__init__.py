"""The `buffy` command. Data goes to stdout, talk to stderr.

Each module here offers `register(app)`. Modules import what is heavy (mitmproxy, the store, requests) inside
their commands, so that `buffy --help` and `buffy ls` start at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from buffy_proxy import __version__
from buffy_proxy.cli import change, config, doctor, env, get, inspect, plugins, run, serve, store, talk
from buffy_proxy.errors import BuffyError, ConfigError, StoreUnusable

EXIT_CODES = "Exit codes: 0 done · 1 not found or failed · 2 wrong usage, configuration or data directory."

app = typer.Typer(
    name="buffy",
    cls=plugins.Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
for module in (serve, run, env, inspect, get, change, store, config, plugins, doctor):
    module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and ends the process. Errors of our own are one line on stderr."""
    try:
        app(arguments)
    except (ConfigError, StoreUnusable) as error:
        talk.fail(str(error), code=2)
    except BuffyError as error:
        talk.fail(str(error), code=1)
    except BrokenPipeError:
        talk.quiet_stdout()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"buffy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Buffy keeps what your programs fetch from the web, as versions, and serves it again."""
    # The defaults of all subcommands, so that both places of an option mean the same and the later one wins.
    given: dict[str, Any] = {"data_dir": data_dir, "config": config}
    context.default_map = _defaults(context.command, {key: value for key, value in given.items() if value})


def _defaults(command: Any, given: dict[str, Any]) -> dict[str, Any]:
    """`given` for each subcommand below `command` that has such parameters, in click's nested form."""
    if not hasattr(command, "commands"):
        names = {parameter.name for parameter in command.params}
        return {key: value for key, value in given.items() if key in names}
    return {name: _defaults(sub, given) for name, sub in command.commands.items()}
