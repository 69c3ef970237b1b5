"""Several proxy processes on one port: they answer as one, and outlive each other."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Factory
from tests.support import answers
from tests.support.bodies import piece
from tests.support.buffy import Buffy, StartFailed
from tests.support.origin import Origin, Peer, Received, Step
from tests.support.procs import wait_until
from tests.support.wire import Connection, Incomplete, Reply
from tests.support.workers import connections_to_each, serving, workers

CONFIG = 'workers = 3\n[[rule]]\nmatch = "{http}/kept/**"\nstrategy = "never"\n'


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origin: Origin, tls_origin: Origin) -> Origin:
    return origin if request.param == "http" else tls_origin


@pytest.fixture
def pair(buffy: Factory) -> Buffy:
    """A server with two workers."""
    return buffy(args=("--workers", "2"))


def ask(server: Buffy, connection: Connection, url: str, method: str = "GET") -> Reply:
    server.send(connection, method, url)
    return connection.read(method)


@pytest.fixture
def each(server: Buffy, either: Origin) -> Iterator[list[Connection]]:
    made = connections_to_each(server, either.url("/"))
    yield made
    for connection in made:
        connection.close()


# -- one origin request for all -----------------------------------------------------------------------------


def test_fifty_requests_to_all_workers_are_one(server: Buffy, either: Origin, path: str) -> None:
    first, rest, gate = piece(1, 0, 100_000), piece(1, 100_000, 3_000_000), threading.Event()
    url = either.on(path, answers.sized([0.5, first, gate, rest], answers.FRESH))
    reading = threading.Semaphore(0)

    def client(_: int) -> tuple[int, Reply, bytes]:
        with server.open(url) as connection:
            server.send(connection, "GET", url)
            reply, body = connection.head(), b""
            pid = serving(server, connection)
            for chunk in connection.body_chunks(reply):
                if not body:
                    reading.release()
                body += chunk
            return pid, reply, body

    with ThreadPoolExecutor(50) as pool:
        results = [pool.submit(client, n) for n in range(50)]
        for _ in results:
            assert reading.acquire(timeout=30)  # every client reads while the origin still waits
        assert not either.seen(path)[0].done.is_set()
        gate.set()
        done = [result.result(30) for result in results]
    assert {pid for pid, _, _ in done} == set(workers(server))
    assert all(body == first + rest for _, _, body in done)
    assert either.hits(path) == 1
    assert sum(reply.cache.collapsed for _, reply, _ in done) == 49


def test_what_one_worker_stored_the_next_one_has(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    for n in range(30):
        url = either.on(f"{path}/{n}", answers.fixed(b"%d" % n * 9000, answers.FRESH))
        miss, *hits = (ask(server, connection, url) for connection in each)
        assert miss.cache.fwd == "uri-miss" and all(reply.cache.hit for reply in hits)
        assert {reply.body for reply in (miss, *hits)} == {b"%d" % n * 9000}


def test_validations_of_all_workers_are_one(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    page = answers.Changing(b"page", answers.STALE)

    async def slowly(request: Received, peer: Peer) -> None:
        await peer.run([0.3 if request.get("if-none-match") else 0])
        await page(request, peer)

    url = either.on(path, slowly)
    server.get(url)
    for connection in each:
        server.send(connection, "GET", url)
    replies = [connection.read() for connection in each]
    assert [reply.body for reply in replies] == [b"page"] * 3
    assert sorted(reply.cache.collapsed for reply in replies) == [False, True, True]
    assert either.hits(path) == 2


def test_what_is_for_one_client_goes_to_no_other_worker(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    url = either.on(path, answers.sized([0.3, b"mine alone"], {"Cache-Control": "private"}))
    for connection in each:
        server.send(connection, "GET", url)
    assert [connection.read().body for connection in each] == [b"mine alone"] * 3
    assert either.hits(path) == 3


def test_variants_are_told_apart(server: Buffy, origin: Origin, path: str) -> None:
    async def script(request: Received, peer: Peer) -> None:
        await peer.run([0.3])
        body = (request.get("accept-language") or "").encode()
        await answers.fixed(body, {**answers.FRESH, "Vary": "Accept-Language"})(request, peer)

    url, languages = origin.on(path, script), ["de", "en", "fr"] * 4
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda lang: server.get(url, [("Accept-Language", lang)]), languages))
    assert [reply.body.decode() for reply in replies] == languages


def test_a_cookie_goes_to_who_asked_the_origin_alone(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    url = either.on(path, answers.sized([0.3, b"x"], {**answers.FRESH, "Set-Cookie": "s=1"}))
    for connection in each:
        server.send(connection, "GET", url)
    cookies = [connection.read().get("set-cookie") for connection in each]
    assert sorted(map(str, cookies)) == ["None", "None", "s=1"] and either.hits(path) == 1


def test_a_failing_origin_fails_for_all_or_is_asked_again(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    turns: list[list[Step]] = [[0.4, "reset"]]

    async def script(request: Received, peer: Peer) -> None:
        if turns:
            await peer.run(turns.pop())
        else:
            await answers.fixed(b"good", answers.FRESH)(request, peer)

    url = either.on(path, script)
    for connection in each:
        server.send(connection, "GET", url)
    replies = [connection.read() for connection in each]
    assert sum(reply.body == b"good" for reply in replies) >= 2, replies
    assert server.get(url).cache.hit


def test_a_truncated_body_is_whole_for_nobody(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    gate = threading.Event()
    url = either.on(path, [*answers.sized([b"half", gate], answers.FRESH, 1000), "close"])
    for connection in each:
        server.send(connection, "GET", url)
    heads = [connection.head() for connection in each]
    gate.set()
    either.on(path, answers.fixed(b"another", answers.FRESH))  # resuming finds something else
    for connection, head in zip(each, heads, strict=True):
        with pytest.raises(Incomplete):
            list(connection.body_chunks(head))
    assert not server.get(url).cache.hit


def test_when_all_clients_of_all_workers_leave_the_transfer_ends(
    server: Buffy, either: Origin, path: str, each: list[Connection]
) -> None:
    url = either.on(path, answers.chunked([0.05, b"x" * 50_000] * 400, answers.FRESH))
    for connection in each:
        server.send(connection, "GET", url)
        connection.head()
    each[0].close()
    next(each[1].body_chunks(Reply(200, "", [("content-length", "1000000")])))  # it goes on for the others
    for connection in each:
        connection.close()
    assert either.seen(path)[0].done.wait(10) and either.seen(path)[0].failure is not None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_change_through_one_worker_outdates_what_comes_through_another(
    server: Buffy, either: Origin, path: str, each: list[Connection], method: str
) -> None:
    release = threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        if request.method == method:
            await answers.fixed(b"done")(request, peer)
        else:
            await peer.run(answers.sized([b"o", release, b"ld"], answers.FRESH))

    url = either.on(path, script)
    server.send(each[0], "GET", url)
    head = each[0].head()
    assert ask(server, each[1], url, method).body == b"done"
    release.set()
    assert b"".join(each[0].body_chunks(head)) == b"old"
    assert not ask(server, each[2], url).cache.hit


def test_an_order_and_a_client_of_another_worker_ask_once(server: Buffy, origin: Origin) -> None:
    gate, made = threading.Event(), connections_to_each(server, origin.url("/"))
    url = origin.on("/kept/order", answers.sized([b"one ", gate, b"two"], answers.FRESH))
    server.send(made[-1], "GET", url)  # the first worker carries orders out
    head = made[-1].head()
    body = json.dumps({"url": url}).encode()
    api = f"http://127.0.0.1:{server.api[1]}/v1/request/"
    order = urllib.request.Request(api, body, {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(order, timeout=10) as answer:
        name = json.loads(answer.read())["id"]
    time.sleep(0.5)
    gate.set()
    assert b"".join(made[-1].body_chunks(head)) == b"one two"
    listed = f"/v1/request/{name}/response/"
    wait_until(lambda: bool(server.api_get(listed)[1]), 10)
    assert origin.hits("/kept/order") == 1
    for connection in made:
        connection.close()


# -- what they share ----------------------------------------------------------------------------------------


def test_counts_and_log_lines_of_all_workers_add_up(buffy: Factory, origin: Origin, path: str) -> None:
    server = buffy(args=("--workers", "2"))
    url = origin.on(path, answers.fixed(b"counted", answers.FRESH))
    made = connections_to_each(server, url)
    for turn in range(20):
        for connection in made:
            assert ask(server, connection, url).cache.hit is (turn > 0 or connection is not made[0])
    for connection in made:
        connection.close()

    def metric(name: str) -> float:
        text = server.api_get("/metrics")[1]
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    wait_until(lambda: metric("buffy_requests_total") == 40, 10)
    assert metric("buffy_hits_total") == 39 and metric("buffy_misses_total") == 1
    assert metric('buffy_decisions_total{decision="hit"}') == 39
    assert metric('buffy_sent_bytes_total{source="cache"}') == 39 * 7
    assert sum(path in line for line in server.log().splitlines()) == 40


def test_all_workers_show_the_same_certificate(buffy: Factory, tls_origin: Origin, path: str) -> None:
    server = buffy(args=("--workers", "3"))
    tls_origin.on(path, answers.fixed(b"x"))
    with ThreadPoolExecutor(12) as pool:  # the leaf is made by whichever worker comes first
        made = list(pool.map(lambda _: server.open(tls_origin.url(path)), range(24)))
    assert {serving(server, connection) for connection in made} == set(workers(server))
    leaves = set()
    for connection in made:
        assert isinstance(connection.sock, ssl.SSLSocket)
        leaves.add(connection.sock.getpeercert(binary_form=True))
        connection.close()
    assert len(leaves) == 1


# -- life and death -----------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_the_port_never_refuses(
    pair: Buffy, origin: Origin, path: str
) -> None:
    url = origin.on(path, answers.fixed(b"here", answers.FRESH))
    made, (first, second) = connections_to_each(pair, url), workers(pair)
    other = made[1]
    ask(pair, other, url)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while first in workers(pair) or len(workers(pair)) < 2:
        assert time.monotonic() < deadline
        socket.create_connection(pair.proxy, 5).close()  # raises where the port is closed
        assert ask(pair, other, url).cache.hit
    assert pair.get(url).cache.hit
    assert second in workers(pair) and serving(pair, other) == second
    for connection in (*made, *connections_to_each(pair, url)):
        connection.close()
    assert "the proxy process 1 ended (killed by signal 9)" in pair.log()


def test_who_waits_for_a_worker_that_is_killed_gets_an_answer(pair: Buffy, origin: Origin, path: str) -> None:
    asked, gate = threading.Event(), threading.Event()

    async def script(request: Received, peer: Peer) -> None:
        if not asked.is_set():
            asked.set()
            await peer.wait(gate)
        await answers.fixed(b"late", answers.FRESH)(request, peer)

    url = origin.on(path, script)
    leader, follower = connections_to_each(pair, url)
    pid = serving(pair, leader)
    pair.send(leader, "GET", url)
    assert asked.wait(10)
    pair.send(follower, "GET", url)
    time.sleep(0.5)
    assert origin.hits(path) == 1
    os.kill(pid, signal.SIGKILL)
    reply = follower.read()
    assert (reply.status, reply.body, origin.hits(path)) == (200, b"late", 2)
    gate.set()
    assert pair.get(url).cache.hit


def test_a_body_that_comes_by_way_of_a_worker_that_is_killed_ends_early(
    pair: Buffy, origin: Origin, path: str
) -> None:
    gate = threading.Event()
    url = origin.on(path, answers.sized([b"begun", gate, b"ended"], answers.FRESH))
    leader, follower = connections_to_each(pair, url)
    pair.send(leader, "GET", url)
    leader.head()
    pair.send(follower, "GET", url)
    chunks = follower.body_chunks(follower.head())
    assert next(chunks) == b"begun"
    os.kill(serving(pair, leader), signal.SIGKILL)
    with pytest.raises(Incomplete):
        list(chunks)
    gate.set()
    assert pair.get(url).body == b"begunended"


def test_the_successor_of_the_first_worker_carries_orders_out(pair: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.fixed(b"ordered", answers.FRESH))
    made = connections_to_each(pair, url)
    busy = [pid for pid in workers(pair) if f"{pair.data_dir}/orders.lock" in files(pid)]
    assert len(busy) == 1
    os.kill(busy[0], signal.SIGKILL)
    body = json.dumps({"url": url}).encode()
    api = f"http://127.0.0.1:{pair.api[1]}/v1/request/"
    order = urllib.request.Request(api, body, {"Content-Type": "application/json"}, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(order, timeout=10).close()
    origin.wait(path, timeout=20)
    for connection in made:
        connection.close()


def files(pid: int) -> set[str]:
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_sigterm_ends_all_workers_in_time(pair: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, answers.events([0.05] * 2000))
    made = connections_to_each(pair, url)
    for connection in made:
        pair.send(connection, "GET", url)
        connection.head()
    began = time.monotonic()
    assert pair.stop() == 0 and time.monotonic() - began < 5
    assert not list(pair.data_dir.glob("worker-*"))
    for connection in made:
        connection.close()


def test_no_worker_outlives_the_supervisor(pair: Buffy) -> None:
    assert pair.process is not None
    pids = pair.pids()
    assert len(pids) == 4
    os.kill(pair.process.pid, signal.SIGKILL)
    pair.process.wait(5)
    wait_until(lambda: not [pid for pid in pids if running(pid)], 10)
    pair.start()
    assert not list(pair.data_dir.glob(f"worker-{pids[0]}-*"))


def running(pid: int) -> bool:
    """A process that has ended may still wait to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- starting -----------------------------------------------------------------------------------------------


def test_a_port_of_another_server_with_workers_is_in_use(pair: Buffy, buffy: Factory) -> None:
    second = buffy(args=("--workers", "2"), start=False)
    second.proxy = pair.proxy
    with pytest.raises(StartFailed) as caught:
        second.start()
    assert caught.value.code == 2 and "another program listens there" in caught.value.stderr


@pytest.mark.parametrize("bad", ["0", "-1", "many", "1.5", "1000"])
def test_a_bad_number_is_one_clear_line(buffy: Factory, bad: str) -> None:
    with pytest.raises(StartFailed) as caught:
        buffy(args=(f"--workers={bad}",))
    assert caught.value.code == 2
    assert "--workers" in caught.value.stderr and repr(bad) in caught.value.stderr
    assert len(caught.value.stderr.splitlines()) == 1


def test_auto_is_one_worker_for_each_core(buffy: Factory) -> None:
    assert len(workers(buffy(env={"BUFFY_WORKERS": "auto"}))) == len(os.sched_getaffinity(0))


def test_one_worker_shares_nothing(buffy: Factory) -> None:
    server = buffy()
    (pid,) = workers(server)
    assert not any("buffy-flights" in name for name in files(pid))
    assert not list(server.data_dir.glob("worker-*"))
