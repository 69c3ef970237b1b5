"""`requests`' own tests through Buffy, where a package index can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.requests_suite.run import NoIndex, compare

pytestmark = [pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_nothing_fails_that_passes_directly(tmp_path: Path) -> None:
    try:
        verdict = compare(tmp_path)
    except NoIndex as reason:
        pytest.skip(f"no package index: {reason}")
    assert len(verdict.direct) > 500
    assert verdict.lost == []
    assert verdict.needless == []
