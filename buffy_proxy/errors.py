"""Every error that Buffy raises on purpose, in one tree. A message says what, which, and what to do.

BuffyError
├── ConfigError            a bad key, value or pattern in buffy.toml, the environment or on the command line
├── StoreError
│   ├── StoreFull          no room: disk, map or quota; the caller goes on without storing
│   ├── StoreUnusable      the data directory cannot be opened, read or written at all
│   ├── NotFound           no such resource, version or tag
│   └── BodyMissing        a record names a body that is not there (evicted while asked for, or damage)
└── OriginError            the origin gave no complete, valid response; `word` is RFC 9209's error type
"""

from __future__ import annotations


class BuffyError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(BuffyError):
    """The configuration is not usable; the message names the key and what is allowed."""


class StoreError(BuffyError):
    """The store could not do what was asked."""


class StoreFull(StoreError):
    """No room for what was to be written. Nothing was half-stored."""


class StoreUnusable(StoreError):
    """The data directory cannot be used at all."""


class NotFound(StoreError):
    """The resource, version or tag asked for does not exist."""


class BodyMissing(StoreError):
    """The body of a version is not (or no longer) there."""


class OriginError(BuffyError):
    """No complete, valid response came from the origin.

    `word` is the proxy error type of RFC 9209 §2.3, such as `dns_error` or `connection_refused`.
    """

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word
