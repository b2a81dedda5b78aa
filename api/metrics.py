"""Prometheus metrics of this process: requests by route, method and status, their time, and readiness. No amounts."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from treasury.alerts import Alert, AlertCode

UNMATCHED = "unmatched"
"""The route of a request that no path takes: made-up paths must not make new series."""


class Metrics:
    """One application's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "onebook_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "onebook_http_request_seconds", "Time to the end of the answer.", ("route",), registry=self.registry
        )
        self.ready = Gauge("onebook_ready", "1 while this check is well.", ("check",), registry=self.registry)
        self.alerts = Gauge("onebook_alerts", "Alerts that stand now.", ("code",), registry=self.registry)
        for code in AlertCode:
            self.alerts.labels(code.value).set(0)
        self._counts: dict[tuple[str, str, int], Callable[[], None]] = {}
        self._seconds_by_route: dict[str, Callable[[float], None]] = {}
        self.broken = Counter(
            "onebook_internal_errors", "Answers with a 500: each needs a look.", ("code",), registry=self.registry
        )

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        # Looked up once: methods, routes and statuses are few, and finding a series costs more than counting in it.
        count = self._counts.get((method, route, status))
        if count is None:
            count = self._counts[method, route, status] = self.requests.labels(method, route, str(status)).inc
        observe = self._seconds_by_route.get(route)
        if observe is None:
            observe = self._seconds_by_route[route] = self.seconds.labels(route).observe
        count()
        observe(seconds)

    def count_alerts(self, alerts: Iterable[Alert]) -> None:
        """Take over what stands now."""
        standing = Counts(alert.code for alert in alerts)
        for code in AlertCode:
            self.alerts.labels(code.value).set(standing[code])

    def page(self) -> Response:
        """Everything in the Prometheus text format."""
        return Response(generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
