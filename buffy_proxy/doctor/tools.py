"""The tools that the doctor tries, as data: how each is run, and where its own settings can be in the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buffy_proxy.doctor import goods
from buffy_proxy.doctor.origin import Origin

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Where one tool works: the URL below which its goods lie, and a directory for what it writes."""

    url: str
    directory: Path


@dataclass(frozen=True, slots=True)
class Tool:
    """One program. `proof` answers whether what arrived is what was offered.

    bypass  where a setting of the tool's own can lead it past the proxy
    trust   where one can take Buffy's CA away
    lacks   why this installation cannot work through any proxy, or None
    """

    name: str
    offer: Callable[[str, Origin, Path], goods.Goods]
    command: Callable[[Trial], list[str]]
    proof: Callable[[Path], bool]
    bypass: str
    trust: str
    program: str = ""
    environ: Callable[[Trial], Mapping[str, str]] = field(default=lambda trial: {})
    lacks: Callable[[], str | None] = field(default=lambda: None)


def _text(prefix: str, origin: Origin, directory: Path) -> goods.Goods:
    return goods.text(prefix)


def _same_text(where: Path) -> bool:
    file = where / "probe.txt"
    return file.is_file() and file.read_bytes() == goods.TEXT


def _node_too_old() -> str | None:
    """Node's own fetch reads proxy variables from 22.21 and from 24.0 on."""
    output = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=TIMEOUT_S).stdout
    version = tuple(int(number) for number in re.findall(r"\d+", output)[:2])
    if version >= (24, 0) or (22, 21) <= version < (23, 0):
        return None
    return (
        f"{output.strip() or 'this version'} reads no proxy variables (22.21 and 24 do); npm is not affected"
    )


_NODE = """
const { writeFileSync } = require("fs");
fetch(process.argv[1]).then((r) => r.text()).then((t) => writeFileSync("probe.txt", t))
  .catch((e) => { console.error("error:", (e.cause || e).message); process.exit(1); });
"""

_PYTHON = """
import sys, urllib.request
open("probe.txt", "wb").write(urllib.request.urlopen(sys.argv[1], timeout=30).read())
"""


def _npm_environ(trial: Trial) -> dict[str, str]:
    return {
        "npm_config_cache": str(trial.directory / "cache"),
        "npm_config_registry": trial.url,
        "npm_config_update_notifier": "false",
        "npm_config_fetch_retries": "0",
    }


def _apt_command(trial: Trial) -> list[str]:
    """`update` with lists of its own; hooks of the machine's configuration (docker-clean …) are taken out."""
    places = {
        "Dir::State": trial.directory / "state",
        "Dir::State::status": trial.directory / "status",
        "Dir::Cache": trial.directory / "cache",
        "Dir::Etc::sourcelist": trial.directory / "sources.list",
        "Dir::Etc::sourceparts": os.devnull,
        "Dir::Etc::preferences": os.devnull,
        "Dir::Etc::preferencesparts": os.devnull,
        "Acquire::Languages": "none",
        "Acquire::Retries": "0",
    }
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    return ["-c", str(trial.directory / "no-hooks.conf"), *options, "--error-on=any", "update"]


def _apt_offer(prefix: str, origin: Origin, directory: Path) -> goods.Goods:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True)
    (directory / "status").touch()
    (directory / "sources.list").write_text(f"deb [trusted=yes] {origin.url}{prefix} flat/\n")
    hooks = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Post-Invoke-Stats")
    (directory / "no-hooks.conf").write_text("".join(f"#clear APT::Update::{hook};\n" for hook in hooks))
    return goods.apt_repository(prefix)


TOOLS = (
    Tool(
        "curl",
        _text,
        lambda trial: ["-sSf", "-o", "probe.txt", f"{trial.url}/probe.txt"],
        _same_text,
        bypass="look for proxy or noproxy in ~/.curlrc",
        trust="look for cacert or capath in ~/.curlrc",
    ),
    Tool(
        "wget",
        _text,
        lambda trial: ["-nv", "--tries=1", "-O", "probe.txt", f"{trial.url}/probe.txt"],
        _same_text,
        bypass="look for use_proxy, https_proxy or no_proxy in ~/.wgetrc and /etc/wgetrc",
        trust="look for ca_certificate and ca_directory in /etc/wgetrc; wget 2 reads no WGETRC",
    ),
    Tool(
        "pip",
        lambda prefix, origin, directory: goods.wheel_index(prefix),
        lambda trial: ["download", "--no-deps", "--no-cache-dir", "--retries", "0", "-d", "out", goods.NAME],
        lambda where: bool(list(where.glob("out/*.whl"))),
        bypass="look for proxy in the output of `pip config list`",
        trust="look for cert in the output of `pip config list`",
        environ=lambda trial: {
            # The second one hides the user's further indexes, which must not be asked for a probe.
            "PIP_INDEX_URL": f"{trial.url}/simple/",
            "PIP_EXTRA_INDEX_URL": f"{trial.url}/simple/",
            "PIP_FIND_LINKS": str(trial.directory),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
    ),
    Tool(
        "npm",
        lambda prefix, origin, directory: goods.npm_registry(prefix, origin.url),
        lambda trial: ["pack", f"{goods.NAME}@1.0.0"],
        lambda where: (where / f"{goods.NAME}-1.0.0.tgz").is_file(),
        bypass="look for noproxy in the output of `npm config list`",
        trust="look for ca or cafile in the output of `npm config list`",
        environ=_npm_environ,
    ),
    Tool(
        "git",
        lambda prefix, origin, directory: goods.git_repository(prefix, directory),
        lambda trial: ["clone", "-q", f"{trial.url}/probe.git", "clone"],
        lambda where: _same_text(where / "clone"),
        bypass="look for http.proxy in the output of `git config --list --show-origin`",
        trust="look for http.<url>.sslCAInfo in the output of `git config --list --show-origin`",
        environ=lambda trial: {"GIT_TERMINAL_PROMPT": "0", "GIT_TEMPLATE_DIR": ""},
    ),
    Tool(
        "node",
        _text,
        lambda trial: ["-e", _NODE, f"{trial.url}/probe.txt"],
        _same_text,
        bypass="look for --no-use-env-proxy in NODE_OPTIONS; NODE_USE_ENV_PROXY must be 1",
        trust="look for --use-openssl-ca or --use-bundled-ca in NODE_OPTIONS",
        lacks=_node_too_old,
    ),
    Tool(
        "apt",
        _apt_offer,
        _apt_command,
        lambda where: bool(list(where.glob("state/lists/*Packages*"))),
        bypass="look for Acquire::https::Proxy in the output of `apt-config dump`",
        trust="look for Acquire::https::CAInfo in the output of `apt-config dump`",
        program="apt-get",
    ),
    Tool(
        "python",
        _text,
        lambda trial: ["-c", _PYTHON, f"{trial.url}/probe.txt"],
        _same_text,
        bypass="HTTPS_PROXY must not be changed by sitecustomize",
        trust="SSL_CERT_FILE must not be changed by sitecustomize",
        program=sys.executable,
    ),
)
