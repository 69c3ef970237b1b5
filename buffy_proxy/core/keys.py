"""Cache keys that are safe with credentials: which requests mean the same resource, and for whom.

A request with credentials (fields or query parameters below) belongs to a partition of the cache of its own,
named by a keyed digest of them; nobody without the same credentials can get its answers. The credentials
themselves are never part of a key, a record or a log line. Only a rule with `shared = true` merges
partitions.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote_plus

from buffy_proxy.core.fields import get_all
from buffy_proxy.core.model import CacheKey, Fields, Request
from buffy_proxy.core.policy import SAFE_METHODS, Policy

CREDENTIAL_FIELDS: Final = frozenset(
    {
        b"authorization",
        b"cookie",
        b"cookie2",
        b"api-key",  # Azure, Datadog
        b"dd-api-key",
        b"job-token",  # GitLab
        b"private-token",  # GitLab
        b"x-amz-security-token",
        b"x-api-key",
        b"x-apikey",
        b"x-auth-token",  # OpenStack
        b"x-access-token",
        b"x-goog-api-key",
        b"x-vault-token",
    }
)
"""Request fields (lower case) that say who asks."""

SECRET_FIELDS: Final = CREDENTIAL_FIELDS | {b"proxy-authorization", b"set-cookie", b"set-cookie2"}
"""Fields (lower case) whose values never appear in logs, UI, API or exports."""

SECRET_PARAMETERS: Final = frozenset(
    {
        "access_token",  # RFC 6750 §2.3
        "api-key",
        "api_key",
        "apikey",
        "auth",
        "auth_token",
        "authtoken",
        "awsaccesskeyid",  # S3, signature version 2
        "client_secret",
        "googleaccessid",  # Google storage, version 2
        "hdnea",  # Akamai
        "hmac",
        "id_token",
        "jwt",
        "key-pair-id",  # CloudFront
        "ossaccesskeyid",
        "passwd",
        "password",
        "private_token",  # GitLab
        "q-ak",  # Tencent
        "q-signature",
        "refresh_token",
        "secret",
        "session_token",
        "sessionid",
        "sig",  # Azure SAS
        "signature",
        "sign",
        "token",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
        "x-goog-credential",
        "x-goog-signature",
        "x-oss-credential",
        "x-oss-signature",
        "x-oss-security-token",
        "__token__",
    }
)
"""Query parameters (lower case) that grant access. A name too few leaks; a name too many costs the resource
its background renewal, since the URL on record then lacks the value. So names of plain data (`code`,
`policy`) are not in here."""


def cache_key(request: Request, policy: Policy, secret: bytes) -> CacheKey:
    """What names the resource that `request` asks for. HEAD shares the key of GET (RFC 9111 §4); other
    methods hold the digest of the request body. Parameters that `policy.ignore_query` matches leave the URL,
    but a credential among them still partitions unless `policy.shared`. `secret` keys all digests.
    """
    safe = request.method in SAFE_METHODS
    parts = (
        request.group,
        "GET" if safe else request.method,
        redact_url(_without_parameters(request.url, policy.ignore_query), secret),
        "" if policy.shared else _partition(_credentials(request), secret),
        "" if safe else hashlib.sha256(request.body).hexdigest(),
    )
    return CacheKey(_id(parts), *parts)


@dataclass(frozen=True, slots=True)
class KeyParts:
    """What a key is made of, for plugins to change (hook `cache_key`). Secrets in it are plain; what is
    stored holds keyed digests of them.

    url          the target URI without what the rule ignores
    credentials  (name, value) of the fields and query parameters that partition the resource; () shares it
    body         request content that belongs to the key; b"" for GET and HEAD
    extra        text that tells apart what is otherwise the same, such as a language
    """

    url: str
    credentials: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    extra: str = ""


def key_parts(request: Request, policy: Policy) -> KeyParts:
    """The parts of what `cache_key` makes."""
    found = () if policy.shared else tuple(_credentials(request))
    return KeyParts(
        _without_parameters(request.url, policy.ignore_query),
        tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in found),
        b"" if request.method in SAFE_METHODS else request.body,
    )


def cache_key_of(request: Request, parts: KeyParts, secret: bytes) -> CacheKey:
    """The key of parts that differ from the usual ones. Its `body_digest` is never empty: the URL in it
    need not be one that can be requested, so nothing may be renewed from the key alone."""
    credentials = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in parts.credentials]
    said = hashlib.sha256(_framed((b"parts", parts.extra.encode("utf-8", "surrogatepass"), parts.body)))
    values = (
        request.group,
        "GET" if request.method in SAFE_METHODS else request.method,
        redact_url(parts.url, secret),
        _partition(credentials, secret),
        said.hexdigest(),
    )
    return CacheKey(_id(values), *values)


def _id(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(_framed(_bytes(part) for part in parts), digest_size=15)
    return base64.b32encode(digest.digest()).decode("ascii").lower()


def _credentials(request: Request) -> list[tuple[bytes, bytes]]:
    """Cookies are joined first: HTTP/2 clients send each in a line of its own (RFC 9113 §8.2.3)."""
    found = [(name, b"; ".join(get_all(request.fields, name))) for name in _credential_names(request.fields)]
    found += [(n.encode(), _bytes(v)) for n, v in _secret_parameters(request.url)]
    return found


def _partition(found: list[tuple[bytes, bytes]], secret: bytes) -> str:
    if not found:
        return ""
    return hmac.new(secret, _framed(part for pair in found for part in pair), "sha256").hexdigest()[:32]


def _credential_names(fields: Fields) -> list[bytes]:
    return sorted({lower for n, _ in fields if (lower := n.lower()) in CREDENTIAL_FIELDS})


def has_secret_parameters(url: str) -> bool:
    """Whether the query names a secret, plain or redacted: a redacted URL cannot be requested."""
    return bool(_secret_parameters(url))


def _secret_parameters(url: str) -> list[tuple[str, str]]:
    _, _, query = url.partition("?")
    pairs = ((name, value) for name, _, value in (p.partition("=") for p in query.split("&")) if value)
    return sorted((plain, value) for name, value in pairs if (plain := _plain(name)) in SECRET_PARAMETERS)


def _framed(parts: Iterable[bytes]) -> bytes:
    """Parts with their lengths in front, so that no two lists of parts read the same."""
    return b"".join(b"%d:%s" % (len(part), part) for part in parts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _plain(name: str) -> str:
    return unquote_plus(name).lower()


def _without_parameters(url: str, patterns: tuple[str, ...]) -> str:
    """The URL without the matching parameters; the order of the others stays."""
    base, mark, query = url.partition("?")
    if not (patterns and mark):
        return url
    kept = [p for p in query.split("&") if not _ignored(p.partition("=")[0], patterns)]
    return f"{base}?{'&'.join(kept)}" if kept else base


def _ignored(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(unquote_plus(name), pattern) for pattern in patterns)


# -- redaction ----------------------------------------------------------------------------------------------

_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#@]*@")


def redact_url(url: str, secret: bytes) -> str:
    """The URL with the values of SECRET_PARAMETERS replaced by a short keyed digest ("~" and 16 hex digits),
    and without user info. Equal secrets stay equal, and redacting twice changes nothing more."""
    url = _USERINFO.sub(r"\1", url)
    base, mark, query = url.partition("?")
    return f"{base}?{'&'.join(_redacted(p, secret) for p in query.split('&'))}" if mark else url


_DIGEST = re.compile(r"~[0-9a-f]{16}")


def _redacted(parameter: str, secret: bytes) -> str:
    name, _, value = parameter.partition("=")
    if not value or _plain(name) not in SECRET_PARAMETERS or _DIGEST.fullmatch(value):
        return parameter
    return f"{name}=~{hmac.new(secret, _bytes(value), 'sha256').hexdigest()[:16]}"


def without_secrets(fields: Fields) -> Fields:
    """`fields` without SECRET_FIELDS: what may be stored with a version, shown or exported."""
    return tuple((n, v) for n, v in fields if n.lower() not in SECRET_FIELDS)
