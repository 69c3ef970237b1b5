"""The files that client variables point at, made on demand under DATA_DIR/clients.

Names hold a digest of the content: the same trust gives the same path in every session, a file never changes
while a tool reads it, and two sessions cannot disturb each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from buffy_proxy import trust

PUBLIC_DIR = Path("/var/cache/buffy")
"""Where root's apt finds its bundle: its methods run as `_apt`, who cannot look into a private home."""

PUBLIC_S = 86400.0
"""How long a bundle stays there without being asked for again."""


@dataclass(frozen=True, eq=False)
class ClientFiles:
    """Makes files in `directory`. `ca_file` is Buffy's own certificate; `notes` says what was unusable."""

    directory: Path
    ca_file: Path
    notes: list[str] = field(default_factory=list)
    _made: dict[tuple[Path, ...], Path] = field(default_factory=dict)

    def replacement(self, own: Sequence[Path] = ()) -> Path:
        """A bundle to replace a trust store: system roots, the user's own files, Buffy's CA."""
        return self._pem("roots", (*self._system, *own, self.ca_file), own)

    def addition(self, own: Sequence[Path] = ()) -> Path:
        """A bundle to extend a trust store: Buffy's CA, after what the user's variable already named."""
        return self._pem("added", (*own, self.ca_file), own) if {*own} - {self.ca_file} else self.ca_file

    def java_trust_store(self) -> Path:
        """The replacement bundle in Java's own format, readable by every JVM without a password."""
        return self._write("java", ".jks", jks(trust.gather([self.replacement()]).pem))

    def wgetrc(self, own: Path | None, bundle: Path) -> Path:
        """A copy of the user's file (wget has no include) with our bundle as its last word on trust."""
        text = _read(own) if own else b""
        last = f"ca_certificate = {bundle}\n".encode()
        if not text.endswith(last):
            text += (b"\n" if text and not text.endswith(b"\n") else b"") + last
        return self._write("wgetrc", "", text, 0o600)

    def apt_config(self, own: Path | None, bundle: Path) -> Path:
        """A file for APT_CONFIG that reads the user's own one first."""
        include = f'#include "{own}";\n' if own else ""
        text = f'{include}Acquire::https::CAInfo "{self._for_apt(bundle)}";\n'
        return self._write("apt", ".conf", text.encode())

    @cached_property
    def _system(self) -> list[Path]:
        return [self._write("system", ".pem", trust.gather(trust.system_paths()).pem)]

    def _pem(self, kind: str, paths: tuple[Path, ...], own: Sequence[Path]) -> Path:
        if paths not in self._made:
            roots = trust.gather(paths)
            named = tuple(f"{path}:" for path in own)
            new = (note for note in roots.skipped if note.startswith(named) and note not in self.notes)
            self.notes.extend(new)
            self._made[paths] = self._write(kind, ".pem", roots.pem)
        return self._made[paths]

    def _for_apt(self, bundle: Path) -> Path:
        """`bundle`, or for root a copy where the unprivileged user of apt's methods can read it."""
        if os.geteuid() != 0 or _open_to_all(bundle):
            return bundle
        try:
            copy = trust.write_bundle(PUBLIC_DIR / bundle.name, bundle.read_bytes())
            PUBLIC_DIR.chmod(0o755)
            copy.touch()
            _prune(PUBLIC_DIR, copy.stat().st_mtime - PUBLIC_S)
        except OSError as error:
            self.notes.append(f"{PUBLIC_DIR}: {error.strerror}; apt as root cannot read {bundle}")
            return bundle
        return copy

    def _write(self, kind: str, suffix: str, data: bytes, mode: int = 0o644) -> Path:
        name = f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
        return trust.write_bundle(self.directory / name, data, mode)


def jks(pem: bytes) -> bytes:
    """Certificates as a JKS trust store: big-endian records, then a digest over the password and them.

    JKS rather than PKCS #12, because Java trusts a PKCS #12 certificate only with an attribute of Oracle's
    that the oldest supported `cryptography` cannot write. Dates are 0, so that equal trust is equal bytes.
    """
    ders = [ssl.PEM_cert_to_DER_cert(block) for block in _blocks(pem)]
    data = struct.pack(">III", 0xFEEDFEED, 2, len(ders))
    for number, der in enumerate(ders):
        data += struct.pack(">I", 2) + _utf(f"buffy-{number}") + struct.pack(">q", 0)
        data += _utf("X.509") + struct.pack(">I", len(der)) + der
    return data + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + data).digest()


def _blocks(pem: bytes) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [block + end for block in pem.decode("ascii").split(end) if block.strip()]


def _utf(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode("ascii")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _prune(directory: Path, before: float) -> None:
    for old in directory.glob("roots-*.pem"):
        with contextlib.suppress(FileNotFoundError):  # somebody else tidies up as well
            if old.stat().st_mtime < before:
                old.unlink()


def _open_to_all(path: Path) -> bool:
    """Whether any user may read the file: read for others on it, search for others on all above it."""
    try:
        return bool(path.stat().st_mode & 0o004) and all(
            parent.stat().st_mode & 0o001 for parent in path.resolve().parents
        )
    except OSError:
        return False
