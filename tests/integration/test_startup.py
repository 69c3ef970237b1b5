"""What the server does when it starts and when it ends, and its control API."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import time
import urllib.error
from pathlib import Path

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy, StartFailed
from tests.support.origin import Origin
from tests.support.procs import wait_until


def listener(port: int, server: Buffy) -> int | None:
    """The process that serves a loopback port: its supervisor holds the socket too, but serves nobody."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{r[9]}]" for r in rows if r[3] == "0A" and int(r[1].split(":")[1], 16) == port}
    for pid in sorted(server.pids(), reverse=True):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(entry.readlink()) in inodes:
                    return pid
            except OSError:
                continue
    return None


def refused(buffy: Factory, **kwargs: object) -> StartFailed:
    """Starts a server that must not start; gives how it ended."""
    with pytest.raises(StartFailed) as caught:
        buffy(**kwargs)
    return caught.value


def one_clear_line(failure: StartFailed) -> str:
    assert failure.code == 2, failure
    lines = [line for line in failure.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, failure.stderr
    return lines[0]


def test_it_prints_five_lines(buffy: Factory) -> None:
    server = buffy()
    words = [re.split(r"[\s:]", line, maxsplit=1)[0].lower() for line in server.lines]
    assert words == ["proxy", "api", "data", "use", "version"]
    assert str(server.data_dir) in server.lines[2]


def test_it_announces_itself_in_the_data_directory(buffy: Factory) -> None:
    server = buffy()
    said = json.loads((server.data_dir / "server.json").read_text())
    assert said["pid"] in server.pids()
    assert tuple(said["proxy"]) == server.proxy and tuple(said["api"]) == server.api
    assert b"BEGIN CERTIFICATE" in Path(said["ca_file"]).read_bytes()
    assert b"PRIVATE" not in Path(said["ca_file"]).read_bytes()


def test_a_port_in_use_is_one_clear_line_and_exit_code_2(buffy: Factory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        server = buffy(start=False)
        server.proxy = ("127.0.0.1", port)
        with pytest.raises(StartFailed) as caught:
            server.start()
    assert str(port) in one_clear_line(caught.value)


def test_an_api_port_in_use_is_one_clear_line_and_exit_code_2(buffy: Factory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        server = buffy(start=False)
        server.api = ("127.0.0.1", port)
        with pytest.raises(StartFailed) as caught:
            server.start()
    assert str(port) in one_clear_line(caught.value)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("max_sice = 1\n", "max_sice"),
        ('max_size = "many"\n', "max_size"),
        ('[[rule]]\nmatch = "https://**"\nstrategy = "sometimes"\n', "sometimes"),
        ('[[rule]]\nmatch = "https://**"\nstrategy = { strategy_name = "cron", cron = "x" }\n', "cron"),
        ("rule = [\n", "buffy.toml"),
    ],
)
def test_a_bad_config_is_one_clear_line_and_exit_code_2(buffy: Factory, config: str, names: str) -> None:
    assert names in one_clear_line(refused(buffy, config=config))


def test_an_unusable_directory_is_one_clear_line_and_exit_code_2(buffy: Factory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    server = buffy(start=False)
    server.data_dir = tmp_path / "file" / "data"
    with pytest.raises(StartFailed) as caught:
        server.start()
    assert str(tmp_path / "file") in one_clear_line(caught.value)


def test_it_refuses_to_listen_beyond_loopback(buffy: Factory) -> None:
    server = buffy(start=False)
    server.proxy = ("0.0.0.0", 0)
    with pytest.raises(StartFailed) as caught:
        server.start()
    assert "0.0.0.0" in one_clear_line(caught.value)


def test_open_lets_it_listen_beyond_loopback(buffy: Factory, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"open"))
    server = buffy(config="open = true\n", start=False)
    server.proxy, server._address = ("0.0.0.0", 0), _any_address(server)  # type: ignore[method-assign]
    server.start()
    assert server.get(url).body == b"open"


def _any_address(server: Buffy):  # type: ignore[no-untyped-def]
    """The line may name 0.0.0.0, which is reached by way of loopback."""

    def address(word: str) -> tuple[str, int]:
        line = next(line for line in server.lines if line.lower().startswith(word))
        return "127.0.0.1", int(re.findall(r":(\d+)", line)[-1])

    return address


def test_sigterm_ends_it_within_5_seconds_and_nothing_is_lost(
    buffy: Factory, origin: Origin, path: str
) -> None:
    url = origin.on(path, answers.fixed(b"kept" * 1000, answers.FRESH))
    endless = origin.on(path + "/endless", answers.events([0.05] * 2000))
    server = buffy()
    assert server.get(url).body == b"kept" * 1000
    with server.open(endless) as hanging:  # a client that never leaves must not hold it up
        server.send(hanging, "GET", endless)
        hanging.head()
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
    assert not (server.data_dir / "server.json").exists()
    server.start()
    reply = server.get(url)
    assert reply.cache.hit and reply.body == b"kept" * 1000
    server.check_store()


def test_sigterm_lets_an_answer_finish_and_keeps_it(buffy: Factory, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.sized([b"a" * 1000, 0.5, b"b" * 1000], answers.FRESH))
    server = buffy()
    with server.open(url) as client:
        server.send(client, "GET", url)
        reply = client.head()
        server.stop()
        assert b"".join(client.body_chunks(reply)) == b"a" * 1000 + b"b" * 1000
    server.start()
    assert server.get(url, user="mode=offline").status == 200


def test_private_keys_and_the_data_directory_are_the_owners_alone(buffy: Factory) -> None:
    server = buffy()
    keys = [
        file
        for file in server.data_dir.rglob("*")
        if file.is_file() and file.stat().st_size < 1 << 20 and b"PRIVATE KEY" in file.read_bytes()
    ]
    assert keys
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys} == {0o600}
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def test_a_second_start_keeps_the_certificate_authority(buffy: Factory) -> None:
    server = buffy()
    first = server.ca_file.read_bytes()
    server.restart()
    assert server.ca_file.read_bytes() == first


