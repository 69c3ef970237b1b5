"""What an unmodified tool needs in its environment to work through Buffy: proxy, and trust in Buffy's CA.

The knowledge stands in client_table.py. A user's own value is never lost:
a trust file that a variable already names is merged into what we point the variable at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from buffy_proxy.client_files import ClientFiles
from buffy_proxy.client_table import (
    LOOPBACK,
    OUTRANKING,
    PROXY,
    PROXY_TOO,
    SWITCHES,
    TRUST,
    UNVERIFIED,
    Kind,
    Trust,
)
from buffy_proxy.config import Address, Credentials
from buffy_proxy.core.model import DEFAULT_GROUP
from buffy_proxy.literals import address_text
from buffy_proxy.presence import reachable
from buffy_proxy.selectors import username

FILLER_PASSWORD = "buffy"
"""Not a secret: urllib, requests and wget send the proxy user name (our selectors) only with a password."""


@dataclass(frozen=True, slots=True)
class ClientEnv:
    """Changes to an environment. `notes` says what of the user's own could not be carried over."""

    set: Mapping[str, str]
    unset: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def applied(self, environ: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in environ.items() if name not in self.unset}
        return {**kept, **self.set}


def client_env(
    environ: Mapping[str, str],
    *,
    proxy: Address,
    ca_file: Path,
    bundle_dir: Path,
    group: str = DEFAULT_GROUP,
    offline: bool = False,
    run: str | None = None,
    credentials: Credentials | None = None,
    proxy_loopback: bool = False,
) -> ClientEnv:
    """The changes that send the tools of `environ` through the proxy. Writes bundles into `bundle_dir`.

    `proxy_loopback` leaves localhost out of NO_PROXY, for origins on this machine. Raises OSError when the
    bundles cannot be written.
    """
    files = ClientFiles(bundle_dir, ca_file)
    url = proxy_url(proxy, group=group, offline=offline, run=run, credentials=credentials)
    changes = dict.fromkeys((*PROXY, *PROXY_TOO), url)
    changes |= {name: value for name, value in SWITCHES.items() if not environ.get(name)}
    changes |= _no_proxy(environ, () if proxy_loopback else LOOPBACK)
    changes |= _trust(environ, files)
    changes |= _wget(environ, files) | _apt(environ, files) | _java(environ, files, proxy, proxy_loopback)
    return ClientEnv(changes, tuple(name for name in OUTRANKING if name in environ), tuple(files.notes))


def proxy_url(
    proxy: Address,
    *,
    group: str = DEFAULT_GROUP,
    offline: bool = False,
    run: str | None = None,
    credentials: Credentials | None = None,
) -> str:
    """http://USER:PASSWORD@HOST:PORT with the selectors, percent-encoded, in the user name."""
    selectors = username(group, offline, run)
    user = "+".join(part for part in (credentials.user if credentials else "", selectors) if part)
    password = credentials.password if credentials else FILLER_PASSWORD
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    return f"http://{login}{address_text(reachable(proxy))}"


def _no_proxy(environ: Mapping[str, str], added: tuple[str, ...]) -> dict[str, str]:
    """Both spellings keep their own entries; one that is unset takes over the other's."""
    own = {"NO_PROXY": environ.get("NO_PROXY"), "no_proxy": environ.get("no_proxy")}
    held = {
        name: next((v for v in (value, *own.values()) if v is not None), "") for name, value in own.items()
    }
    merged = {name: ",".join(dict.fromkeys([*_entries(value), *added])) for name, value in held.items()}
    return {name: value for name, value in merged.items() if value or own[name] is not None}


def _entries(value: str) -> list[str]:
    return [entry for entry in re.split(r"[,\s]+", value) if entry]


def _trust(environ: Mapping[str, str], files: ClientFiles) -> dict[str, str]:
    changes = {}
    for row in TRUST:
        value = environ.get(row.name, "")
        if (row.only_if_set and not value) or value.lower() in UNVERIFIED:
            continue
        make = files.replacement if row.kind is Kind.REPLACES else files.addition
        changes[row.name] = str(make(_own_files(row, environ)))
    return changes


def _own_files(row: Trust, environ: Mapping[str, str]) -> list[Path]:
    """What the tool trusts beyond its defaults: named by the variable, else by its stand-ins and files."""
    named = _paths(environ, row.name)
    if named and row.name != "SSL_CERT_FILE":  # OpenSSL and Go read SSL_CERT_DIR as well, not instead
        return named
    return (
        named
        + [path for name in row.falls_back for path in _paths(environ, name)]
        + _configured(row, environ)
    )


