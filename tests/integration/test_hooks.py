"""Every hook through a real running Buffy, twice: with a plugin that uses it, and with one that raises there.

The response is right both times; a plugin that raises is named in the log once and counted in the metrics.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buffy_proxy.plugins.loading import HOOKS
from tests.conftest import Factory
from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin, Peer, Received

HEAD = """
import json, os, math
from dataclasses import dataclass, replace
from buffy_proxy import *

def note(**said):
    with open(os.environ["HOOK_LOG"], "a") as log:
        log.write(json.dumps(said) + "\\n")
"""
KEPT = '[[rule]]\nmatch = "http://**"\nstrategy = "never"\n'
BOTH = pytest.mark.parametrize("works", [True, False], ids=["works", "raises"])


class Plugged:
    """A server with one plugin, `probe`, and what that plugin noted."""

    def __init__(self, server: Buffy, log: Path) -> None:
        self.server = server
        self._log = log

    @property
    def notes(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [json.loads(line) for line in lines]

    def noted(self, **wanted: Any) -> dict[str, Any]:
        """Waits for a note with these values."""
        return waited(
            lambda: next((n for n in self.notes if wanted.items() <= n.items()), None),
            f"{wanted} among {self.notes}",
        )

    def failed(self, hook: str) -> None:
        """The failure was logged once, with the plugin's name, and counted."""
        waited(lambda: self.count(hook) >= 1, f"a count for {hook}")
        shown = re.findall(rf"plugin probe failed in {re.escape(hook)} ", self.server.log())
        processes = 3 if hook in ("register_routes", "register_jobs", "startup", "shutdown") else 1
        assert 1 <= len(shown) <= processes

    def count(self, hook: str) -> int:
        text = self.api("/metrics").decode()
        found = re.search(rf'buffy_plugin_failures_total\{{hook="{hook}",plugin="probe"\}} (\d+)', text)
        return int(found[1]) if found else 0

    def api(self, path: str, body: Any = None, method: str = "GET") -> bytes:
        host, port = self.server.api
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{host}:{port}{path}", data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return bytes(answer.read())


