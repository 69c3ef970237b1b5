"""Why the control API cannot do what was asked, beside the errors of the store."""

from __future__ import annotations

from buffy_proxy.errors import BuffyError


class BadOrder(BuffyError):
    """What was ordered cannot be requested from an origin: the URL, a field or the body is unusable."""


class NotReady(BuffyError):
    """The version is announced and not there yet."""
