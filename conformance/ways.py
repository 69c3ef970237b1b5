"""The four ways through Buffy, each with a server and a store of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from conformance import suite
from tests.support.authority import Authority
from tests.support.buffy import Buffy

WAYS = ("reverse", "forward", "connect", "tls")

CONFIG = """
log_level = "warning"

[[rule]]
match = "**"
strategy = "http"
shared = true
replay_set_cookie = true
"""
"""What the suite needs that is no default; docs/http-semantics.md says why."""


@contextlib.contextmanager
def open_way(way: str, folder: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A running server, and what the suite's client needs: its base URL and its environment."""
    authority = Authority(folder)
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(suite.origin(_certificate(authority, folder) if way == "tls" else None))
        args = ["--reverse", base] if way == "reverse" else []
        buffy = Buffy(folder, CONFIG, {"SSL_CERT_FILE": str(authority.ca_file)}, args)
        stack.callback(buffy.discard)
        buffy.start()
        if way == "reverse":
            yield buffy.proxy_url(), {"BUFFY_WAY": "reverse"}
        else:
            how = "forward" if way == "forward" else "connect"
            trust = {"NODE_EXTRA_CA_CERTS": str(buffy.ca_file)}
            yield base, {"BUFFY_WAY": how, "PROXY": buffy.proxy_url(), **trust}


def _certificate(authority: Authority, folder: Path) -> tuple[Path, Path]:
    """Key and chain for the suite's server, from an authority that the server of this run trusts."""
    issued = authority.ca.issue_cert("127.0.0.1")
    key, chain = folder / "origin.key", folder / "origin.pem"
    issued.private_key_pem.write_to_path(str(key))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(chain), append=True)
    return key, chain
