"""`buffy config show`: what applies, and where each value was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from buffy_proxy.cli import talk


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True, help="The configuration: buffy.toml, BUFFY_* variables, options."
    )
    group.callback()(lambda: None)  # typer makes a group of a single command only if there is a callback
    group.command("show")(show)
    app.add_typer(group, name="config")


def show(
    as_json: Annotated[bool, talk.JSON] = False,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Show every setting with the place it comes from, then the rules in the order they are tried."""
    from buffy_proxy.config import dump, load

    shown = dump(load(config, data_dir=data_dir))
    if as_json:
        talk.print_json(shown)
        return
    for key, setting in shown["settings"].items():
        source = talk.paint(f"# {setting['source']}", "bright_black")
        typer.echo(f"{key} = {_toml(setting['value'])}  {source}")
    for rule in shown["rules"]:
        typer.echo("\n[[rule]]")
        for key, value in rule.items():
            typer.echo(f"{key} = {_toml(value)}")


def _toml(value: Any) -> str:
    """JSON's notation is TOML's for everything but tables; unset values have none in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return '""' if value is None else json.dumps(value, ensure_ascii=False)
