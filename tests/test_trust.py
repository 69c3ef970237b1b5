"""Merging trust stores: what is found, what is left out and said, and what TLS then accepts."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import threading
from pathlib import Path

import certifi
import pytest
import trustme

from buffy_proxy import trust


def pem(authority: trustme.CA) -> bytes:
    return authority.cert_pem.bytes()


def count(data: bytes) -> int:
    return data.count(b"BEGIN CERTIFICATE")


@pytest.fixture
def company(tmp_path: Path) -> Path:
    file = tmp_path / "company.pem"
    file.write_bytes(pem(trustme.CA(organization_name="Company")))
    return file


class TestGather:
    def test_each_certificate_comes_once_whatever_its_file_and_line_ends(self, tmp_path: Path) -> None:
        one, two = pem(trustme.CA()), pem(trustme.CA())
        (tmp_path / "a.pem").write_bytes(one + two)
        (tmp_path / "b.pem").write_bytes(b"# a comment\n" + two.replace(b"\n", b"\r\n") + b"trailing text")
        roots = trust.gather([tmp_path / "a.pem", tmp_path / "b.pem"])
        assert roots.count == count(roots.pem) == 2
        assert roots.skipped == ()

    def test_hashed_directory(self, tmp_path: Path) -> None:
        directory = tmp_path / "certs"
        directory.mkdir()
        (directory / "company.pem").write_bytes(pem(trustme.CA()))
        (directory / "01234567.0").symlink_to("company.pem")
        (directory / "89abcdef.1").write_bytes(pem(trustme.CA()))
        (directory / "README").write_bytes(pem(trustme.CA()))
        (directory / "dangling.pem").symlink_to("nowhere")
        roots = trust.gather([directory])
        assert (roots.count, roots.skipped) == (2, ())

    @pytest.mark.parametrize(
        "content, why",
        [
            (b"", "holds no certificate"),
            (b"\x30\x82\x00\x00 binary", "holds no certificate"),
            (
                b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n",
                "1 of its certificates",
            ),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "1 of its certificates"),
            (b"-----BEGIN CERTIFICATE-----\n\xff\xfe\n-----END CERTIFICATE-----\n", "1 of its certificates"),
        ],
    )
    def test_unusable_content_is_named_and_left_out(self, tmp_path: Path, content: bytes, why: str) -> None:
        good, bad = tmp_path / "good.pem", tmp_path / "bad.pem"
        good.write_bytes(pem(trustme.CA()))
        bad.write_bytes(content)
        roots = trust.gather([bad, good])
        assert roots.count == 1
        assert len(roots.skipped) == 1
        assert str(bad) in roots.skipped[0] and why in roots.skipped[0]

    def test_one_bad_certificate_does_not_cost_its_neighbours(self, tmp_path: Path) -> None:
        file = tmp_path / "mixed.pem"
        bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        file.write_bytes(pem(trustme.CA()) + bad + pem(trustme.CA()))
        assert trust.gather([file]).count == 2

    def test_missing_file(self, tmp_path: Path) -> None:
        roots = trust.gather([tmp_path / "gone.pem"])
        assert roots.pem == b""
        assert roots.skipped == (f"{tmp_path / 'gone.pem'}: No such file or directory",)


class TestOriginBundle:
    def test_holds_certifi_and_the_operating_systems_store(self) -> None:
        bundle = trust.origin_bundle({})
        everything = trust.gather([Path(certifi.where()), *trust.system_paths()])
        assert count(bundle) == everything.count
        assert count(bundle) >= trust.gather([Path(certifi.where())]).count > 100

    @pytest.mark.parametrize("name", trust.NAMED_BY)
    def test_adds_what_a_variable_names(self, name: str, company: Path) -> None:
        value = f"{company.parent}{os.pathsep}" if name.endswith("_DIR") else str(company)
        assert count(trust.origin_bundle({name: value})) == count(trust.origin_bundle({})) + 1

    def test_a_directory_where_a_file_is_expected(self, company: Path) -> None:
        bundle = trust.origin_bundle({"REQUESTS_CA_BUNDLE": str(company.parent)})
        assert company.read_bytes().strip() in bundle

    def test_one_warning_names_all_that_was_left_out(
        self, tmp_path: Path, company: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        environ = {
            "SSL_CERT_FILE": str(tmp_path / "no"),
            "CURL_CA_BUNDLE": str(company),
            "SSL_CERT_DIR": "/no/dir",
        }
        with caplog.at_level(logging.WARNING):
            bundle = trust.origin_bundle(environ)
        assert company.read_bytes().strip() in bundle
        assert len(caplog.records) == 1
        assert str(tmp_path / "no") in caplog.text and "/no/dir" in caplog.text

    def test_silent_when_all_is_well(self, company: Path, caplog: pytest.LogCaptureFixture) -> None:
        trust.origin_bundle({"SSL_CERT_FILE": str(company), "NIX_SSL_CERT_FILE": ""})
        assert caplog.records == []


class TestWriteBundle:
    def test_is_readable_for_all_and_leaves_no_temporary_file(self, tmp_path: Path) -> None:
        path = trust.write_bundle(tmp_path / "new" / "bundle.pem", b"content")
        assert path.read_bytes() == b"content"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert list(path.parent.iterdir()) == [path]

    def test_replaces_other_content_and_leaves_equal_content_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "bundle.pem"
        trust.write_bundle(path, b"old")
        first = path.stat().st_ino
        trust.write_bundle(path, b"old")
        assert path.stat().st_ino == first
        trust.write_bundle(path, b"new")
        assert path.read_bytes() == b"new"

    def test_failure_leaves_nothing_behind(self, tmp_path: Path) -> None:
        target = tmp_path / "bundle.pem"
        target.mkdir()
        with pytest.raises(OSError):
            trust.write_bundle(target, b"content")
        assert list(tmp_path.iterdir()) == [target]


class TestContext:
    def handshake(self, context: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            try:
                server.wrap_socket(theirs, server_side=True)
            except (ssl.SSLError, OSError):
                theirs.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return context.wrap_socket(ours, server_hostname=name)
        finally:
            thread.join(5)

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def server(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("origin.test").configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def test_accepts_a_chain_to_the_bundle_and_speaks_http1(
        self, tmp_path: Path, authority: trustme.CA, server: ssl.SSLContext
    ) -> None:
        context = trust.ssl_context(trust.write_bundle(tmp_path / "b.pem", pem(authority)))
        with self.handshake(context, server, "origin.test") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
            assert connection.version() in ("TLSv1.2", "TLSv1.3")

    def test_refuses_another_name(
        self, tmp_path: Path, authority: trustme.CA, server: ssl.SSLContext
    ) -> None:
        context = trust.ssl_context(trust.write_bundle(tmp_path / "b.pem", pem(authority)))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            self.handshake(context, server, "other.test")

    def test_refuses_another_authority(self, tmp_path: Path, server: ssl.SSLContext) -> None:
        context = trust.ssl_context(trust.write_bundle(tmp_path / "b.pem", pem(trustme.CA())))
        with pytest.raises(ssl.SSLCertVerificationError):
            self.handshake(context, server, "origin.test")

    def test_strictness(self, tmp_path: Path, authority: trustme.CA) -> None:
        context = trust.ssl_context(trust.write_bundle(tmp_path / "b.pem", pem(authority)))
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert not context.verify_flags & ssl.VerifyFlags.VERIFY_X509_STRICT

    def test_the_whole_origin_bundle_loads(self, tmp_path: Path) -> None:
        bundle = trust.origin_bundle({})
        context = trust.ssl_context(trust.write_bundle(tmp_path / "b.pem", bundle))
        assert context.cert_store_stats()["x509"] == count(bundle)
