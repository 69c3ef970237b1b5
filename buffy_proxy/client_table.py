"""What unmodified tools read from their environment, as data: docs/clients.md explains it tool by tool.

A row says which variable names a tool's trusted certificates, and whether that replaces or extends the trust
which the tool has by itself; further tables name proxy variables and switches.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Kind(enum.Enum):
    """What a trust variable does to the trust a tool has by itself."""

    REPLACES = "R"
    ADDS = "A"


@dataclass(frozen=True, slots=True)
class Trust:
    """A variable that names trusted certificates.

    falls_back   variables that the tool would read instead, or (*_DIR) as well
    config       where the tool's own files name certificates: (setting, files), outranked by the variable
    only_if_set  needed only to extend a user's own value: another variable serves by default
    """

    name: str
    kind: Kind = Kind.REPLACES
    falls_back: tuple[str, ...] = ()
    config: tuple[str, tuple[str, ...]] | None = None
    only_if_set: bool = False


_PIP_FILES = (
    "/etc/pip.conf",
    "~/.pip/pip.conf",
    "~/.config/pip/pip.conf",
    "$VIRTUAL_ENV/pip.conf",
    "$PIP_CONFIG_FILE",
)
_NPM_FILES = ("/etc/npmrc", "~/.npmrc", "$NPM_CONFIG_USERCONFIG", "$npm_config_userconfig")
_GIT_FILES = ("/etc/gitconfig", "~/.config/git/config", "~/.gitconfig", "$GIT_CONFIG_GLOBAL")

TRUST = (
    Trust(
        "SSL_CERT_FILE", falls_back=("SSL_CERT_DIR",)
    ),  # OpenSSL, Go, httpx, aiohttp, urllib, uv, Ruby, .NET, PHP
    Trust("CURL_CA_BUNDLE", falls_back=("SSL_CERT_FILE",)),
    Trust("REQUESTS_CA_BUNDLE", falls_back=("CURL_CA_BUNDLE",)),
    Trust("PIP_CERT", falls_back=("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), config=("cert", _PIP_FILES)),
    Trust("GIT_SSL_CAINFO", config=("sslcainfo", _GIT_FILES)),
    Trust("npm_config_cafile", config=("cafile", _NPM_FILES)),  # npm and pnpm
    Trust("NPM_CONFIG_CAFILE", only_if_set=True),
    Trust("NODE_EXTRA_CA_CERTS", Kind.ADDS),  # Node, Bun, both Yarns
    Trust(
        "YARN_CAFILE", only_if_set=True
    ),  # Berry ends with an error for a YARN_ variable that it does not know,
    Trust("YARN_HTTPS_CA_FILE_PATH", only_if_set=True),  # and its names differ between majors
    Trust("YARN_CA_FILE_PATH", only_if_set=True),
    Trust("DENO_CERT", Kind.ADDS),
    Trust("CARGO_HTTP_CAINFO"),
    Trust("AWS_CA_BUNDLE"),
    Trust("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"),
    Trust("HTTPLIB2_CA_CERTS"),
    Trust("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    Trust("CONDA_SSL_VERIFY", falls_back=("REQUESTS_CA_BUNDLE",)),
    Trust("MAMBA_SSL_VERIFY", falls_back=("REQUESTS_CA_BUNDLE",)),
    Trust("NIX_SSL_CERT_FILE"),
    Trust("BUNDLE_SSL_CA_CERT"),
    Trust("COMPOSER_CAFILE"),
    Trust("PERL_LWP_SSL_CA_FILE"),
    Trust("HEX_CACERTS_PATH"),
    Trust("JULIA_SSL_CA_ROOTS_PATH"),
    Trust("SYSTEM_CERTIFICATE_PATH", only_if_set=True),  # Haskell
)

PROXY = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
PROXY_TOO = ("npm_config_https_proxy", "npm_config_proxy", "YARN_HTTPS_PROXY", "YARN_HTTP_PROXY")
"""Tools that read none of the above (Berry), or whose configuration files would outrank them (npm)."""

OUTRANKING = (
    "PIP_PROXY",
    "CARGO_HTTP_PROXY",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "GRPC_PROXY",
    "grpc_proxy",
)
"""A tool's own proxy variables, taken away because they win over the common ones."""

SWITCHES = {
    "NODE_USE_ENV_PROXY": "1",
    "PERL_LWP_ENV_PROXY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "GIT_HTTP_PROXY_AUTHMETHOD": "basic",  # else git sends our selectors only when asked
}
"""Set unless the user has set them."""

UNVERIFIED = frozenset({"false", "0", "no", "off", "<false>"})
"""Values by which a user switched a check off (CONDA_SSL_VERIFY=false): left as they are."""
