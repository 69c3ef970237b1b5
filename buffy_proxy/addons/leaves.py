"""Certificates for the hosts that clients want to reach, signed by our authority.

All leaves share one elliptic-curve key, so a handshake costs a fifth of what RSA does. They lie in
DATA_DIR/leaves, for all workers; a TLS context is made once for each host and process, and with it the keys
of session tickets, so that clients resume.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import ipaddress
import os
import ssl
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from buffy_proxy.trust import ca_files

DAYS: Final = 180
RENEW_DAYS: Final = 30
"""Browsers take at most 397 days; a leaf with so few days left is made anew."""
CONTEXTS_MAX: Final = 2000


class Leaves:
    """One object a process. `context(host)` gives a server's TLS context for a host name or an address."""

    def __init__(self, data_dir: Path) -> None:
        key_file, _ = ca_files(data_dir)
        pem = key_file.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        self._ca_key = key
        self._ca = x509.load_pem_x509_certificate(pem)
        # Another authority has other leaves.
        self._folder = data_dir / "leaves" / self._ca.fingerprint(hashes.SHA256()).hex()[:16]
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key_file = self._folder / "key.pem"
        self._key = self._shared_key()
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, float]] = OrderedDict()

    def context(self, host: str) -> ssl.SSLContext:
        """Speaks HTTP/2 with clients that offer it, else HTTP/1.1. Raises OSError or ValueError."""
        known = self._contexts.get(host)
        if known is None or time.time() > known[1]:
            known = self._make(host)
            self._contexts[host] = known
            while len(self._contexts) > CONTEXTS_MAX:
                self._contexts.popitem(last=False)
        return known[0]

    def _make(self, host: str) -> tuple[ssl.SSLContext, float]:
        file = self._folder / f"{hashlib.sha256(host.encode()).hexdigest()[:32]}.pem"
        renew_at = self._valid_until(file, host) or self._renewed(file, host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(file, self._key_file)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.num_tickets = 1
        return context, renew_at

    def _renewed(self, file: Path, host: str) -> float:
        """Makes the leaf; of several workers that find none the first one makes that of all."""
        lock = os.open(self._folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(lock, "wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            found = self._valid_until(file, host)
            if found is None:
                write(file, self._leaf(host).public_bytes(serialization.Encoding.PEM))
                found = time.time() + (DAYS - RENEW_DAYS) * 86400
            return found

    def _valid_until(self, file: Path, host: str) -> float | None:
        """When the stored leaf is to be made anew (POSIX s); None: now."""
        try:
            leaf = x509.load_pem_x509_certificate(file.read_bytes())
        except (OSError, ValueError):
            return None
        same_key = leaf.public_key() == self._key.public_key()
        renew_at = leaf.not_valid_after_utc.timestamp() - RENEW_DAYS * 86400
        return renew_at if same_key and renew_at > time.time() else None

    def _leaf(self, host: str) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        name = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= 64 else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(name))
            .issuer_name(self._ca.subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))  # clocks differ
            .not_valid_after(now + datetime.timedelta(days=DAYS))
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=not name)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_authority(self._ca), critical=False)
        )
        return builder.sign(self._ca_key, hashes.SHA256())

    def _shared_key(self) -> ec.EllipticCurvePrivateKey:
        """Made by the first process that needs it; the others take that one."""
        if not self._key_file.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write(self._key_file, pem, replace=False)
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode() if not host.isascii() else host)


def _authority(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """By the identifier that the authority itself bears."""
    try:
        found = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)
    except x509.ExtensionNotFound:
        key = ca.public_key()
        assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def write(file: Path, data: bytes, *, replace: bool = True) -> None:
    """Whole or not at all, for its owner only. `replace` False: a file that is there stays."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        if replace:
            Path(name).replace(file)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(name, file)
    finally:
        Path(name).unlink(missing_ok=True)
