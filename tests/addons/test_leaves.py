"""Leaves as a client sees them: for which names they are good, and what happens to the files."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from buffy_proxy.addons import leaves as module
from buffy_proxy.addons.leaves import DAYS, Leaves, write
from buffy_proxy.addons.tls import ensure_ca
from buffy_proxy.trust import ca_files
from tests.support.procs import ROOT, clean_env


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    ensure_ca(directory)
    return directory


@pytest.fixture
def data_dir(authority: Path, tmp_path: Path) -> Path:
    """The authority, and no leaves yet."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ca").symlink_to(authority / "ca")
    return tmp_path / "data"


def greet(context: ssl.SSLContext, data_dir: Path, host: str, sni: str | None = None) -> x509.Certificate:
    """A handshake of a client that trusts our authority and wants this host; gives the leaf."""
    client_context = ssl.create_default_context(cafile=str(ca_files(data_dir)[1]))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=sni or host)
    server = context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    der = client.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def files(data_dir: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in (data_dir / "leaves").rglob("*.pem")}


@pytest.mark.parametrize(
    ("host", "sni"),
    [
        ("example.org", None),
        ("a.b.c.d.example.org", None),
        ("localhost", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("xn--bcher-kva.example", None),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.example.org", "www.example.org"),
        ("under_score.example", None),
        ("x" * 63 + "." + "y" * 63 + ".example", None),  # no common name is as long
    ],
)
def test_clients_accept_it(data_dir: Path, host: str, sni: str | None) -> None:
    leaf = greet(Leaves(data_dir).context(host), data_dir, host, sni)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=398)


def test_it_is_good_for_its_host_only(data_dir: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        greet(Leaves(data_dir).context("example.org"), data_dir, "example.com")


def test_a_name_that_cannot_be_one(data_dir: Path) -> None:
    with pytest.raises(ValueError):
        Leaves(data_dir).context("ä" * 70 + ".example")
    assert list(files(data_dir)) == ["key.pem"]


def test_one_leaf_for_all_processes_and_times(data_dir: Path) -> None:
    leaves = Leaves(data_dir)
    first = greet(leaves.context("example.org"), data_dir, "example.org")
    assert leaves.context("example.org") is leaves.context("example.org")
    assert greet(Leaves(data_dir).context("example.org"), data_dir, "example.org") == first


def leaf_file(data_dir: Path) -> Path:
    (found,) = (one for one in (data_dir / "leaves").rglob("*.pem") if one.name != "key.pem")
    return found


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def garbage(file: Path) -> None:
    file.write_bytes(os.urandom(500))


def another_key(file: Path) -> None:
    """A leaf whose key nobody has."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=100))
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("damage", [empty, cut, garbage, another_key, Path.unlink])
def test_a_file_that_is_damaged_is_made_anew(data_dir: Path, damage: Callable[[Path], None]) -> None:
    Leaves(data_dir).context("example.org")
    damage(leaf_file(data_dir))
    greet(Leaves(data_dir).context("example.org"), data_dir, "example.org")


def test_a_leaf_that_ends_soon_is_made_anew(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = Leaves(data_dir)
    first = greet(leaves.context("example.org"), data_dir, "example.org")
    later = time.time() + (DAYS - 29) * 86400
    monkeypatch.setattr(module.time, "time", lambda: later)
    for which in (leaves, Leaves(data_dir)):  # the one that has a context, and the one that has the file
        assert greet(which.context("example.org"), data_dir, "example.org") != first
    monkeypatch.undo()
    assert leaves.context("example.org") is not None


def test_another_authority_has_other_leaves(data_dir: Path, tmp_path: Path) -> None:
    first = greet(Leaves(data_dir).context("example.org"), data_dir, "example.org")
    (data_dir / "ca").unlink()
    ensure_ca(data_dir)
    assert greet(Leaves(data_dir).context("example.org"), data_dir, "example.org") != first


def test_only_their_owner_reads_them(data_dir: Path) -> None:
    Leaves(data_dir).context("example.org")
    for one in (data_dir / "leaves").rglob("*"):
        assert one.stat().st_mode & 0o077 == 0, one


def test_contexts_are_bounded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONTEXTS_MAX", 3)
    leaves = Leaves(data_dir)
    contexts = [leaves.context(f"host{number}.example") for number in range(5)]
    assert leaves.context("host4.example") is contexts[4]
    assert leaves.context("host0.example") is not contexts[0]


SCRIPT = """
import sys
from pathlib import Path
from buffy_proxy.addons.leaves import Leaves
sys.stdin.readline()
leaves = Leaves(Path(sys.argv[1]))
for number in range(20):
    leaves.context(f"host{number}.example")
"""


def test_two_processes_make_the_same_leaves_at_once(data_dir: Path) -> None:
    """Each may sign; what is there in the end is whole, and fits the one key that both have."""
    command = [sys.executable, "-c", SCRIPT, str(data_dir)]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(command, stdin=pipe, stderr=pipe, env=clean_env(), cwd=ROOT, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    before = files(data_dir)
    assert len(before) == 21
    leaves = Leaves(data_dir)
    for number in range(20):
        host = f"host{number}.example"
        greet(leaves.context(host), data_dir, host)
    assert files(data_dir) == before
    assert not list((data_dir / "leaves").rglob(".new-*"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Readers that look all the time see one of the two contents."""
    file, seen, stop = tmp_path / "file", set(), threading.Event()
    write(file, b"a" * 100_000)

    def look() -> None:
        while not stop.is_set():
            seen.add(file.read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(200):
        write(file, (b"b" if number % 2 else b"a") * 100_000)
    stop.set()
    looking.join()
    assert seen <= {b"a" * 100_000, b"b" * 100_000}


def test_a_file_that_is_there_may_stay(tmp_path: Path) -> None:
    write(tmp_path / "file", b"first", replace=False)
    write(tmp_path / "file", b"second", replace=False)
    assert (tmp_path / "file").read_bytes() == b"first"
    write(tmp_path / "file", b"third")
    assert (tmp_path / "file").read_bytes() == b"third"
    assert len(list(tmp_path.iterdir())) == 1
