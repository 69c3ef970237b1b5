"""A running Buffy of the kit: the ways in, plugins, and its beginning and end."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import requests

from buffy_proxy.testing import Origin, Plugin, RunningBuffy, StartFailed, wait_until
from tests.support.procs import clean_env, session

KEEP = '[[rule]]\nmatch = "**"\nstrategy = "never"\n'
PLUGIN = """
from buffy_proxy import hookimpl

@hookimpl
def origin_request(fields):
    return (*fields, (b"X-By", b"plugin"))
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Origin]:
    with Origin() as made:
        yield made


@pytest.fixture(scope="module")
def secure() -> Iterator[Origin]:
    with Origin(tls=True) as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[RunningBuffy]:
    with RunningBuffy(KEEP) as made:
        yield made


def alive(pid: int) -> bool:
    """Other tests make this process the one that orphans come to; a zombie of theirs is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- the ways in --------------------------------------------------------------------------------------------


def test_requests_go_through_it(running: RunningBuffy, site: Origin, secure: Origin) -> None:
    for route in (site.serve("/get", b"plain"), secure.serve("/get", b"over TLS")):
        first, second = running.get(route.url), running.get(route.url, headers={"X-A": "1"})
        assert first.content == second.content == route.body
        assert "uri-miss" in first.headers["Cache-Status"]
        assert "hit" in second.headers["Cache-Status"]
        assert route.count == 1


def test_the_environment_of_the_tests_does_not_matter(site: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BUFFY_OFFLINE", "true")
    monkeypatch.setenv("BUFFY_DATA_DIR", "/nowhere")
    with RunningBuffy(KEEP) as buffy:
        route = site.serve("/environment", b"data")
        assert buffy.get(route.url).content == b"data"
        assert "hit" in buffy.get(route.url).headers["Cache-Status"]
        wait_until(lambda: buffy.metrics()["buffy_hits_total"] == 1)
        assert buffy.cli("show", route.url).returncode == 0


def test_sandboxes_and_offline_sessions(running: RunningBuffy, site: Origin, secure: Origin) -> None:
    for route in (site.serve("/group", b"data"), secure.serve("/group", b"data")):
        running.get(route.url)
        with running.session(group="g") as mine:
            assert "uri-miss" in mine.get(route.url).headers["Cache-Status"]
        with running.session(group="g", offline=True) as offline:
            assert "hit" in offline.get(route.url).headers["Cache-Status"]
        with running.session(group="other", offline=True) as offline:
            assert offline.get(route.url).status_code == 504
        assert route.count == 2


def test_other_clients(running: RunningBuffy, secure: Origin) -> None:
    route = secure.serve("/other", b"data")
    answer = requests.get(route.url, proxies=running.proxies, verify=str(running.ca_file), timeout=30)
    assert answer.content == b"data"
    assert set(running.proxies.values()) == {running.proxy_url}


def test_the_client_of_the_api(running: RunningBuffy, site: Origin) -> None:
    route = site.serve("/api", b"ordered")
    with running.client(group_name="mine") as client:
        assert b"".join(client.create_request(route.url).download_response_content()) == b"ordered"
        assert client.group_name == "mine"
    with running.client() as client:
        assert not client.local_download_fallback
        assert client.api_url.startswith(running.api_url)


def test_asking_about_it(running: RunningBuffy, site: Origin) -> None:
    route = site.serve("/why", b"data")
    running.get(route.url)
    wait_until(lambda: running.metrics()["buffy_requests_total"] == running.log.count("buffy.access: "))
    assert "answered from the store" in running.why(route.url)
    assert "Strategy `never`" in running.why(route.url)
    listed = json.loads(running.cli("ls", route.url, "--json").stdout)
    assert [one["url"] for one in listed] == [route.url]
    assert route.url in running.log
    with pytest.raises(AssertionError, match=r"buffy why ftp://no\.url: "):
        running.why("ftp://no.url")


# -- plugins and settings -----------------------------------------------------------------------------------


def imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("form", ["path", "text", "module"])
def test_plugins_by_file_or_module(
    form: str, tmp_path: Path, site: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / 'my, "own"' / "adds.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    monkeypatch.chdir(file.parent)
    plugin: Plugin = {"path": file, "text": "adds.py", "module": imported(file)}[form]
    with RunningBuffy(KEEP, plugins=[plugin]) as buffy:
        route = site.serve(f"/plugin/{form}", b"data")
        buffy.get(route.url)
        assert route.wait(1).get("X-By") == "plugin"
        listed = json.loads(buffy.cli("plugins", "--json").stdout)
        assert {one["name"]: one["source"] for one in listed}["adds"] == str(file)


def test_a_module_without_a_file() -> None:
    with pytest.raises(ValueError, match="the module sys was not imported from a file"):
        RunningBuffy(plugins=[sys]).close()


def test_environment_and_options(site: Origin) -> None:
    with RunningBuffy(env={"BUFFY_LOG_LEVEL": "debug"}, args=["--offline"]) as buffy:
        assert buffy.get(site.serve("/offline").url).status_code == 504
        settings = json.loads(buffy.cli("config", "show", "--json").stdout)["settings"]
        assert settings["log_level"] == {"value": "debug", "source": "BUFFY_LOG_LEVEL"}


# -- its life -----------------------------------------------------------------------------------------------


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(StartFailed) as caught:
        RunningBuffy(plugins=[tmp_path / "broken.py"]).__enter__()
    assert caught.value.code == 2
    assert f"{tmp_path / 'broken.py'}:1" in caught.value.log
    assert "nothing_of_that_name" in str(caught.value)


def test_what_does_not_start_in_time_is_killed() -> None:
    buffy = RunningBuffy()
    with pytest.raises(StartFailed, match="did not serve in time") as caught:
        buffy.start(timeout_s=0)
    assert caught.value.code is None
    assert buffy.pid is None
    buffy.close()


def test_ports_and_data_outlive_a_restart(site: Origin) -> None:
    route = site.serve("/restart", b"data")
    with RunningBuffy(KEEP) as buffy:
        buffy.get(route.url)
        ports = buffy.proxy, buffy.api
        buffy.restart()
        assert (buffy.proxy, buffy.api) == ports
        assert "hit" in buffy.get(route.url).headers["Cache-Status"]
        buffy.start()  # it runs
        buffy.kill()
        assert buffy.pid is None
        buffy.start()
        assert "hit" in buffy.get(route.url).headers["Cache-Status"]


def test_it_ends_and_leaves_nothing() -> None:
    with RunningBuffy() as buffy:
        assert buffy.pid is not None
        pids, files = session(buffy.pid), buffy.data_dir.parent
        assert len(pids) >= 3 and files.exists()
        assert buffy.stop() == 0
        assert buffy.stop() is None
    wait_until(lambda: not any(map(alive, pids)), what="all processes are gone")
    assert not files.exists()
    with pytest.raises(RuntimeError, match="does not run: start it first"):
        _ = buffy.ca_file


def test_one_that_does_not_stop_is_killed() -> None:
    with RunningBuffy() as buffy:
        assert buffy.pid is not None
        pids = session(buffy.pid)
        os.kill(buffy.pid, signal.SIGSTOP)
        assert buffy.stop(timeout_s=0.2) == -signal.SIGKILL
        wait_until(lambda: not any(map(alive, pids)), what="all processes are gone")


def test_files_stay_where_a_directory_is_given(tmp_path: Path, site: Origin) -> None:
    with RunningBuffy(KEEP, directory=tmp_path) as buffy:
        buffy.get(site.serve("/stays", b"data").url)
    assert "/stays" in (tmp_path / "buffy.log").read_text()
    assert (tmp_path / "buffy.toml").read_text() == KEEP


def test_the_log_is_shown_where_a_block_raises(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunningBuffy(directory=tmp_path) as buffy:
        assert buffy.pid
        raise ZeroDivisionError
    assert f"-- log of Buffy\nproxy:   {buffy.proxy_url}" in capsys.readouterr().err


def test_the_kit_needs_no_pytest() -> None:
    text = "import sys; sys.modules['pytest'] = None; import buffy_proxy.testing as t; print(t.Clock(0))"
    done = subprocess.run(
        [sys.executable, "-c", text], env=clean_env(), capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("1970-01-01T00:00:00Z\n", "")
