"""Retention, the size cap, pins and the store's tools, with a running server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Factory
from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy
from tests.support.origin import Origin
from tests.support.procs import wait_until

CONFIG = """
[[rule]]
match = "{http}/ask/**"
strategy = "when_requested"
"""
MIB = 1 << 20


def ok(server: Buffy, *arguments: str) -> bytes:
    done = server.cli(*arguments)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


def test_a_pinned_version_answers_until_it_is_unpinned(server: Buffy, origin: Origin) -> None:
    resource = answers.Changing(b"pinned", validators="")
    url = origin.on("/ask/pin", resource)
    server.get(url)
    ok(server, "pin", url)
    resource.body = b"newer"
    asked = origin.hits("/ask/pin")
    reply = server.get(url)
    assert reply.body == b"pinned" and reply.cache.hit
    assert origin.hits("/ask/pin") == asked
    ok(server, "unpin", url)
    assert server.get(url).body == b"newer"


def test_purge_forgets_and_leaves_the_others(server: Buffy, origin: Origin, path: str) -> None:
    gone = origin.on(f"{path}/gone", answers.fixed(b"x", answers.FRESH))
    kept = origin.on(f"{path}/kept", answers.fixed(b"x", answers.FRESH))
    for url in (gone, kept):
        server.get(url)
    ok(server, "purge", gone, "--yes")
    assert not server.get(gone).cache.hit
    assert server.get(kept).cache.hit


def test_the_size_cap_takes_the_least_recently_used_and_never_what_is_pinned_or_tagged(
    buffy: Factory, origin: Origin, path: str
) -> None:
    server = buffy(config='max_size = "4 MiB"\n')
    urls = [origin.on(f"{path}/{n}", answers.big(MIB, n, answers.FRESH)) for n in range(12)]
    for number in range(2):
        server.get(urls[number])
    ok(server, "pin", urls[0])
    ok(server, "tag", urls[1], "keep")
    for url in urls[2:]:
        server.get(url)

    def offline(number: int) -> bool:
        reply = server.request("HEAD", urls[number], user="mode=offline")
        return reply.status == 200

    wait_until(lambda: not offline(2), 15, "the oldest is evicted")
    assert offline(0) and offline(1) and offline(11)
    assert sum(offline(number) for number in range(12)) <= 4
    assert server.get(urls[0]).body == piece(0, 0, MIB)
    server.check_store()


def test_backup_while_it_runs(buffy: Factory, origin: Origin, path: str, tmp_path: Path) -> None:
    bodies = {n: piece(n, 0, 10 ** (n + 1)) for n in range(6)}
    urls = {n: origin.on(f"{path}/{n}", answers.fixed(body, answers.FRESH)) for n, body in bodies.items()}
    server = buffy()
    for url in urls.values():
        server.get(url)
    ok(server, "store", "backup", str(tmp_path / "backup"))
    server.stop()
    server.data_dir = tmp_path / "backup"
    server.start()
    for number, url in urls.items():
        reply = server.get(url)
        assert reply.cache.hit and reply.body == bodies[number]
    server.check_store()


def test_identical_bytes_are_stored_once(buffy: Factory, origin: Origin, path: str) -> None:
    server = buffy()
    urls = [origin.on(f"{path}/{n}", answers.big(3 * MIB, 1, answers.FRESH)) for n in range(5)]
    for url in urls:
        server.get(url)
    assert all(server.get(url).cache.hit for url in urls)
    used = sum(file.stat().st_blocks * 512 for file in server.data_dir.rglob("*") if file.is_file())
    assert used < 6 * MIB
    assert len(json.loads(ok(server, "ls", "--json"))) == 5
