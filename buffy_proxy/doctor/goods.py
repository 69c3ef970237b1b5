"""What the doctor's origin offers: the smallest goods that real tools accept.

Each function answers paths and their bytes, below a prefix of its own.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

NAME = "buffy-doctor-probe"
TEXT = b"Buffy was here.\n"

Goods = dict[str, bytes]


def text(prefix: str) -> Goods:
    return {f"{prefix}/probe.txt": TEXT}


def wheel_index(prefix: str) -> Goods:
    """A package index of the simple kind with one pure-Python wheel."""
    module = NAME.replace("-", "_")
    file = f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    members = {
        f"{module}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: buffy\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "".join(
            f"{name},,\n" for name in (f"{module}.py", f"{info}/METADATA", f"{info}/WHEEL")
        ),
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    page = f'<!DOCTYPE html><a href="{prefix}/{file}">{file}</a>'.encode()
    return {f"{prefix}/simple/{NAME}/": page, f"{prefix}/{file}": data.getvalue()}


def npm_registry(prefix: str, base: str) -> Goods:
    """A registry with one package; `base` is the origin's URL, for tarballs are named absolutely."""
    manifest = {"name": NAME, "version": "1.0.0"}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        content = json.dumps(manifest).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    tarball = f"{prefix}/{NAME}/-/{NAME}-1.0.0.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    version = {**manifest, "dist": {"tarball": base + tarball, "integrity": integrity}}
    document = {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    return {f"{prefix}/{NAME}": json.dumps(document).encode(), tarball: data.getvalue()}


def git_repository(prefix: str, directory: Path) -> Goods:
    """A bare repository as static files (git's "dumb" protocol). Raises CalledProcessError, OSError."""
    work, bare = directory / "git-work", directory / "git-bare"
    work.mkdir()
    (work / "probe.txt").write_bytes(TEXT)
    _git(work, "init", "-q")
    _git(work, "add", "probe.txt")
    _git(work, "commit", "-q", "-m", "A probe")
    _git(directory, "clone", "-q", "--bare", str(work), str(bare))
    _git(bare, "update-server-info")
    files = (path for path in bare.rglob("*") if path.is_file())
    return {f"{prefix}/probe.git/{path.relative_to(bare).as_posix()}": path.read_bytes() for path in files}


def _git(where: Path, *arguments: str) -> None:
    """Git without the user's configuration, hooks or signing."""
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()}
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(where),
        **_NO_CONFIGURATION,
        **identity,
    }
    subprocess.run(["git", *arguments], cwd=where, env=environ, check=True, capture_output=True, timeout=30)


_WHO = {"NAME": "Buffy", "EMAIL": "doctor@localhost"}
_NO_CONFIGURATION = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TEMPLATE_DIR": ""}


def apt_repository(prefix: str) -> Goods:
    """A flat repository, in the directory flat/: a Release file and an index of one package."""
    packages = (
        f"Package: {NAME}\nVersion: 1.0\nArchitecture: all\nMaintainer: Buffy <doctor@localhost>\n"
        f"Filename: flat/{NAME}_1.0_all.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: a probe\n\n"
    ).encode()
    index = {"Packages": packages, "Packages.gz": gzip.compress(packages, mtime=0)}
    sums = "".join(
        f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in index.items()
    )
    date = "Thu, 01 Jan 2026 00:00:00 UTC"
    release = f"Origin: Buffy\nLabel: Buffy\nCodename: flat/\nDate: {date}\nSHA256:\n{sums}".encode()
    return {f"{prefix}/flat/{name}": data for name, data in {"Release": release, **index}.items()}
