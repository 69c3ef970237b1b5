"""A full disk, on a small tmpfs: clients see no error, nothing is half stored, storing resumes by itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("wants root and mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Takes all room but `leave` bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - leave)
    return filler


@pytest.fixture
def server(buffy: Factory, small_disk: Path) -> Iterator[Buffy]:
    made = buffy(start=False)
    made.data_dir = small_disk / "data"
    yield made.start()
    made.discard()


@pytest.mark.parametrize("size", [2_000, 200_000, 6 * MIB])
def test_clients_see_no_error_and_storing_resumes(
    server: Buffy, small_disk: Path, origin: Origin, path: str, size: int
) -> None:
    urls = [origin.on(f"{path}/{n}", answers.big(size, n, answers.FRESH)) for n in range(8)]
    before = origin.on(f"{path}/before", answers.fixed(b"kept", answers.FRESH))
    server.get(before)
    filler = fill(small_disk, leave=0)
    for number, url in enumerate(urls):
        reply = server.get(url)
        assert (reply.status, reply.body == piece(number, 0, size)) == (200, True)
    assert server.get(before).cache.hit
    talk = [line for line in server.log().splitlines() if " buffy.access: " not in line]
    shouts = [line for line in talk if "room" in line or "full" in line or "space" in line]
    assert 1 <= len(shouts) <= 3, server.log()
    filler.unlink()

    def resumed() -> bool:
        server.get(urls[0])
        return server.get(urls[0]).cache.hit

    wait_until(resumed, 15, "storing resumes")
    assert server.get(urls[0]).body == piece(0, 0, size)
    server.stop()
    server.check_store()


def test_a_disk_that_fills_in_the_middle_of_a_body(
    server: Buffy, small_disk: Path, origin: Origin, path: str
) -> None:
    fill(small_disk, leave=3 * MIB)
    url = origin.on(path, answers.big(20 * MIB, 9, answers.FRESH))
    for _ in range(3):
        assert server.get(url).body == piece(9, 0, 20 * MIB)
    room = os.statvfs(small_disk)
    wait_until(lambda: os.statvfs(small_disk).f_bavail * room.f_frsize > MIB, 10, "the part is forgotten")
    server.kill()
    server.check_store()
