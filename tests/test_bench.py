"""The benchmark itself: that it measures what it says, and that the page has a place for every figure."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bench import claims, document, objects, report
from bench.ground import Ground, Load, ground
from bench.parts import calls, functions_of, part_of
from bench.versus import median, rates

FOUND = {
    "per_second": 10.0,
    "p50_us": 5,
    "p99_us": 9,
    "cpu_us": 3.0,
    "busy": 0.5,
    "origin_busy": 0.25,
    "proxy_busy": 1,
}
RUN = {**FOUND, "origin_requests": 0, "requests": 10, "failed": 0, "error": None}


def has_compiler() -> bool:
    if shutil.which("gcc") is None:
        return False
    source = b"#include <openssl/ssl.h>\n"
    return subprocess.run(["gcc", "-E", "-"], input=source, capture_output=True).returncode == 0


def test_the_page_has_a_place_for_every_figure() -> None:
    places = [found[2] for found in document.PLACE.finditer(document.PAGE.read_text())]
    assert sorted(places) == sorted([*report.SECTIONS, "aims"])


def test_figures_replace_figures_and_leave_the_words() -> None:
    page = (
        "words\n<!-- figures: hits -->\nold\n<!-- end -->\nmore\n<!-- figures: tls -->\nkept\n<!-- end -->\n"
    )
    row = {"name": "http", "peers": {"buffy": median([RUN], {"squid": [{**RUN, "per_second": 4.0}]})}}
    filled = document.filled(page, {"hits": [row]})
    assert "old" not in filled and "kept" in filled and filled.startswith("words\n") and "more\n" in filled
    assert "| http | buffy | 10 | 2.50 | 5 | 9 | 3 | 1.00 | 1.00 | 0.50 | 0.25 | 0 | 0 |" in filled
    assert document.filled(filled, {"hits": [row]}) == filled


def test_ratios_are_of_the_same_round() -> None:
    runs = [{**RUN, "per_second": speed, "p50_us": p50} for speed, p50 in ((10, 3), (40, 30), (60, 20))]
    base = [{**RUN, "per_second": speed, "p50_us": p50} for speed, p50 in ((10, 1), (10, 10), (20, 10))]
    found = median(runs, {"squid": base, "direct": base})
    assert (found["of_squid"], found["over_direct_us"]) == (3, 10)


def test_figures_of_another_version_say_so() -> None:
    assert report.section({"late": [{"what": "first byte"}]}, "late").startswith("Not shown: ")


def test_what_was_not_measured_says_so() -> None:
    assert report.section({"parts": {"absent": "no perf"}}, "parts") == "Not measured: no perf\n"
    assert claims.markdown({"parts": {"absent": "no perf"}}).count("not measured") == len(claims.CLAIMS)


@pytest.mark.parametrize(
    "claim, found, verdict",
    [
        (claims.Claim("", lambda _: 0, least=1.5, floor=1.0), 1.5, "reached"),
        (claims.Claim("", lambda _: 0, least=1.5, floor=1.0), 1.2, "above the floor"),
        (claims.Claim("", lambda _: 0, least=1.5, floor=1.0), 0.9, "missed"),
        (claims.Claim("", lambda _: 0, most=0.5, floor=0.8), 0.5, "reached"),
        (claims.Claim("", lambda _: 0, most=0.5, floor=0.8), 0.7, "above the floor"),
        (claims.Claim("", lambda _: 0, most=0.5), 0.7, "missed"),
    ],
)
def test_verdicts(claim: claims.Claim, found: float, verdict: str) -> None:
    assert claim.verdict(found) == verdict


@pytest.mark.parametrize(
    "stack, part",
    [
        (
            "  ffff tcp_sendmsg ([kernel.kallsyms])\n  ffff __x64_sys_sendto ([kernel.kallsyms])\n",
            "kernel: send",
        ),
        ("  ffff vfs_read ([kernel.kallsyms])\n  ffff ksys_read ([kernel.kallsyms])\n", "kernel: receive"),
        (
            "  ffff asm_sysvec ([kernel.kallsyms])\n  55 [unknown] (/x/bin/python3.13)\n",
            "kernel: other calls",
        ),
        ("  7f EVP_Update (/usr/lib/libcrypto.so.3)\n  55 f (/x/bin/python3.13)\n", "OpenSSL"),
        ("  7f f (/x/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so)\n", "Python's ssl module"),
        ("  7f f (/x/site-packages/lmdb/cpython.cpython-313-x86_64-linux-gnu.so)\n", "LMDB"),
        ("  55 f (/x/bin/python3.13)\n", "Python's interpreter and our code"),
        ("  55 f ([vdso])\n", "C library"),
        ("  55 f (/usr/lib/libz.so.1)\n", "other"),
    ],
)
def test_parts_of_a_sample(stack: str, part: str) -> None:
    assert part_of(stack) == part


def test_system_calls_are_read_from_the_table() -> None:
    text = (
        "% time     seconds  usecs/call     calls    errors syscall\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        " 60.00    0.060000           6     10000           sendto\n"
        " 40.00    0.040000           4     10010        10 recvfrom\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        "100.00    0.100000           5     20010        10 total\n"
    )
    assert calls(text) == {"sendto": 10000, "recvfrom": 10010}


def test_functions_are_told_apart_by_the_innermost() -> None:
    text = "run (a/base.py:12);Front.take (x/front.py:3) 30\nrun (a/base.py:12) 10\n"
    text += "run (a/base.py:12);EpollSelector.select (selectors.py:400) 60\n"
    assert functions_of(text) == {"Front.take, front.py": 0.75, "run, base.py": 0.25}


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="needs gcc and the OpenSSL headers")
def test_it_measures() -> None:
    with ground(["buffy"]) as found:
        assert crowd_asks_once(found)
        assert every_url_is_a_hit(found)
        assert new_connections_are_new(found)
        assert errors_are_told(found)
        assert Path(found.generator).exists()


def crowd_asks_once(found: Ground) -> bool:
    [row] = objects.crowd(found, 1)
    return (row["origin_requests"], row["failed"]) == (1, 0) and row["first_ms"] < row["all_ms"]


def every_url_is_a_hit(found: Ground) -> bool:
    rows = [row["peers"]["buffy"] for row in rates(found, "many", rounds=1, seconds=0.2, many=50)]
    assert all(row["requests"] and row["cpu_us"] for row in rows)
    return [(row["origin_requests"], row["failed"]) for row in rows] == [(0, 0), (0, 0)]


def new_connections_are_new(found: Ground) -> bool:
    run = found.run(Load("https", "/miss/", 0, 1, 20.0, limit=3, new=True), found.peers[0])
    return (run["requests"], run["origin_requests"], run["bytes"]) == (3, 3, 3 * 1024)


def errors_are_told(found: Ground) -> bool:
    run = found.run(Load("http", "/nowhere/", 0, 1, 20.0, limit=3), found.peers[0])
    return bool(run["failed"] == 3)
