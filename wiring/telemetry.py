"""Turning traces on in a process, if its settings say where they go; else nothing of OpenTelemetry's SDK is loaded."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from base import tracing
from wiring.settings import Settings


@contextmanager
def traced(settings: Settings, *, process: str) -> Iterator[None]:
    """Record the spans of this process, called `api` or `worker`, meanwhile."""
    told = settings.telemetry
    if told.otlp_endpoint is None:
        yield
        return
    from wiring.otlp import Otlp, say_in_our_log  # some 20 MB, and only for who wants traces

    say_in_our_log()
    otlp = Otlp(
        endpoint=told.otlp_endpoint,
        service=f"{told.service_name}-{process}",
        version=importlib.metadata.version("onebook"),
        ratio=told.sample_ratio,
    )
    tracing.active = otlp
    try:
        yield
    finally:
        tracing.active = None
        otlp.close()