def _paths(environ: Mapping[str, str], name: str) -> list[Path]:
    """Files and directories in a variable; words like "true" or "<system>" are no paths."""
    value = environ.get(name, "")
    parts = value.split(":") if name.endswith("_DIR") else [value]
    return [_expand(part, environ) for part in parts if "/" in part or (part and Path(part).exists())]


def _configured(row: Trust, environ: Mapping[str, str]) -> list[Path]:
    if row.config is None:
        return []
    setting, names = row.config
    line = re.compile(
        rf"^[ \t]*{setting}[ \t]*=[ \t]*[\"']?([^\"'\r\n]+?)[\"']?[ \t]*$", re.MULTILINE | re.IGNORECASE
    )
    found: list[Path] = []
    for name in names:
        try:
            text = _expand(name, environ).read_text(errors="replace")
        except OSError:
            continue
        found += [_expand(value, environ) for value in line.findall(text)]
    return [path for path in found if path.exists()]


def _expand(text: str, environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME") or str(Path.home())
    text = re.sub(r"^~(?=/)", lambda _: home, text)
    return Path(re.sub(r"\$\{?(\w+)\}?", lambda match: environ.get(match[1], "/nonexistent"), text))


def _wget(environ: Mapping[str, str], files: ClientFiles) -> dict[str, str]:
    """GnuTLS builds of wget read no variable: a start-up file holds the bundle, on top of the user's own."""
    own = _expand(environ.get("WGETRC") or "~/.wgetrc", environ)
    named = re.findall(
        rb"^[ \t]*ca_?certificate[ \t]*=[ \t]*(\S+)", _bytes(own), re.MULTILINE | re.IGNORECASE
    )
    bundle = files.replacement([_expand(value.decode(errors="surrogateescape"), environ) for value in named])
    return {"WGETRC": str(files.wgetrc(own if own.exists() else None, bundle))}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _apt(environ: Mapping[str, str], files: ClientFiles) -> dict[str, str]:
    if not shutil.which("apt-get", path=environ.get("PATH")):
        return {}
    own = environ.get("APT_CONFIG")
    return {"APT_CONFIG": str(files.apt_config(Path(own) if own else None, files.replacement()))}


def _java(
    environ: Mapping[str, str], files: ClientFiles, proxy: Address, proxy_loopback: bool
) -> dict[str, str]:
    """JAVA_TOOL_OPTIONS, where there is a JVM. The user's options stay; a trust store among them rules."""
    own = _without_ours(environ.get("JAVA_TOOL_OPTIONS", ""))
    if not (own or environ.get("JAVA_HOME") or shutil.which("java", path=environ.get("PATH"))):
        return {}
    host, port = reachable(proxy)
    direct = "|".join(_java_hosts(environ.get("NO_PROXY") or environ.get("no_proxy") or "", proxy_loopback))
    options = {
        f"{scheme}.proxy{key}": value
        for scheme in ("http", "https")
        for key, value in (("Host", host), ("Port", str(port)))
    }
    options["http.nonProxyHosts"] = direct
    if "-Djavax.net.ssl.trustStore=" in own:
        files.notes.append(
            "JAVA_TOOL_OPTIONS names a trust store of its own, which Java keeps: add Buffy's CA to it"
            f" (keytool -importcert -file {files.ca_file})"
        )
    else:
        options |= {
            "javax.net.ssl.trustStore": str(files.java_trust_store()),
            "javax.net.ssl.trustStoreType": "JKS",
        }
    words = [
        f'"-D{name}={value}"' if " " in value else f"-D{name}={value}" for name, value in options.items()
    ]
    return {"JAVA_TOOL_OPTIONS": " ".join([own, *words]).strip()}


def _without_ours(options: str) -> str:
    """Java's options before an outer `buffy run` added its own, which always end them."""
    return re.sub(
        r'\s*"?-Dhttp\.proxyHost=.*-Djavax\.net\.ssl\.trustStore=[^"]*/java-[0-9a-f]{16}\.jks.*', "", options
    )


def _java_hosts(no_proxy: str, proxy_loopback: bool) -> list[str]:
    hosts = [] if proxy_loopback else ["localhost", "127.*", "[::1]"]
    for entry in _entries(no_proxy):
        if entry in LOOPBACK and hosts:
            continue
        name = entry.lstrip("*.")
        hosts += ["*"] if not name else [name, f"*.{name}"]
    return list(dict.fromkeys(hosts))
