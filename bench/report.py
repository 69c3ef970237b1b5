"""Turns figures into Markdown: a function for each section of results.json, which gives a table or two."""

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


def times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


def machine(info: Result) -> str:
    known = ", ".join(f"{name} {value}" for name, value in info.items() if name not in ("cpu", "cores"))
    return f"{info['cores']} cores {info['cpu']}; {known}\n"


RATE_NAMES = ("through", "per second", "× Squid", "p50 µs", "p99 µs", "proxy CPU µs", "× Squid's")
RATE_END = ("proxy", "generator", "origin", "asked the origin", "failed")


def rates(rows: list[Result]) -> str:
    cells = [(row["name"], *rate(name, found)) for row in rows for name, found in row["peers"].items()]
    notes = [
        f"{row['name']}, {name}: {found['error']}\n"
        for row in rows
        for name, found in row["peers"].items()
        if found["error"]
    ]
    return table(("what", *RATE_NAMES, *RATE_END), cells) + "\n" + "".join(notes) + headroom(rows)


def rate(name: str, found: Result) -> tuple[str, ...]:
    direct = name == "direct"
    cpu = ("–", "–") if direct else (number(found["cpu_us"]), times(found["cpu_of_squid"]))
    speed = (number(found["per_second"]), times(found["of_squid"]))
    waits = (f"{found['p50_us']:.0f}", f"{found['p99_us']:.0f}")
    asked = (f"{found['origin_requests']:,.0f}", str(found["failed"]))
    return (name, *speed, *waits, *cpu, *shares(found, direct), *asked)


def shares(found: Result, direct: bool) -> tuple[str, str, str]:
    """Of a core: the proxy's of its own, generator's and origin's of the other."""
    return (
        "–" if direct else f"{found['proxy_busy']:.2f}",
        f"{found['busy']:.2f}",
        f"{found['origin_busy']:.2f}",
    )


def headroom(rows: list[Result]) -> str:
    """In words: how much cheaper a request is for generator and origin than for the proxy, at least."""
    cheaper: dict[str, list[float]] = {}
    for row in rows:
        for name, found in row["peers"].items():
            other = found["busy"] + found["origin_busy"]
            if other and name != "direct":
                cheaper.setdefault(name, []).append(found["proxy_busy"] / other)
    said = ", ".join(f"{name} {min(factors):.1f} ×" for name, factors in cheaper.items())
    walls = [name for name, factors in cheaper.items() if min(factors) < 1.2]
    word = f" Where that is near 1 ({', '.join(walls)}), go by the CPU time." if walls else ""
    return f"Generator and origin are faster than what they measure by at least: {said}.{word}\n"


def misses(rows: list[Result]) -> str:
    cells = []
    for row in rows:
        for name, found in row["peers"].items():
            if found.get("over_direct_us") is not None and name != "direct":
                cells.append(
                    (row["name"], name, f"{found['over_direct_us'] / 1000:.2f}", capacity(row, found))
                )
    over = table(("what", "through", "over direct, ms", "direct is this many times faster"), cells)
    return f"{rates(rows)}\n### Over direct\n\n{over}"


def capacity(row: Result, found: Result) -> str:
    return f"{row['peers']['direct']['per_second'] / (found['per_second'] or 1):.1f}"


def big(rows: list[Result]) -> str:
    names = ("1 GiB", "through", "MB/s", "× Squid", "first byte, ms", "anonymous memory, MiB")
    end = ("proxy CPU s", "proxy", "generator", "origin", "asked the origin", "failed")
    cells = (
        (
            row["what"],
            row["through"],
            number(row["mb_per_s"]),
            times(row["of_squid"]),
            f"{row['first_ms']:.1f}",
            *(
                ("–", "–")
                if row["through"] == "direct"
                else (f"{row['grown_mib']:+.0f}", f"{row['cpu_s']:.2f}")
            ),
            *shares(row, row["through"] == "direct"),
            f"{row['origin_requests']:.0f}",
            row["failed"],
        )
        for row in rows
    )
    note = "mitmdump holds bodies in memory whole; it got 128 MiB, once.\n"
    return table((*names, *end), cells) + (
        "\n" + note if any(r["through"] == "mitmdump" for r in rows) else ""
    )


def upload(rows: list[Result]) -> str:
    cells = (
        (
            r["what"],
            r["through"],
            number(r["mb_per_s"]),
            times(r["of_squid"]),
            f"{r['grown_mib']:+.0f}",
            r["failed"],
        )
        for r in rows
    )
    names = ("upload of 1 GiB", "through", "MB/s", "× Squid", "anonymous memory, MiB", "failed")
    broken = sorted({row["through"] for row in rows if row["failed"]})
    return table(names, cells) + (f"\nBroken off: {', '.join(broken)}.\n" if broken else "")


def waits(rows: list[Result]) -> str:
    names = ("what", "through", "first byte, ms", "all, ms", "asked the origin", "failed")
    cells = (
        (
            r["what"],
            r["through"],
            f"{r['first_ms']:.1f}",
            f"{r['all_ms']:.0f}",
            f"{r['origin_requests']:.0f}",
            r["failed"],
        )
        for r in rows
    )
    return table(names, cells)


def lookup(rows: list[Result]) -> str:
    names = list(rows[0]["us"])
    cells = ([number(row["size"]), *(f"{row['us'][name]:.1f}" for name in names)] for row in rows)
    return table(["stored versions", *(f"{name}, µs" for name in names)], cells)


