"""What the gateway counts about itself, in Prometheus' text form. No name, host, path or rule is ever a label.

Decides nothing. Counters live in memory; gauges of what is stored are read when somebody looks.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The numbers of one gateway."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Gauge("openshell_build_info", "Always 1.", ["version"], registry=self._registry)
        build.labels(version).set(1)
        self._calls = Counter(
            "openshell_grpc_calls", "Calls that ended, by status.", ["method", "code"], registry=self._registry
        )
        self._seconds = Histogram(
            "openshell_grpc_call_seconds",
            "Time from request to answer of calls that are no streams.",
            ["method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "openshell_grpc_streams", "Streams that are open now.", ["method"], registry=self._registry
        )

    def gauge(self, name: str, explanation: str, label: str = "") -> Gauge:
        """A number that others keep; with `label`, one per value of it."""
        return Gauge(name, explanation, [label] if label else [], registry=self._registry)

    def called(self, method: str, code: str, seconds: float | None) -> None:
        """A call ended; `seconds` for one that is no stream."""
        self._calls.labels(method, code).inc()
        if seconds is not None:
            self._seconds.labels(method).observe(seconds)

    def stream(self, method: str, change: int) -> None:
        """A stream was opened (1) or ended (-1)."""
        self._streams.labels(method).inc(change)

    def text(self) -> bytes:
        return generate_latest(self._registry)
