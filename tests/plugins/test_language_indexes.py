"""Real shapes of paths, on hosts that are none; and traffic like that of pip and npm, through a Buffy."""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffy_proxy import DoNotStore
from buffy_proxy.testing import (
    Origin,
    RunningBuffy,
    make_policy,
    make_request,
    make_response,
    make_version,
    posix,
)
from buffy_proxy.testing.fixtures import BuffyFactory
from tests.plugins.kit import loaded, module, plugin_file
from tests.support.registries import wheel

SOURCE = plugin_file("language_indexes")
PLUGINS = loaded("language_indexes")
AT = posix("2026-11-25T00:00:00Z")
HASH = "5f" * 32

SHAPES = [
    ("/simple/", "pypi", "index"),
    ("/simple/numpy/", "pypi", "index"),
    ("/simple/numpy", "pypi", "index"),
    ("/repository/pypi-all/simple/numpy/", "pypi", "index"),
    ("/pypi/numpy/json", "pypi", "index"),
    ("/pypi/numpy/2.1.0/json", "pypi", "index"),
    (f"/packages/5f/5f/{HASH}/numpy-2.1.0-cp313-cp313-manylinux_2_17_x86_64.whl", "pypi", "file"),
    (f"/packages/5f/5f/{HASH}/numpy-2.1.0-cp313-cp313-manylinux_2_17_x86_64.whl.metadata", "pypi", "file"),
    (f"/packages/5f/5f/{HASH}/numpy-2.1.0.tar.gz", "pypi", "file"),
    ("/express", "npm", "index"),
    ("/@types%2fnode", "npm", "index"),
    ("/@types/node", "npm", "index"),
    ("/express/-/express-4.21.1.tgz", "npm", "file"),
    ("/@types/node/-/node-22.9.0.tgz", "npm", "file"),
    ("/debian/dists/bookworm/InRelease", "apt", "index"),
    ("/debian/dists/bookworm/main/binary-amd64/Packages.xz", "apt", "index"),
    (f"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{HASH}", "apt", "file"),
    ("/debian/pool/main/c/curl/curl_7.88.1-10+deb12u8_amd64.deb", "apt", "file"),
    ("/debian/pool/main/c/curl/curl_7.88.1.orig.tar.gz", "apt", "file"),
    ("/conda-forge/linux-64/repodata.json.zst", "conda", "index"),
    ("/conda-forge/noarch/current_repodata.json", "conda", "index"),
    ("/conda-forge/linux-64/repodata_shards.msgpack.zst", "conda", "index"),
    ("/conda-forge/linux-64/numpy-2.1.3-py313h4bf6692_0.conda", "conda", "file"),
    ("/pkgs/main/noarch/tzdata-2024b-h04d1e81_0.tar.bz2", "conda", "file"),
    ("/config.json", "crates", "index"),
    ("/se/rd/serde", "crates", "index"),
    ("/3/b/bit", "crates", "index"),
    ("/crates/serde/serde-1.0.215.crate", "crates", "file"),
    ("/api/v1/crates/serde/1.0.215/download", "crates", "file"),
    ("/example.org/x/text/@v/list", "go", "index"),
    ("/example.org/x/text/@latest", "go", "index"),
    ("/example.org/x/text/@v/v0.20.0.zip", "go", "file"),
    ("/example.org/x/text/@v/v0.20.0.mod", "go", "file"),
    ("/src/contrib/PACKAGES.gz", "cran", "index"),
    ("/src/contrib/dplyr_1.1.4.tar.gz", "cran", "file"),
    ("/src/contrib/Archive/dplyr/dplyr_1.0.0.tar.gz", "cran", "file"),
    ("/bin/windows/contrib/4.4/PACKAGES.rds", "cran", "index"),
    ("/bin/windows/contrib/4.4/dplyr_1.1.4.zip", "cran", "file"),
    ("/versions", "rubygems", "index"),
    ("/info/rails", "rubygems", "index"),
    ("/gems/rails-8.0.0.gem", "rubygems", "file"),
    ("/maven2/org/slf4j/slf4j-api/maven-metadata.xml", "maven", "index"),
    ("/maven2/org/slf4j/slf4j-api/2.0.16/slf4j-api-2.0.16.jar", "maven", "file"),
    ("/maven2/org/slf4j/slf4j-api/2.0.16/slf4j-api-2.0.16.pom.sha1", "maven", "file"),
    ("/maven2/org/slf4j/slf4j-api/2.0.16/slf4j-api-2.0.16-sources.jar.asc", "maven", "file"),
    ("/snap/acme/tool/1.0-SNAPSHOT/tool-1.0-20261125.101112-1.jar", "maven", "index"),
    ("/packages/source/n/numpy/numpy-2.1.0.zip", "pypi", "file"),
    ("/packages/py3/n/numpy/numpy-2.1.0-py3-none-any.whl.provenance", "pypi", "file"),
    ("/socket.io", "npm", "index"),
    ("/repository/npm-all/express", "npm", "index"),
    ("/artifactory/api/npm/npm-remote/@types%2Fnode", "npm", "index"),
    ("/express/latest", "npm", "index"),
    ("/express/4.21.1", "npm", "index"),
    ("/-/package/express/dist-tags", "npm", "index"),
    ("/debian/dists/bookworm-updates/main/i18n/Translation-en.xz", "apt", "index"),
    ("/debian/dists/sid/main/binary-amd64/Packages.diff/T-2026-11-25-0203.12.gz", "apt", "index"),
    ("/ubuntu/dists/noble/Release.gpg", "apt", "index"),
    ("/flat/./InRelease", "apt", "index"),
    ("/flat/./Packages.gz", "apt", "index"),
    ("/flat/./acme_1.2-3_all.deb", "apt", "file"),
    ("/debian/pool/main/c/curl/curl_7.88.1-10+deb12u8.debian.tar.xz", "apt", "file"),
    ("/debian/pool/main/c/curl/curl_7.88.1-10+deb12u8.dsc", "apt", "file"),
    ("/pkgs/main/linux-64/repodata.json.bz2", "conda", "index"),
    ("/conda-forge/linux-64/repodata_from_packages.json", "conda", "index"),
    ("/conda-forge/noarch/repodata.jlap", "conda", "index"),
    ("/conda-forge/channeldata.json", "conda", "index"),
    (f"/conda-forge/linux-64/shards/{HASH}.msgpack.zst", "conda", "file"),
    ("/1/a", "crates", "index"),
    ("/api/cargo/acme/index/2/io", "crates", "index"),
    ("/to/ki/tokio-util", "crates", "index"),
    ("/api/v1/crates/serde/1.0.215/download", "crates", "file"),
    ("/example.org/x/text/@v/master.info", "go", "index"),
    ("/example.org/x/text/@v/v0.20.info", "go", "index"),
    ("/github.com/!azure/x/@v/v1.2.3-0.20241125101112-0123456789ab.zip", "go", "file"),
    ("/github.com/x/y/@v/v2.0.0+incompatible.mod", "go", "file"),
    ("/sumdb/sum.example.org/latest", "go", "index"),
    ("/sumdb/sum.example.org/lookup/example.org/x/text@v0.20.0", "go", "file"),
    ("/sumdb/sum.example.org/tile/8/0/x010/x123/456", "go", "file"),
    ("/sumdb/sum.example.org/tile/8/data/x010/123.p/56", "go", "file"),
    ("/cran/bin/macosx/big-sur-arm64/contrib/4.4/dplyr_1.1.4.tgz", "cran", "file"),
    ("/specs.4.8.gz", "rubygems", "index"),
    ("/prerelease_specs.4.8.gz", "rubygems", "index"),
    ("/repository/rubygems/info/rails", "rubygems", "index"),
    ("/quick/Marshal.4.8/rails-8.0.0.gemspec.rz", "rubygems", "file"),
    ("/maven2/org/slf4j/slf4j-api/maven-metadata.xml.sha1", "maven", "index"),
    ("/v3/index.json", "nuget", "index"),
    ("/v3-flatcontainer/newtonsoft.json/index.json", "nuget", "index"),
    ("/v3/registration5-semver1/newtonsoft.json/index.json", "nuget", "index"),
    ("/v3-flatcontainer/newtonsoft.json/13.0.3/newtonsoft.json.13.0.3.nupkg", "nuget", "file"),
    ("/v3-flatcontainer/newtonsoft.json/13.0.3/newtonsoft.json.nuspec", "nuget", "file"),
    ("/fedora/releases/41/Everything/x86_64/os/repodata/repomd.xml", "rpm", "index"),
    (f"/fedora/releases/41/Everything/x86_64/os/repodata/{HASH}-primary.xml.zst", "rpm", "file"),
    ("/fedora/releases/41/Everything/x86_64/os/Packages/c/curl-8.9.1-2.fc41.x86_64.rpm", "rpm", "file"),
    ("/alpine/v3.20/main/x86_64/APKINDEX.tar.gz", "alpine", "index"),
    ("/alpine/v3.20/main/x86_64/curl-8.11.0-r2.apk", "alpine", "file"),
]  # fmt: skip
NEITHER = [
    "/",
    "/search?q=numpy",
    "/express?write=true",
    "/project/numpy/",
    "/-/v1/search",
    "/help/some/page.html",
    "/index.html",
    "/robots.txt",
    "/favicon.ico",
    "/debian/README.txt",
    "/a/b/c/d.json",
    "/de/at/index.html",
    "/api/v1/versions/all",
    "/linux/direct/browser-stable_current_amd64.deb",  # files whose names stay and whose content does not
    "/pub/epel/acme-release-latest-9.noarch.rpm",
    "/miniconda/Miniconda3-latest-Linux-x86_64.sh",
    "/win/setup.tar.bz2",
    "/downloads/tool-latest.tar.gz",
]


