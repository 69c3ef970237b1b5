"""A pytest plugin for `requests`' own test-suite: every request that names no proxy goes through Buffy.

The suite clears the proxy variables before each test, so this sits lower, where an adapter sends. Requests
that a test gives a proxy of its own keep it. Whatever bundle a test trusts is trusted together with Buffy's
authority, since Buffy is who answers TLS. This file runs in the suite's own environment and imports nothing
of Buffy; BUFFY_SUITE_PROXY and BUFFY_SUITE_CA say where Buffy is.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy

PROXY = os.environ["BUFFY_SUITE_PROXY"]
AUTHORITY = Path(os.environ["BUFFY_SUITE_CA"])

_send = HTTPAdapter.send


@functools.cache
def with_authority(bundle: str) -> str:
    """A copy of the bundle with Buffy's authority in it."""
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(Path(bundle).read_bytes() + b"\n" + AUTHORITY.read_bytes())
    return file.name


def through_buffy(self: HTTPAdapter, request: Any, *args: Any, **kwargs: Any) -> Any:
    proxies = dict(kwargs.get("proxies") or {})
    if select_proxy(request.url, proxies) is None:
        kwargs["proxies"] = {**proxies, "http": PROXY, "https": PROXY}
        verify = kwargs.get("verify", True)
        bundle = DEFAULT_CA_BUNDLE_PATH if verify is True else verify
        if isinstance(bundle, str | Path) and Path(bundle).is_file():
            kwargs["verify"] = with_authority(str(bundle))
    return _send(self, request, *args, **kwargs)


HTTPAdapter.send = through_buffy  # type: ignore[method-assign]
