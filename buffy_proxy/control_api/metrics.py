"""`GET /metrics` for Prometheus. All numbers are read from the store when they are asked for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from buffy_proxy.control_api.problems import documented
from buffy_proxy.orders import OrderBook
from buffy_proxy.store import Store

DUE_MAX: Final = 10_000
"""More renewals than that are not counted one by one."""
_GAUGES: Final = (
    ("resources", "Resources known."),
    ("versions", "Versions stored."),
    ("bodies", "Distinct bodies stored."),
    ("body_bytes", "Bytes of all distinct bodies."),
)


class StoreCollector(Collector):
    """What the proxy and the orders counted, and what the store holds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._orders = OrderBook(store)

    def collect(self) -> Iterator[Metric]:
        yield from self._traffic()
        yield from self._space()
        yield from self._queues()

    def _traffic(self) -> Iterator[Metric]:
        total = self._store.counters("total")
        requests, hits = total.get("requests", 0), total.get("hits", 0)
        yield CounterMetricFamily("buffy_requests", "Requests through the proxy.", value=requests)
        yield CounterMetricFamily("buffy_hits", "Requests answered from the store.", value=hits)
        yield CounterMetricFamily(
            "buffy_misses", "Requests that went forward.", value=max(0, requests - hits)
        )
        sent = CounterMetricFamily("buffy_sent_bytes", "Body bytes sent to clients.", labels=("source",))
        for source in ("cache", "origin"):
            sent.add_metric((source,), total.get(f"bytes_{source}", 0))
        yield sent
        yield self._labelled("decisions", "Requests by Cache-Status word (RFC 9211).", "decision")
        yield self._labelled("origin_errors", "Failures of origins by Proxy-Status word (RFC 9209).", "error")
        yield self._plugins()

    def _plugins(self) -> Metric:
        text = "Failures of plugins: they raised, or gave an answer that is none."
        family = CounterMetricFamily("buffy_plugin_failures", text, labels=("plugin", "hook"))
        for name, count in sorted(self._store.counters("plugin_failures").items()):
            plugin, _, hook = name.partition(".")
            family.add_metric((plugin, hook), count)
        return family

    def _labelled(self, name: str, text: str, label: str) -> Metric:
        family = CounterMetricFamily(f"buffy_{name}", text, labels=(label,))
        for word, count in sorted(self._store.counters(name).items()):
            family.add_metric((word,), count)
        return family

    def _space(self) -> Iterator[Metric]:
        usage = self._store.usage()
        for name, text in _GAUGES:
            yield GaugeMetricFamily(f"buffy_store_{name}", text, value=getattr(usage, name))
        yield GaugeMetricFamily(
            "buffy_store_capacity_bytes", "The size cap of all bodies.", value=usage.capacity
        )

    def _queues(self) -> Iterator[Metric]:
        pending = Counter(order.status for order in self._orders.pending())
        queue = GaugeMetricFamily("buffy_orders", "Orders that are not finished.", labels=("status",))
        for status in ("wait", "in_progress"):
            queue.add_metric((status,), pending.get(status, 0))
        yield queue
        due = len(self._store.due(time.time(), DUE_MAX))
        yield GaugeMetricFamily("buffy_renewals_due", f"Renewals that are due (up to {DUE_MAX}).", value=due)


def router(store: Store) -> APIRouter:
    routes = APIRouter(tags=["operation"])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StoreCollector(store))

    @routes.get(
        "/metrics",
        summary="Numbers for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format."},
            **documented(),
        },
    )
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
