"""Our certificate authority towards clients, and the hosts whose clients want none of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mitmproxy import certs, tls
from mitmproxy.addons import tlsconfig

from buffy_proxy.trust import ca_files

log = logging.getLogger("buffy.proxy")

BASENAME = "buffy"
KEY_BITS = 2048


def ensure_ca(data_dir: Path) -> None:
    """Makes the authority at the first start (private key 0600)."""
    key, certificate = ca_files(data_dir)
    if not key.exists():
        certs.CertStore.create_store(key.parent, BASENAME, KEY_BITS, organization="Buffy", cn="Buffy CA")
    key.parent.chmod(0o700)
    for path in key.parent.iterdir():
        path.chmod(0o644 if path == certificate else 0o600)


class LearnedTunnels(set[str]):
    """Lower-case host names that are tunnelled because a client rejected our certificate for them."""


class TlsConfig(tlsconfig.TlsConfig):
    """mitmproxy's TLS settings with Buffy's authority."""

    def __init__(self, data_dir: Path, learned: LearnedTunnels, *, learn: bool) -> None:
        super().__init__()
        key, _ = ca_files(data_dir)
        self.certstore = certs.CertStore.from_store(key.parent, BASENAME, KEY_BITS)
        self._learned = learned
        self._learn = learn

    def configure(self, updated: Any) -> None:
        """The authority is fixed at construction; mitmproxy's own would be read here."""

    def request(self, flow: Any) -> None:
        """mitmproxy 12 answers requests for a revocation list here; the layers of Buffy never ask."""

    def tls_failed_client(self, data: tls.TlsData) -> None:
        """A client that says it does not trust us is left alone from now on."""
        error, address = data.conn.error or "", data.context.server.address
        host = (data.context.client.sni or (address[0] if address else "")).lower()
        if not host or host in self._learned or "does not trust the proxy's certificate" not in error:
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