@pytest.mark.parametrize(("path", "family", "kind"), SHAPES)
def test_what_a_path_means(path: str, family: str, kind: str) -> None:
    """Alone, and among all: a name may fit two families, what it is may not."""
    url = f"https://packages.example.org{path}"
    assert module("language_indexes").kind_of(url, (family,)) == (family, kind)
    assert module("language_indexes").kind_of(url)[1] == kind


@pytest.mark.parametrize("path", NEITHER)
def test_what_is_neither_follows_the_origin(path: str) -> None:
    url = f"https://packages.example.org{path}"
    assert module("language_indexes").kind_of(url) is None
    version = make_version(at=AT, fields={"Cache-Control": "max-age=77"})
    assert plan(url, version).fresh_until == AT + 77


def plan(url: str, version: Any, **parameters: Any) -> Any:
    return PLUGINS.strategy({"strategy_name": "language_indexes", **parameters}).plan(version, AT, url)


def test_plans() -> None:
    file, index = (
        "https://packages.example.org/gems/rails-8.0.0.gem",
        "https://packages.example.org/simple/numpy/",
    )
    version = make_version(at=AT, fields={"ETag": '"1"', "Cache-Control": "no-cache"})
    assert plan(file, version).fresh_until == math.inf
    found = plan(index, version, index_seconds=60)
    assert (found.fresh_until, found.renewal.value) == (AT + 60, "validate")
    assert plan(index, make_version(at=AT)).renewal.value == "re-fetch"


