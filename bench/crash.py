"""kill -9 under load: `python -m bench.crash --rounds 200`. Exit code 1 if anything was lost."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.support import crash
from tests.support.buffy import Buffy
from tests.support.origin import Origin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=6)
    wanted = parser.parse_args()
    origin = Origin()
    with tempfile.TemporaryDirectory() as directory:
        server = Buffy(Path(directory), crash.config(origin)).start()
        run = crash.CrashRun(server, origin, wanted.seed, wanted.clients)
        try:
            repeat(run, wanted.rounds)
            run.verify(sample=len(run.acknowledged))
        except BaseException:
            print(server.log()[-5000:])
            raise
        finally:
            server.discard()
            origin.shut_down()
    known = len(run.acknowledged)
    print(f"{run.rounds_done} rounds, {known} acknowledged versions, {run.checked} checks: all well")


def repeat(run: crash.CrashRun, rounds: int) -> None:
    began = time.monotonic()
    for number in range(1, rounds + 1):
        run.round()
        if number % 10 == 0:
            took = time.monotonic() - began
            print(f"{number:4} rounds, {len(run.acknowledged)} acknowledged, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
