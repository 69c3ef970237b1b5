"""`requests`' own test-suite, directly and through Buffy: `python -m tests.requests_suite.run [--work DIR]`.

The source package, pytest-httpbin and pytest come from the package index that pip is configured for, into an
environment below DIR (default: a temporary directory), which is reused where it is complete. A test that
passes directly must pass through Buffy, unless `exceptions.txt` names it with a reason; an exception that
passes is reported too, so that the list stays true.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.support.buffy import Buffy
from tests.support.procs import clean_env

HERE = Path(__file__).parent
TOOLS = ("pytest<10", "pytest-httpbin==2.1.0", "pytest-mock", "httpbin~=0.10.0", "trustme")
LIMIT_S = 600


class NoIndex(Exception):
    """The packages cannot be had from here."""


@dataclass(frozen=True)
class Verdict:
    """Names of tests, `file.py::Class::test[parameters]`-like as JUnit gives them."""

    direct: dict[str, bool]
    through: dict[str, bool]
    excepted: frozenset[str]

    @property
    def lost(self) -> list[str]:
        """What passes directly and not through Buffy, and is not excepted."""
        return [name for name in self._broken() if name not in self.excepted]

    @property
    def needless(self) -> list[str]:
        """Exceptions that are none."""
        return sorted(self.excepted - set(self._broken()))

    def _broken(self) -> list[str]:
        return sorted(name for name, passed in self.direct.items() if passed and not self.through.get(name))


def prepare(work: Path) -> Path:
    """The unpacked source package; its environment lies beside it. Raises NoIndex."""
    ready = work / "ready"
    if not ready.exists():
        _run(sys.executable, "-m", "venv", str(work / "venv"))
        _run(
            *pip(work), "download", "--no-deps", "--no-binary", "requests", "-d", str(work), "requests>=2.32"
        )
        archive = next(work.glob("requests-*.tar.gz"))
        with tarfile.open(archive) as source:
            source.extractall(work, filter="data")
        _run(*pip(work), "install", f"{work / archive.name.removesuffix('.tar.gz')}[socks]", *TOOLS)
        ready.touch()
    return next(path for path in work.glob("requests-*") if path.is_dir())


def pip(work: Path) -> tuple[str, ...]:
    return str(work / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise NoIndex(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def suite(work: Path, name: str, env: dict[str, str], *options: str) -> dict[str, bool]:
    """Runs the suite; whether each test passed (skips and expected failures are left out)."""
    report = work / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [str(work / "venv/bin/python"), "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", "--tb=short", *options]
    with (work / f"{name}.log").open("w") as log:
        subprocess.run(command, cwd=prepare(work), env=env, stdout=log, stderr=log, timeout=LIMIT_S)
    cases = ElementTree.parse(report).iter("testcase")
    return {
        f"{case.get('classname')}::{case.get('name')}": _passed(case)
        for case in cases
        if case.find("skipped") is None
    }


def _passed(case: ElementTree.Element) -> bool:
    return case.find("failure") is None and case.find("error") is None


def through_buffy(work: Path) -> dict[str, bool]:
    ca = subprocess.run(
        [str(work / "venv/bin/python"), "-c", "import pytest_httpbin.certs as c; print(c.where())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    with tempfile.TemporaryDirectory(dir=work) as directory:
        buffy = Buffy(Path(directory), env={"SSL_CERT_FILE": ca}).start()
        try:
            where = {"BUFFY_SUITE_PROXY": buffy.proxy_url(), "BUFFY_SUITE_CA": str(buffy.ca_file)}
            env = clean_env(**where, PYTHONPATH=str(HERE))
            return suite(work, "through", env, "-p", "plugin")
        finally:
            buffy.discard()


def exceptions() -> frozenset[str]:
    """The first word of each line; the reason follows it."""
    lines = (HERE / "exceptions.txt").read_text().splitlines()
    return frozenset(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))


def compare(work: Path) -> Verdict:
    """Raises NoIndex where the packages cannot be had."""
    prepare(work)
    direct = suite(work, "direct", clean_env(PYTHONPATH=""))
    return Verdict(direct, through_buffy(work), exceptions())


def main() -> int:
    parser = argparse.ArgumentParser(description="requests' own test-suite, directly and through Buffy")
    parser.add_argument("--work", type=Path, help="where packages and reports are kept")
    chosen = parser.parse_args().work
    work = (chosen or Path(tempfile.mkdtemp(prefix="buffy-requests-"))).absolute()
    work.mkdir(parents=True, exist_ok=True)
    verdict = compare(work)
    print(f"directly       {sum(verdict.direct.values())} of {len(verdict.direct)} pass")
    print(f"through Buffy  {sum(verdict.through.values())} of {len(verdict.through)} pass")
    for title, names in (("lost", verdict.lost), ("needless exceptions", verdict.needless)):
        for name in names:
            print(f"{title}: {name}")
    print(f"reports in {work}")
    return 1 if verdict.lost or verdict.needless else 0


if __name__ == "__main__":
    sys.exit(main())