@pytest.mark.parametrize("status", [203, 204, 301, 302, 404])
@pytest.mark.parametrize("path", ["/gems/rails-8.0.0.gem", "/simple/numpy/"])
def test_only_content_is_a_file_or_an_index(path: str, status: int) -> None:
    """A redirect to a link that is signed anew each time must not be kept for ever."""
    version = make_version(at=AT, status=status, fields={"Cache-Control": "max-age=77"})
    assert plan(f"https://packages.example.org{path}", version).fresh_until == AT + 77


def test_an_index_in_the_form_of_pep_691() -> None:
    url = "https://packages.example.org/simple/numpy/?format=application/vnd.pypi.simple.v1%2Bjson"
    assert module("language_indexes").kind_of(url) == ("pypi", "index")


STORED = [
    # path, status, Cache-Control, strategy, whether the plugin forbids storing
    ("/simple/numpy/", 200, "no-store", "language_indexes", False),
    ("/gems/rails-8.0.0.gem", 200, "private", "language_indexes", False),
    ("/account/", 200, "private, max-age=600", "language_indexes", True),
    ("/account/", 200, "no-store", "language_indexes", True),
    ("/account/", 200, "max-age=600", "language_indexes", False),
    ("/gems/rails-8.0.0.gem", 302, "no-store", "language_indexes", True),
    ("/account/", 404, "no-store", "language_indexes", False),  # no strategy stores errors as versions
    ("/account/", 200, "no-store", "never", False),
]


