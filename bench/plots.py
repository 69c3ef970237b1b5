"""Plots of results.json as small PNGs. Wants matplotlib (`pip install -e '.[bench]'`), and says so if not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.common import Result
from bench.report import with_unit
from tests.support.procs import ROOT

DOCS = ROOT / "docs" / "img"
COLOURS = {
    "buffy": "#1f6f8b",
    "squid": "#c06c3e",
    "nginx": "#8a8f98",
    "mitmdump": "#b9a44c",
    "direct": "#444444",
}
Axes = Any


def draw(results: Result, directory: Path) -> list[Path]:
    """Writes a picture for each group that has figures; gives what it wrote."""
    if importlib.util.find_spec("matplotlib") is None:
        print("without plots: matplotlib is not installed (pip install -e '.[bench]')", file=sys.stderr)
        return []
    directory.mkdir(parents=True, exist_ok=True)
    written = [picture(directory, name, panels(results)) for name, panels in PICTURES.items()]
    return [path for path in written if path is not None]


def picture(directory: Path, name: str, panels: Sequence[Callable[[Axes], None]]) -> Path | None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    if not panels:
        return None
    across, down = min(3, len(panels)), -(-len(panels) // 3)
    figure, axes = pyplot.subplots(down, across, figsize=(4.4 * across, 3.0 * down), squeeze=False)
    for place, one in enumerate(axes.flat):
        one.spines[["top", "right"]].set_visible(False)
        if place < len(panels):
            panels[place](one)
        else:
            one.set_axis_off()
    figure.tight_layout()
    path = directory / f"{name}.png"
    figure.savefig(path, dpi=80, metadata={"Software": None}, pil_kwargs={"optimize": True})
    pyplot.close(figure)
    return path


def rows_of(results: Result, group: str) -> list[Result]:
    rows = results.get(group)
    return rows if isinstance(rows, list) else []


def bars(title: str, values: dict[str, dict[str, float]], log: bool = False) -> Callable[[Axes], None]:
    """`values` by label, then by peer."""
    peers = list(dict.fromkeys(peer for by_peer in values.values() for peer in by_peer))
    width = 0.8 / max(1, len(peers))

    def panel(axes: Axes) -> None:
        for place, peer in enumerate(peers):
            at = [label + place * width for label in range(len(values))]
            heights = [by_peer.get(peer, 0.0) for by_peer in values.values()]
            shown = axes.bar(at, heights, width, label=peer, color=COLOURS.get(peer))
            axes.bar_label(shown, [short(height) for height in heights], fontsize=6, padding=1)
        axes.set_xticks([label + width * (len(peers) - 1) / 2 for label in range(len(values))], list(values))
        axes.tick_params(labelsize=7)
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=6, frameon=False)
        if log:
            axes.set_yscale("log")

    return panel


def short(value: float) -> str:
    return (
        f"{value / 1000:.0f}k"
        if value >= 10_000
        else f"{value / 1000:.1f}k"
        if value >= 1000
        else f"{value:.0f}"
    )


def by_row(
    results: Result, group: str, key: str, names: dict[str, str], skip: str = ""
) -> dict[str, dict[str, float]]:
    """Of the rows called so: the figure of each peer, under the label."""
    rows = {row["name"]: row["peers"] for row in rows_of(results, group)}
    return {
        label: {peer: found[key] for peer, found in rows[name].items() if peer != skip}
        for name, label in names.items()
        if name in rows
    }


def rate_panels(
    results: Result, group: str, names: dict[str, str], title: str
) -> list[Callable[[Axes], None]]:
    found = by_row(results, group, "per_second", names, "direct")
    return [bars(title, found)] if found else []


def hits(results: Result) -> list[Callable[[Axes], None]]:
    names = {
        f"{s}, {size}, 32 connections": f"{s} {size}"
        for size in ("1 KiB", "100 KiB")
        for s in ("http", "https")
    }
    panels = rate_panels(results, "hits", names, "hits/s, 32 connections")
    cpu = by_row(results, "hits", "cpu_us", names)
    panels += [bars("processor time of the proxy, µs a hit", cpu, log=True)] if cpu else []
    return panels + rate_panels(results, "tls", {"new connections": ""}, "new TLS connections/s")


def misses(results: Result) -> list[Callable[[Axes], None]]:
    names = {f"{s}, stored, 32 connections": s for s in ("http", "https")}
    panels = rate_panels(results, "misses", names, "stored misses/s, 32 connections")
    alone = {f"{s}, stored, 1 connection": s for s in ("http", "https")}
    waits = by_row(results, "misses", "p50_us", alone)
    return [*panels, bars("a stored miss, one connection, p50 µs", waits)] if waits else panels


def latency(results: Result) -> list[Callable[[Axes], None]]:
    names = {f"{s}, 1 KiB, {c}": f"{s}, {c[:2].strip()}" for s in ("http", "https") for c in CONNECTIONS}
    found = [(key, by_row(results, "hits", key, names)) for key in ("p50_us", "p99_us")]
    return [
        bars(f"1 KiB hits, {key[:3]} µs, by connections", values, log=True) for key, values in found if values
    ]


CONNECTIONS = ("1 connection", "32 connections")


def big(results: Result) -> list[Callable[[Axes], None]]:
    values: dict[str, dict[str, float]] = {}
    for row in rows_of(results, "big"):
        if row["through"] not in ("direct", "mitmdump"):
            values.setdefault(row["what"], {})[row["through"]] = row["mb_per_s"]
    return [bars("1 GiB, MB/s", values)] if values else []


def growing(results: Result) -> list[Callable[[Axes], None]]:
    panels = []
    lookup, scale = rows_of(results, "lookup"), rows_of(results, "scale")
    if lookup:
        sizes = [row["size"] for row in lookup]
        names = [name for name in lookup[0]["us"] if name.startswith(("look_up", "peek"))]
        panels.append(lines("look-up, µs", sizes, {n: [r["us"][n] for r in lookup] for n in names}))
    if scale:
        sizes = [row["size"] for row in scale]
        keys = [key for key in scale[0] if key != "size" and "cpu" not in key]
        panels += [lines(with_unit(key), sizes, {"": [row[key] for row in scale]}) for key in keys]
    return panels


def lines(title: str, sizes: Sequence[int], values: dict[str, list[float]]) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        for name, row in values.items():
            axes.plot(sizes, row, marker="o", markersize=3, linewidth=1, label=name)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.15 * max(max(row) for row in values.values()))
        axes.set_xlabel("stored versions", fontsize=7)
        axes.tick_params(labelsize=7)
        axes.set_title(title, fontsize=9)
        if len(values) > 1:
            axes.legend(fontsize=6, frameon=False)

    return panel


PICTURES = {"hits": hits, "misses": misses, "latency": latency, "big": big, "store": growing}
