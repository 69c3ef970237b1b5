"""Every error that the client raises on purpose, in one tree. A message says what, which, and what to do.

BuffyError
├── BuffyUsageError          arguments that exclude each other, a call before order()     (a ValueError)
├── BuffyServerError         the server answered with an error; `status` and `detail` tell which
│   └── BuffyUnreachableError   no server answers there    (a ConnectionError, of Python and of requests)
├── BuffyCacheEmptyError     no version can answer: the download failed and none is stored
├── BuffyForcedVersionError  a forced version, tag or pin does not exist                  (a ValueError)
├── BuffyDownloadError       content did not arrive whole, or a direct download failed for good
└── BuffyTimeoutError        not ready within `timeout_sec`                             (a TimeoutError)

The second bases are what the package DZDBuffy raised in the same places: its users' `except` clauses go on
working.
"""

from __future__ import annotations

import requests


class BuffyError(Exception):
    """Base of all errors raised on purpose."""


class BuffyUsageError(BuffyError, ValueError):
    """The call makes no sense as it stands; the message says which argument or which call is missing."""


class BuffyServerError(BuffyError):
    """The server refused or failed. `status` is its HTTP status, `detail` its own words; None if unknown."""

    def __init__(self, message: str, status: int | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.status, self.detail = status, detail


class BuffyUnreachableError(BuffyServerError, requests.exceptions.ConnectionError, ConnectionError):
    """Nothing that speaks v1 answers at the server's address."""


class BuffyCacheEmptyError(BuffyError):
    """There is no version to serve. The message holds the server's reason."""


class BuffyForcedVersionError(BuffyError, ValueError):
    """What `force_version`, `force_tag` or `force_pinned` asked for does not exist."""


class BuffyDownloadError(BuffyError):
    """The content could not be fetched whole. Nothing stands under a final file name."""


class BuffyTimeoutError(BuffyError, TimeoutError):
    """The content was not ready within `timeout_sec`. The server goes on with the order."""
