"""Real shapes of paths, on hosts that are none; and traffic like that of pip and npm, through a Buffy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from buffy_proxy.testing import Origin, RunningBuffy, make_version, posix
from tests.plugins.kit import loaded, module, plugin_file

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
    ("/golang.org/x/text/@v/list", "go", "index"),
    ("/golang.org/x/text/@latest", "go", "index"),
    ("/golang.org/x/text/@v/v0.20.0.zip", "go", "file"),
    ("/golang.org/x/text/@v/v0.20.0.mod", "go", "file"),
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
    ("/snap/acme/tool/1.0-SNAPSHOT/tool-1.0-20261125.101112-1.jar", "maven", "index"),
]
NEITHER = [
    "/",
    "/search?q=numpy",
    "/project/numpy/",
    "/-/v1/search",
    "/help/some/page.html",
    "/debian/README.txt",
    "/a/b/c/d.json",
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
    redirect = make_version(at=AT, status=302)
    assert plan(file, redirect).fresh_until == AT


def test_families_limit_it() -> None:
    url = "https://packages.example.org/express"
    assert plan(url, make_version(at=AT), families=["pypi"]).fresh_until == AT
    with pytest.raises(ValueError, match="families: 'perl' is unknown; allowed are pypi, npm, apt"):
        plan(url, make_version(at=AT), families=["perl"])


def test_pip_and_npm_through_a_running_buffy(origin: Origin) -> None:
    """An index is validated after its time; a file is fetched once, though it forbids storing."""
    rule = """
[[rule]]
match = "http://127.0.0.1*/**"
strategy = { strategy_name = "language_indexes", index_seconds = 0 }
"""
    index = origin.serve(
        "/simple/acme/", b"<a href='acme-1.0.whl'>acme</a>", {"Cache-Control": "max-age=600"}
    )
    wheel = origin.serve("/packages/acme-1.0-py3-none-any.whl", b"PK", {"Cache-Control": "no-store"})
    packument = origin.serve("/acme", b'{"name": "acme"}')
    with RunningBuffy(rule, plugins=[plugin_file("language_indexes")]) as buffy:
        for route in (index, wheel, packument):
            assert len({buffy.get(route.url).content for _ in range(3)}) == 1
        assert (index.count, wheel.count, packument.count) == (3, 1, 3)
        assert [request.get("if-none-match") is not None for request in index.requests] == [False, True, True]
        origin.stop()
        assert buffy.get(index.url).content.startswith(b"<a href")
