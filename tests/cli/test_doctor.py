"""`buffy doctor`: what it says of a sound machine and of each fault it is there to find."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffy_proxy.addons.tls import ensure_ca
from buffy_proxy.config import Config
from buffy_proxy.doctor import Finding, goods, machine, trials
from buffy_proxy.doctor.origin import Origin
from buffy_proxy.doctor.tools import TOOLS
from buffy_proxy.trust import ca_files
from tests.support.buffy import ROOT, clean_env

NAMES = {tool.name: tool for tool in TOOLS}


def doctor(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "buffy_proxy", "doctor", *arguments]
    return subprocess.run(
        command, env=env or clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=200
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    return Config(data_dir, proxy=("127.0.0.1", free_port()), api=("127.0.0.1", free_port()))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Origin, dict[str, str]]]:
    directory = tmp_path_factory.mktemp("doctor")
    with trials.private_server(directory, clean_env()) as (target, environ):
        yield target, environ


def looked_at(config: Config, now: float | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in machine.findings(config, now or time.time())}


class TestCommand:
    def test_all_is_well_here(self, tmp_path: Path) -> None:
        settings = tmp_path / "buffy.toml"
        settings.write_text(f'proxy = "127.0.0.1:{free_port()}"\napi = "127.0.0.1:{free_port()}"\n')
        done = doctor("--json", "--config", str(settings), "--data-dir", str(tmp_path / "data"))
        found = {entry["name"]: entry for entry in json.loads(done.stdout)}
        assert [entry for entry in found.values() if entry["state"] == "failed"] == []
        assert done.returncode == 0
        for tool in ("curl", "wget", "pip", "npm", "git", "apt"):
            installed = shutil.which(NAMES[tool].program or tool)
            assert found[tool]["state"] == ("ok" if installed else "skipped"), found[tool]
        assert found["python"]["state"] == "ok"
        assert not (tmp_path / "data").exists(), "it looks, it does not make"

    def test_a_fault_is_told_with_its_remedy(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings = tmp_path / "buffy.toml"
            settings.write_text(
                f'proxy = "127.0.0.1:{taken.getsockname()[1]}"\napi = "127.0.0.1:{free_port()}"\n'
            )
            env = clean_env(PATH="/nonexistent")
            done = doctor("--config", str(settings), "--data-dir", str(tmp_path / "data"), env=env)
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        (number,) = [i for i, line in enumerate(lines) if line.startswith("failed")]
        assert "proxy port" in lines[number] and "another program" in lines[number]
        assert "--proxy" in lines[number + 1]


class TestMachine:
    def test_sound(self, config: Config) -> None:
        ensure_ca(config.data_dir)
        found = looked_at(config)
        assert [finding for finding in found.values() if finding.state != "ok"] == []
        assert {"CA key", "CA certificate", "store", "clock"} <= set(found)

    def test_key_that_others_may_read(self, config: Config) -> None:
        ensure_ca(config.data_dir)
        key, _ = ca_files(config.data_dir)
        key.chmod(0o640)
        finding = looked_at(config)["CA key"]
        assert (finding.state, finding.fix) == ("failed", f"chmod 600 {key}")
        assert "0640" in finding.detail

    @pytest.mark.parametrize("years", [-30, 30])
    def test_certificate_out_of_its_time(self, config: Config, years: int) -> None:
        ensure_ca(config.data_dir)
        assert looked_at(config, time.time() + years * 365 * 86400)["CA certificate"].state == "failed"

    def test_damaged_ca(self, config: Config) -> None:
        ensure_ca(config.data_dir)
        key, certificate = ca_files(config.data_dir)
        certificate.write_text("no certificate")
        key.write_text("no key")
        found = looked_at(config)
        assert found["CA certificate"].state == found["CA key"].state == "failed"

    def test_certificate_without_its_key(self, config: Config) -> None:
        ensure_ca(config.data_dir)
        ca_files(config.data_dir)[0].unlink()
        assert looked_at(config)["CA key"].state == "failed"

    def test_clock_in_the_past(self, config: Config) -> None:
        assert looked_at(config, 86400.0 * 365)["clock"].state == "failed"

    def test_data_directory_that_is_no_directory(self, config: Config) -> None:
        config.data_dir.rmdir()
        config.data_dir.write_text("a file")
        finding = looked_at(config)["data directory"]
        assert (finding.state, str(config.data_dir) in finding.detail) == ("failed", True)

    def test_store_that_does_not_open(self, config: Config) -> None:
        (config.data_dir / "index").write_text("not a directory")
        assert looked_at(config)["store"].state == "failed"


class TestFaults:
    """Each tool can be led past Buffy or lose its CA; the doctor must notice. Curl stands for all."""

    def judge(
        self, ground: tuple[Origin, dict[str, str]], tmp_path: Path, tool: str = "curl", **env: str
    ) -> Finding:
        target, environ = ground
        target.seen.clear()
        return trials.try_tool(NAMES[tool], target, tmp_path, {**environ, **env})

    def test_sound(self, ground: tuple[Origin, dict[str, str]], tmp_path: Path) -> None:
        assert self.judge(ground, tmp_path).state == "ok"

    def test_past_the_proxy(self, ground: tuple[Origin, dict[str, str]], tmp_path: Path) -> None:
        finding = self.judge(ground, tmp_path, no_proxy="localhost", CURL_CA_BUNDLE=str(ground[0].ca_file))
        assert (finding.state, finding.fix) == ("failed", NAMES["curl"].bypass)
        assert "directly" in finding.detail

    def test_without_our_ca(self, ground: tuple[Origin, dict[str, str]], tmp_path: Path) -> None:
        finding = self.judge(ground, tmp_path, CURL_CA_BUNDLE=str(ground[0].ca_file))
        assert (finding.state, finding.fix) == ("failed", NAMES["curl"].trust)
        assert "does not trust" in finding.detail

    def test_proxy_that_is_not_there(self, ground: tuple[Origin, dict[str, str]], tmp_path: Path) -> None:
        finding = self.judge(ground, tmp_path, https_proxy=f"http://127.0.0.1:{free_port()}")
        assert finding.state == "failed"
        assert "nothing through the proxy" in finding.detail

    def test_wrong_content(self, ground: tuple[Origin, dict[str, str]], tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        script = tmp_path / "bin" / "curl"
        script.write_text(f'#!/bin/sh\n"{shutil.which("curl")}" "$@"; echo other > probe.txt\n')
        script.chmod(0o755)
        finding = self.judge(ground, tmp_path, PATH=f"{script.parent}:{os.environ['PATH']}")
        assert finding.state == "failed"

    def test_not_installed(self, ground: tuple[Origin, dict[str, str]], tmp_path: Path) -> None:
        assert self.judge(ground, tmp_path, PATH="/nonexistent").state == "skipped"

    @pytest.mark.parametrize("version", ["v20.20.2", "v22.20.0", "v22.21.0", "v23.9.0", "v24.0.0", "v25.1.0"])
    def test_which_node_can(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        node = tmp_path / "node"
        node.write_text(f"#!/bin/sh\necho {version}\n")
        node.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert bool(NAMES["node"].lacks()) is (version not in ("v22.21.0", "v24.0.0", "v25.1.0"))


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_probe_repository_ignores_the_users_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing, hooks and templates of the user's must not reach into the doctor's own repository."""
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n[user]\n\tsigningkey = none\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    assert "/p/probe.git/info/refs" in goods.git_repository("/p", work)