def scale(rows: list[Result]) -> str:
    keys = [key for key in rows[0] if key != "size"]
    cells = ([number(row["size"]), *(f"{row[key]:,.2f}" for key in keys)] for row in rows)
    return table(["stored versions", *map(with_unit, keys)], cells)


def with_unit(key: str) -> str:
    """A figure's name in words: `start_s` is "start, s"."""
    name, _, unit = key.rpartition("_")
    return f"{name.replace('_', ' ')}, {UNITS.get(unit, unit)}"


UNITS = {"us": "µs", "mib": "MiB"}


def client(rows: list[Result]) -> str:
    names = ("client", "one process: p50 ms", "p99 ms", "8 processes: orders/s", "p50 ms", "p99 ms")
    keys = ("p50_ms", "p99_ms", "per_second", "busy_p50_ms", "busy_p99_ms")
    cells = ([row["client"], *(number(row[key]) for key in keys)] for row in rows)
    return f"{table(names, cells)}\nAgainst our server, but for the row that says otherwise.\n"


def listing(rows: list[Result]) -> str:
    keys = [key for key in rows[0] if key != "size"]
    cells = ((f"{row['size']:,}", *(number(row[key]) for key in keys)) for row in rows)
    return table(("requests", *(f"{key}, ms" for key in keys)), cells)


def parts(rows: list[Result]) -> str:
    """Three tables: microseconds of a hit by part and by function, and system calls."""
    tables = [breakdown(rows, "us", "part of a hit", "µs")]
    if all(row["functions"] for row in rows):
        tables.append(breakdown(rows, "functions", "function, with what it calls in C and the kernel", "µs"))
    return "\n".join([*tables, breakdown(rows, "calls", "system call", "a hit")])


def workers(rows: list[Result]) -> str:
    start = ("what", "workers", "CPU µs a hit", "× one", "hits/s", "× one", "p99 µs")
    cells = (
        (
            f"{row['scheme']}, {row['connections']} connections",
            row["workers"],
            f"{row['cpu_us']:.2f}",
            f"{row['cpu_us_ratio']:.3f}",
            number(row["per_second"]),
            f"{row['per_second_ratio']:.2f}",
            f"{row['p99_us']:.0f}",
            f"{row['least_busy']:.2f}",
            row["failed"],
        )
        for row in rows
    )
    note = "Balance: processor time of the least busy worker over that of the busiest.\n"
    return f"{table((*start, 'balance', 'failed'), cells)}\n{note}"


def http2(rows: list[Result]) -> str:
    names = ("what", "hits/s", "p50 µs", "p99 µs", "proxy CPU µs", "h2load", "relay", "failed")
    cells = (
        (
            f"{row['connections']} × {row['streams']} streams",
            number(row["per_second"]),
            f"{row['p50_us']:.0f}",
            f"{row['p99_us']:.0f}",
            number(row["cpu_us"]),
            f"{row['busy']:.2f}",
            f"{row['relay']:.2f}",
            f"{row['failed']:.0f}",
        )
        for row in rows
    )
    return table(names, cells)


MOST_PARTS = 15


def breakdown(rows: list[Result], key: str, word: str, unit: str) -> str:
    largest = {name: max(row[key].get(name, 0.0) for row in rows) for row in rows for name in row[key]}
    ordered = sorted(largest, key=lambda name: -largest[name])
    names = [name for name in ordered[:MOST_PARTS] if largest[name] >= 0.01]
    cells = [[name, *(f"{row[key].get(name, 0.0):.2f}" for row in rows)] for name in names]
    cells.append(["all", *(f"{sum(row[key].values()):.2f}" for row in rows)])
    return table((word, *(f"{row['scheme']}, {unit}" for row in rows)), cells)


SECTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "machine": ("Machine", machine),
    "hits": ("Hits", rates),
    "many": ("Hits over many URLs", rates),
    "tls": ("New TLS connections", rates),
    "http2": ("HTTP/2 hits, 1 KiB", http2),
    "misses": ("Misses, 1 KiB", misses),
    "big": ("1 GiB", big),
    "upload": ("Uploads", upload),
    "late": ("First byte of an answer whose end comes a second later", waits),
    "together": ("Fifty clients at once", waits),
    "parts": ("Where each microsecond of a hit goes", parts),
    "workers": ("Several workers", workers),
    "lookup": ("Look-up", lookup),
    "scale": ("Start-up, memory, eviction", scale),
    "client": ("A cached order, 1 KiB, create_request to last byte", client),
    "listing": ("The list of requests, pages of 100", listing),
}
"""By the keys of results.json, in the order in which they are shown."""


def section(results: Result, key: str) -> str:
    """The Markdown of one section, without its title, or why there is none."""
    found = results[key]
    if isinstance(found, dict) and "absent" in found:
        return f"Not measured: {found['absent']}\n"
    try:
        return SECTIONS[key][1](found)
    except KeyError as missing:  # `--only` keeps what an earlier run wrote, maybe of an earlier version
        return f"Not shown: figures of another version of the benchmark, without {missing}.\n"


def markdown(results: Result) -> str:
    """All sections for which there are figures."""
    shown = [
        f"## {title}\n\n{section(results, key)}" for key, (title, _) in SECTIONS.items() if key in results
    ]
    return "\n".join(shown)
