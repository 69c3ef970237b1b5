"""How the command line talks: options that many commands share, messages, sizes and times, plain columns."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer

DATA_DIR = typer.Option("--data-dir", metavar="DIR", help="Where Buffy keeps its data.", show_default=False)
CONFIG = typer.Option("--config", metavar="FILE", help="The buffy.toml to read.", show_default=False)
GROUP = typer.Option("--group", metavar="GROUP", help="The sandbox to look in.", show_default=False)
JSON = typer.Option("--json", help="Machine-readable output.")
PLUGIN = typer.Option(
    "--plugin", metavar="FILE", help="A plugin to load, too (repeatable).", show_default=False
)
YES = typer.Option("--yes", "-y", help="Do not ask.")

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def say(message: str) -> None:
    """A line of talk, on stderr."""
    typer.echo(message, err=True)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """One line on stderr, then the process ends."""
    say(f"{paint('buffy:', 'red', sys.stderr)} {message}")
    sys.exit(code)


def paint(text: str, colour: str, stream: Any = None, *, bold: bool = False) -> str:
    """The text in a colour, where the stream (stdout) is a terminal and NO_COLOR is not set."""
    stream = sys.stdout if stream is None else stream
    return (
        typer.style(text, fg=colour, bold=bold)
        if stream.isatty() and not os.environ.get("NO_COLOR")
        else text
    )


def quiet_stdout() -> None:
    """After a broken pipe: nothing more can be written, and Python shall not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_list(values: Iterable[object]) -> None:
    """A JSON array, one element a line, written as the elements come."""
    separator = "[\n"
    for value in values:
        typer.echo(separator + json.dumps(value, ensure_ascii=False), nl=False)
        separator = ",\n"
    typer.echo("\n]" if separator != "[\n" else "[]")


def print_rows(head: tuple[str, ...], widths: tuple[int, ...], rows: Iterable[tuple[str, ...]]) -> int:
    """Columns of fixed width, printed as the rows come; the last one is as wide as it is.

    The head only shows on a terminal. Returns the number of rows.
    """
    if sys.stdout.isatty():
        typer.echo(paint(_row(head, widths), "bright_black"))
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007
        typer.echo(_row(row, widths))
    return count


def _row(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=True))
    return "  ".join((*padded, cells[-1])).rstrip()


def size_text(size: int) -> str:
    """1536 → "1.5 KiB"."""
    value, unit = float(size), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def span_text(seconds: float) -> str:
    """A duration in its two largest units: 3661 → "1h 1m"."""
    if math.isinf(seconds):
        return "ever"
    return " ".join(_span_parts(max(0, round(seconds)))) or "0s"


def _span_parts(seconds: int) -> Iterator[str]:
    for position, (length, unit) in enumerate(_SPANS):
        if seconds >= length:
            yield f"{seconds // length}{unit}"
            if position + 1 < len(_SPANS):
                smaller, name = _SPANS[position + 1]
                if rest := seconds % length // smaller:
                    yield f"{rest}{name}"
            return


def time_text(moment: float) -> str:
    """Local time without fractions: 2026-11-23 22:30:00."""
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def time_json(moment: float | None) -> float | str | None:
    """POSIX seconds; infinity, which JSON lacks, as "never" (in the past) or "for ever"."""
    if moment is None or math.isfinite(moment):
        return moment
    return "for ever" if moment > 0 else "never"
