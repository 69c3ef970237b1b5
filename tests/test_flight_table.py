"""The table that workers share: who may claim what, also when many processes want the same at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from buffy_proxy.flight_table import MARKS, NEIGHBOURS, SLOTS, FlightTable, make_table
from tests.support.procs import clean_env


@pytest.fixture
def fd() -> Iterator[int]:
    made = make_table()
    yield made
    os.close(made)


def process(fd: int, code: str, *args: object) -> subprocess.Popen[str]:
    """A process that shares the table; `fd` and `args` are its sys.argv."""
    command = [sys.executable, "-c", code, str(fd), *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, pass_fds=[fd], stdin=pipe, stdout=pipe, text=True, env=clean_env())


def test_who_comes_first_has_it_until_it_is_given_back(fd: int) -> None:
    one, two = FlightTable(fd, 1), FlightTable(fd, 2)
    assert (one.claim("a"), two.claim("a"), one.claim("a")) == (1, 1, 1)
    assert two.claim("b") == 2
    two.release("a")  # is not its own
    assert two.claim("a") == 1
    one.release("a")
    assert (two.claim("a"), one.claim("a"), one.claim("b")) == (2, 2, 2)


def test_what_a_dead_worker_had_is_free_for_all(fd: int) -> None:
    one, two = FlightTable(fd, 1), FlightTable(fd, 2)
    assert [one.claim(str(n)) for n in range(500)] == [1] * 500
    assert two.claim("mine") == 2
    FlightTable(fd, 0).clear(1)
    assert [two.claim(str(n)) for n in range(500)] == [2] * 500
    assert one.claim("mine") == 2
    one.release("mine", 2)  # found dead by whoever asked it
    assert one.claim("mine") == 1


def test_where_there_is_no_room_nobody_has_it(fd: int) -> None:
    one, two = FlightTable(fd, 1), FlightTable(fd, 2)
    claimed = [n for n in range(2 * SLOTS) if one.claim(str(n)) == 1]
    assert SLOTS // 2 < len(claimed) <= SLOTS
    assert {two.claim(str(n)) for n in claimed} == {1}
    lost = next(n for n in range(2 * SLOTS) if one.claim(str(n)) is None)
    assert two.claim(str(lost)) is None
    two.release(str(lost))
    for n in claimed:
        one.release(str(n))
    assert two.claim(str(lost)) == 2


def test_a_few_at_once_always_find_room(fd: int) -> None:
    """As many flights as a busy server has: no neighbourhood comes near its end."""
    one = FlightTable(fd, 1)
    assert [one.claim(f"resource {n}") for n in range(SLOTS // NEIGHBOURS)] == [1] * (SLOTS // NEIGHBOURS)


def test_a_mark_changes_for_all_and_for_no_other_resource(fd: int) -> None:
    one, two = FlightTable(fd, 1), FlightTable(fd, 2)
    before = {n: two.mark(str(n)) for n in range(50)}
    one.outdate("7")
    changed = [n for n in before if two.mark(str(n)) != before[n]]
    assert 7 in changed and len(changed) <= 1 + 50 * 50 // MARKS
    again = two.mark("7")
    two.outdate("7")
    assert one.mark("7") != again


CLAIMER = """
import sys
from buffy_proxy.flight_table import FlightTable
table = FlightTable(int(sys.argv[1]), int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(*(table.claim(str(n)) for n in range(3000)), flush=True)
sys.stdin.readline()
for n in range(3000):
    table.release(str(n))
    table.outdate("one")
"""


def line(each: subprocess.Popen[str]) -> str:
    assert each.stdout is not None
    return each.stdout.readline().strip()


def go(running: list[subprocess.Popen[str]]) -> None:
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()


def test_of_many_processes_exactly_one_has_each(fd: int) -> None:
    table = FlightTable(fd, 9)
    before = table.mark("one")
    running = [process(fd, CLAIMER, number) for number in range(1, 5)]
    assert [line(each) for each in running] == ["ready"] * 4
    go(running)
    said = [line(each).split() for each in running]
    assert len(said[0]) == 3000 and said[0] == said[1] == said[2] == said[3]
    go(running)
    assert [each.communicate(timeout=60) and each.returncode for each in running] == [0] * 4
    assert [table.claim(str(n)) for n in range(3000)] == [9] * 3000
    assert table.mark("one") - before == 4 * 3000


HOLDER = """
import fcntl, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_process_that_dies_holds_nobody_up(fd: int) -> None:
    holder, waiting = process(fd, HOLDER), process(fd, CLAIMER, 1)
    assert (line(holder), line(waiting)) == ("held", "ready")
    go([waiting])
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=10)
    assert line(waiting).split() == ["1"] * 3000
    waiting.communicate("go\n", timeout=60)
