"""A kit for authors of plugins: real parts, small enough to be used in every test. docs/plugin-testing.md.

Origin          a web server on loopback that changes and fails as a test wants
RunningBuffy    a real `buffy serve` on free ports, with plugins; StartFailed says why it did not start
make_…          requests, responses and versions by hand, for pure methods
Clock           a clock that stands until it is moved; posix() and utc_text() turn text into times and back
wait_until      for what happens a moment later

The pytest fixtures are in `buffy_proxy.testing.fixtures`; nothing else here needs pytest.
"""

from __future__ import annotations

from buffy_proxy.testing.clock import Clock, Moment, posix, utc_text
from buffy_proxy.testing.messages import Received
from buffy_proxy.testing.origin import Origin, Route
from buffy_proxy.testing.process import Plugin, StartFailed
from buffy_proxy.testing.running import RunningBuffy
from buffy_proxy.testing.values import (
    FieldsLike,
    make_fields,
    make_key,
    make_policy,
    make_request,
    make_response,
    make_stored_body,
    make_version,
)
from buffy_proxy.testing.waiting import wait_until

__all__ = [
    "Clock",
    "FieldsLike",
    "Moment",
    "Origin",
    "Plugin",
    "Received",
    "Route",
    "RunningBuffy",
    "StartFailed",
    "make_fields",
    "make_key",
    "make_policy",
    "make_request",
    "make_response",
    "make_stored_body",
    "make_version",
    "posix",
    "utc_text",
    "wait_until",
]
