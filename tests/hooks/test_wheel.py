"""An installed package is found by its entry point: a wheel, built here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

CODE = """
from buffy_proxy import hookimpl

@hookimpl
def stored(key, version):
    pass
"""
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
FILES = {
    "acme_cache.py": CODE,
    "acme_cache-1.4.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-cache\nVersion: 1.4\n",
    "acme_cache-1.4.dist-info/WHEEL": WHEEL,
    "acme_cache-1.4.dist-info/entry_points.txt": "[buffy]\nacme = acme_cache\n",
}


def wheel(folder: Path) -> Path:
    """PEP 427: a zip with a RECORD of digests."""
    path = folder / "acme_cache-1.4-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text.encode())}\n"
            archive.writestr(name, text)
        archive.writestr("acme_cache-1.4.dist-info/RECORD", record + "acme_cache-1.4.dist-info/RECORD,,\n")
    return path


def listed(site: Path, tmp_path: Path, **more: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "buffy_proxy", "plugins", "--json", "--data-dir", str(tmp_path / "data")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(Path.cwd())]), **more}
    run = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    assert run.returncode == 0, run.stderr
    found: list[dict[str, object]] = json.loads(run.stdout)
    return found


def test_a_wheel_with_an_entry_point_is_found(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    ]
    subprocess.run([*command, str(wheel(tmp_path))], check=True, timeout=120)
    (one,) = listed(site, tmp_path)
    assert one == {
        "name": "acme",
        "version": "1.4",
        "source": "package acme-cache (acme_cache)",
        "hooks": ["stored"],
        "strategies": [],
        "problem": None,
    }
    assert listed(site, tmp_path, BUFFY_LOAD_PLUGINS="") == []
