"""The same prompt is asked once: JSON and streams, in the usual dialects, against a scripted model."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from buffy_proxy.testing import RunningBuffy, make_version, wait_until
from tests.plugins.kit import loaded, module, plugin_file
from tests.support import answers
from tests.support.origin import Origin, Peer, Received

OPENAI = [
    b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "lo"}}]}\n\n',
    b"data: [DONE]\n\n",
]
ANTHROPIC = [
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": {"text": "Hel"}}\n\n',
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": {"text": "lo"}}\n\n',
    b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
]
PROMPT = {"model": "m-1", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}


NUMBERS = itertools.count()


class Model:
    """Streams events with pauses; `asked` are the requests."""

    def __init__(self) -> None:
        self.asked: list[Received] = []
        self.events = OPENAI
        self.pause_s = 0.0
        self.status = 200
        self.down = False

    async def __call__(self, request: Received, peer: Peer) -> None:
        self.asked.append(request)
        if self.down:
            await peer.send(answers.head(503, {"Content-Length": "0"}))
            return
        if not json.loads(request.body).get("stream"):
            content = b'{"choices": [{"message": {"content": "Hello"}}]}'
            fields = {"Content-Type": "application/json", "Content-Length": str(len(content))}
            await peer.send(answers.head(self.status, {**fields, "Cache-Control": "no-store"}) + content)
            return
        fields = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        await peer.send(answers.head(self.status, {**fields, "Cache-Control": "no-cache"}))
        for event in self.events:
            await peer.send(answers.chunk(event))
            await asyncio.sleep(self.pause_s)
        await peer.send(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def llm() -> Iterator[Origin]:
    made = Origin()
    yield made
    made.shut_down()


@pytest.fixture(scope="module")
def running(llm: Origin) -> Iterator[RunningBuffy]:
    rule = """
