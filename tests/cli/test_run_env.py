"""`buffy env`: what it prints does what it says in a real shell, and can be undone to the byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from buffy_proxy import lease, shell_env
from buffy_proxy.clients import ClientEnv
from buffy_proxy.presence import Presence
from buffy_proxy.shell_env import Shell
from tests.support.buffy import ROOT, clean_env

AWKWARD = [
    "plain",
    "",
    "a b",
    "it's",
    '"$HOME" `id` $(id) !x',
    "back\\slash\\",
    "line\nbreak",
    "ünï",
    "~/x;*&|<>",
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("env") / "data"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[Presence]:
    with lease.started(data_dir, (), clean_env()) as presence:
        yield presence


class TestUndoing:
    def test_round_trip(self) -> None:
        own = {"A": "1", "B": "2", "KEPT": "x"}
        changes = shell_env.entering(own, ClientEnv({"A": "new", "C": "3"}, ("B",)))
        inside = _apply(own, changes)
        assert {name: inside.get(name) for name in "ABC"} == {"A": "new", "B": None, "C": "3"}
        assert shell_env.original(inside) == own
        assert _apply(inside, shell_env.leaving(inside)) == own

    def test_entering_twice_remembers_the_first(self) -> None:
        own = {"A": "1"}
        inside = _apply(own, shell_env.entering(own, ClientEnv({"A": "2", "B": "2"})))
        again = _apply(inside, shell_env.entering(inside, ClientEnv({"A": "3"})))
        assert again["A"] == "3"
        assert "B" not in again
        assert _apply(again, shell_env.leaving(again)) == own

    @pytest.mark.parametrize("note", ["", "no json", "[]", '{"A": 1}', "null"])
    def test_a_damaged_note_is_ignored(self, note: str) -> None:
        assert shell_env.original({"A": "1", shell_env.SAVED: note}) == {"A": "1"}

    def test_nothing_to_undo(self) -> None:
        assert shell_env.leaving({"A": "1"}) == {}


class TestScript:
    @pytest.mark.parametrize("value", AWKWARD)
    def test_sh(self, value: str) -> None:
        script = shell_env.script({"VALUE": value, "GONE": None}, Shell.sh)
        show = 'import os; print(ascii((os.environ["VALUE"], os.environ.get("GONE"))))'
        command = ["sh", "-c", f'eval "$1"; "{sys.executable}" -c \'{show}\'', "sh", script]
        output = subprocess.run(command, env={"GONE": "x"}, capture_output=True, text=True, check=True).stdout
        assert output.strip() == ascii((value, None))

    @pytest.mark.parametrize(
        "value, line",
        [("a b", "set -gx N 'a b';\n"), ("it's", "set -gx N 'it\\'s';\n"), ("\\", "set -gx N '\\\\';\n")],
    )
    def test_fish(self, value: str, line: str) -> None:
        assert shell_env.script({"N": value}, Shell.fish) == line
        assert shell_env.script({"N": None}, Shell.fish) == "set -e N;\n"

    @pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
    @pytest.mark.parametrize("value", AWKWARD)
    def test_real_fish(self, value: str) -> None:
        script = shell_env.script({"VALUE": value}, Shell.fish) + "printenv VALUE"
        output = subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True).stdout
        assert output == value + "\n"

    def test_json(self) -> None:
        text = shell_env.script({"A": "1", "B": None}, Shell.json)
        assert json.loads(text) == {"set": {"A": "1"}, "unset": ["B"]}


class TestCommand:
    def buffy(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "buffy_proxy", *arguments]
        return subprocess.run(command, env=env or clean_env(), cwd=ROOT, capture_output=True, timeout=60)

    def test_without_a_server(self, tmp_path: Path) -> None:
        done = self.buffy("env", "--data-dir", str(tmp_path))
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.count(b"\n") == 1 and b"buffy serve" in done.stderr

    def test_a_bad_group(self, server: Presence, data_dir: Path) -> None:
        done = self.buffy("env", "--group", "a b", "--data-dir", str(data_dir))
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"group" in done.stderr

    def test_json(self, server: Presence, data_dir: Path) -> None:
        done = self.buffy("env", "--shell", "json", "--group", "g", "--offline", "--data-dir", str(data_dir))
        changes = json.loads(done.stdout)["set"]
        assert changes["HTTPS_PROXY"].startswith("http://group%3Dg%2Bmode%3Doffline:")
        assert changes["HTTPS_PROXY"].endswith(f"@127.0.0.1:{server.proxy[1]}")
        assert changes["DENO_CERT"] == str(server.ca_file)

    def test_a_shell_is_as_before_after_unset(self, server: Presence, data_dir: Path, tmp_path: Path) -> None:
        ca_file = tmp_path / "own ca.pem"
        ca_file.write_bytes(trustme.CA().cert_pem.bytes())
        own = {**clean_env(), "SSL_CERT_FILE": str(ca_file), "https_proxy": "http://it's:a@other.test:1"}
        environ = {**{os.fsencode(k): os.fsencode(v) for k, v in own.items()}, b"NO_PROXY": b"\xff\xfe.test"}
        buffy = f'"{sys.executable}" -m buffy_proxy env --data-dir "{data_dir}"'
        states = [tmp_path / str(number) for number in range(4)]
        script = f"""set -e
            env -0 > {states[0]}; eval "$({buffy})"
            env -0 > {states[1]}; eval "$({buffy} --group other)"
            env -0 > {states[2]}; eval "$({buffy} --unset)"
            env -0 > {states[3]}"""
        subprocess.run(["sh", "-c", script], env=environ, cwd=ROOT, check=True, timeout=60)
        before, inside, again, after = (_environ(state) for state in states)
        assert after == before
        assert inside[b"https_proxy"] == f"http://127.0.0.1:{server.proxy[1]}".encode()
        assert b"group%3Dother" in again[b"https_proxy"]
        assert inside[b"NO_PROXY"] == b"\xff\xfe.test,localhost,127.0.0.1,::1"
        bundle = Path(os.fsdecode(inside[b"SSL_CERT_FILE"])).read_bytes()
        assert ca_file.read_bytes().strip() in bundle and server.ca_file.read_bytes().strip() in bundle
        assert again[b"SSL_CERT_FILE"] == inside[b"SSL_CERT_FILE"]

    def test_unset_outside(self, tmp_path: Path) -> None:
        done = self.buffy("env", "--unset", "--data-dir", str(tmp_path))
        assert (done.returncode, done.stdout) == (0, b"")
        assert b"nothing to undo" in done.stderr


def _apply(environ: dict[str, str], changes: shell_env.Changes) -> dict[str, str]:
    merged = {**environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _environ(state: Path) -> dict[bytes, bytes]:
    pairs = (entry.partition(b"=") for entry in state.read_bytes().split(b"\0") if entry)
    return {name: value for name, _, value in pairs if name not in (b"_", b"OLDPWD", b"PWD", b"SHLVL")}