def waited(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


Plug = Callable[..., Plugged]


@pytest.fixture
def plug(buffy: Factory, tmp_path: Path) -> Iterator[Plug]:
    """Starts a server with a plugin. `works=False`: every function of it that is a hook raises."""

    def start(source: str, *, works: bool = True, config: str = KEPT, also: str = "") -> Plugged:
        if not works:
            source = re.sub(
                r"(@hookimpl\ndef [^\n]*:\n)(?:    [^\n]*\n|\n)*",
                r'\1    raise RuntimeError("boom")\n\n',
                source,
            )
        file = tmp_path / "probe.py"
        file.write_text(HEAD + also + source)
        log = tmp_path / "notes.jsonl"
        args = ("--plugin", str(file))
        return Plugged(buffy(config=config, env={"HOOK_LOG": str(log)}, args=args), log)

    yield start


def status(reply: Any) -> str:
    return str(reply.get("cache-status"))


# -- strategies and settings --------------------------------------------------------------------------------


@BOTH
def test_hook_register_strategies(plug: Plug, origin: Origin, works: bool) -> None:
    """A strategy that plans works in a rule; one that raises when it plans gives way to `http`."""
    origin.on("/strategy", answers.fixed(b"data", {"Cache-Control": "max-age=0"}))
    plan = "version.validated_at + 3600" if works else "1 / 0"
    source = f"""
@dataclass(frozen=True)
class Probe(BaseStrategy):
    strategy_name = "probe"
    def fresh_until(self, version, now, url):
        return {plan}

@hookimpl
def register_strategies():
    return [Probe]
"""
    made = plug(source, config='[[rule]]\nmatch = "http://**"\nstrategy = "probe"\n')
    url = origin.url("/strategy")
    replies = [made.server.get(url) for _ in range(2)]
    assert [reply.body for reply in replies] == [b"data", b"data"]
    assert ("hit" in status(replies[1])) is works
    if not works:
        made.failed("strategy probe")


def test_hook_register_strategies_that_raises_is_an_error_at_start(tmp_path: Path) -> None:
    answer = starting(tmp_path, "@hookimpl\ndef register_strategies():\n    raise RuntimeError('boom')\n")
    assert answer.returncode == 2
    assert re.search(r"probe\.py:\d+: register_strategies failed: RuntimeError\('boom'\)", answer.stderr)


def test_hook_configure(plug: Plug, origin: Origin) -> None:
    origin.on("/configure", answers.fixed(b"data"))
    source = """
settings = {}
@hookimpl
def configure(settings):
    globals()["settings"] = settings

@hookimpl
def storability(default):
    return DoNotStore("as configured") if settings["forbid"] else None
"""
    made = plug(source, config=KEPT + "[plugins.probe]\nforbid = true\n")
    reply = made.server.get(origin.url("/configure"))
    assert reply.body == b"data" and "as configured" in status(reply)


def test_hook_configure_that_raises_is_an_error_at_start(tmp_path: Path) -> None:
    source = '@hookimpl\ndef configure(settings):\n    raise ValueError("colour must be one of red, green")\n'
    answer = starting(tmp_path, source, "[plugins.probe]\ncolour = 1\n")
    assert answer.returncode == 2
    assert "buffy.toml: plugins.probe: colour must be one of red, green" in answer.stderr


def starting(tmp_path: Path, source: str, config: str = "") -> subprocess.CompletedProcess[str]:
    """`buffy serve` that is expected to refuse."""
    (tmp_path / "probe.py").write_text(HEAD + source)
    (tmp_path / "buffy.toml").write_text(config)
    words = ["serve", "--config", str(tmp_path / "buffy.toml"), "--data-dir", str(tmp_path / "data")]
    words += ["--proxy", "0", "--api", "0", "--plugin", str(tmp_path / "probe.py")]
    return subprocess.run(
        [sys.executable, "-m", "buffy_proxy", *words], capture_output=True, text=True, timeout=30
    )


# -- policy -------------------------------------------------------------------------------------------------


@BOTH
def test_hook_cache_key(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/key", answers.fixed(b"data"))
    source = """
@hookimpl
def cache_key(request, default):
    return replace(default, url=default.url.partition("?")[0])
"""
    made = plug(source, works=works)
    replies = [made.server.get(origin.url(f"/key?{n}")) for n in range(2)]
    assert [reply.body for reply in replies] == [b"data", b"data"]
    assert ("hit" in status(replies[1])) is works
    if not works:
        made.failed("cache_key")


@BOTH
def test_hook_storability(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/stor", answers.fixed(b"data"))
    source = """
@hookimpl
def storability(response, default):
    return DoNotStore("not this host")
"""
    made = plug(source, works=works)
    replies = [made.server.get(origin.url("/stor")) for _ in range(2)]
    assert [reply.body for reply in replies] == [b"data", b"data"]
    assert ("hit" in status(replies[1])) is not works
    if not works:
        made.failed("storability")


@BOTH
def test_hook_select_version(plug: Plug, origin: Origin, works: bool) -> None:
    """The oldest version instead of the newest."""
    resource = answers.Changing(b"one")
    origin.on("/select", resource)
    source = """
@hookimpl
def select_version(versions, default):
    return versions[-1]
"""
    made = plug(source, works=works)
    url = origin.url("/select")
    made.server.get(url)
    resource.body = b"two"
    refresh(made, url)
    assert made.server.get(url).body == (b"one" if works else b"two")
    if not works:
        made.failed("select_version")


def refresh(made: Plugged, url: str) -> None:
    """`buffy refresh`, until the second version is there."""
    words = ["--data-dir", str(made.server.data_dir), "--config", str(made.server.config_file)]
    run = subprocess.run(
        [sys.executable, "-m", "buffy_proxy", "refresh", *words, url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    shown = [sys.executable, "-m", "buffy_proxy", "show", "--json", *words, url]

    def both() -> bool:
        answer = subprocess.run(shown, capture_output=True, text=True, timeout=60)
        return len(json.loads(answer.stdout)[0]["versions"]) == 2

    waited(both, "the second version")


@BOTH
def test_hook_reuse(plug: Plug, origin: Origin, works: bool) -> None:
    """A stored version that would answer is not used for requests with a certain field."""
    origin.on("/reuse", answers.fixed(b"data"))
    source = """
@hookimpl
def reuse(request, version, default):
    if version is not None and any(name.lower() == b"x-anew" for name, _ in request.fields):
        return Forward("request", "asked for anew")
"""
    made = plug(source, works=works)
    url = origin.url("/reuse")
    made.server.get(url)
    hit, anew = made.server.get(url), made.server.get(url, [("X-Anew", "1")])
    assert (hit.body, anew.body) == (b"data", b"data")
    assert "hit" in status(hit)
    assert ("fwd=request" in status(anew)) is works
    if not works:
        made.failed("reuse")


@BOTH
def test_hook_on_origin_error(plug: Plug, origin: Origin, works: bool) -> None:
    """Where the default would give up (must-revalidate), the stored version answers."""
    resource = answers.Changing(b"data", {"Cache-Control": "max-age=0, must-revalidate"})
    origin.on("/error", resource)
    source = """
@hookimpl
def on_origin_error(version, error, default):
    return UseStored(version) if version is not None and error.status == 503 else None
"""
    made = plug(source, works=works, config="")
    url = origin.url("/error")
    made.server.get(url)
    resource.status = 503
    reply = made.server.get(url)
    assert (reply.status, reply.body) == ((200, b"data") if works else (503, b"oops\n"))
    if not works:
        made.failed("on_origin_error")


@BOTH
def test_hook_is_new_version(plug: Plug, origin: Origin, works: bool) -> None:
    """JSON that differs in a time only."""
    resource = answers.Changing(b'{"value": 1, "at": 1}', validators="")
    origin.on("/json", resource)
    source = """
@hookimpl
def is_new_version(old, new, default):
    before, after = (json.loads(each.read())["value"] for each in (old, new))
    return before != after
"""
    made = plug(source, works=works, config='[[rule]]\nmatch = "http://**"\nstrategy = "when_requested"\n')
    url = origin.url("/json")
    for n in (1, 2, 3):
        resource.body = b'{"value": 1, "at": %d}' % n
        assert made.server.get(url).body == resource.body
    resource.body = b'{"value": 2, "at": 4}'
    made.server.get(url)
    shown = versions(made, url)
    assert len(shown) == 2  # with the plugin the first and the last; without, the two that retention keeps
    sizes = [entry["sha256"] for entry in shown]
    first = content(made, url, shown[-1]["name"])
    assert first == (b'{"value": 1, "at": 1}' if works else b'{"value": 1, "at": 3}')
    assert len(set(sizes)) == 2
    if not works:
        made.failed("is_new_version")


def versions(made: Plugged, url: str) -> list[dict[str, Any]]:
    words = [
        "show",
        "--json",
        "--data-dir",
        str(made.server.data_dir),
        "--config",
        str(made.server.config_file),
    ]
    run = subprocess.run(
        [sys.executable, "-m", "buffy_proxy", *words, url], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout)[0]["versions"]
    return found


def content(made: Plugged, url: str, name: str) -> bytes:
    words = ["get", "--data-dir", str(made.server.data_dir), url, "--version", name]
    run = subprocess.run([sys.executable, "-m", "buffy_proxy", *words], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


@BOTH
def test_hook_retain(plug: Plug, origin: Origin, works: bool) -> None:
    """All versions are kept, though retention says two."""
    resource = answers.Changing(b"0")
    origin.on("/retain", resource)
    source = """
@hookimpl
def retain(versions, default):
    return [version.name for version in versions]
"""
    made = plug(source, works=works, config='[[rule]]\nmatch = "http://**"\nstrategy = "when_requested"\n')
    url = origin.url("/retain")
    for n in range(5):
        resource.body = str(n).encode()
        assert made.server.get(url).body == resource.body
    expected = 5 if works else 2
    waited(lambda: len(versions(made, url)) == expected, f"{expected} versions")
    if not works:
        made.failed("retain")


# -- all-apply ----------------------------------------------------------------------------------------------


@BOTH
def test_hook_origin_request(plug: Plug, origin: Origin, works: bool) -> None:
    """For what the cache asks for, and for what mitmproxy forwards itself (a streamed upload)."""
    origin.on("/edit", echo_token)
    source = """
@hookimpl
def origin_request(method, url, fields):
    return (*fields, (b"X-Token", b"secret"))
"""
    made = plug(source, works=works)
    expected = b"secret" if works else b"none"
    assert made.server.get(origin.url("/edit")).body == expected
    upload = [("Transfer-Encoding", "chunked")]
    posted = made.server.request("POST", origin.url("/edit"), upload, b"3\r\nabc\r\n0\r\n\r\n")
    assert posted.body == expected
    if not works:
        made.failed("origin_request")


async def echo_token(request: Received, peer: Peer) -> None:
    content = (request.get("x-token") or "none").encode()
    await peer.send(answers.head(200, {"Content-Length": str(len(content))}) + content)


# -- events -------------------------------------------------------------------------------------------------


@BOTH
def test_hook_stored(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/stored", answers.fixed(b"data"))
    source = """
@hookimpl
def stored(key, version):
    note(event="stored", url=key.url, size=version.body.size)
"""
    made = plug(source, works=works)
    url = origin.url("/stored")
    assert [made.server.get(url).body for _ in range(2)] == [b"data", b"data"]
    if works:
        made.noted(event="stored", url=url, size=4)
        assert len(made.notes) == 1
    else:
        made.failed("stored")


@BOTH
def test_hook_freshened(plug: Plug, origin: Origin, works: bool) -> None:
    """By a 304, and by the same bytes again."""
    origin.on("/fresh", answers.Changing(b"data", {"Cache-Control": "max-age=0"}))
    origin.on("/same", answers.fixed(b"same", {"Cache-Control": "max-age=0"}))
    source = """
@hookimpl
def freshened(key, version):
    note(event="freshened", url=key.url)
"""
    made = plug(source, works=works, config="")
    for path in ("/fresh", "/same"):
        url = origin.url(path)
        assert len({made.server.get(url).body for _ in range(2)}) == 1
        if works:
            made.noted(event="freshened", url=url)
    if not works:
        made.failed("freshened")


@BOTH
def test_hook_changed(plug: Plug, origin: Origin, works: bool) -> None:
    resource = answers.Changing(b"one")
    origin.on("/changed", resource)
    source = """
context = None
@hookimpl
def changed(key, version, previous):
    note(event="changed", url=key.url, size=version.body.size, before=previous.body.size)
"""
    made = plug(source, works=works, config='[[rule]]\nmatch = "http://**"\nstrategy = "when_requested"\n')
    url = origin.url("/changed")
    made.server.get(url)
    resource.body = b"other"
    assert made.server.get(url).body == b"other"
    assert made.server.get(url).body == b"other"
    if works:
        made.noted(event="changed", url=url, size=5, before=3)
        assert len(made.notes) == 1
    else:
        made.failed("changed")


@BOTH
def test_hook_evicted(plug: Plug, origin: Origin, works: bool) -> None:
    """To make room, and by retention."""
    resource = answers.Changing(b"a" * 1000)
    origin.on("/kept", resource)
    for n in range(4):
        origin.on(f"/big/{n}", answers.fixed(str(n).encode() * 90_000))
    source = """
@hookimpl
def evicted(key, version, reason):
    note(event="evicted", path=key.url.split("/", 3)[3], reason=reason)
"""
    rules = '[[rule]]\nmatch = "**/kept"\nstrategy = "when_requested"\n'
    made = plug(source, works=works, config='max_size = "200 kB"\n' + rules + KEPT)
    for n in range(4):
        resource.body = str(n).encode() * 1000
        assert made.server.get(origin.url("/kept")).body == resource.body
    for n in range(4):
        assert made.server.get(origin.url(f"/big/{n}")).body == str(n).encode() * 90_000
    if works:
        made.noted(event="evicted", path="kept", reason="retention")
        made.noted(event="evicted", reason="space")
    else:
        made.failed("evicted")


@BOTH
def test_hook_served(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/served", answers.fixed(b"data"))
    source = """
@hookimpl
def served(event):
    note(status=event.status, cache_status=event.cache_status, sent=event.sent_bytes, url=event.url)
"""
    made = plug(source, works=works)
    url = origin.url("/served")
    assert [made.server.get(url).body for _ in range(2)] == [b"data", b"data"]
    if works:
        waited(lambda: len(made.notes) == 2, "two events")
        assert [note["url"] for note in made.notes] == [url, url]
        assert made.notes[1]["cache_status"].startswith("buffy; hit") and made.notes[1]["sent"] == 4
    else:
        made.failed("served")


@BOTH
def test_hook_origin_failed(plug: Plug, origin: Origin, works: bool) -> None:
    resource = answers.Changing(b"data", {"Cache-Control": "max-age=0"})
    origin.on("/fails", resource)
    source = """
@hookimpl
def origin_failed(key, error):
    note(url=key.url, word=error.word, status=error.status)
"""
    made = plug(source, works=works, config="")
    url = origin.url("/fails")
    made.server.get(url)
    resource.status = 500
    assert made.server.get(url).body == b"data"
    if works:
        made.noted(url=url, word="http_response_error", status=500)
    else:
        made.failed("origin_failed")


@BOTH
def test_hook_order_finished(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/ordered", answers.fixed(b"data"))
    source = """
@hookimpl
def order_finished(key, order):
    note(url=key.url, status=order.status)
"""
    made = plug(source, works=works)
    url = origin.url("/ordered")
    placed = json.loads(made.api("/v1/request/", {"url": url}, "PUT"))
    name = placed["current_response"]["version"]
    path = f"/v1/request/{placed['id']}/response/v/{name}"
    assert json.loads(made.api(path + "?wait_sec=20"))["status"] == "ready"
    assert made.api(path + "/content") == b"data"
    if works:
        made.noted(url=url, status="ready")
    else:
        made.failed("order_finished")


@BOTH
def test_hook_plugin_failed(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/pf", answers.fixed(b"data"))
    source = """
@hookimpl
def plugin_failed(plugin, hook, error):
    note(plugin=plugin, hook=hook, error=error)
"""
    raising = "\n@hookimpl\ndef stored():\n    1 / 0\n"
    made = plug(source, works=works, also=raising)
    assert made.server.get(origin.url("/pf")).body == b"data"
    if works:
        made.noted(plugin="probe", hook="stored", error="ZeroDivisionError: division by zero")
    made.failed("stored") if works else made.failed("plugin_failed")


# -- extension points ---------------------------------------------------------------------------------------


@BOTH
def test_hook_startup(plug: Plug, origin: Origin, works: bool) -> None:
    """In both processes, before the first request; the context reaches the store."""
    origin.on("/startup", answers.fixed(b"data"))
    source = """
context = None
@hookimpl
def startup(context):
    note(role=context.role, proxy=context.proxy_url, api=context.api_url)
    globals()["context"] = context

@hookimpl
def stored(version):
    note(content=context.content(version).decode(), url=context.resource(version.resource_id).key.url)
"""
    made = plug(source, works=works)
    assert made.server.get(origin.url("/startup")).body == b"data"
    if works:
        host, port = made.server.proxy
        made.noted(role="proxy", proxy=f"http://{host}:{port}")
        made.noted(role="api")
        made.noted(content="data", url=origin.url("/startup"))
    else:
        made.failed("startup")


@BOTH
def test_hook_shutdown(plug: Plug, origin: Origin, works: bool) -> None:
    origin.on("/shutdown", answers.fixed(b"data"))
    source = """
@hookimpl
def shutdown(context):
    note(ended=context.role)
"""
    made = plug(source, works=works)
    assert made.server.get(origin.url("/shutdown")).body == b"data"
    assert made.server.stop() == 0
    if works:
        made.noted(ended="proxy")
        made.noted(ended="api")
    else:
        assert "plugin probe failed in shutdown (RuntimeError: boom)" in made.server.log()


@BOTH
def test_hook_register_commands(plug: Plug, tmp_path: Path, works: bool) -> None:
    source = """
@hookimpl
def register_commands(app):
    @app.command()
    def greet(name: str) -> None:
        print(f"hello {name}")
"""
    made = plug(source, works=works, config=f'plugin_files = ["{tmp_path / "probe.py"}"]\n')
    words = [sys.executable, "-m", "buffy_proxy", "--config", str(made.server.config_file)]
    run = subprocess.run([*words, "probe", "greet", "you"], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout) == ((0, "hello you\n") if works else (2, ""))
    own = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=30)
    assert own.returncode == 0 and "serve" in own.stdout and ("probe" in own.stdout) is works


@BOTH
def test_hook_register_routes(plug: Plug, origin: Origin, works: bool) -> None:
    source = """
@hookimpl
def register_routes(router):
    @router.get("/state")
    def state() -> dict[str, int]:
        return {"answer": 42}
"""
    made = plug(source, works=works)
    described = json.loads(made.api("/openapi.json"))["paths"]
    assert json.loads(made.api("/health"))["status"] == "ok"
    assert ("/plugins/probe/state" in described) is works
    if works:
        assert json.loads(made.api("/plugins/probe/state")) == {"answer": 42}
    else:
        made.failed("register_routes")


@BOTH
def test_hook_register_jobs(plug: Plug, origin: Origin, works: bool) -> None:
    """Every second (croniter's sixth field); a job that raises is counted and goes on."""
    origin.on("/jobs", answers.fixed(b"data"))
    act = "note(job=context.role)" if works else "1 / 0"
    source = f"""
def work(context):
    {act}

@hookimpl
def register_jobs():
    return [Job("tick", "* * * * * */1", work)]
"""
    made = plug(source)
    assert made.server.get(origin.url("/jobs")).body == b"data"
    if works:
        made.noted(job="proxy")
    else:
        made.failed("job tick")


def test_hook_register_jobs_raises(plug: Plug, origin: Origin) -> None:
    origin.on("/jobs", answers.fixed(b"data"))
    made = plug("@hookimpl\ndef register_jobs():\n    pass\n", works=False)
    assert made.server.get(origin.url("/jobs")).body == b"data"
    made.failed("register_jobs")


def test_every_hook_has_its_test() -> None:
    tested = {name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")}
    assert HOOKS - tested == set()


def test_commands_know_the_plugins_of_the_running_server(plug: Plug, origin: Origin) -> None:
    """The plugin was named on the server's command line only; a rule and a table are about it."""
    origin.on("/known", answers.fixed(b"data"))
    source = """
@dataclass(frozen=True)
class Probe(BaseStrategy):
    strategy_name = "probe"
    def fresh_until(self, version, now, url):
        return math.inf

@hookimpl
def register_strategies():
    return [Probe]

@hookimpl
def configure(settings):
    pass
"""
    config = '[[rule]]\nmatch = "http://**"\nstrategy = "probe"\n[plugins.probe]\na = 1\n'
    made = plug(source, config=config)
    url = origin.url("/known")
    made.server.get(url)
    words = ["--data-dir", str(made.server.data_dir), "--config", str(made.server.config_file)]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "buffy_proxy", *command, *words]
        return subprocess.run(whole, capture_output=True, text=True, timeout=60)

    assert "Strategy `probe`" in run("why", url).stdout
    assert run("plugins").stdout.startswith("probe ")
    made.server.stop()
    ended = run("why", url)
    assert ended.returncode == 2 and "plugins.probe: there is no such plugin" in ended.stderr
