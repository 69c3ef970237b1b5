"""The package by itself: what it imports, what it shows without rich."""

from __future__ import annotations

import subprocess
import sys

import pytest

import buffy_client
from buffy_client.progress import NoBar, PlainBar, bar
from tests.support.procs import clean_env

HEAVY = ("buffy_proxy", "pydantic", "fastapi", "mitmproxy", "lmdb", "rich")


def test_it_needs_requests_and_nothing_else() -> None:
    ask = f"import sys, buffy_client; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=clean_env())
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_its_names_are_sorted_and_there() -> None:
    assert sorted(buffy_client.__all__) == buffy_client.__all__
    assert all(hasattr(buffy_client, name) for name in buffy_client.__all__)


def test_the_plain_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    shown = bar(True, "http://b.example/a/data.csv?x=1")
    assert isinstance(shown, PlainBar)
    for done in (0, 2 << 20, 1 << 20):
        shown.show(done, 4 << 20)
    shown.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "data.csv: 0.0 of 4.0 MiB"
    assert err.splitlines()[-1] == "data.csv: 2.0 of 4.0 MiB"


def test_a_bar_that_is_not_wanted_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = bar(False, "http://b.example/")
    assert isinstance(shown, NoBar)
    shown.show(1, None)
    shown.close()
    assert capsys.readouterr() == ("", "")
