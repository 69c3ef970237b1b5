"""Which certificate authorities count, for connections to origins and for the bundles that clients get.

Trust only ever grows here: the operating system's store, certifi, and what the environment names are merged,
so that a company's own root works without configuration. Certificates are compared by their DER bytes, so
the result is the same whichever of the usual copies of a store is found.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import certifi

log = logging.getLogger(__name__)

NAMED_BY = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NIX_SSL_CERT_FILE")
"""Variables whose certificates the server adds to its trust in origins, as they were when it started."""

WELL_KNOWN = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL, Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",  # older RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/var/lib/ca-certificates/ca-bundle.pem",  # newer SUSE
    "/etc/ssl/cert.pem",  # Alpine, BSD, macOS
    "/etc/ssl/certs",  # hashed directories
    "/etc/pki/tls/certs",
)

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_CERTIFICATE_NAME = re.compile(r"[0-9a-f]{8}\.\d+|.*\.(pem|crt|cer)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Roots:
    """Merged certificates as PEM, each once, in the order found; `skipped` says "path: why" for the rest."""

    pem: bytes
    count: int
    skipped: tuple[str, ...] = ()


def ca_files(data_dir: Path) -> tuple[Path, Path]:
    """Buffy's own authority: the file with the private key, and the certificate to give to clients."""
    return data_dir / "ca" / "buffy-ca.pem", data_dir / "ca" / "buffy-ca-cert.pem"


def gather(paths: Iterable[Path]) -> Roots:
    """The certificates in files and directories. Never raises: what is unusable is in `skipped`."""
    found: dict[bytes, None] = {}
    skipped: list[str] = []
    for path in _once(paths):
        try:
            ders, bad = _certificates(path.read_bytes())
        except OSError as error:
            skipped.append(f"{path}: {error.strerror or error}")
            continue
        found.update(dict.fromkeys(ders))
        if bad:
            skipped.append(f"{path}: {bad} of its certificates cannot be read")
        elif not ders:
            skipped.append(f"{path}: holds no certificate in PEM form")
    return Roots("".join(map(ssl.DER_cert_to_PEM_cert, found)).encode(), len(found), tuple(skipped))


def system_paths() -> list[Path]:
    """Where this machine keeps its roots (those places that exist), then certifi's file."""
    defaults = ssl.get_default_verify_paths()
    places = (defaults.openssl_cafile, *WELL_KNOWN, defaults.openssl_capath, certifi.where())
    return [path for path in map(Path, places) if path.exists()]


def named_paths(environ: Mapping[str, str], names: Iterable[str] = NAMED_BY) -> list[Path]:
    """The files and directories that these variables name. *_DIR may name several, as in PATH."""
    paths = []
    for name in names:
        value = environ.get(name, "")
        parts = value.split(os.pathsep) if name.endswith("_DIR") else [value]
        paths += [Path(part).expanduser() for part in parts if part]
    return paths


def origin_bundle(environ: Mapping[str, str]) -> bytes:
    """PEM of everything an origin's certificate may chain to; one warning names what had to be left out."""
    roots = gather([*system_paths(), *named_paths(environ)])
    if roots.skipped:
        log.warning("not used as trust in origins: %s", "; ".join(roots.skipped))
    return roots.pem


def write_bundle(path: Path, pem: bytes, mode: int = 0o644) -> Path:
    """Writes the file atomically unless it already holds these bytes; makes its directory. Returns `path`."""
    if _holds(path, pem):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def ssl_context(bundle: Path) -> ssl.SSLContext:
    """For connections to origins: TLS 1.2 or newer, name and chain checked against `bundle`, ALPN http/1.1.

    Not `ssl.create_default_context`: from Python 3.13 on it demands RFC 5280 to the letter, which company
    roots often miss and no client behind us asks for. Raises OSError or ssl.SSLError for an unusable bundle.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=str(bundle))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    """Files, with directories opened up; a file reached under several names (hash links) comes once."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for name in _files(path):
            try:
                status = os.stat(name)  # noqa: PTH116 - hundreds of links: no Path for each
            except OSError:
                if name == str(path):  # else a dangling link in a directory
                    yield path
                continue
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield Path(name)


def _files(path: Path) -> list[str]:
    try:
        names = sorted(filter(_CERTIFICATE_NAME.fullmatch, os.listdir(path)))  # noqa: PTH208 - as above
    except OSError:
        return [str(path)]  # a file; or reading it as one then tells why not
    return [os.path.join(path, name) for name in names]  # noqa: PTH118 - as above


def _certificates(data: bytes) -> tuple[list[bytes], int]:
    """DER of the readable certificates, and how many were not: one of those in a bundle stops whole tools."""
    ders, bad = [], 0
    for block in _PEM.findall(data):
        try:
            der = ssl.PEM_cert_to_DER_cert(block.decode("ascii"))
        except ValueError:
            der = b""
        if _readable(der):
            ders.append(der)
        else:
            bad += 1
    return ders, bad


@lru_cache(maxsize=2048)
def _readable(der: bytes) -> bool:
    """Parsing is most of the work, and the same roots lie about in several stores."""
    try:
        _probe().load_verify_locations(cadata=der)
    except (ValueError, ssl.SSLError):
        return False
    return True


@cache
def _probe() -> ssl.SSLContext:
    """Only reads certificates, never connects. Making one costs more than reading one."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