@pytest.mark.parametrize(("path", "status", "control", "strategy", "forbids"), STORED)
def test_storability(path: str, status: int, control: str, strategy: str, forbids: bool) -> None:
    request = make_request(f"https://packages.example.org{path}")
    response = make_response(status, fields={"Cache-Control": control})
    policy = make_policy(PLUGINS.strategy({"strategy_name": strategy}))
    answer = module("language_indexes").storability(request, response, policy, AT)
    assert isinstance(answer, DoNotStore) == forbids


@given(st.text(alphabet="/@%-_.:ax1v", max_size=60), st.sampled_from(["", "?a=b", "?format=x"]))
def test_any_path_has_one_kind_or_none(path: str, query: str) -> None:
    found = module("language_indexes").kind_of(f"https://packages.example.org/{path}{query}")
    assert found is None or found[1] in ("index", "file")
    if found is not None and query == "?a=b":
        assert found[1] == "file"


def test_families_limit_it() -> None:
    url = "https://packages.example.org/express"
    assert plan(url, make_version(at=AT), families=["pypi"]).fresh_until == AT
    with pytest.raises(ValueError, match="families: 'perl' is unknown; allowed are pypi, npm, apt"):
        plan(url, make_version(at=AT), families=["perl"])


RULE = """
[[rule]]
match = "http://127.0.0.1*/**"
strategy = {{ strategy_name = "language_indexes", index_seconds = {seconds} }}
"""


@pytest.fixture
def buffy(buffy_factory: BuffyFactory) -> RunningBuffy:
    """Asks for indexes each time."""
    return buffy_factory(RULE.format(seconds=0), plugins=[SOURCE])


def test_requests_as_tools_make_them(origin: Origin, buffy: RunningBuffy) -> None:
    """An index is validated after its time; a file is fetched once, though it forbids storing."""
    forbidden = {"Cache-Control": "no-store"}
    indexes = [
        origin.serve(path, path.encode(), {"Cache-Control": "max-age=600"})
        for path in (
            "/simple/acme/",
            "/acme",
            "/debian/dists/sid/InRelease",
            "/conda/noarch/repodata.json.zst",
        )
    ]
    files = [
        origin.serve(path, path.encode(), forbidden)
        for path in (
            "/packages/acme-1.0-py3-none-any.whl",
            "/acme/-/acme-1.0.0.tgz",
            f"/debian/dists/sid/main/binary-amd64/by-hash/SHA256/{HASH}",
            "/conda/noarch/acme-1.0-0.conda",
        )
    ]
    for route in (*indexes, *files):
        assert len({buffy.get(route.url).content for _ in range(3)}) == 1
    assert [route.count for route in indexes] == [3, 3, 3, 3]
    assert [route.count for route in files] == [1, 1, 1, 1]
    for route in indexes:
        assert [asked.get("if-none-match") is not None for asked in route.requests] == [False, True, True]
    origin.stop()
    for route in (*indexes, *files):
        assert buffy.get(route.url).content == route.body


