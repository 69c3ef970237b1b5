"""Every example of docs/client.md, run one after the other in one program."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest

from buffy_client import BuffyPyClient, ReCachingStrategy, RequestCacheConfiguration
from tests.client.conftest import address
from tests.support.answers import FRESH, fixed
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import ROOT

PAGE = (ROOT / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
FACTS = b'{"cats": ["purr"]}'
DATA = b"year,figure\n2026,1\n"


@pytest.fixture
def page(server: Buffy, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The place where the examples run: their server, their origin, their directory."""
    (tmp_path / "downloads").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUFFY_SERVER_URL", address(server))
    origin.on("/facts.json", fixed(FACTS, {**FRESH, "Content-Type": "application/json"}))
    origin.on("/data.csv", fixed(DATA, {**FRESH, "Content-Type": "text/csv"}))
    origin.on("/search", fixed(b"[]", {"Content-Type": "application/json"}))
    return {}


def adapted(example: str, origin: Origin) -> str:
    """Names in place of ports that a test cannot have, and of hosts that it must not ask."""
    here = example.replace('"https://example.org/', f'"{origin.url("/")}')
    here = here.replace("BuffyPyClient()", "BuffyPyClient.from_env()")
    return here.replace("BuffyPyClient(group_name=", "BuffyPyClient.from_env(")


def test_the_examples_of_the_page(
    page: dict[str, object],
    origin: Origin,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(EXAMPLES) == PAGE.count("```python") >= 11
    for number, example in enumerate(EXAMPLES, 1):
        exec(compile(adapted(example, origin), f"example {number}", "exec"), page)
    printed = capsys.readouterr().out
    assert printed.startswith("downloads/data.csv\n{'cats': ['purr']}\nfacts.json\n3601\n")
    assert "no Buffy server answers" in printed and caplog.text.count("no Buffy server answers") == 1
    files = {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*.*")}
    assert files == {
        "downloads/data.csv": DATA,
        "downloads/facts.json": FACTS,
        "facts.json": FACTS,
        "copy.json": FACTS,
        "same-as-then.csv": DATA,
        "data.csv": DATA,
    }
    assert page["content"] == DATA
    sent = origin.wait("/search")  # ordered, and fetched in the background
    assert (sent.method, sent.query, json.loads(sent.body)) == ("POST", "page=1", {"term": "cats"})
    with contextlib.closing(BuffyPyClient.from_env("my-experiment")) as mine:
        request = mine.create_request(origin.url("/data.csv"))
        assert [one.tags for one in request.list_cached_versions()] == [("only-here",)]


def test_three_versions_are_kept(client: BuffyPyClient, origin: Origin, path: str) -> None:
    """The age strategy with 3601 s and 3 versions: the configuration is in force, not only stored."""
    body = [b"0"]
    url = origin.on(path, lambda request, peer: fixed(body[0], FRESH)(request, peer))
    kept = 3
    for number in range(5):
        body[0] = str(number).encode()
        config = RequestCacheConfiguration(ReCachingStrategy.when_requested(), kept)
        request = client.create_request(url, cache_configuration=config)
        assert b"".join(request.download_response_content()) == body[0]
    request.cache_configuration = RequestCacheConfiguration(ReCachingStrategy.age(seconds=3601), kept)
    hits = origin.hits(path)
    assert b"".join(client.create_request(url).download_response_content()) == b"4"
    assert origin.hits(path) == hits
    found = request.list_cached_versions()
    bodies = []
    for one in found:
        request.force_version = one.version
        bodies.append(b"".join(request.download_response_content()))
    assert bodies == [b"4", b"3", b"2"]
