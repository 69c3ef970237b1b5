"""docs/plugins.md against the code: every hook with its signature, every example loads, the tutorial runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffy_proxy import hookspecs
from buffy_proxy.plugins import PluginOptions, load_plugins
from buffy_proxy.plugins.loading import HOOKS
from tests.support.procs import ROOT, clean_env

TEXT = (ROOT / "docs" / "plugins.md").read_text()
EXAMPLES = {
    match[1]: match[2]
    for match in re.finditer(r"```python\n# (?:plugins/)?(\w+\.py)\n(.*?)```", TEXT, re.DOTALL)
}
PLUGINS = {name: code for name, code in EXAMPLES.items() if "@hookimpl" in code}


def signatures() -> dict[str, str]:
    tree = ast.parse(Path(hookspecs.__file__).read_text())
    return {
        node.name: f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.returns is not None
    }


def test_every_hook_is_documented_with_its_exact_signature() -> None:
    documented = re.findall(r"^#### `(.+)`$", TEXT, re.MULTILINE)
    assert sorted(documented) == sorted(signatures().values())
    assert set(signatures()) == HOOKS


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_examples_are_plugins_that_load(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(PLUGINS[name])
    (one,) = load_plugins(PluginOptions(files=(file,))).loaded
    assert one.hooks and not one.problem


def test_there_are_no_other_blocks_of_python() -> None:
    assert len(re.findall("```python", TEXT)) == len(EXAMPLES)


# -- the tutorial, step by step -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Steps 1 and 2; what step 4 starts runs until the end."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mondays.py").write_text(EXAMPLES["mondays.py"])
    (tmp_path / "first.py").write_text(EXAMPLES["first.py"])
    rule = re.search(r"make `buffy\.toml`:\n\n```toml\n(.*?)```", TEXT, re.DOTALL)
    assert rule is not None
    (tmp_path / "buffy.toml").write_text(rule[1])
    started: list[subprocess.Popen[bytes]] = []
    for command in ([sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"],):
        with (tmp_path / "origin.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    command, cwd=tmp_path, stdout=log, stderr=log, env=clean_env(PYTHONUNBUFFERED="1")
                )
            )
    yield tmp_path
    for process in started:
        process.terminate()
        process.wait(10)


def test_the_tutorial(folder: Path) -> None:
    """As written, but for the ports, which may be taken on a machine that runs tests."""
    origin = found(folder / "origin.log", r"port (\d+)")
    for file in ("buffy.toml", "first.py"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace("8999", origin))
    assert re.search(
        console(r"buffy plugins --config buffy\.toml"), buffy(folder, "plugins", "--config", "buffy.toml")
    )

    serve = [sys.executable, "-m", "buffy_proxy", "serve", "--config", "buffy.toml", "--data-dir", "data"]
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [*serve, "--proxy", "0", "--api", "0"], cwd=folder, stdout=log, stderr=log, env=clean_env()
        )
    try:
        proxy = found(folder / "serve.log", r"proxy:\s+http://127\.0\.0\.1:(\d+)")
        api = found(folder / "serve.log", r"api:\s+http://127\.0\.0\.1:(\d+)")
        url = f"http://127.0.0.1:{origin}/buffy.toml"
        curl = ["curl", "-sS", "-m", "20", "--noproxy", "", "-x", f"http://127.0.0.1:{proxy}", url]
        run = subprocess.run(curl, capture_output=True, text=True, timeout=30, env=clean_env())
        assert "mondays" in run.stdout
        why = buffy(folder, "why", "--config", "buffy.toml", "--data-dir", "data", url)
        assert "is fresh" in why and "Strategy `mondays` by rule 1" in why
        script = (folder / "first.py").read_text().replace("8008", api)
        (folder / "first.py").write_text(script)
        client = subprocess.run(
            [sys.executable, "first.py"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_env(),
        )
        assert client.stdout == f"{len(script)} bytes\n", client.stderr
        ordered = buffy(
            folder,
            "why",
            "--config",
            "buffy.toml",
            "--data-dir",
            "data",
            url.replace("buffy.toml", "first.py"),
        )
        assert "Strategy `mondays` by its order" in ordered
    finally:
        server.terminate()
        server.wait(15)


def console(command: str) -> str:
    """What the page shows under a command, as a pattern: … stands for anything."""
    shown = re.search(rf"\$ {command}\n(.*?)(?:\$ |```)", TEXT, re.DOTALL)
    assert shown is not None
    return re.escape(shown[1].strip()).replace("…", ".*")


def buffy(folder: Path, *words: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "buffy_proxy", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_env(),
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def found(file: Path, pattern: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if match := re.search(pattern, file.read_text()):
            return match[1]
        time.sleep(0.05)
    raise AssertionError(f"{pattern} is not in {file.read_text()}")
