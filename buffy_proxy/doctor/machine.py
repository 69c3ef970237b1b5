"""What the doctor looks at before it tries tools: versions, clock, disk, data directory, store, ports, CA."""

from __future__ import annotations

import errno
import importlib.metadata
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509

from buffy_proxy import presence
from buffy_proxy.config import Address, Config, open_store
from buffy_proxy.doctor import Finding
from buffy_proxy.errors import StoreError
from buffy_proxy.literals import address_text

MITMPROXY = ((11, 0, 2), (13,))
PYTHON = (3, 11)
ROOM = 1 << 30
"""Bytes below which storing soon ends."""
EXPIRY_S = 30 * 86400.0


def findings(config: Config, now: float) -> Iterator[Finding]:
    """All of them, one after the other. Nothing is changed or created."""
    yield from (_python(), _mitmproxy(), _clock(now), _data_dir(config.data_dir), _disk(config))
    yield _store(config)
    server = presence.find(config.data_dir)
    for name, address in (("proxy port", config.proxy), ("api port", config.api)):
        own = (server.proxy if name == "proxy port" else server.api) if server else None
        yield _port(name, address, own)
    yield from _ca(config.data_dir, now)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON:
        return Finding("python version", "ok", version)
    return Finding("python version", "failed", version, "Buffy needs Python 3.11 or newer")


def _mitmproxy() -> Finding:
    version = importlib.metadata.version("mitmproxy")
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if MITMPROXY[0] <= numbers < MITMPROXY[1]:
        return Finding("mitmproxy version", "ok", version)
    return Finding("mitmproxy version", "failed", version, 'install "mitmproxy>=11.0.2,<13"')


def _clock(now: float) -> Finding:
    """A clock behind our own installation makes every certificate and every freshness wrong."""
    installed = Path(__file__).stat().st_mtime
    if now >= installed - 86400:
        return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))
    return Finding("clock", "failed", "it is before the day Buffy was installed", "set this machine's clock")


def _data_dir(path: Path) -> Finding:
    there = _existing(path)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        fix = "make it writable for this user or name another with --data-dir"
        return Finding("data directory", "failed", f"{there}: {error.strerror}", fix)
    return Finding("data directory", "ok", str(path) if there == path else f"{path} (not made yet)")


def _disk(config: Config) -> Finding:
    free = shutil.disk_usage(_existing(config.data_dir)).free
    detail = f"{free / 2**30:.1f} GiB free, up to {config.max_size / 2**30:.1f} GiB are used"
    if free >= ROOM:
        return Finding("disk space", "ok", detail)
    return Finding(
        "disk space", "failed", detail, "free some, or lower max_size: without room nothing is stored"
    )


def _store(config: Config) -> Finding:
    if not (config.data_dir / "index").exists():
        return Finding("store", "ok", "empty (not made yet)")
    try:
        store = open_store(config)
    except StoreError as error:
        return Finding("store", "failed", str(error), "see `buffy store check`")
    try:
        usage = store.usage()
        detail = f"{usage.resources} resources, {usage.versions} versions, {usage.body_bytes / 2**20:.1f} MiB"
        return Finding("store", "ok", detail)
    finally:
        store.close()


def _port(name: str, address: Address, own: Address | None) -> Finding:
    if own is not None:
        return Finding(name, "ok", f"{address_text(own)}, where the running server listens")
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            detail = (
                f"{address_text(address)}: {'another program listens there' if taken else error.strerror}"
            )
            return Finding(name, "failed", detail, f"choose another with --{name.split()[0]} HOST:PORT")
    return Finding(name, "ok", f"{address_text(address)} is free")


def _ca(data_dir: Path, now: float) -> Iterator[Finding]:
    from buffy_proxy.trust import ca_files

    key, certificate = ca_files(data_dir)
    if not key.exists() and not certificate.exists():
        yield Finding("CA certificate", "ok", "not made yet")
        return
    yield _attempt("CA certificate", lambda: _certificate(certificate, now))
    yield _attempt("CA key", lambda: _key(key))


def _attempt(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (OSError, ValueError) as error:
        fix = "move the ca directory away; the next start makes a new CA, which clients then have to trust"
        return Finding(name, "failed", f"cannot be read: {error}", fix)


def _certificate(path: Path, now: float) -> Finding:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    start, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    until = found.not_valid_after_utc.strftime("%Y-%m-%d")
    if start <= now < end - EXPIRY_S:
        return Finding("CA certificate", "ok", f"{path}, valid until {until}")
    detail = f"{path} is valid from {found.not_valid_before_utc:%Y-%m-%d} to {until}"
    return Finding(
        "CA certificate", "failed", detail, f"move {path.parent} away; the next start makes a new CA"
    )


def _key(path: Path) -> Finding:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("CA key", "failed", f"{path} has mode {mode:04o}", f"chmod 600 {path}")
    with path.open("rb") as file:
        if b"PRIVATE KEY" not in file.read():
            raise ValueError(f"{path} holds no private key")
    return Finding("CA key", "ok", f"{path}, mode {mode:04o}")


def _existing(path: Path) -> Path:
    """The path itself, or the nearest one above it, in which it would be made."""
    return next(there for there in (path, *path.absolute().parents) if there.exists())
