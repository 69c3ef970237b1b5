"""What is aimed at, and how far it is reached: a row for each aim. It says, and never fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.common import Result
from bench.report import table

Figure = Callable[[Result], float | None]


@dataclass(frozen=True)
class Claim:
    """`least` or `most` is the aim; `floor` what must not be missed, None where that is the aim itself."""

    words: str
    figure: Figure
    least: float | None = None
    most: float | None = None
    floor: float | None = None

    def verdict(self, found: float | None) -> str:
        if found is None:
            return "not measured"
        if self.reaches(found, self.least if self.least is not None else self.most):
            return "reached"
        return "above the floor" if self.floor is not None and self.reaches(found, self.floor) else "missed"

    def reaches(self, found: float, bound: float | None) -> bool:
        assert bound is not None
        return found >= bound if self.least is not None else found <= bound

    def bound(self, value: float | None) -> str:
        return "–" if value is None else f"{'≥' if self.least is not None else '≤'} {value:,g}"


def buffy(group: str, start: str, key: str, end: str = "") -> Figure:
    """A figure of Buffy's in the row of a group whose name starts and ends so."""

    def find(results: Result) -> float | None:
        rows = rows_of(results, group)
        peers = [row["peers"] for row in rows if row["name"].startswith(start) and row["name"].endswith(end)]
        found = peers[0].get("buffy", {}).get(key) if peers else None
        return None if found is None else float(found)

    return find


def thing(what: str, key: str) -> Figure:
    def find(results: Result) -> float | None:
        found = [r for r in rows_of(results, "big") if (r["what"], r["through"]) == (what, "buffy")]
        return found[0][key] if found else None

    return find


def rows_of(results: Result, group: str) -> list[Result]:
    rows = results.get(group)
    return rows if isinstance(rows, list) else []


def thousandth(figure: Figure) -> Figure:
    def find(results: Result) -> float | None:
        found = figure(results)
        return None if found is None else found / 1000

    return find


def by_cpu(figure: Figure) -> Figure:
    """How many times as much as Squid a core could do by processor time, where the generator is no wall."""

    def find(results: Result) -> float | None:
        found = figure(results)
        return 1 / found if found else None

    return find


def memory(results: Result) -> float | None:
    return max((r["grown_mib"] for r in rows_of(results, "big") if r["through"] == "buffy"), default=None)


def growth(name: str) -> Figure:
    """Of a look-up, from the smallest store to the largest."""

    def find(results: Result) -> float | None:
        figures = [row["us"][name] for row in rows_of(results, "lookup") if name in row["us"]]
        return figures[-1] / figures[0] if len(figures) > 1 else None

    return find


def start_up(results: Result) -> float | None:
    return next((r["start_s"] for r in rows_of(results, "scale") if r["size"] == 1_000_000), None)


def asked_once(results: Result) -> float | None:
    rows = rows_of(results, "together")
    return next((r["origin_requests"] for r in rows if r["through"] == "buffy"), None)


def order(key: str) -> Figure:
    def find(results: Result) -> float | None:
        rows = rows_of(results, "client")
        return rows[0][key] if rows else None

    return find


def second_worker(results: Result) -> float | None:
    """The most by which a hit costs more processor time with two workers."""
    return max((r["cpu_us_ratio"] for r in rows_of(results, "workers") if r["workers"] == 2), default=None)


def http2(results: Result) -> float | None:
    return max((row["per_second"] for row in rows_of(results, "http2")), default=None)


BUSY = ", 32 connections"
ALONE = ", 1 connection"
CLAIMS = (
    Claim("hits over HTTP, many URLs, × Squid", buffy("many", "http,", "of_squid"), least=1.5, floor=1.0),
    Claim("hits over HTTPS, many URLs, × Squid", buffy("many", "https,", "of_squid"), least=1.2, floor=0.9),
    Claim(
        "the same by processor time, HTTP",
        by_cpu(buffy("many", "http,", "cpu_of_squid")),
        least=1.5,
        floor=1.0,
    ),
    Claim(
        "the same by processor time, HTTPS",
        by_cpu(buffy("many", "https,", "cpu_of_squid")),
        least=1.2,
        floor=0.9,
    ),
    Claim("100 KiB hits over HTTP, × Squid", buffy("hits", "http, 100", "of_squid", BUSY), least=1.0),
    Claim("100 KiB hits over HTTPS, × Squid", buffy("hits", "https, 100", "of_squid", BUSY), least=1.0),
    Claim("p99 of hits over HTTP, × Squid", buffy("hits", "http, 1 ", "p99_of_squid", BUSY), most=1.0),
    Claim("p99 of hits over HTTPS, × Squid", buffy("hits", "https, 1 ", "p99_of_squid", BUSY), most=1.0),
    Claim("new TLS connections, × Squid", buffy("tls", "new", "of_squid"), least=1.2, floor=0.9),
    Claim("the same by processor time", by_cpu(buffy("tls", "new", "cpu_of_squid")), least=1.2, floor=0.9),
    Claim("HTTP/2 hits/s", http2, least=3000),
    Claim(
        "a stored miss over direct, ms",
        thousandth(buffy("misses", "http, stored", "over_direct_us", ALONE)),
        most=0.5,
        floor=0.8,
    ),
    Claim("stored misses/s", buffy("misses", "http, stored", "per_second", BUSY), least=2500, floor=1600),
    Claim("1 GiB hit over HTTP, × Squid", thing("http, hit", "of_squid"), least=2.0),
    Claim("1 GiB hit over HTTPS, × Squid", thing("https, hit", "of_squid"), least=2.0),
    Claim("1 GiB miss over HTTP, × Squid", thing("http, miss", "of_squid"), least=1.0),
    Claim("1 GiB miss over HTTPS, × Squid", thing("https, miss", "of_squid"), least=1.0),
    Claim("growth of anonymous memory with 1 GiB, MiB", memory, most=32),
    Claim("processor time of a hit with two workers, × one", second_worker, most=1.15),
    Claim("requests to the origin for fifty at once", asked_once, most=1),
    Claim("look-up of any resource in the largest store, × the smallest", growth("look_up, any"), most=1.3),
    Claim("look-up of one of a thousand, × the smallest", growth("look_up, hot"), most=1.3),
    Claim("start-up with a million versions, s", start_up, most=2.0),
    Claim("a cached order, ms", order("p50_ms"), most=5.0),
    Claim("orders/s", order("per_second"), least=200),
)


def markdown(results: Result) -> str:
    """A table of all aims, those that were not measured too."""
    rows = []
    for claim in CLAIMS:
        found = claim.figure(results)
        shown = "–" if found is None else f"{found:,.0f}" if found >= 100 else f"{found:.2f}"
        aim = claim.bound(claim.least if claim.least is not None else claim.most)
        rows.append((claim.words, aim, claim.bound(claim.floor), shown, claim.verdict(found)))
    return table(("what", "aim", "floor", "found", ""), rows)
