"""Our certificate authority towards clients, and the hosts whose clients want none of it."""

from __future__ import annotations

import fcntl
import fnmatch
import logging
import re
from pathlib import Path
from typing import Any

from mitmproxy import certs, tls
from mitmproxy.addons import tlsconfig

from buffy_proxy.trust import ca_files

log = logging.getLogger("buffy.proxy")

BASENAME = "buffy"
KEY_BITS = 2048


def ensure_ca(data_dir: Path) -> None:
    """Makes the authority at the first start (private key 0600): one, though all workers start at once."""
    key, certificate = ca_files(data_dir)
    with (data_dir / "ca.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not key.exists():
            certs.CertStore.create_store(key.parent, BASENAME, KEY_BITS, organization="Buffy", cn="Buffy CA")
        key.parent.chmod(0o700)
        for path in key.parent.iterdir():
            path.chmod(0o644 if path == certificate else 0o600)


class LearnedTunnels(set[str]):
    """Lower-case host names that are tunnelled because a client rejected our certificate for them."""


class TunnelHosts:
    """Hosts whose connections are not taken apart: those of the configuration, and those learned.

    patterns  fnmatch, lower-case, with or without a port
    """

    def __init__(self, patterns: tuple[str, ...], learned: LearnedTunnels, *, learn: bool) -> None:
        self._patterns = tuple(pattern.lower() for pattern in patterns)
        self._learned = learned
        self._learn = learn

    def cover(self, address: tuple[str, int], sni: str | None) -> bool:
        """Whether a connection to this address (and for this name) is a tunnel."""
        if not self._patterns and not self._learned:
            return False
        names = {address[0].lower(), *([sni.lower()] if sni else [])}
        return any(name in self._learned for name in names) or any(
            fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f"{name}:{address[1]}", pattern)
            for name in names
            for pattern in self._patterns
        )

    def note_failure(self, host: str, error: str) -> None:
        """A handshake failed. A client that says it does not trust us is left alone from now on."""
        host = host.lower()
        if not host or host in self._learned or not _REJECTED.search(error):
            return
        if not self._learn:
            log.warning(
                "a client rejected our certificate for %s; give it Buffy's CA, or add the host to `tunnel`",
                host,
            )
            return
        self._learned.add(host)
        log.warning(
            "a client rejected our certificate for %s: the host is tunnelled from now on and not cached. "
            "Give the client Buffy's CA (`buffy run`, `buffy env`) and restart, or set learn_tunnels = false",
            host,
        )


_REJECTED = re.compile(
    "does not trust the proxy's certificate|alert.(?:unknown.ca|bad.certificate|certificate.unknown)",
    re.IGNORECASE,
)
"""In mitmproxy's words, and in OpenSSL's (RFC 8446 §6.2)."""


class TlsConfig(tlsconfig.TlsConfig):
    """mitmproxy's TLS settings with Buffy's authority."""

    def __init__(self, data_dir: Path, tunnels: TunnelHosts) -> None:
        super().__init__()
        key, _ = ca_files(data_dir)
        self.certstore = certs.CertStore.from_store(key.parent, BASENAME, KEY_BITS)
        self._tunnels = tunnels

    def configure(self, updated: Any) -> None:
        """The authority is fixed at construction; mitmproxy's own would be read here."""

    def request(self, flow: Any) -> None:
        """mitmproxy 12 answers requests for a revocation list here; the layers of Buffy never ask."""

    def tls_failed_client(self, data: tls.TlsData) -> None:
        address = data.context.server.address
        host = data.context.client.sni or (address[0] if address else "")
        self._tunnels.note_failure(host, data.conn.error or "")