def test_health_and_the_interactive_docs(buffy: Factory) -> None:
    server = buffy()
    status, health = server.api_get("/health")
    assert status == 200 and isinstance(health, dict)
    status, page = server.api_get("/docs")
    assert status == 200 and "<html" in page.lower()
    assert "/health" in server.api_get("/openapi.json")[1]["paths"]


def test_the_api_and_the_proxy_live_apart(buffy: Factory, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"apart", answers.FRESH))
    server = buffy()
    server.get(url)
    api = listener(server.api[1], server)
    proxy = listener(server.proxy[1], server)
    assert api is not None and proxy is not None and api != proxy
    os.kill(api, signal.SIGSTOP)  # as busy as can be
    try:
        assert server.get(url, timeout=5).cache.hit
    finally:
        os.kill(api, signal.SIGCONT)
    os.kill(api, signal.SIGKILL)
    assert server.get(url, timeout=5).cache.hit
    wait_until(lambda: _healthy(server), 15, "the API comes back")
    assert listener(server.proxy[1], server) == proxy


def test_a_proxy_process_that_dies_is_started_again(buffy: Factory, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"again", answers.FRESH))
    server = buffy()
    server.get(url)
    assert server.get(url).cache.hit  # committed: what is in flight may be lost
    proxy = listener(server.proxy[1], server)
    assert proxy is not None and server.process is not None and proxy != server.process.pid
    os.kill(proxy, signal.SIGKILL)
    reply = server.get(url, timeout=15)  # waits in the kernel until the successor accepts
    assert reply.cache.hit and reply.body == b"again"
    assert server.process.poll() is None


def _healthy(server: Buffy) -> bool:
    try:
        return server.api_get("/health")[0] == 200
    except (urllib.error.URLError, OSError):
        return False


def test_proxy_credentials_are_asked_for(
    buffy: Factory, origin: Origin, tls_origin: Origin, path: str
) -> None:
    plain = origin.on(path, answers.echo)
    secret = tls_origin.on(path, answers.echo)
    server = buffy(config='[proxy]\ncredentials = "alice:wonder"\n')
    done = server.curl(plain, "-o", "/dev/null", "-w", "%{http_code}")
    assert done.stdout == b"407"
    done = server.curl(secret, "-o", "/dev/null", "-w", "%{http_connect}")
    assert done.stdout == b"407"
    for url in (plain, secret):
        reply = server.curl_reply(url, user="alice:wonder")
        assert reply.status == 200
        assert b"Proxy-Authorization" not in reply.body and b"wonder" not in reply.body
    assert server.curl(plain, "-o", "/dev/null", "-w", "%{http_code}", user="alice:wrong").stdout == b"407"


def test_it_runs_on_uvloop_and_without(buffy: Factory, origin: Origin, path: str, tmp_path: Path) -> None:
    """Where uvloop cannot be imported, asyncio's own loop serves the same."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('not here')\n")
    for env, loop in (({}, "uvloop"), ({"PYTHONPATH": str(tmp_path)}, "asyncio.unix_events")):
        server = buffy(config='log_level = "debug"\n', env=env)
        url = origin.on(path, answers.fixed(b"same", {"Cache-Control": "max-age=60"}))
        assert [server.get(url).body for _ in range(2)] == [b"same", b"same"]
        assert f"the event loop is {loop}" in server.log()
        server.stop()
