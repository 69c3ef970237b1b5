"""Turns the figures of bench/run.py into Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Result = dict[str, Any]


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [
        list(names),
        ["---"] + ["---:"] * (len(names) - 1),
        *[[str(cell) for cell in row] for row in rows],
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def machine(info: Result) -> str:
    known = ", ".join(f"{name} {value}" for name, value in info.items() if name not in ("cpu", "cores"))
    return f"{info['cores']} cores {info['cpu']}; {known}\n"


def hits(rows: list[Result]) -> str:
    cells = (
        (
            row["scheme"],
            row["connections"],
            number(row["per_second"]),
            row["p50_us"],
            row["p99_us"],
            row["failed"],
        )
        for row in rows
    )
    return table(("scheme", "connections", "hits/s", "p50 µs", "p99 µs", "failed"), cells)


def misses(rows: list[Result]) -> str:
    direct = {(row["scheme"], row["connections"]): row for row in rows if row["kind"] == "direct"}
    cells = []
    for row in rows:
        base = direct[row["scheme"], row["connections"]]
        more = row["p50_us"] - base["p50_us"]
        ratio = row["per_second"] / (base["per_second"] or 1)
        speed = number(row["per_second"])
        cells.append(
            (
                f"{row['scheme']}, {row['kind']}",
                row["connections"],
                speed,
                row["p50_us"],
                more,
                f"{ratio:.2f}",
            )
        )
    names = ("what", "connections", "requests/s", "p50 µs", "over direct, µs", "share of direct")
    return table(names, cells)


def first_byte(result: Result) -> str:
    cells = [(name, f"{result[key]:.2f}") for name, key in (("direct", "direct_ms"), ("Buffy", "buffy_ms"))]
    return table(("through", "ms"), cells)


def big(rows: list[Result]) -> str:
    direct = {(row["scheme"], row["kind"]): row["mb_per_s"] for row in rows}
    cells = []
    for row in rows:
        base = "upload direct" if row["kind"].startswith("upload") else "direct"
        ratio = row["mb_per_s"] / (direct[row["scheme"], base] or 1)
        memory = "–" if "direct" in row["kind"] else f"{row['memory_mib']:.0f}"
        cells.append((f"{row['scheme']}, {row['kind']}", number(row["mb_per_s"]), f"{ratio:.2f}", memory))
    return table(("1 GiB", "MB/s", "share of direct", "memory growth, MiB"), cells)


def lookup(rows: Any) -> str:
    if not isinstance(rows, list):
        return f"{rows['error']}\n"
    names = list(rows[0]["us"])
    cells = ([number(row["size"]), *(f"{row['us'][name]:.1f}" for name in names)] for row in rows)
    return table(["stored versions", *(f"{name}, µs" for name in names)], cells)


SECTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "machine": ("Machine", machine),
    "hits": ("Hits, keep-alive, 1 KiB", hits),
    "misses": ("Misses, keep-alive, 1 KiB", misses),
    "first_byte": ("First byte of an answer that takes a second", first_byte),
    "big": ("1 GiB", big),
    "lookup": ("Look-up", lookup),
}


def markdown(results: Result) -> str:
    """All sections for which there are figures."""
    parts = [
        f"## {title}\n\n{show(results[key])}" for key, (title, show) in SECTIONS.items() if key in results
    ]
    return "\n".join(parts)
