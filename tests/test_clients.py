"""The environment that tools get: the user's own values survive, and every bundle holds what it must."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import trustme

from buffy_proxy import client_files, client_table, clients, trust
from buffy_proxy.client_table import Kind, Trust
from buffy_proxy.config import Credentials
from buffy_proxy.selectors import parse_proxy_authorization

PROXY = ("127.0.0.1", 8080)
ALWAYS = [row.name for row in client_table.TRUST if not row.only_if_set]
REPLACING = [row.name for row in client_table.TRUST if row.kind is Kind.REPLACES]
ADDING = [row.name for row in client_table.TRUST if row.kind is Kind.ADDS]

Make = Callable[..., clients.ClientEnv]


def ca(path: Path) -> Path:
    path.write_bytes(trustme.CA().cert_pem.bytes())
    return path


def certificates(path: str | Path) -> set[bytes]:
    return {
        block.strip()
        for block in Path(path).read_bytes().split(b"-----END CERTIFICATE-----")
        if block.strip()
    }


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return ca(tmp_path / "buffy-ca.pem")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return ca(tmp_path / "own.pem")


def _without_etc(row: Trust) -> Trust:
    if row.config is None:
        return row
    setting, files = row.config
    return replace(row, config=(setting, tuple(file for file in files if not file.startswith("/etc/"))))


@pytest.fixture
def make(tmp_path: Path, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """client_env on a machine with two roots, an empty home and no tools, unless said otherwise."""
    roots = [ca(tmp_path / "root1.pem"), ca(tmp_path / "root2.pem")]
    monkeypatch.setattr(trust, "system_paths", lambda: roots)
    monkeypatch.setattr(clients, "TRUST", [_without_etc(row) for row in client_table.TRUST])
    monkeypatch.setattr(client_files, "PUBLIC_DIR", tmp_path / "public")
    home = tmp_path / "home"
    home.mkdir()

    def client_env(environ: dict[str, str] | None = None, **options: object) -> clients.ClientEnv:
        base = {"HOME": str(home), "PATH": "/nonexistent"}
        return clients.client_env(
            {**base, **(environ or {})},
            **{"proxy": PROXY, "ca_file": ca_file, "bundle_dir": tmp_path / "clients", **options},  # type: ignore[arg-type]
        )

    return client_env


class TestTable:
    def test_names_are_unique(self) -> None:
        names = [row.name for row in client_table.TRUST]
        assert len(names) == len(set(names))

    def test_no_yarn_variable_by_default(self, make: Make) -> None:
        """Berry ends with an error for a YARN_ variable it does not know; those two it has always known."""
        assert {name for name in make().set if name.startswith("YARN_")} == {
            "YARN_HTTPS_PROXY",
            "YARN_HTTP_PROXY",
        }

    def test_the_documentation_names_them_all(self) -> None:
        text = (Path(__file__).parents[1] / "docs" / "clients.md").read_text()
        wanted = {
            *ALWAYS,
            *client_table.PROXY_TOO,
            *client_table.SWITCHES,
            "WGETRC",
            "APT_CONFIG",
            "JAVA_TOOL_OPTIONS",
        }
        assert {name for name in wanted if f"`{name}" not in text} == set()


class TestProxy:
    @pytest.mark.parametrize("name", (*client_table.PROXY, *client_table.PROXY_TOO))
    def test_is_set_in_both_cases_and_replaces_the_users(self, make: Make, name: str) -> None:
        assert make({name: "http://other.test:3128"}).set[name] == "http://127.0.0.1:8080"

    def test_selectors_are_in_the_user_name_percent_encoded(self, make: Make) -> None:
        url = make(group="g-1", offline=True, run="abc").set["HTTPS_PROXY"]
        parts = urlsplit(url)
        assert parts.username == "group%3Dg-1%2Bmode%3Doffline%2Brun%3Dabc"
        assert parts.password, "urllib, requests and wget send a user name only with a password"
        assert (parts.hostname, parts.port) == PROXY

    def test_selectors_are_what_the_server_reads(self, make: Make) -> None:
        url = urlsplit(make(group="g-1", offline=True, run="abc").set["HTTPS_PROXY"])
        login = f"{unquote(url.username or '')}:{unquote(url.password or '')}".encode()
        read = parse_proxy_authorization(b"Basic " + base64.b64encode(login))
        assert (read.user, read.group, read.offline, read.run) == ("", "g-1", True, "abc")

    def test_with_credentials(self, make: Make) -> None:
        credentials = Credentials("alice", "p:w/@d")
        url = urlsplit(make(credentials=credentials, run="abc").set["http_proxy"])
        assert unquote(url.username or "") == "alice+run=abc"
        assert unquote(url.password or "") == "p:w/@d"

    def test_a_bad_group_name(self, make: Make) -> None:
        with pytest.raises(ValueError, match="group"):
            make(group="no spaces")

    @pytest.mark.parametrize(
        "listens, reached",
        [
            (("0.0.0.0", 1), "127.0.0.1:1"),
            (("::", 1), "[::1]:1"),
            (("::1", 1), "[::1]:1"),
            (("h.test", 1), "h.test:1"),
        ],
    )
    def test_where_it_is_reached(self, make: Make, listens: tuple[str, int], reached: str) -> None:
        assert make(proxy=listens).set["HTTP_PROXY"] == f"http://{reached}"

    @pytest.mark.parametrize("name", client_table.OUTRANKING)
    def test_a_tools_own_proxy_variable_goes(self, make: Make, name: str) -> None:
        environ = {name: "http://other.test:3128"}
        client = make(environ)
        assert client.unset == (name,)
        assert name not in client.applied(environ)
        assert make().unset == ()


class TestNoProxy:
    @pytest.mark.parametrize(
        "own, upper, lower",
        [
            ({}, "localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1"),
            ({"NO_PROXY": ".a.test"}, ".a.test,localhost,127.0.0.1,::1", ".a.test,localhost,127.0.0.1,::1"),
            ({"no_proxy": "a.test b.test"}, "a.test,b.test,localhost,127.0.0.1,::1", None),
            (
                {"NO_PROXY": "a", "no_proxy": "b,localhost"},
                "a,localhost,127.0.0.1,::1",
                "b,localhost,127.0.0.1,::1",
            ),
        ],
    )
    def test_keeps_what_it_held(self, make: Make, own: dict[str, str], upper: str, lower: str | None) -> None:
        changed = make(own).set
        assert (changed["NO_PROXY"], changed["no_proxy"]) == (upper, lower or upper)

    def test_proxy_loopback_keeps_the_users_only(self, make: Make) -> None:
        assert make({"NO_PROXY": "a.test"}, proxy_loopback=True).set["no_proxy"] == "a.test"
        assert "NO_PROXY" not in make(proxy_loopback=True).set


class TestTrust:
    @pytest.mark.parametrize("name", [name for name in ALWAYS if name in REPLACING])
    def test_replacing_variables_hold_system_roots_and_buffy(
        self, make: Make, ca_file: Path, name: str
    ) -> None:
        bundle = certificates(make().set[name])
        assert certificates(ca_file) <= bundle
        assert len(bundle) == trust.gather([*trust.system_paths(), ca_file]).count

    @pytest.mark.parametrize("name", ADDING)
    def test_adding_variables_hold_buffy_alone(self, make: Make, ca_file: Path, name: str) -> None:
        assert make().set[name] == str(ca_file)

    @pytest.mark.parametrize("name", REPLACING)
    def test_the_users_file_is_merged_where_it_replaces(
        self, make: Make, ca_file: Path, own: Path, name: str
    ) -> None:
        bundle = certificates(make({name: str(own)}).set[name])
        assert certificates(own) | certificates(ca_file) < bundle
        assert len(bundle) == trust.gather([*trust.system_paths(), ca_file, own]).count

    @pytest.mark.parametrize("name", ADDING)
    def test_the_users_file_is_merged_where_it_adds(
        self, make: Make, ca_file: Path, own: Path, name: str
    ) -> None:
        assert certificates(make({name: str(own)}).set[name]) == certificates(own) | certificates(ca_file)

    def test_a_users_file_stays_with_its_own_variable(self, make: Make, own: Path) -> None:
        changed = make({"AWS_CA_BUNDLE": str(own)}).set
        assert certificates(own) <= certificates(changed["AWS_CA_BUNDLE"])
        assert not certificates(own) & certificates(changed["SSL_CERT_FILE"])

    @pytest.mark.parametrize(
        "named, hidden",
        [
            ("SSL_CERT_FILE", "SSL_CERT_DIR"),
            ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
            ("PIP_CERT", "REQUESTS_CA_BUNDLE"),
            ("PIP_CERT", "CURL_CA_BUNDLE"),
            ("CURL_CA_BUNDLE", "SSL_CERT_FILE"),
        ],
    )
    def test_what_a_set_variable_would_hide_is_merged_into_it(
        self, make: Make, tmp_path: Path, named: str, hidden: str
    ) -> None:
        directory = tmp_path / "certs"
        directory.mkdir()
        file = ca(directory / "0a1b2c3d.0")
        value = directory if hidden.endswith("_DIR") else file
        assert certificates(file) <= certificates(make({hidden: str(value)}).set[named])

    @pytest.mark.parametrize(
        "name, file, line",
        [
            ("PIP_CERT", ".config/pip/pip.conf", "[global]\ncert = {}\n"),
            ("npm_config_cafile", ".npmrc", "fund=false\ncafile={}\n"),
            ("npm_config_cafile", ".npmrc", 'cafile="{}"\r\n'),
            ("GIT_SSL_CAINFO", ".gitconfig", "[http]\n\tsslCAInfo = {}\n"),
        ],
    )
    def test_what_a_tools_own_file_names_is_merged(
        self, make: Make, tmp_path: Path, own: Path, name: str, file: str, line: str
    ) -> None:
        path = tmp_path / "home" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line.format(own))
        assert certificates(own) <= certificates(make().set[name])

    @pytest.mark.parametrize("value", ["false", "0", "no", "False"])
    def test_a_check_that_is_switched_off_stays_off(self, make: Make, value: str) -> None:
        assert "CONDA_SSL_VERIFY" not in make({"CONDA_SSL_VERIFY": value}).set

    @pytest.mark.parametrize("value", ["true", "<system>", "truststore", ""])
    def test_words_that_mean_the_default_are_no_paths(self, make: Make, value: str) -> None:
        client = make({"CONDA_SSL_VERIFY": value})
        assert client.set["CONDA_SSL_VERIFY"] == make().set["CONDA_SSL_VERIFY"]
        assert client.notes == ()

    def test_a_file_that_cannot_be_merged_is_said_once(self, make: Make, tmp_path: Path) -> None:
        gone = str(tmp_path / "gone.pem")
        client = make({"SSL_CERT_FILE": gone, "CURL_CA_BUNDLE": gone})
        assert client.notes == (f"{gone}: No such file or directory",)
        assert certificates(client.set["SSL_CERT_FILE"])

    def test_one_file_for_each_distinct_trust(self, make: Make, own: Path, tmp_path: Path) -> None:
        make()
        before = set((tmp_path / "clients").iterdir())
        assert len({make().set[name] for name in ALWAYS if name in REPLACING}) == 1
        assert set((tmp_path / "clients").iterdir()) == before
        make({"AWS_CA_BUNDLE": str(own)})
        assert len(set((tmp_path / "clients").iterdir()) - before) == 1

    def test_a_second_round_changes_nothing(self, make: Make, own: Path) -> None:
        """`buffy run` inside `buffy run`: our own bundles are merged into themselves."""
        environ = {"SSL_CERT_FILE": str(own), "NODE_EXTRA_CA_CERTS": str(own), "JAVA_TOOL_OPTIONS": "-Xmx1g"}
        first = make(environ)
        second = make(first.applied(environ))
        assert {k: v for k, v in second.set.items() if v != first.set.get(k)} == {}
        assert second.notes == ()

    def test_switches_keep_the_users_choice(self, make: Make) -> None:
        assert make().set["NODE_USE_ENV_PROXY"] == "1"
        assert "NODE_USE_ENV_PROXY" not in make({"NODE_USE_ENV_PROXY": "0"}).set


class TestWget:
    def test_the_users_file_is_kept_privately(self, make: Make, tmp_path: Path) -> None:
        (tmp_path / "home" / ".wgetrc").write_text("http_password = secret")
        path = Path(make().set["WGETRC"])
        lines = path.read_text().splitlines()
        assert lines[0] == "http_password = secret"
        assert lines[1].startswith("ca_certificate = ")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_certificates_it_names_are_merged(
        self, make: Make, tmp_path: Path, own: Path, ca_file: Path
    ) -> None:
        rc = tmp_path / "rc"
        rc.write_text(f"ca_certificate = {own}\n")
        last = Path(make({"WGETRC": str(rc)}).set["WGETRC"]).read_text().splitlines()[-1]
        assert certificates(own) | certificates(ca_file) <= certificates(last.partition(" = ")[2])


class TestApt:
    @pytest.mark.skipif(not shutil.which("apt-config"), reason="apt is not installed")
    def test_apt_reads_it_and_the_users_own(self, make: Make, tmp_path: Path) -> None:
        mine = tmp_path / "apt.conf"
        mine.write_text('Acquire::Retries "7";\n')
        client = make({"PATH": os.environ["PATH"], "APT_CONFIG": str(mine)})
        command = ["apt-config", "dump", "--format", "%f=%v%n", "Acquire"]
        env = {"PATH": os.environ["PATH"], "APT_CONFIG": client.set["APT_CONFIG"]}
        dump = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert "Acquire::Retries=7" in dump
        (bundle,) = [line.partition("=")[2] for line in dump if line.startswith("Acquire::https::CAInfo=")]
        assert certificates(bundle) == certificates(client.set["SSL_CERT_FILE"])

    def test_absent(self, make: Make) -> None:
        assert "APT_CONFIG" not in make().set

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root's apt gives up its rights")
    def test_root_gets_a_bundle_that_the_unprivileged_can_read(
        self, tmp_path: Path, ca_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        public = tmp_path / "public"
        monkeypatch.setattr(client_files, "PUBLIC_DIR", public)
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        public.mkdir()
        old = ca(public / "roots-of-yesterday.pem")
        os.utime(old, (1.0, 1.0))
        files = client_files.ClientFiles(closed / "clients", ca_file)
        text = files.apt_config(None, files.replacement()).read_text()
        bundle = Path(text.split('"')[1])
        assert list(public.iterdir()) == [bundle]
        assert stat.S_IMODE(public.stat().st_mode) == 0o755
        assert stat.S_IMODE(bundle.stat().st_mode) == 0o644


class TestJava:
    def test_absent(self, make: Make) -> None:
        assert "JAVA_TOOL_OPTIONS" not in make().set

    def test_the_users_options_stay_in_front(self, make: Make) -> None:
        words = make({"JAVA_TOOL_OPTIONS": "-Xmx1g"}).set["JAVA_TOOL_OPTIONS"].split()
        assert words[0] == "-Xmx1g"
        assert "-Dhttps.proxyHost=127.0.0.1" in words and "-Dhttps.proxyPort=8080" in words
        assert "-Dhttp.nonProxyHosts=localhost|127.*|[::1]" in words

    def test_no_proxy_in_its_own_words(self, make: Make) -> None:
        environ = {"JAVA_TOOL_OPTIONS": "-Xmx1g", "NO_PROXY": ".a.test,b.test"}
        words = make(environ, proxy_loopback=True).set["JAVA_TOOL_OPTIONS"].split()
        assert "-Dhttp.nonProxyHosts=a.test|*.a.test|b.test|*.b.test" in words

    def test_the_users_trust_store_rules(self, make: Make, ca_file: Path) -> None:
        client = make({"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/own.jks"})
        assert client.set["JAVA_TOOL_OPTIONS"].count("trustStore=") == 1
        assert str(ca_file) in client.notes[0]

    @pytest.mark.skipif(not shutil.which("keytool"), reason="no JDK")
    def test_keytool_reads_the_trust_store(self, make: Make, ca_file: Path) -> None:
        client = make({"JAVA_TOOL_OPTIONS": "-Xmx1g"})
        (store,) = [
            w.partition("=")[2] for w in client.set["JAVA_TOOL_OPTIONS"].split() if "trustStore=" in w
        ]
        command = [
            "keytool",
            "-list",
            "-rfc",
            "-storetype",
            "JKS",
            "-keystore",
            store,
            "-storepass",
            "changeit",
        ]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert listed.count("BEGIN CERTIFICATE") == trust.gather([*trust.system_paths(), ca_file]).count
        assert "".join(ca_file.read_text().split()) in "".join(listed.split())
