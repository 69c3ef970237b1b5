"""The server of DZDBuffy 0.7.3 with the redis it needs, for a comparison; runs in that package's Python."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator

from tests.support.procs import clean_env, free_port

# Its start-up logs a version that the package does not have, and fails over that.
START = """
import buffy.buffyserver.main as main
main.get_module_version = lambda module: ("unknown",)
if __name__ == "__main__":
    main.start_buffy_server()
"""


@contextlib.contextmanager
def old_server(python: str) -> Iterator[str | None]:
    """Its URL, or None where there is no redis-server on this machine."""
    redis = shutil.which("redis-server")
    if redis is None:
        yield None
        return
    store, api = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        script = os.path.join(directory, "old_server.py")  # noqa: PTH118
        with open(script, "w") as file:  # noqa: PTH123
            file.write(START)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
        stack.enter_context(_ended([redis, "--port", str(store), "--save", ""], **quiet))
        env = {
            **clean_env(),
            "CONFIGS_UVICORN_PARAMS": json.dumps({"host": "127.0.0.1", "port": api, "log_level": "error"}),
            "CONFIGS_STORAGE_BACKEND_CONFIG": json.dumps({"host": "127.0.0.1", "port": store}),
            "CONFIGS_STORAGE_BACKEND_FILE_DIR": directory,
        }
        stack.enter_context(_ended([python, script], env=env, **quiet))
        _await(f"http://127.0.0.1:{api}/openapi.json")
        yield f"http://127.0.0.1:{api}"


@contextlib.contextmanager
def _ended(command: list[str], **options: object) -> Iterator[None]:
    process = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def _await(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit("the old server did not start")
