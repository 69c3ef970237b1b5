"""Would HTTP/2 towards origins help? `python -m bench.upstream [--rounds N]`.

An nginx that speaks both, behind a relay that makes its bytes arrive HALF_RTT_S later each way, and as a
client httpx, which speaks both too: the same requests over a pool of HTTP/1.1 connections, as Buffy keeps
one, and over one HTTP/2 connection. *Cold* begins without a connection, *warm* with those of the cold run.
Seconds, medians over the rounds. nginx shapes nothing: bandwidth is not what this is about.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx

from bench.common import OUT, Result, machine
from bench.peers import certificate, program, start
from bench.report import table
from tests.support.procs import free_port

HALF_RTT_S = 0.02
OBJECTS, OBJECT_SIZE = 160, 10_240
CASES = ((1, 20), (6, 60), (16, 160))
"""Requests at a time, and in all."""


@contextlib.contextmanager
def origin() -> Iterator[tuple[int, Path]]:
    """Port and certificate of a running nginx."""
    with tempfile.TemporaryDirectory() as name:
        home, port = Path(name), free_port()
        home.chmod(0o755)
        for n in range(OBJECTS):
            (home / f"{n}").write_bytes(bytes(OBJECT_SIZE))
        pem, config = certificate(home), home / "nginx.conf"
        config.write_text(
            f"daemon off; pid {home}/pid; error_log {home}/error warn; events {{}}\n"
            f"http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl http2; root {home};\n"
            f"ssl_certificate {pem}; ssl_certificate_key {pem}; }} }}\n"
        )
        command = [program("nginx", "nginx"), "-c", str(config), "-p", str(home)]
        stop, _ = start(command, port, home / "log")
        try:
            yield port, home / "cert.pem"
        finally:
            stop()


@contextlib.asynccontextmanager
async def far(port: int) -> AsyncIterator[int]:
    """A port behind which `port` is far away: a connection takes a round trip to be there, too."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float) -> None:
        loop = asyncio.get_running_loop()
        begins, under_way = loop.time() + late_s, asyncio.Queue[tuple[float, bytes]]()

        async def arrive() -> None:
            data = b"-"
            while data:
                at, data = await under_way.get()
                await asyncio.sleep(at - loop.time())
                writer.write(data)
            writer.close()

        arriving = asyncio.ensure_future(arrive())
        data = b"-"
        while data:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            under_way.put_nowait((max(begins, loop.time()) + HALF_RTT_S, data))
        await arriving

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = carry(reader, behind_writer, 2 * HALF_RTT_S), carry(behind_reader, writer, 0)
        await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def once(
    port: int, tls: ssl.SSLContext, http2: bool, at_a_time: int, count: int
) -> tuple[float, float]:
    """Seconds, cold and warm."""
    limits = httpx.Limits(max_connections=at_a_time, max_keepalive_connections=at_a_time)
    async with (
        far(port) as where,
        httpx.AsyncClient(http2=http2, verify=tls, limits=limits, timeout=60, trust_env=False) as client,
    ):
        turn = asyncio.Semaphore(at_a_time)

        async def get(n: int) -> None:
            async with turn:
                answer = await client.get(f"https://127.0.0.1:{where}/{n}")
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert len(answer.raise_for_status().content) == OBJECT_SIZE

        took = []
        for _ in range(2):
            began = time.monotonic()
            await asyncio.gather(*map(get, range(count)))
            took.append(time.monotonic() - began)
    return took[0], took[1]


def rows_of(rounds: int) -> list[Result]:
    rows = []
    with origin() as (port, pem):
        tls = ssl.create_default_context(cafile=str(pem))
        tls.check_hostname = False
        for at_a_time, count in CASES:
            taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            for _ in range(rounds):
                for http2, results in taken.items():
                    results.append(asyncio.run(once(port, tls, http2, at_a_time, count)))
            for http2, results in taken.items():
                cold, warm = (statistics.median(each) for each in zip(*results, strict=True))
                version = "HTTP/2" if http2 else "HTTP/1.1"
                row = {"at_a_time": at_a_time, "count": count, "version": version, "cold_s": cold}
                rows.append({**row, "warm_s": warm})
    return rows


def markdown(rows: list[Result]) -> str:
    cells = [
        (
            f"{row['count']} requests, {row['at_a_time']} at a time",
            row["version"],
            f"{row['cold_s']:.2f}",
            f"{row['warm_s']:.2f}",
        )
        for row in rows
    ]
    return table(("what", "over", "cold, s", "warm, s"), cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rows = rows_of(parser.parse_args().rounds)
    OUT.mkdir(exist_ok=True)
    (OUT / "upstream.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
