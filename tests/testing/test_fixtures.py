"""The pytest fixtures, in a pytest of their own: what ends with a test, and what its report shows."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.support.procs import wait_until
from tests.testing.test_docs import failed, run_pytest

CONFTEST = 'pytest_plugins = ["buffy_proxy.testing.fixtures"]\n'

GOOD = """
import json, pathlib
import pytest

def note(one):
    with pathlib.Path("pids").open("a") as file:
        print(one.pid, file=file)

def test_without_any_setting(buffy, origin, tls_origin):
    note(buffy)
    for site in (origin, tls_origin):
        route = site.serve("/data", b"data", {"Cache-Control": "max-age=60"})
        assert buffy.get(route.url).content == buffy.get(route.url).content == b"data"
        assert route.count == 1

def test_two_servers(buffy_factory, origin):
    one, two = buffy_factory(env={"BUFFY_LOG_LEVEL": "debug"}), buffy_factory(args=["--offline"])
    note(one)
    note(two)
    assert one.data_dir != two.data_dir
    url = origin.serve("/data", b"data").url
    assert [each.get(url).status_code for each in (one, two)] == [200, 504]
"""

BAD = """
def test_fails(buffy_factory, origin):
    for _ in range(2):
        buffy_factory().get(origin.serve("/shown").url)
    assert False

def test_passes(buffy, origin):
    buffy.get(origin.serve("/not-shown").url)

def test_does_not_start(buffy_factory):
    buffy_factory("no_such_key = 1")
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_servers_end_with_their_test(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, {"conftest.py": CONFTEST, "test_good.py": GOOD})
    assert done.returncode == 0, done.stdout + done.stderr
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    wait_until(lambda: all(map(gone, pids)), what="the servers are gone")


def test_reports_of_failed_tests_hold_the_logs(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, {"conftest.py": CONFTEST, "test_bad.py": BAD})
    assert done.returncode == 1, done.stdout + done.stderr
    assert failed(done.stdout) == {"test_fails", "test_does_not_start"}
    logs = re.findall(r"^-+ log of Buffy (\d) -+$\n(.*?)(?=^[-=]{9})", done.stdout, re.M | re.S)
    assert [number for number, text in logs if "/shown" in text] == ["0", "1"]
    assert "/not-shown" not in done.stdout
    assert "no_such_key: unknown key" in done.stdout
