"""`buffy plugins`: what is loaded, from where, and what it does; and the commands that plugins add."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from buffy_proxy.cli import talk

if TYPE_CHECKING:
    from buffy_proxy.plugins import Plugins


def register(app: typer.Typer) -> None:
    app.command("plugins")(plugins)


def plugins(
    as_json: Annotated[bool, talk.JSON] = False,
    plugin: Annotated[list[Path] | None, talk.PLUGIN] = None,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """List the plugins: version, hooks, strategies, and where each comes from. Broken ones say why."""
    loaded, place = _load(config, data_dir=data_dir, plugin_files=plugin or None)
    rows = [
        {
            "name": one.name,
            "version": one.version,
            "source": one.source,
            "hooks": list(one.hooks),
            "strategies": list(one.strategies),
            "problem": one.problem or None,
        }
        for one in loaded.loaded
    ]
    if as_json:
        talk.print_json(rows)
        return
    for row in rows:
        _print(row)
    if not rows:
        talk.say(f"no plugins; put files into {place} or name them with --plugin")


def _print(row: dict[str, Any]) -> None:
    name = talk.paint(row["name"], "green" if row["problem"] is None else "red")
    typer.echo(" ".join(filter(None, (name, row["version"], f"({row['source']})"))))
    if row["problem"] is not None:
        typer.echo(f"  broken: {row['problem']}")
    for what in ("hooks", "strategies"):
        if row[what]:
            typer.echo(f"  {what}: {', '.join(row[what])}")


def _load(config_file: Path | None, **overrides: Any) -> tuple[Plugins, Path]:
    """All plugins, broken ones too, and the directory they are looked for first. Neither rules nor broken
    plugins must keep people from seeing what there is."""
    from buffy_proxy.config import find_plugins

    logging.getLogger("buffy.plugins").setLevel(logging.ERROR)  # what is broken is listed
    return find_plugins(config_file, ignore_broken_plugins=True, **overrides)


# -- commands of plugins ------------------------------------------------------------------------------------


class Commands(TyperGroup):
    """The group of all commands. Plugins are loaded only for names that are not Buffy's own, or for help."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or _from_plugins(self).get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *sorted(_from_plugins(self).keys() - set(own))]


def _from_plugins(group: TyperGroup) -> dict[str, Any]:
    """Groups of commands by plugin. What is wrong with plugins or configuration is told by the commands that
    need them; here it must not keep `buffy --help` from helping."""
    from buffy_proxy.errors import BuffyError

    try:
        config, data_dir = (_option(sys.argv, name) for name in ("--config", "--data-dir"))
        loaded, _ = _load(Path(config) if config else None, data_dir=data_dir)
    except BuffyError:
        return {}
    found = {}
    for one in loaded.each("register_commands"):
        app = typer.Typer(no_args_is_help=True, help=f"Commands of the plugin {one.plugin}.")
        app.callback()(lambda: None)
        loaded.ask("register_commands", one, app=app)
        if app.registered_commands or app.registered_groups:
            found[one.plugin] = typer.main.get_command(app)
            found[one.plugin].name = one.plugin
    return {name: command for name, command in found.items() if name not in group.commands}


def _option(words: list[str], name: str) -> str | None:
    """The value of an option on a command line that is not parsed yet."""
    for at, word in enumerate(words):
        if word == name and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
