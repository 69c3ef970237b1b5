"""Buffy's decisions against those of npm's http-cache-semantics, in some thousand cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.oracle import node, ours
from tests.core.oracle.cases import Case, cases
from tests.core.oracle.differences import DIFFERENCES, NEEDS, Decisions, Row

pytestmark = pytest.mark.registry

Compared = tuple[str, Case, Any, Any]
"""Aspect, case, our value and npm's."""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[Compared]:
    every = list(cases(seed=9111, count=15000))
    theirs = node.decisions(node.install(tmp_path_factory.mktemp("npm")), every)
    return [c for case, npm in zip(every, theirs, strict=True) for c in comparable(case, npm)]


def comparable(case: Case, npm: Decisions) -> Iterator[Compared]:
    """The aspects that can be compared in a case; see NEEDS."""
    mine = ours.decisions(case)
    if "freshened" in mine:  # Date and Age are those of the message; their effect is compared
        mine["freshened"], npm["freshened"] = map(without_times, (mine["freshened"], npm["freshened"]))
    for aspect, needs in NEEDS.items():
        decided = mine.get(aspect) is not None and npm[aspect] is not None
        if decided and all(mine.get(n) == npm[n] for n in needs):
            yield aspect, case, mine[aspect], npm[aspect]


def without_times(fields: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name not in ("date", "age")}


def explanations(aspect: str, case: Case, mine: Any, npm: Any) -> list[Row]:
    return [row for row in DIFFERENCES if aspect in row.aspects and row.explains(case, mine, npm)]


def differing(compared: list[Compared]) -> Iterator[Compared]:
    return (c for c in compared if c[2] != c[3])


def test_every_difference_is_known(compared: list[Compared]) -> None:
    unknown = [c for c in differing(compared) if not explanations(*c)]
    shown = "\n".join(
        f"{aspect}: ours {mine}, npm's {npm}: {case}" for aspect, case, mine, npm in unknown[:5]
    )
    assert not unknown, f"{len(unknown)} differences that no row explains, such as\n{shown}"


def test_every_row_is_needed(compared: list[Compared]) -> None:
    """Each row is the only explanation of some difference."""
    needed = Counter(rows[0] for c in differing(compared) if len(rows := explanations(*c)) == 1)
    idle = [f"{row.clause}: {row.reason}" for row in DIFFERENCES if not needed[row]]
    assert not idle, "these rows of the table explain nothing that others do not:\n" + "\n".join(idle)


@pytest.mark.parametrize("aspect", NEEDS)
def test_enough_is_compared(compared: list[Compared], aspect: str) -> None:
    """Most values are the same, and both outcomes of each decision occur among those: else the comparison
    would prove little."""
    pairs = [(mine, npm) for a, _, mine, npm in compared if a == aspect]
    same = [mine for mine, npm in pairs if mine == npm]
    assert len(same) > 500
    assert len({str(value) for value in same}) > 1
