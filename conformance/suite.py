"""The npm package: fetched into a folder that git ignores, its origin and its client as processes of node."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.procs import clean_env

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "node_modules"
PACKAGES = ("http-cache-tests@0.4.5", "undici@7")
SUITE = FOLDER / "http-cache-tests"
CLIENT_S = 600
"""A run takes about a minute."""

_LIST = """
const o = []
for (const s of (await import(process.argv[1])).default)
  for (const t of s.tests)
    if (!t.browser_only)
      o.push({ id: t.id, group: s.id, kind: t.kind || 'required', needs: t.depends_on || [] })
console.log(JSON.stringify(o))
"""


@dataclass(frozen=True, slots=True)
class Test:
    """`kind` is "required", "optimal" or "check"; it counts only where all tests that it `needs` pass."""

    id: str
    group: str
    kind: str
    needs: tuple[str, ...]


def install() -> None:
    """Once; npm's ordinary client with its own configuration. FileNotFoundError without node or npm."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"{program} is not installed; the suite needs it")
    if not SUITE.is_dir():
        command = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
        subprocess.run([*command, "--prefix", str(HERE), *PACKAGES], check=True, timeout=300)


def tests() -> dict[str, Test]:
    """All tests for a shared proxy, in the suite's order, by id."""
    index = (SUITE / "tests" / "index.mjs").as_uri()
    command = ["node", "--no-warnings", "--input-type=module", "-e", _LIST, index]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    found = [Test(t["id"], t["group"], t["kind"], tuple(t["needs"])) for t in listed]
    return {test.id: test for test in found}


@contextlib.contextmanager
def origin(certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """The suite's server on a free port of loopback; gives its URL. `certificate`: key and chain, for TLS."""
    key, chain = (str(path) for path in certificate) if certificate else ("", "")
    with tempfile.TemporaryDirectory() as folder:
        settings = {"protocol": "https" if certificate else "http", "port": "0", "keyfile": key}
        settings |= {"certfile": chain, "pidfile": f"{folder}/pid"}
        process = _node("server/server.mjs", "origin.mjs", settings, {})
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"https?://[\d.]+:\d+", line)
            if found is None:
                raise RuntimeError(f"the suite's server did not start: {line!r}")
            yield found[0]
        finally:
            process.kill()
            process.wait()


def run(base: str, env: Mapping[str, str], test_id: str = "") -> Any:
    """The results by test id: true, or [kind of error, message]. With `test_id` the dump of one test, as
    text. `env` says which proxy to use, see client.mjs."""
    process = _node("cli.mjs", "client.mjs", {"base": base, "id": test_id}, env)
    out, _ = process.communicate(timeout=CLIENT_S)
    if process.returncode != 0:
        raise RuntimeError(f"the suite's client failed: {out[-2000:]}")
    return out if test_id else json.loads(out)


def _node(
    script: str, preload: str, settings: Mapping[str, str], env: Mapping[str, str]
) -> subprocess.Popen[str]:
    """npm hands settings over as variables, to `npm run` as well as here."""
    variables = {f"npm_config_{name}": value for name, value in settings.items()}
    variables |= {f"npm_package_config_{name}": value for name, value in settings.items()}
    command = ["node", "--no-warnings", "--import", (HERE / preload).as_uri(), script]
    return subprocess.Popen(
        command, cwd=SUITE, env=clean_env(**variables, **env), stdout=subprocess.PIPE, text=True
    )
