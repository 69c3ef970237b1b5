"""Imports only go down: the house of docs/architecture.md, proved with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    p.relative_to(ROOT) for d in ("buffy_proxy", "buffy_client") for p in (ROOT / d).rglob("*.py")
)

# What lies under the folder may import of our own packages only these prefixes.
MAY_IMPORT = {
    "buffy_proxy/core": ("buffy_proxy.core",),
    "buffy_proxy/store": ("buffy_proxy.core", "buffy_proxy.store", "buffy_proxy.errors"),
    "buffy_client": ("buffy_client",),
}
# Only what lies under the folder may import these packages.
RESERVED = {
    "mitmproxy": "buffy_proxy/addons",
    "fastapi": "buffy_proxy/control_api",
    "lmdb": "buffy_proxy/store",
}
IMPURE = {"os", "pathlib", "socket", "asyncio", "random", "secrets", "logging", "threading", "requests"}
CLOCKS = {"time.time", "time.monotonic", "datetime.now", "datetime.utcnow", "datetime.today"}


def imports(source: Path) -> Iterator[str]:
    """The full names of all modules a file imports, wherever in it. `from a import b` counts as a.b, too."""
    package = ".".join(source.parts[:-1])
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(source.parts) - node.level] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def under(source: Path, folder: str) -> bool:
    return source.is_relative_to(folder)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_imports_go_down(source: Path) -> None:
    for name in imports(source):
        for folder, allowed in MAY_IMPORT.items():
            if under(source, folder) and name.startswith(("buffy_proxy", "buffy_client")):
                assert any(within(name, prefix) for prefix in allowed), f"{source} imports {name}"
        for package, folder in RESERVED.items():
            if within(name, package):
                assert under(source, folder), f"{source} imports {name}"


@pytest.mark.parametrize("source", [s for s in SOURCES if under(s, "buffy_proxy/core")], ids=str)
def test_the_core_is_pure(source: Path) -> None:
    """No socket, file, clock, random or logger; `time` and `datetime` may convert, not tell the time."""
    tree = ast.parse((ROOT / source).read_text())
    used = {
        f"{n.value.id}.{n.attr}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    assert not used & CLOCKS
    assert not {name.partition(".")[0] for name in imports(source)} & IMPURE
    assert "open" not in {
        n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }


def test_the_house_is_not_empty() -> None:
    """Else the tables above would prove nothing."""
    assert {"core", "store"} <= {
        s.parts[1] for s in SOURCES if len(s.parts) > 2 and s.parts[0] == "buffy_proxy"
    }
    assert "buffy_proxy.core.model.Version" in set(imports(Path("buffy_proxy/core/rules.py")))
