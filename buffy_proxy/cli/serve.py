"""`buffy serve`: reads the configuration, refuses what is unsafe, hands over to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from buffy_proxy.cli import talk


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", metavar="HOST:PORT", help="Where the proxy listens: 127.0.0.1:8080."),
    ] = None,
    api: Annotated[
        str | None,
        typer.Option("--api", metavar="HOST:PORT", help="Where the control API listens: 127.0.0.1:8008."),
    ] = None,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
    workers: Annotated[
        str | None,
        typer.Option("--workers", metavar="N|auto", help="Proxy processes; auto: one for each core."),
    ] = None,
    reverse: Annotated[
        str | None,
        typer.Option("--reverse", metavar="URL", help="Be a reverse proxy: all requests go to this origin."),
    ] = None,
    offline: Annotated[
        bool | None, typer.Option("--offline", help="Answer from the store only.", show_default=False)
    ] = None,
    plugin: Annotated[list[Path] | None, talk.PLUGIN] = None,
    ignore_broken_plugins: Annotated[
        bool | None,
        typer.Option(
            "--ignore-broken-plugins", help="Go on without plugins that do not load.", show_default=False
        ),
    ] = None,
) -> None:
    """Run the proxy and the control API until SIGTERM or Ctrl-C."""
    from buffy_proxy.config import check_exposure, load

    settings = load(
        config,
        serving=True,
        data_dir=data_dir,
        proxy=proxy,
        api=api,
        workers=workers,
        reverse=reverse,
        offline=offline,
        plugin_files=plugin or None,
        ignore_broken_plugins=ignore_broken_plugins,
    )
    check_exposure(settings)
    from buffy_proxy import server

    raise typer.Exit(server.serve(settings))
