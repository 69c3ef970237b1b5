"""Tries tools: starts a private origin and server, runs each tool once, and judges what happened."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from buffy_proxy import lease
from buffy_proxy.clients import client_env
from buffy_proxy.doctor import Finding
from buffy_proxy.doctor.origin import Origin, origin
from buffy_proxy.doctor.tools import TIMEOUT_S, TOOLS, Tool, Trial

ERROR_WORDS = re.compile(r"error|fail|cannot|could not|fatal|refused|problem|unable", re.IGNORECASE)
TRUST_WORDS = re.compile(r"certificate|SSL|TLS|UNABLE_TO_(GET|VERIFY)|SELF_SIGNED|CAInfo|x509", re.IGNORECASE)


def trials(environ: Mapping[str, str], tools: tuple[Tool, ...] = TOOLS) -> Iterator[Finding]:
    """One finding a tool, as they come. The running server, its data and the user's caches stay untouched.

    `environ` is the user's own environment; the origin's CA is given to nobody but our server.
    """
    with tempfile.TemporaryDirectory(prefix="buffy-doctor-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # apt's unprivileged methods work in here
        with private_server(directory, environ) as (target, changed):
            for tool in tools:
                yield try_tool(tool, target, directory, changed)


@contextlib.contextmanager
def private_server(directory: Path, environ: Mapping[str, str]) -> Iterator[tuple[Origin, dict[str, str]]]:
    """An origin, a server that trusts it, and the environment for tools that use that server."""
    data_dir = directory / "data"
    data_dir.mkdir(mode=0o700)
    config = directory / "buffy.toml"
    # Not the user's rules and credentials; and one tool's distrust must not make a tunnel for the others.
    config.write_text("learn_tunnels = false\n")
    with origin(directory) as target:
        own = {name: value for name, value in environ.items() if not name.startswith("BUFFY_")}
        direct = {"SSL_CERT_FILE": str(target.ca_file), "NO_PROXY": "*", "no_proxy": "*"}
        with lease.started(data_dir, ("--config", str(config)), {**own, **direct}) as server:
            client = client_env(
                environ,
                proxy=server.proxy,
                ca_file=server.ca_file,
                bundle_dir=directory / "clients",
                proxy_loopback=True,
            )
            yield target, client.applied(environ)


def try_tool(tool: Tool, origin: Origin, directory: Path, environ: Mapping[str, str]) -> Finding:
    """Runs the tool once and judges by its exit, by what arrived, and by what the origin saw."""
    program = shutil.which(tool.program or tool.name, path=environ.get("PATH"))
    if program is None:
        return Finding(tool.name, "skipped", "not installed")
    if why := tool.lacks():
        return Finding(tool.name, "skipped", why)
    where = directory / tool.name
    where.mkdir()
    prefix = f"/{tool.name}"
    trial = Trial(origin.url + prefix, where)
    try:
        origin.goods.update(tool.offer(prefix, origin, where))
        result = subprocess.run(
            [program, *tool.command(trial)],
            env={**environ, **tool.environ(trial)},
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Finding(tool.name, "failed", f"did not end within {TIMEOUT_S:.0f} s", tool.bypass)
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding(
            tool.name, "failed", f"could not be run: {error}", f"check the installation of {program}"
        )
    return _judge(tool, result, where, *origin.asked(prefix + "/"))


def _judge(
    tool: Tool, result: subprocess.CompletedProcess[bytes], where: Path, proxied: int, direct: int
) -> Finding:
    said = _gist(result.stdout.decode(errors="replace"))
    if direct:
        return Finding(tool.name, "failed", "went to the origin directly, past the proxy", tool.bypass)
    if result.returncode == 0 and proxied and tool.proof(where):
        return Finding(tool.name, "ok", f"{proxied} request{'s' * (proxied > 1)} through the proxy")
    if result.returncode and TRUST_WORDS.search(said):
        return Finding(tool.name, "failed", f"does not trust Buffy's CA: {said}", tool.trust)
    if not proxied:
        return Finding(tool.name, "failed", f"sent nothing through the proxy: {said}", tool.bypass)
    return Finding(tool.name, "failed", f"exit code {result.returncode}: {said}", tool.trust)


def _gist(output: str) -> str:
    """The line that names the error, as far as one can tell, in 200 characters."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if ERROR_WORDS.search(line)]
    on_trust = [line for line in lines if TRUST_WORDS.search(line)]
    both = [line for line in telling if line in on_trust]
    return (both or on_trust or telling or lines or ["it said nothing"])[-1][:200]
