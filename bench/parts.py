"""Where each microsecond of a hit goes: `python -m bench.parts`. Wants `perf` and `strace`, and their rights.

`perf` samples Buffy under load. A sample counts for the system call that it was in, else for the library that
the processor was in: Python's interpreter with our code, OpenSSL, LMDB, uvloop, the C library. This share
of the processor time of a hit is the part. `strace` counts system calls; `py-spy` tells
Python's functions apart.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.common import OUT, Result, cpu_s, family
from bench.ground import Ground, Load, ground
from bench.peers import Absent, Peer, program
from bench.report import parts as markdown
from bench.versus import warm

CONNECTIONS = 32
ATTACH_S = 1.0
SYSTEM_CALL = re.compile(r"\b(?:ksys_|__(?:x64|arm64|se)_sys_)(\w+)")
FUNCTION = re.compile(r"^(.*) \((?:.*/)?([^/]+):\d+\)$")
WAITING = ("EpollSelector.select, selectors.py", "Runner.run, runners.py", "Writer._next_group, writer.py")
LIBRARIES = (
    (r"libssl|libcrypto", "OpenSSL"),
    (r"_ssl\.", "Python's ssl module"),
    (r"lmdb|\bcpython\.cpython", "LMDB"),
    (r"uvloop", "uvloop"),
    (r"python", "Python's interpreter and our code"),
    (r"libc\.|libc-|vdso|libpthread", "C library"),
)
GROUPS = {
    "write": "send",
    "writev": "send",
    "sendto": "send",
    "sendmsg": "send",
    "read": "receive",
    "recvfrom": "receive",
    "recvmsg": "receive",
    "epoll_wait": "wait for events",
    "epoll_pwait": "wait for events",
}


def hit_parts(seconds: float) -> list[Result]:
    """One row for HTTP and one for HTTPS. Raises Absent where it cannot be found out."""
    for name, package in (("perf", "linux-perf"), ("strace", "strace")):
        program(name, package)
    with ground(["buffy"]) as found:
        return [parts_of(found, found.peers[0], scheme, seconds) for scheme in ("http", "https")]


def parts_of(found: Ground, peer: Peer, scheme: str, seconds: float) -> Result:
    load = Load(scheme, "/small/", 1000, CONNECTIONS, seconds)
    warm(found, load, peer)
    pids = list(map(str, family(peer.pid)))
    samples, counts = (found.generator.with_name(name) for name in ("perf.data", "strace.txt"))
    watch = ["perf", "record", "-q", "-F", "1999", "-g", "-p", ",".join(pids), "-o", str(samples)]
    run = beside(watch, samples, lambda: found.run(load, peer))
    follow = ["strace", "-f", "-c", "-o", str(counts), *(part for pid in pids for part in ("-p", pid))]
    slow = beside(follow, counts, lambda: found.run(load, peer))
    shares, functions = sampled(samples), python_functions(found, peer, load)
    return {
        "scheme": scheme,
        "cpu_us": run["cpu_us"],
        "per_second": run["per_second"],
        "us": {name: share * run["cpu_us"] for name, share in shares.items()},
        "functions": {name: share * run["cpu_us"] for name, share in functions.items()},
        "calls": {
            name: number / max(1, slow["requests"]) for name, number in calls(counts.read_text()).items()
        },
    }


def beside(command: list[str], output: Path, run: Callable[[], Result]) -> Result:
    """What `run` gives while the command watches. Raises Absent if that wrote nothing."""
    watcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(ATTACH_S)
    result = run()
    watcher.send_signal(signal.SIGINT)
    _, error = watcher.communicate(timeout=60)
    if not output.exists() or not output.stat().st_size:
        raise Absent(f"{command[0]}: {error.decode(errors='replace')[-200:]}")
    return result


def sampled(samples: Path) -> dict[str, float]:
    """The share of each part, largest first."""
    command = ["perf", "script", "-i", str(samples), "-F", "ip,sym,dso"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    seen = Counter(part_of(stack) for stack in text.split("\n\n") if stack.strip())
    total = sum(seen.values())
    return {name: number / total for name, number in seen.most_common()}


def part_of(stack: str) -> str:
    """The innermost frame comes first."""
    call = SYSTEM_CALL.search(stack)
    if call:
        return f"kernel: {GROUPS.get(call[1], 'other calls')}"
    innermost = stack.strip().splitlines()[0]
    library = innermost.rpartition("(")[2]
    if "kernel" in library:
        return "kernel: other calls"
    return next((name for pattern, name in LIBRARIES if re.search(pattern, library)), "other")


def python_functions(found: Ground, peer: Peer, load: Load) -> dict[str, float]:
    """The share of each Python function, with what it calls in C and in the kernel, largest first."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if spy is None:
        print("  without functions: py-spy is not installed (pip install -e '.[bench]')", file=sys.stderr)
        return {}
    busiest = max(family(peer.pid), key=lambda pid: cpu_s([pid]))
    stacks = found.generator.with_name("py-spy.txt")
    command = [spy, "record", "-r", "499", "--function", "--nonblocking", "-f", "raw", "-p", str(busiest)]
    beside(
        [*command, "-d", str(math.ceil(load.seconds + 2)), "-o", str(stacks)],
        stacks,
        lambda: found.run(load, peer),
    )
    return functions_of(stacks.read_text())


def functions_of(text: str) -> dict[str, float]:
    """Lines of `outer;inner;innermost count`, each function with its file and line; none that wait."""
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        name = FUNCTION.sub(r"\1, \2", stack.rpartition(";")[2])
        seen[name] += int(count) * (name not in WAITING)
    total = sum(seen.values())
    return {name: number / total for name, number in seen.most_common() if number}


def calls(text: str) -> dict[str, int]:
    """The table that strace -c writes: % time, seconds, usecs/call, calls, errors (or nothing), name."""
    rows = [line.split() for line in text.splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"}


def main() -> None:
    try:
        text = markdown(hit_parts(5.0))
    except Absent as reason:
        text = f"{reason}\n"
    OUT.mkdir(exist_ok=True)
    (OUT / "parts.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
