"""plugins/README.md: a paragraph for each plugin, and every configuration in it is one."""

from __future__ import annotations

import re
from pathlib import Path

from buffy_proxy.config import load
from tests.support.procs import ROOT

TEXT = (ROOT / "plugins" / "README.md").read_text()
FILES = sorted(path for path in (ROOT / "plugins").glob("*.py"))


def test_each_has_its_paragraph_and_a_version() -> None:
    assert sorted(re.findall(r"^## (\w+)$", TEXT, re.MULTILINE)) == [path.stem for path in FILES]
    assert all('__version__ = "1.' in path.read_text() for path in FILES)


def test_the_configurations_work_together(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == len(FILES)
    (tmp_path / "buffy.toml").write_text("\n".join(sorted(blocks, key=lambda block: "[[rule]]" in block)))
    config = load(tmp_path / "buffy.toml", environ={}, data_dir=tmp_path, plugin_files=FILES)
    assert [one.name for one in config.plugins.loaded] == [path.stem for path in FILES]
    assert len(config.rules) == 3


def test_without_a_configuration_they_change_nothing(tmp_path: Path) -> None:
    config = load(None, environ={}, data_dir=tmp_path, plugin_files=FILES)
    assert not config.rules and len(config.plugins.loaded) == 6