def test_what_a_new_release_changes(origin: Origin, buffy: RunningBuffy) -> None:
    index = origin.serve("/simple/acme/", b"acme-1.0")
    file = origin.serve("/packages/acme-1.0.tar.gz", b"one")
    assert [buffy.get(route.url).content for route in (index, file)] == [b"acme-1.0", b"one"]
    index.body, file.body = b"acme-1.0 acme-1.1", b"not one"
    assert [buffy.get(route.url).content for route in (index, file)] == [b"acme-1.0 acme-1.1", b"one"]


def test_html_and_json_of_one_index_live_beside_each_other(
    origin: Origin, buffy_factory: BuffyFactory
) -> None:
    """PEP 691: the form is negotiated, and the origin says so with Vary."""
    buffy = buffy_factory(RULE.format(seconds=600), plugins=[SOURCE])
    index = origin.serve(
        "/simple/acme/", lambda asked: (asked.get("accept") or "").encode(), {"Vary": "Accept"}
    )
    forms = ["text/html", "application/vnd.pypi.simple.v1+json"]
    for form in forms * 2:
        assert buffy.get(index.url, headers={"Accept": form}).text == form
    assert index.count == 2


def test_what_is_neither_is_not_kept_against_its_will(origin: Origin, buffy: RunningBuffy) -> None:
    private = origin.serve("/account/settings", b"mine", {"Cache-Control": "private, max-age=600"})
    link = origin.serve("/gems/rails-8.0.0.gem", b"", {"Location": "/x"}, status=302)
    for route in (private, link):
        for _ in range(2):
            assert "hit" not in buffy.get(route.url, allow_redirects=False).headers["Cache-Status"]
        assert route.count == 2
    origin.stop()
    assert buffy.get(private.url).status_code == 502


def test_with_pip_itself(origin: Origin, buffy_factory: BuffyFactory, tmp_path: Path) -> None:
    """pip asks for the index with `Cache-Control: max-age=0`; ten minutes are ten minutes nevertheless."""
    buffy = buffy_factory(RULE.format(seconds=600), plugins=[SOURCE])
    name, content = wheel("acme", "1.0")
    file = origin.serve(f"/packages/{name}", content)
    index = origin.serve(
        "/simple/acme/", f"<a href='{file.url}'>{name}</a>".encode(), {"Content-Type": "text/html"}
    )
    for target in (tmp_path / "first", tmp_path / "second"):
        options = [
            "--isolated",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--no-deps",
            "-d",
            str(target),
        ]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--index-url",
            origin.url("/simple/"),
            *options,
            "acme",
        ]
        done = buffy.cli("run", "--proxy-loopback", "--", *command, timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (target / name).read_bytes() == content
    assert index.requests[0].get("cache-control") == "max-age=0"
    assert (index.count, file.count) == (1, 1)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_with_npm_itself(origin: Origin, buffy_factory: BuffyFactory, tmp_path: Path) -> None:
    buffy = buffy_factory(RULE.format(seconds=600), plugins=[SOURCE])
    content = npm_package("acme")
    file = origin.serve("/acme/-/acme-1.0.0.tgz", content)
    dist = {"tarball": file.url, "shasum": hashlib.sha1(content).hexdigest()}
    about = {"name": "acme", "version": "1.0.0", "dist": dist}
    packument = {"name": "acme", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": about}}
    index = origin.serve("/acme", json.dumps(packument).encode(), {"Content-Type": "application/json"})
    for target in (tmp_path / "first", tmp_path / "second"):
        target.mkdir()
        options = ["--registry", origin.url("/"), "--cache", str(target / "cache"), "--no-update-notifier"]
        command = ["npm", "pack", "acme", *options, "--pack-destination", str(target)]
        done = buffy.cli("run", "--proxy-loopback", "--", *command, timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (target / "acme-1.0.0.tgz").is_file()
    assert (index.count, file.count) == (1, 1)


def npm_package(name: str) -> bytes:
    buffer, text = io.BytesIO(), json.dumps({"name": name, "version": "1.0.0"}).encode()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return buffer.getvalue()
