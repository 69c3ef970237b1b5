"""The example of docs/plugin-testing.md, run as a reader would: files in a directory, and pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from buffy_proxy import testing
from tests.support.procs import ROOT, clean_env

PAGE = (ROOT / "docs" / "plugin-testing.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE, re.M | re.S))


def run_pytest(directory: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (directory / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(directory)]
    return subprocess.run(
        command, cwd=directory, env=clean_env(), capture_output=True, text=True, timeout=180
    )


def test_every_block_of_code_is_a_file_of_the_example() -> None:
    assert list(FILES) == ["quiet_weekends.py", "conftest.py", "test_quiet_weekends.py"]
    assert PAGE.count("```python") == len(FILES)


def test_the_example_runs(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{FILES['test_quiet_weekends.py'].count('def test_')} passed" in done.stdout


def test_a_mistake_in_the_plugin_is_found_and_the_log_shown(tmp_path: Path) -> None:
    wrong = FILES["quiet_weekends.py"].replace("return until.timestamp()", 'return "tomorrow"')
    done = run_pytest(tmp_path, {**FILES, "quiet_weekends.py": wrong})
    assert done.returncode == 1
    assert {"test_an_hour_on_a_working_day", "test_one_request_for_two_clients"} <= failed(done.stdout)
    assert "log of Buffy 0" in done.stdout
    assert re.search(r"quiet_weekends.*'tomorrow'", done.stdout)


@pytest.mark.parametrize("name", testing.__all__)
def test_the_page_names(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGE) or name in TYPES


TYPES = {"FieldsLike", "Plugin"}
"""Names for annotations only; the page says in words what they take."""


def failed(output: str) -> set[str]:
    return set(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", output, re.M))
