"""Posts: what they say, when they are tried again, and when not."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from typing import Any

import pytest

from buffy_proxy.errors import ConfigError
from buffy_proxy.testing import Origin, RunningBuffy, make_key, make_version, wait_until
from tests.plugins.kit import loaded, module, plugin_file

KEY = make_key("https://data.example.org/a.csv?token=hush")
OLD, NEW = make_version(b"old", name="00000000001"), make_version(b"newer", name="00000000002")


def tell_at(url: str) -> None:
    hook = loaded("webhook", url=url, timeout=60, attempts=1).hook("changed")
    (one,) = hook
    hook.call(one, {"key": KEY, "version": NEW, "previous": OLD})


def tell(origin: Origin, event: str = "changed", **settings: Any) -> None:
    """One event, with pauses that tests can wait for."""
    plugins = loaded("webhook", url=origin.url("/hook"), **settings)
    module("webhook").FIRST_PAUSE_S = 0.01
    (one,) = plugins.hook(event)
    arguments = {"key": KEY, "version": NEW, "previous": OLD, "plugin": "x", "hook": "stored", "error": "E"}
    plugins.hook(event).call(one, arguments)
    assert plugins.failures.total == 0


def test_what_a_post_says(origin: Origin) -> None:
    route = origin.serve("/hook", status=204)
    tell(origin)
    (request,) = route.requests
    said = json.loads(request.body)
    assert abs(said.pop("at") - time.time()) < 60
    assert said == {
        "event": "changed",
        "url": KEY.url,
        "group": "DEFAULT_GROUP",
        "version": "00000000002",
        "sha256": hashlib.sha256(b"newer").hexdigest(),
        "size": 5,
        "status": 200,
        "previous": "00000000001",
    }
    assert "hush" not in KEY.url
    assert (request.method, request.get("content-type")) == ("POST", "application/json")
    assert request.get("x-buffy-signature") is None


def test_a_secret_signs_it(origin: Origin) -> None:
    route = origin.serve("/hook")
    tell(origin, secret="salt")
    (request,) = route.requests
    expected = hmac.new(b"salt", request.body, "sha256").hexdigest()
    assert request.get("x-buffy-signature") == f"sha256={expected}"


def test_only_what_was_asked_for(origin: Origin) -> None:
    route = origin.serve("/hook")
    tell(origin, "stored")  # not among the events
    tell(origin, match="https://other.example.org/**")
    tell(origin, "plugin_failed", events=["stored"])
    assert route.count == 0
    tell(origin, "stored", events=["stored", "changed"], match="https://data.example.org/**")
    tell(origin, "plugin_failed", events=["plugin_failed"], match="https://other.example.org/**")
    assert [json.loads(request.body)["event"] for request in route.requests] == ["stored", "plugin_failed"]


PASSING = [503, 500, 429, 408, "close"]


@pytest.mark.parametrize("failure", PASSING)
def test_it_is_tried_again(origin: Origin, failure: Any, caplog: pytest.LogCaptureFixture) -> None:
    route = origin.serve("/hook")
    route.fail(failure)

    def recover() -> None:
        route.wait(2)
        route.recover()

    threading.Thread(target=recover, daemon=True).start()
    tell(origin, attempts=10)
    assert route.count > 1 and "given up" not in caplog.text


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
def test_a_refusal_stands(origin: Origin, status: int, caplog: pytest.LogCaptureFixture) -> None:
    route = origin.serve("/hook")
    route.fail(status)
    tell(origin, attempts=3)
    assert route.count == 1
    assert f"given up: it answered {status}" in caplog.text


def test_it_gives_up_with_a_line(origin: Origin, caplog: pytest.LogCaptureFixture) -> None:
    route = origin.serve("/hook")
    route.fail(503)
    caplog.set_level(logging.ERROR)
    tell(origin, attempts=3)
    assert route.count == 3
    assert "changed of https://data.example.org/a.csv" in caplog.text
    assert "told to 127.0.0.1, given up: it answered 503" in caplog.text


def test_the_log_does_not_hold_the_address(caplog: pytest.LogCaptureFixture) -> None:
    """The path of such URLs is often the only secret that keeps others from posting."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    hook = loaded("webhook", url=f"http://127.0.0.1:{port}/hooks/T0-hush", attempts=1).hook("changed")
    (one,) = hook
    hook.call(one, {"key": KEY, "version": NEW, "previous": OLD})
    assert "given up: no answer (ConnectionError)" in caplog.text
    assert "hush" not in caplog.text


def test_content_without_end_is_not_waited_for() -> None:
    """A head says that it is taken; only the head is read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        teller = threading.Thread(target=tell_at, args=(url,), daemon=True)
        teller.start()
        server.settimeout(10)
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            teller.join(10)
            assert not teller.is_alive()  # long before its timeout


def test_retry_after_is_followed(origin: Origin) -> None:
    """Longer than the pauses that the test set."""
    route = origin.serve("/hook", fields={"Retry-After": "1"}, status=503)
    started = time.monotonic()
    tell(origin, attempts=2)
    assert route.count == 2 and time.monotonic() - started >= 0.9


REFUSED = [
    ({}, None),
    ({"url": "ftp://x"}, "url: must be an http or https URL, not 'ftp://x'"),
    ({"events": ["changed"]}, "url: must be an http or https URL, not ''"),
    ({"url": "http://x", "events": ["change"]}, "events: must be some of stored, freshened, changed"),
    ({"url": "http://x", "events": []}, "events: must be some of"),
    ({"url": "http://x", "events": [["changed"]]}, "events: must be some of"),
    ({"url": "http://x", "attempts": 0}, "attempts: must be a number from 1 up, not 0"),
    ({"url": "http://x", "secret": 3}, "secret: must be a text, not 3"),
    ({"url": "http://x", "retries": 3}, "retries: unknown key; allowed are url, events"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_is_refused(settings: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert loaded("webhook").loaded[0].name == "webhook"
        return
    with pytest.raises(ConfigError) as refused:
        loaded("webhook", **settings)
    assert message in str(refused.value)


def test_a_change_in_a_running_buffy(origin: Origin) -> None:
    """Not the first version, nor the same again: the change. A post that is being retried holds no end up."""
    hook = origin.serve("/hook")
    config = f"""
[[rule]]
match = "**/data"
strategy = "when_requested"

[plugins.webhook]
url = "{hook.url}"
match = "**/data"
"""
    route = origin.serve("/data", b"one", {"ETag": None})
    with RunningBuffy(config, plugins=[plugin_file("webhook")]) as buffy:
        for body in (b"one", b"one", b"two"):
            route.body = body
            assert buffy.get(route.url).content == body
        said = json.loads(hook.wait(1).body)
        assert (said["event"], said["url"], said["size"]) == ("changed", route.url, 3)
        assert hook.count == 1
        hook.fail(503)
        route.body = b"three"
        buffy.get(route.url)
        hook.wait(2)
        started = time.monotonic()
        buffy.stop()
        assert time.monotonic() - started < 8
        wait_until(lambda: "is not told" in buffy.log, 5.0, "the line that says what was left")
