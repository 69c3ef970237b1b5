"""Package indexes: their listings are short-lived, their files never change.

    [[rule]]
    match = "https://packages.example.org/**"
    strategy = { strategy_name = "language_indexes", index_seconds = 600 }

A URL's path says what it is, by the layouts of PyPI (simple API and files), npm, apt, conda, crates, Go
module proxies, CRAN, RubyGems and Maven. Listings answer for `index_seconds`, then the origin is asked
whether they changed; while it is down, they go on answering. Files that are named by version or by digest are
kept for ever. What is neither (a web page, a search) follows the origin's own headers, as with the strategy
`http`.

`families` limits it to some of them, where one server's paths look like another's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from buffy_proxy import BaseStrategy, Plan, Renewal, Version, hookimpl
from buffy_proxy.core.strategies import Http

__version__ = "1.0"

INDEX, FILE = "index", "file"
_ARCHIVE: Final = r"\.(?:whl|tar\.gz|tgz|tar\.bz2|tar\.xz|zip|egg)"

LAYOUTS: Final = tuple(
    (family, kind, re.compile(pattern))
    for family, kind, pattern in (
        # PEP 503 and 691: /simple/, /simple/NAME/; PEP 658: FILE.metadata; /pypi/NAME/json
        ("pypi", INDEX, r".*/simple(?:/[^/]+)?/?"),
        ("pypi", INDEX, r".*/pypi/[^/]+(?:/[^/]+)?/json"),
        ("pypi", FILE, rf".*/packages/.+{_ARCHIVE}(?:\.metadata|\.asc|\.provenance)?"),
        ("pypi", FILE, r".*\.whl(?:\.metadata|\.asc|\.provenance)?"),
        # /NAME/-/NAME-1.0.0.tgz is a tarball; /NAME and /@scope%2fname are packuments
        ("npm", FILE, r".*/-/[^/]+\.tgz"),
        ("npm", INDEX, r"/(?:@[^/%]+(?:/|%2[fF]))?[a-z0-9][a-z0-9._~-]*"),
        # /dists/SUITE/…: by-hash names hold the digest, all else changes; /pool/… never does
        ("apt", FILE, r".*/by-hash/[A-Za-z0-9]+/[0-9a-f]{32,128}"),
        ("apt", INDEX, r".*/dists/.+"),
        ("apt", FILE, r".*/pool/.+\.(?:deb|udeb|ddeb|dsc|changes|tar\.\w+|diff\.gz|asc)"),
        # CHANNEL/SUBDIR/repodata.json, and what it names
        ("conda", INDEX, r".*/(?:current_)?(?:repodata|run_exports|channeldata)[^/]*\.json(?:\.\w+)?"),
        ("conda", INDEX, r".*/repodata_shards\.msgpack\.zst"),
        ("conda", FILE, r".*/(?:noarch|(?:linux|osx|win|emscripten|zos)-\w+)/[^/]+\.(?:conda|tar\.bz2)"),
        # sparse index: config.json, /se/rd/serde; /crates/NAME/NAME-1.0.0.crate
        ("crates", FILE, r".*/crates/[^/]+/(?:[^/]+/download|[^/]+\.crate)"),
        ("crates", INDEX, r".*/config\.json"),
        ("crates", INDEX, r".*/(?:1/[^/]|2/[^/]{2}|3/[^/]/[^/]{3}|[^/]{2}/[^/]{2}/[^/]{4,})"),
        # /MODULE/@v/list, @latest; @v/v1.2.3.info|mod|zip
        ("go", INDEX, r".*/@v/list|.*/@latest"),
        ("go", FILE, r".*/@v/v[^/]+\.(?:info|mod|zip)"),
        ("cran", INDEX, r".*/(?:src|bin)/.*/?PACKAGES(?:\.gz|\.rds)?"),
        ("cran", FILE, r".*/(?:src/contrib|bin/.+/contrib/[^/]+)/.*[^/]+_[^/]+\.(?:tar\.gz|zip|tgz)"),
        ("rubygems", INDEX, r".*/(?:versions|names|(?:latest_|prerelease_)?specs\.4\.8\.gz|info/[^/]+)"),
        ("rubygems", FILE, r".*/gems/[^/]+\.gem|.*/quick/Marshal\.4\.8/[^/]+\.gemspec\.rz"),
        ("maven", INDEX, r".*/maven-metadata\.xml(?:\.(?:md5|sha1|sha256|sha512))?|.*-SNAPSHOT/.*"),
        ("maven", FILE, r".*/[^/]+/([^/]+)/([^/]+)/\1-\2[^/]*\.(?:jar|pom|war|aar|module|zip)(?:\.\w+)?"),
        ("maven", FILE, r".*/([^/]+)/([^/]+)/\1-\2[^/]*\.(?:jar|pom|war|aar|module)(?:\.\w+)?"),
    )
)  # fmt: skip
"""Family, kind, and the paths it means; the first that fits decides."""

FAMILIES: Final = tuple(dict.fromkeys(family for family, _, _ in LAYOUTS))


def kind_of(url: str, families: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """(family, "index" or "file") by the URL's path; None for what is neither. No index takes parameters."""
    parts = urlsplit(url)
    for family, kind, pattern in LAYOUTS:
        if (families and family not in families) or (kind == INDEX and parts.query):
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
        match kind_of(url, self.families):
            case (family, "file") if 200 <= version.status < 300:
                return Plan(math.inf, None, Renewal.REFETCH, f"a file of {family} never changes")
            case (family, "index"):
                until = version.validated_at + self.index_seconds
                renewal = self.renewal(version, now, url)
                why = f"an index of {family}, asked again after {self.index_seconds} s"
                return Plan(until, None, renewal, why)
            case _:
                return Http().plan(version, now, url)


@hookimpl
def register_strategies() -> list[type[BaseStrategy]]:
    return [LanguageIndexes]
