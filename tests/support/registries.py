"""What real tools download from: a package index, an npm registry, git repositories and an apt repository.

Each `serve_*` scripts an origin below a prefix and gives the URL a tool is to be pointed at.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

from tests.support.answers import FRESH, fixed, head
from tests.support.origin import Origin, Peer, Received

HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}
QUIET_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


def wheel(name: str, version: str) -> tuple[str, bytes]:
    """A pure wheel with one module: its file name and its bytes."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def serve_wheel_index(origin: Origin, prefix: str, name: str = "demopkg", version: str = "1.0") -> str:
    """A simple index (PEP 503) with one project; gives the index URL."""
    file, data = wheel(name, version)
    digest = hashlib.sha256(data).hexdigest()
    link = f'<a href="../../files/{file}#sha256={digest}">{file}</a>'
    origin.on(f"{prefix}/simple/{name}/", fixed(f"<!DOCTYPE html><body>{link}</body>".encode(), HTML))
    origin.on(f"{prefix}/files/{file}", fixed(data, {"Content-Type": "application/octet-stream"}))
    return origin.url(f"{prefix}/simple/")


def serve_npm(origin: Origin, prefix: str, base: str = "", name: str = "demo", version: str = "1.0.0") -> str:
    """A registry with one package; `base` is what the tarball's URL starts with (default: the origin)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        package = json.dumps({"name": name, "version": version}).encode()
        for path, data in (("package/package.json", package), ("package/index.js", b"module.exports = 1\n")):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    tarball = buffer.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    url = f"{base or origin.url('')}{prefix}/{name}/-/{name}-{version}.tgz"
    dist = {"tarball": url, "integrity": integrity, "shasum": hashlib.sha1(tarball).hexdigest()}
    release = {"name": name, "version": version, "dist": dist}
    packument = {"name": name, "dist-tags": {"latest": version}, "versions": {version: release}}
    origin.on(f"{prefix}/{name}", fixed(json.dumps(packument).encode(), JSON))
    origin.on(f"{prefix}/{name}/-/{name}-{version}.tgz", fixed(tarball, {"Content-Type": "application/gzip"}))
    return origin.url(f"{prefix}/")


def serve_apt(origin: Origin, prefix: str) -> str:
    """A flat repository (Release and Packages) with one package that nobody installs."""
    packages = (
        b"Package: demo-nothing\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b>\nDescription: nothing\n"
        b"Filename: ./demo.deb\nSize: 3\nSHA256: " + hashlib.sha256(b"deb").hexdigest().encode() + b"\n\n"
    )
    digest = hashlib.sha256(packages).hexdigest()
    release = f"Date: {formatdate(usegmt=True)}\nSuite: demo\nSHA256:\n {digest} {len(packages)} Packages\n"
    for path, script in (
        ("Release", fixed(release.encode())),
        ("Packages", fixed(packages)),
        ("InRelease", fixed(b"not here", FRESH, status=404)),
        ("Release.gpg", fixed(b"not here", FRESH, status=404)),
    ):
        origin.on(f"{prefix}/./{path}", script)
    return origin.url(f"{prefix}/")


def make_repository(directory: Path) -> Path:
    """A bare git repository with one commit."""
    work, bare = directory / "work", directory / "repo.git"
    env = {**os.environ, **QUIET_GIT}

    def git(*args: str) -> None:
        subprocess.run(["git", *args], check=True, env=env, capture_output=True)

    git("init", "-q", "-b", "main", str(work))
    (work / "hello.txt").write_text("hello from git\n" * 100)
    git("-C", str(work), "add", ".")
    git("-C", str(work), "commit", "-qm", "one")
    git("clone", "-q", "--bare", str(work), str(bare))
    git("-C", str(bare), "update-server-info")
    return bare


def serve_dumb_git(origin: Origin, prefix: str, bare: Path) -> str:
    """The repository's files as they lie there (git's dumb protocol); gives the clone URL."""

    async def script(request: Received, peer: Peer) -> None:
        file = bare / unquote(request.path).removeprefix(f"{prefix}/")
        data, status = (file.read_bytes(), 200) if file.is_file() else (b"", 404)
        await peer.send(head(status, {"Content-Length": str(len(data)), "Content-Type": "text/plain"}) + data)

    origin.on(f"{prefix}/*", script)
    return origin.url(prefix)


def serve_smart_git(origin: Origin, prefix: str, bare: Path) -> str:
    """The same through git's own CGI program: the smart protocol with its POSTs."""

    async def script(request: Received, peer: Peer) -> None:
        env = {
            **os.environ,
            **QUIET_GIT,
            "GIT_PROJECT_ROOT": str(bare),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path.removeprefix(prefix),
            "QUERY_STRING": request.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.get("content-type") or "",
            "HTTP_CONTENT_ENCODING": request.get("content-encoding") or "",
            "GIT_PROTOCOL": request.get("git-protocol") or "",
        }
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=pipe, stdout=pipe
        )
        answer, _ = await program.communicate(request.body)
        fields, _, body = answer.partition(b"\r\n\r\n")
        pairs = dict(line.split(": ", 1) for line in fields.decode().split("\r\n"))
        status = int(pairs.pop("Status", "200").split()[0])
        await peer.send(head(status, {**pairs, "Content-Length": str(len(body))}) + body)

    origin.on(f"{prefix}/*", script)
    return origin.url(prefix)
