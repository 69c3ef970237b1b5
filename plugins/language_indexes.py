"""Package indexes: their listings are short-lived, their files never change.

    [[rule]]
    match = "https://packages.example.org/**"
    strategy = { strategy_name = "language_indexes", index_seconds = 600 }

A URL's path says what it is, by the layouts of PyPI (simple API and files), npm, apt, conda, crates, Go
module proxies, CRAN, RubyGems, Maven, NuGet, RPM and Alpine. Listings answer for `index_seconds`, then the
origin is asked whether they changed; while it is down, they go on answering. Files that are named by version
or by digest are kept for ever. What is neither (a web page, a search, an error, a redirect) is kept only as
its own headers say, as with the strategy `http`.

`families` limits it to some of them, where one server's paths look like another's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from buffy_proxy import BaseStrategy, CacheKey, Plan, Policy, Renewal, Request, Response, Version, hookimpl
from buffy_proxy.core import storing
from buffy_proxy.core.strategies import Http

__version__ = "1.0"

INDEX, FILE = "index", "file"
_ARCHIVE: Final = r"\.(?:whl|tar\.gz|tgz|tar\.bz2|tar\.xz|zip|egg)"
_SIDE: Final = r"(?:\.metadata|\.asc|\.provenance)?"
_SUBDIR: Final = r"/(?:noarch|(?:linux|osx|win|freebsd|emscripten|wasi|zos)-[a-z0-9]+)"
_SEMVER: Final = r"\d+\.\d+\.\d+(?:[-+][^/]*)?"
_NPM: Final = r"(?:.*/[^/]*npm[^/]*)?"  # at the root, or below a repository of a name like npm-all
_GEMS: Final = r"(?:.*/[^/]*gems[^/]*)?"
_INDEX: Final = r"(?:.*/[^/]*index)?"

LAYOUTS: Final = tuple(
    (family, kind, re.compile(pattern))
    for family, kind, pattern in (
        # PEP 503 and 691: /simple/, /simple/NAME/; PEP 658: FILE.metadata; /pypi/NAME/json
        ("pypi", INDEX, r".*/simple(?:/[^/]+)?/?"),
        ("pypi", INDEX, r".*/pypi/[^/]+(?:/[^/]+)?/json"),
        ("pypi", FILE, rf".*/packages/.+{_ARCHIVE}{_SIDE}"),
        ("pypi", FILE, rf".*/[^/]+\.whl{_SIDE}"),
        # /NAME/-/NAME-1.0.0.tgz; the packument /@scope%2fname; its version or tag. The bare /NAME comes last.
        ("npm", FILE, r".*/-/[^/]+\.tgz"),
        ("npm", INDEX, r".*/@(?!v/)[^/%]+(?:/|%2[fF])[a-z0-9._~-]+"),
        ("npm", INDEX, r".*/-/package/[^/]+(?:/[^/]+)?/dist-tags"),
        ("npm", INDEX, rf"{_NPM}/(?:@[^/%]+(?:/|%2[fF]))?[a-z0-9._~-]+/(?:latest|{_SEMVER})"),
        # /dists/SUITE/…: by-hash names hold the digest, all else changes; /pool/… never does
        ("apt", FILE, r".*/by-hash/[A-Za-z0-9]+/[0-9a-f]{32,128}"),
        ("apt", INDEX, r".*/dists/.+"),
        ("apt", INDEX, r".*/(?:InRelease|Release(?:\.gpg)?|(?:Packages|Sources)(?:\.\w+)?)"),
        ("apt", FILE, r".*/pool/.+\.(?:dsc|changes|tar\.\w+|diff\.gz|asc)"),
        ("apt", FILE, r".*/[^/_]+_\d[^/_]*_[^/_]+\.(?:deb|udeb|ddeb)"),
        # CHANNEL/SUBDIR/repodata.json, and what it names; shards are named by their digest
        ("conda", INDEX, r".*/(?:current_)?repodata\w*\.(?:json(?:\.\w+)?|jlap|msgpack\.zst)"),
        ("conda", INDEX, r".*/(?:run_exports|patch_instructions|channeldata)\.json(?:\.\w+)?"),
        ("conda", FILE, r".*/[0-9a-f]{64}\.msgpack\.zst"),
        ("conda", FILE, rf".*{_SUBDIR}/[^/]+-[^/]+-[^/]+\.(?:conda|tar\.bz2)"),
        # sparse index: config.json, /se/rd/serde; /crates/NAME/NAME-1.0.0.crate
        ("crates", FILE, r".*/crates/[^/]+/(?:[^/]+/download|[^/]+\.crate)"),
        ("crates", INDEX, r".*/([\w-]{2})/([\w-]{2})/\1\2[\w-]*"),
        ("crates", INDEX, rf"{_INDEX}/(?:config\.json|1/[\w-]|2/[\w-]{{2}}|3/([\w-])/\1[\w-]{{2}})"),
        # /MODULE/@v/list, @latest; @v/v1.2.3.info; v1.2.info and main.info are questions for the newest;
        # the checksum database: records and tiles are final
        ("go", FILE, rf".*/@v/v{_SEMVER}\.(?:info|mod|zip|ziphash)"),
        ("go", INDEX, r".*/@v/.+|.*/@latest"),
        ("go", FILE, r".*/(?:lookup/[^@]+@v\d[^/]*|tile/\d+/(?:data/)?[x\d/]+(?:\.p/\d+)?)"),
        ("go", INDEX, r".*/sumdb/[^/]+/(?:latest|supported)"),
        ("cran", INDEX, r".*/contrib/(?:[^/]+/)?PACKAGES(?:\.gz|\.rds)?"),
        ("cran", FILE, r".*/contrib/(?:.+/)?[^/_]+_[^/_]+\.(?:tar\.gz|zip|tgz)"),
        ("rubygems", INDEX, rf"{_GEMS}/(?:versions|names|info/[^/]+)|.*/\w*specs\.4\.8\.gz"),
        ("rubygems", FILE, r".*/gems/[^/]+-[^/]+\.gem|.*/quick/Marshal\.4\.8/[^/]+\.gemspec\.rz"),
        # GROUP/ARTIFACT/VERSION/ARTIFACT-VERSION.jar; snapshots are no versions
        ("maven", INDEX, r".*/maven-metadata\.xml(?:\.\w+)?|.*-SNAPSHOT/.*"),
        ("maven", FILE, r".*/([^/]+)/([^/]+)/\1-\2[.-][^/]+"),
        # v3: the service index, registrations and lists; /ID/VERSION/ID.VERSION.nupkg
        ("nuget", FILE, r".*/([^/]+)/([^/]+)/(?:\1\.\2\.nupkg(?:\.sha512)?|\1\.nuspec)"),
        ("nuget", INDEX, r".*/v3[^/]*/(?:(?:[^/]+/)?index|registration.+)\.json"),
        # repodata/repomd.xml, and what it names by digest; NAME-VERSION-RELEASE.ARCH.rpm
        ("rpm", INDEX, r".*/repodata/repomd\.xml(?:\.\w+)?"),
        ("rpm", FILE, r".*/repodata/[0-9a-f]{32,128}-[^/]+"),
        ("rpm", FILE, r".*/[^/]+-\d[^/-]*-[^/-]+\.\w+\.d?rpm"),
        ("alpine", INDEX, r".*/APKINDEX\.tar\.gz"),
        ("alpine", FILE, r".*/[^/]+-\d[^/]*-r\d+\.apk"),
        # names with a dot exist (socket.io), but these are what web servers have at their root
        ("npm", INDEX, rf"{_NPM}/(?![^/]+\.(?:html?|txt|ico|xml|php)$)[a-z0-9][a-z0-9._~-]*"),
    )
)  # fmt: skip
"""Family, kind, and the paths it means; the first that fits decides."""

FAMILIES: Final = tuple(dict.fromkeys(family for family, _, _ in LAYOUTS))


def kind_of(url: str, families: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """(family, "index" or "file") by the URL's path; None for what is neither. No index takes parameters but
    that of PEP 691, `format`."""
    parts = urlsplit(url)
    asks = bool(parts.query) and not parts.query.startswith("format=")
    for family, kind, pattern in LAYOUTS:
        if (families and family not in families) or (kind == INDEX and asks):
            continue
        if pattern.fullmatch(parts.path):
            return family, kind
    return None


@dataclass(frozen=True)
class LanguageIndexes(BaseStrategy):
    """Listings for `index_seconds`, then validated; files for ever; the rest as the origin says."""

    strategy_name = "language_indexes"
    index_seconds: int = 600
    families: tuple = ()  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if unknown := [each for each in self.families if each not in FAMILIES]:
            raise ValueError(f"families: {unknown[0]!r} is unknown; allowed are {', '.join(FAMILIES)}")

    def plan(self, version: Version, now: float, url: str = "") -> Plan:
        found = kind_of(url, self.families) if version.status == 200 else None
        if found is None:
            return Http().plan(version, now, url)
        family, kind = found
        if kind == FILE:
            return Plan(math.inf, None, Renewal.REFETCH, f"a file of {family} never changes")
        until, why = version.validated_at + self.index_seconds, f"asked again after {self.index_seconds} s"
        return Plan(until, None, self.renewal(version, now, url), f"an index of {family}, {why}")


@hookimpl
def storability(request: Request, response: Response, policy: Policy, now: float) -> Any:
    """What is neither, under this strategy, is stored only where `http` would: a private page is private."""
    strategy: Any = policy.strategy
    if strategy.strategy_name != LanguageIndexes.strategy_name or response.status >= 400:
        return None
    if response.status == 200 and kind_of(request.url, strategy.families):
        return None
    key = CacheKey("", request.group, request.method, request.url)
    return storing.storability(request, response, replace(policy, strategy=Http()), key, now)


@hookimpl
def register_strategies() -> list[type[BaseStrategy]]:
    return [LanguageIndexes]
