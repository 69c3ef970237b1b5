"""Signed URLs of object stores and release downloads: the signature leaves the cache key.

    [plugins.signed_urls]
    hosts = ["releases.example.org", "*.objects.example.net"]   # those whose signed links name public content

A link to an object store is signed anew for each request, so by its URL nothing is ever found again. For the
hosts that are listed the parameters of the signature leave the key, and what was fetched with one link
answers the next. Whoever can name the path gets the stored bytes, without a valid signature: list only hosts
whose content is public. Without the table nothing changes. Errors of such links are not kept: they may be
about one link alone, which is wrong or too old.

Known are the signatures of S3 (versions 2 and 4), Google, Azure (SAS), CloudFront, Aliyun, Tencent and
Akamai. Only what is whole counts: a parameter named `token` alone is an API's own and stays. Parameters that
change the answer (a version id, `response-content-disposition`, `partNumber`) stay, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from buffy_proxy import DoNotStore, KeyParts, Request, Response, hookimpl

__version__ = "1.0"

FAMILIES: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    name: (frozenset(needed.split()), frozenset(needed.split()) | frozenset(more.split()))
    for name, needed, more in (
        (
            "S3 version 4",
            "x-amz-algorithm x-amz-credential x-amz-date x-amz-signature",
            "x-amz-expires x-amz-signedheaders x-amz-security-token x-amz-content-sha256 x-id",
        ),
        ("S3 version 2", "awsaccesskeyid signature expires", "x-amz-security-token"),
        (
            "Google version 4",
            "x-goog-algorithm x-goog-credential x-goog-date x-goog-signature",
            "x-goog-expires x-goog-signedheaders",
        ),
        ("Google version 2", "googleaccessid signature expires", ""),
        (
            "Azure SAS",
            "sv sig se",
            "sp st sr spr sip ss srt si skoid sktid skt ske sks skv sdd saoid suoid scid ses",
        ),
        ("CloudFront", "signature key-pair-id", "policy expires hash-algorithm"),
        (
            "Aliyun version 4",
            "x-oss-signature x-oss-credential x-oss-date x-oss-signature-version",
            "x-oss-expires x-oss-additional-headers x-oss-security-token",
        ),
        ("Aliyun version 1", "ossaccesskeyid signature expires", "security-token"),
        (
            "Tencent",
            "q-sign-algorithm q-ak q-sign-time q-signature",
            "q-key-time q-header-list q-url-param-list x-cos-security-token",
        ),
        ("Akamai", "hdnea", ""),
    )
}
"""Each family: the parameters (lower case) that must all be there, and all that leave the key then."""

JWT_BESIDE_SAS: Final = "jwt"
"""Release downloads add a token of their own beside an Azure signature."""

_hosts: tuple[str, ...] = ()


@hookimpl
def configure(settings: Mapping[str, Any]) -> None:
    global _hosts
    if unknown := sorted(set(settings) - {"hosts"}):
        raise ValueError(f"{unknown[0]}: unknown key; there is hosts")
    hosts = settings.get("hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
        raise ValueError(f'hosts: must be a list such as ["*.objects.example.net"], not {hosts!r}')
    for host in hosts:
        if "/" in host or ":" in host:
            raise ValueError(f"hosts: {host!r} is no host; write it without scheme, port and path")
    _hosts = tuple(host.lower() for host in hosts)


@hookimpl
def cache_key(default: KeyParts) -> KeyParts | None:
    """Without the signature, and without what of it kept the answers of different links apart."""
    base, _, query = default.url.partition("?")
    leaving = signature(query) if _is_listed(default.url) else None
    if not leaving:
        return None
    kept = "&".join(pair for pair in query.split("&") if name_of(pair) not in leaving)
    credentials = tuple((name, value) for name, value in default.credentials if name.lower() not in leaving)
    return replace(default, url=f"{base}?{kept}" if kept else base, credentials=credentials)


@hookimpl
def storability(request: Request, response: Response) -> DoNotStore | None:
    """A 403 to a link that is too old must not answer the next one, which shares its key."""
    query = request.url.partition("?")[2]
    if response.status < 400 or not _is_listed(request.url) or not signature(query):
        return None
    return DoNotStore("an error that may be about the signature of this link")


def signature(query: str) -> frozenset[str]:
    """The parameters (lower case) of the signature in a query; none if there is no whole one."""
    names = {name_of(pair) for pair in query.split("&")}
    for family, (needed, leaving) in FAMILIES.items():
        if needed <= names:
            return leaving | {JWT_BESIDE_SAS} if family == "Azure SAS" else leaving
    return frozenset()


def name_of(pair: str) -> str:
    return unquote(pair.partition("=")[0]).lower()


def _is_listed(url: str) -> bool:
    if not _hosts:
        return False
    host = (urlsplit(url).hostname or "").lower()
    return any(fnmatchcase(host, pattern) for pattern in _hosts)
