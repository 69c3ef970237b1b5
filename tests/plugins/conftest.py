"""The shipped plugins are tested with the kit that plugin authors use; its scripted origin takes the place of
the bigger one that other tests have."""

from __future__ import annotations

from buffy_proxy.testing.fixtures import buffy_factory, origin, tls_origin

__all__ = ["buffy_factory", "origin", "tls_origin"]
