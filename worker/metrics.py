"""The worker's metrics, served to Prometheus: what its steps did, and what the installation measures when it's asked.

Nothing is measured before somebody scrapes. Scrapes within `every` share one measurement. One that takes longer than a
scrape may goes on, and the next scrape has it; figures older than STALE_AFTER aren't told any more.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)
from prometheus_client.registry import Collector

from base.clock import Clock
from base.errors import OnebookError
from wiring.measures import Measured
from worker.gauges import gauges
from worker.loops import steps_done, steps_failed

SCRAPE_SECONDS = 8.0
"""Longest that a scrape waits for figures; Prometheus itself gives up after ten."""

STALE_AFTER = timedelta(minutes=5)
REQUEST_SECONDS = 10.0
"""How long a caller may take over its request."""

log = structlog.get_logger()
failed = Counter("onebook_measure_failures", "Measurements that came to nothing.", ["code"], registry=None)
seconds = Histogram(
    "onebook_measure_seconds",
    "How long a measurement took.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=None,
)


class Measuring(Protocol):
    async def read(self) -> Measured:
        """Look at all of it."""
        ...


class InstallationCollector(Collector):
    """Measures on the loop that it was made on, for scrapes in other threads.

    `scrape_seconds`: the longest that one waits for it.
    """

    def __init__(
        self, measures: Measuring, *, every: timedelta, clock: Clock, scrape_seconds: float = SCRAPE_SECONDS
    ) -> None:
        self._measures = measures
        self._every = every
        self._clock = clock
        self._scrape_seconds = scrape_seconds
        self._loop = asyncio.get_running_loop()
        self._measuring: asyncio.Task[None] | None = None
        self._measured: Measured | None = None
        self._tried_at: datetime | None = None

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not measure."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The newest figures, measured now if those that are there are old."""
        with suppress(TimeoutError, RuntimeError):  # RuntimeError: the loop has ended, and the worker with it
            asyncio.run_coroutine_threadsafe(self._refresh(), self._loop).result(self._scrape_seconds + 1)
        measured = self._measured
        if measured is not None and self._clock.now() - measured.at < STALE_AFTER:
            yield from gauges(measured)

    async def _refresh(self) -> None:
        now = self._clock.now()
        if self._measuring is None or self._measuring.done():
            if self._tried_at is not None and now - self._tried_at < self._every:
                return
            self._tried_at = now
            self._measuring = asyncio.create_task(self._measure(), name="measuring")
        await asyncio.wait({self._measuring}, timeout=self._scrape_seconds)

    async def _measure(self) -> None:
        try:
            with seconds.time():
                self._measured = await self._measures.read()
        except Exception as error:
            code = error.code if isinstance(error, OnebookError) else type(error).__name__
            failed.labels(code).inc()
            log.warning("nothing could be measured", code=code, exc_info=not isinstance(error, OnebookError))


class _Quiet(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__((host, port), _Quiet, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = host, port
        self.setup_environ()


@contextmanager
def serving(listener: socket.socket, collector: InstallationCollector) -> Iterator[None]:
    """Serve /metrics on a socket that listens, in threads of its own, until the end."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    for one in (collector, steps_done, steps_failed, failed, seconds):  # in the order in which a page tells them
        registry.register(one)
    server = _Server(listener)
    server.set_app(make_wsgi_app(registry))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
