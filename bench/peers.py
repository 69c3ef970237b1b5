"""The proxies that run side by side: each is started on the proxy's core and says where it listens.

A peer that cannot be had raises `Absent` with the reason; the bench says so and goes on without it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.common import cpu_s, family
from tests.support.buffy import Buffy
from tests.support.procs import clean_env, free_port

CERTGEN = Path("/usr/lib/squid/security_file_certgen")
START_S = 30.0


class Absent(Exception):
    """This peer cannot run here; the text says why."""


@dataclass(frozen=True)
class Peer:
    """`ports`: by scheme, where a reverse proxy listens; None for a forward proxy, which is at `port`."""

    name: str
    port: int
    ports: dict[str, str] | None
    stop: Callable[[], None]
    pid: int

    def cpu_s(self) -> float:
        """Processor time in seconds of the process and all below it."""
        return cpu_s(family(self.pid))


@dataclass(frozen=True)
class Place:
    """What a peer needs to start: a directory of its own and the origin's ports by scheme."""

    directory: Path
    origin: dict[str, str]


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        raise Absent(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def start(command: list[str], port: int, log: Path) -> tuple[Callable[[], None], int]:
    """Runs a server until it listens on `port`; gives what stops it, and its pid."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=clean_env(), cwd=log.parent)

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return stop, process.pid
        time.sleep(0.1)
    stop()
    raise Absent(f"{command[0]} did not listen within {START_S:.0f} s: {log.read_text()[-300:]}")


def certificate(directory: Path) -> Path:
    """A self-signed EC certificate that may sign others, with its key, in one file."""
    key, cert, both = (directory / name for name in ("key.pem", "cert.pem", "both.pem"))
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=127.0.0.1"
    )
    done = subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], capture_output=True)
    if done.returncode:
        raise Absent(f"openssl made no certificate: {done.stderr.decode()[-200:]}")
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return both


def buffy(place: Place) -> Peer:
    env = {"SSL_CERT_FILE": str(place.directory.parent / "origin-ca.pem")}
    server = Buffy(place.directory, 'log_level = "warning"\n', env).start()
    assert server.process is not None
    return Peer("buffy", server.proxy[1], None, server.discard, server.process.pid)


def squid(place: Place) -> Peer:
    binary, port, home = program("squid", "squid-openssl"), free_port(), place.directory
    if not CERTGEN.exists():
        raise Absent("this squid has no ssl-bump (Debian: apt-get install squid-openssl)")
    pem = certificate(home)
    subprocess.run(
        [str(CERTGEN), "-c", "-s", str(home / "certs"), "-M", "4MB"], capture_output=True, check=True
    )
    config = home / "squid.conf"
    config.write_text(
        f"http_port 127.0.0.1:{port} ssl-bump tls-cert={pem} generate-host-certificates=on\n"
        f"sslcrtd_program {CERTGEN} -s {home / 'certs'} -M 4MB\n"
        "ssl_bump bump all\nsslproxy_cert_error allow all\ntls_outgoing_options flags=DONT_VERIFY_PEER\n"
        "http_access allow all\naccess_log none\ncache_store_log none\nshutdown_lifetime 0 seconds\n"
        f"cache_log {home / 'cache.log'}\npid_filename {home / 'squid.pid'}\ncoredump_dir {home}\n"
        "cache_mem 4096 MB\nmaximum_object_size_in_memory 2 MB\n"
        "maximum_object_size 2048 MB\ncollapsed_forwarding on\n"
        # Small objects stay in memory, which is what makes squid fast; large ones need a disk.
        f"cache_dir aufs {home / 'cache'} 16384 16 256 min-size={2 << 20}\n"
    )
    if os.getuid() == 0:  # squid gives root up and then wants to read and write here
        for path in (home, *home.rglob("*")):
            shutil.chown(path, "proxy", "proxy")
    subprocess.run([binary, "-N", "-z", "-f", str(config)], capture_output=True, timeout=60)
    return Peer("squid", port, None, *start([binary, "-N", "-f", str(config)], port, home / "log"))


def nginx(place: Place) -> Peer:
    binary, home = program("nginx", "nginx"), place.directory
    plain, tls, pem = free_port(), free_port(), certificate(home)
    shared = (
        "proxy_cache c; proxy_cache_lock on; client_max_body_size 0; proxy_request_buffering off; "
        "proxy_http_version 1.1; proxy_set_header Connection ''; keepalive_requests 100000000;"
    )
    blocks = "".join(
        f"upstream {scheme}_origin {{ server 127.0.0.1:{place.origin[scheme]}; keepalive 64; }}\n"
        f"server {{ listen 127.0.0.1:{port}{flag}; "
        f"location / {{ proxy_pass {scheme}://{scheme}_origin; }} }}\n"
        for scheme, port, flag in (("http", plain, ""), ("https", tls, " ssl"))
    )
    config = home / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error warn;\n"
        f"{'user root;' if os.getuid() == 0 else ''}\nevents {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; proxy_cache_path {home}/cache levels=1:2 keys_zone=c:128m max_size=32g;\n"
        f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pem}; ssl_certificate_key {pem};\n"
        f"{shared}\n{blocks}}}\n"
    )
    running = start([binary, "-c", str(config), "-p", str(home)], plain, home / "log")
    return Peer("nginx", plain, {"http": str(plain), "https": str(tls)}, *running)


def mitmdump(place: Place) -> Peer:
    port, home = free_port(), place.directory
    addon = Path(__file__).with_name("naive_addon.py")
    binary = Path(sys.executable).with_name("mitmdump")
    if not binary.exists():
        raise Absent("mitmdump is not beside this Python")
    options = [
        "--set",
        f"confdir={home}",
        "--ssl-insecure",
        "--listen-host",
        "127.0.0.1",
        "-q",
        "-s",
        str(addon),
    ]
    return Peer("mitmdump", port, None, *start([str(binary), *options, "-p", str(port)], port, home / "log"))


PEERS: dict[str, Callable[[Place], Peer]] = {
    "buffy": buffy,
    "squid": squid,
    "nginx": nginx,
    "mitmdump": mitmdump,
}
