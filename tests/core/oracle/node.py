"""Runs the package under node. Nothing of it is kept: it is installed for a test session, from the registry
that npm is configured for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.core.oracle.cases import Case

PACKAGE = "http-cache-semantics@4.3.0"
SCRIPT = Path(__file__).with_name("decide.js")


def install(folder: Path) -> Path:
    """The folder of the installed modules; skips the test where node, npm or a registry is out of reach."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    (folder / "package.json").write_text('{"private": true}')
    command = [
        "npm",
        "install",
        "--no-save",
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]
    command += ["--fetch-retries=0", "--cache", str(folder / "cache"), PACKAGE]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("no npm registry can be reached")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.decode(errors='replace')[-300:]}")
    return folder / "node_modules"


def decisions(modules: Path, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """What http-cache-semantics decides in each case."""
    # JavaScript reads a date without a zone, such as asctime's, in the zone of the process.
    env = {**os.environ, "NODE_PATH": str(modules), "TZ": "UTC"}
    text = json.dumps([case.as_json() for case in cases])
    done = subprocess.run(
        ["node", str(SCRIPT)], input=text, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == len(cases)
    return found
