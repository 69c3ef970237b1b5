"""Clients that come back resume their TLS session (RFC 8446 §2.2, RFC 5077): no signature, no certificate."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.http2 import Client
from tests.support.origin import Origin
from tests.support.procs import clean_env, wait_until
from tests.support.wire import Connection, request_bytes, tunnel

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Coming:
    """A client that keeps its context, and the last session, between connections."""

    def __init__(self, server: Buffy, version: ssl.TLSVersion) -> None:
        self.server = server
        self.context = server.trust()
        self.context.minimum_version = self.context.maximum_version = version
        self.session: ssl.SSLSession | None = None

    def come(self, origin: Origin, path: str, name: str = "") -> bool:
        """One request on a new connection, as `name` if given; whether the session was resumed."""
        plain = tunnel(self.server.proxy, "127.0.0.1", origin.port, timeout=10)
        host = name or "127.0.0.1"
        with self.context.wrap_socket(plain.sock, server_hostname=host, session=self.session) as sock:
            connection = Connection(sock)
            connection.send(request_bytes("GET", path, origin.authority))
            assert connection.read().body == b"ok"
            self.session = sock.session  # the tickets of TLS 1.3 come after the handshake
            return bool(sock.session_reused)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_connection_resumes(
    server: Buffy, tls_origin: Origin, path: str, version: ssl.TLSVersion
) -> None:
    tls_origin.on(path, answers.fixed(b"ok", answers.FRESH))
    coming = Coming(server, version)
    assert [coming.come(tls_origin, path) for _ in range(4)] == [False, True, True, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_good_for_its_host_only(
    server: Buffy, tls_origin: Origin, path: str, version: ssl.TLSVersion
) -> None:
    tls_origin.on(path, answers.fixed(b"ok", answers.FRESH))
    coming = Coming(server, version)
    coming.come(tls_origin, path)
    assert not coming.come(tls_origin, path, "localhost")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_a_server_that_was_restarted(
    buffy: Factory, tls_origin: Origin, path: str, version: ssl.TLSVersion
) -> None:
    """Its key is gone with the process: a whole handshake, and no error."""
    tls_origin.on(path, answers.fixed(b"ok", answers.FRESH))
    server = buffy()
    coming = Coming(server, version)
    coming.come(tls_origin, path)
    server.restart()
    assert [coming.come(tls_origin, path) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_in_http2(server: Buffy, tls_origin: Origin, path: str, version: ssl.TLSVersion) -> None:
    tls_origin.on(path, answers.fixed(b"ok", answers.FRESH))
    context = server.trust()
    context.minimum_version = context.maximum_version = version
    session, resumed = None, []
    for _ in range(3):
        client = Client(server, tls_origin, context=context, session=session)
        assert client.bodies[client.get(path)] == b"ok"
        session = client.sock.session
        resumed.append(client.sock.session_reused)
        client.close()
    assert resumed == [False, True, True]


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_openssl(server: Buffy, tls_origin: Origin, tmp_path: Path, alpn: str) -> None:
    """Another program's word for it."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    host, port = server.proxy
    where = ["-proxy", f"{host}:{port}", "-connect", tls_origin.authority, "-servername", "localhost"]
    command = [program, "s_client", *where, "-alpn", alpn, "-CAfile", str(server.ca_file)]
    told = []
    for number, known in enumerate([[], ["-sess_in", str(tmp_path / "session0")]]):
        file = tmp_path / f"session{number}"
        process = subprocess.Popen(
            [*command, *known, "-sess_out", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_env(),
        )
        try:
            wait_until(lambda: file.exists() and file.stat().st_size > 0, 10)  # noqa: B023
        finally:
            text, _ = process.communicate(b"Q\n", timeout=10)
        told.append(text.decode(errors="replace"))
    assert [re.search(r"(?m)^(New|Reused), TLSv1\.3", text)[1] for text in told] == ["New", "Reused"]  # type: ignore[index]
    assert all(f"ALPN protocol: {alpn}" in text for text in told)
