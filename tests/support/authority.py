"""A throw-away certificate authority for origins, and the contexts made from it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3", "origin.test", "*.origin.test")


class Authority:
    """`ca_file` is what the server gets as SSL_CERT_FILE; `context()` is for origins that it trusts."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = directory / "origin-ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))

    def context(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or NAMES)).configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        return context

    @staticmethod
    def stranger() -> ssl.SSLContext:
        """For an origin whose certificate nobody trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert(*NAMES).configure_cert(context)
        return context