[[rule]]
match = "http://127.0.0.1*/v1/**"
methods = ["POST"]
strategy = { strategy_name = "llm_calls", ignore = ["user"] }
"""
    with RunningBuffy(rule, plugins=[plugin_file("llm_calls")]) as made:
        yield made


@pytest.fixture
def url(llm: Origin) -> str:
    """One of its own for each test."""
    return llm.url(f"/v1/{next(NUMBERS)}")


@pytest.fixture
def model(llm: Origin, url: str) -> Model:
    made = Model()
    llm.on("/v1/" + url.rpartition("/")[2], made)
    return made


def ask(
    buffy: RunningBuffy, url: str, prompt: Any, key: str = "sk-1", more: Any = (), **options: Any
) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}", **dict(more)}
    content = prompt if isinstance(prompt, bytes) else json.dumps(prompt).encode()
    return buffy.session().post(url, content, headers=headers, **options)


@pytest.mark.parametrize("events", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_a_stream_is_played_again(running: RunningBuffy, model: Model, url: str, events: list[bytes]) -> None:
    model.events = events
    replies = [ask(running, url, PROMPT) for _ in range(3)]
    assert {reply.content for reply in replies} == {b"".join(events)}
    assert {reply.headers["Content-Type"] for reply in replies} == {"text/event-stream"}
    assert len(model.asked) == 1 and "hit" in replies[2].headers["Cache-Status"]


def test_the_first_time_events_come_as_they_are_made(running: RunningBuffy, model: Model, url: str) -> None:
    """Not held back until the answer is whole."""
    model.pause_s = 1.0
    started = time.monotonic()
    reply = ask(running, url, PROMPT, stream=True)
    chunks = reply.iter_content(None)
    assert next(chunks) == OPENAI[0] and time.monotonic() - started < 2.5
    assert b"".join(chunks) == b"".join(OPENAI[1:])


def test_the_request_is_a_value(running: RunningBuffy, model: Model, url: str) -> None:
    prompt = {"model": "m-1", "messages": [], "temperature": 0, "user": "me"}
    spelled = b'{ "temperature": 0,\n "messages": [], "model": "m-1", "user": "somebody else" }'
    assert ask(running, url, prompt).json() == ask(running, url, spelled).json()
    assert len(model.asked) == 1
    compact = json.dumps({"messages": [], "model": "m-1", "temperature": 0}, separators=(",", ":")).encode()
    ask(running, url, compact)  # already written as the key writes it
    assert len(model.asked) == 1
    for other in ({"model": "m-2"}, {"temperature": 1}, {"messages": [{"role": "user"}]}, {"stream": True}):
        ask(running, url, {**prompt, **other})
    assert len(model.asked) == 5


def test_each_credential_has_its_own(running: RunningBuffy, model: Model, url: str) -> None:
    for key in ("sk-1", "sk-2", "sk-1"):
        assert ask(running, url, PROMPT, key).status_code == 200
    assert [request.get("authorization") for request in model.asked] == ["Bearer sk-1", "Bearer sk-2"]


def test_the_version_of_the_api_counts(running: RunningBuffy, model: Model, url: str) -> None:
    for version in ("2023-06-01", "2026-01-01", "2023-06-01"):
        ask(running, url, PROMPT, more={"anthropic-version": version, "X-Request-Id": f"{time.monotonic()}"})
    assert [request.get("anthropic-version") for request in model.asked] == ["2023-06-01", "2026-01-01"]


def test_failures_are_not_kept(running: RunningBuffy, model: Model, url: str) -> None:
    model.status = 429
    assert [ask(running, url, PROMPT).status_code for _ in range(2)] == [429, 429]
    model.status = 200
    wait_until(lambda: "hit" in ask(running, url, PROMPT).headers["Cache-Status"], 10.0, "a hit")
    assert len(model.asked) >= 3


BROKEN = {
    "without its end": OPENAI[:1],
    "an error": [OPENAI[0], b'data: {"error": {"message": "overloaded"}}\n\n', OPENAI[2]],
    "an error event": [ANTHROPIC[0], b"event: error\ndata: {}\n\n", ANTHROPIC[2]],
}


@pytest.mark.parametrize("events", BROKEN.values(), ids=BROKEN)
def test_what_broke_off_is_not_used_again(
    running: RunningBuffy, model: Model, url: str, events: list[bytes]
) -> None:
    model.events = events
    assert ask(running, url, PROMPT).content == b"".join(events)
    model.events = OPENAI
    assert [ask(running, url, PROMPT).content for _ in range(2)] == [b"".join(OPENAI)] * 2
    assert len(model.asked) == 2


def test_what_broke_off_is_no_fallback(running: RunningBuffy, model: Model, url: str) -> None:
    model.events = OPENAI[:1]
    ask(running, url, PROMPT)
    model.down = True
    assert ask(running, url, PROMPT).status_code == 503


def test_what_no_rule_names_is_passed_on(llm: Origin, running: RunningBuffy) -> None:
    model = Model()
    llm.on("/other", model)
    for _ in range(2):
        assert ask(running, llm.url("/other"), PROMPT).content == b"".join(OPENAI)
    assert len(model.asked) == 2


WHOLE = [
    (
        b'event: error\ndata: {"type":"error"}\n\nevent: message_stop\ndata: {}\n\n',
        "text/event-stream",
        False,
    ),
    (b'data:{"error":{"code":1}}\n\ndata:[DONE]\n\n', "text/event-stream", False),
    (b'data: {"type":"message_stop"}\n\n', "text/event-stream", True),
    (b"event: response.incomplete\ndata: {}\n\n", "text/event-stream", True),
    (b'data: {"error": null}\r\n\r\ndata: [DONE]\r\n\r\n', "text/event-stream", True),
    (b'data: {"text": "data: [DONE]"}\n\n', "text/event-stream", False),
    (
        b'data: {"choices": [{"delta": {"content": "\\"error\\""}}]}\n\ndata: [DONE]\n\n',
        "text/event-stream",
        True,
    ),
    (b"".join(OPENAI), "text/event-stream", True),
    (b"".join(ANTHROPIC), "text/event-stream; charset=utf-8", True),
    (b"event: response.completed\ndata: {}\n\n", "text/event-stream", True),
    (b"event: response.failed\ndata: {}\n\ndata: [DONE]\n\n", "text/event-stream", False),
    (b"".join(OPENAI[:2]), "text/event-stream", False),
    (b"", "text/event-stream", False),
    (b'{"choices": []}', "application/json", True),
    (b'{"error": {"message": "no"}}', "application/json", False),
    (b'{"error": null, "output": []}', "application/json", True),
    (b'{"choices": [', "application/json", False),
]


@pytest.mark.parametrize(("content", "kind", "expected"), WHOLE)
def test_what_is_whole(content: bytes, kind: str, expected: bool) -> None:
    loaded("llm_calls")
    version = make_version(content, fields={"Content-Type": kind})
    assert module("llm_calls").is_whole(content, version) is expected
    coded = make_version(content, fields={"Content-Type": kind, "Content-Encoding": "gzip"})
    assert module("llm_calls").is_whole(gzip.compress(content), coded) is expected
    assert module("llm_calls").is_whole(b"no gzip", coded) is False


def test_parameters() -> None:
    plugins = loaded("llm_calls")
    made = plugins.strategy({"strategy_name": "llm_calls", "seconds": 60})
    assert made.plan(make_version(at=100.0), 100.0).fresh_until == 160.0
    with pytest.raises(ValueError, match="ignore: 3 is no name of a field"):
        plugins.strategy({"strategy_name": "llm_calls", "ignore": [3]})
    with pytest.raises(ValueError, match="'stream' decides"):
        plugins.strategy({"strategy_name": "llm_calls", "ignore": ["stream"]})
