"""Spans to an OpenTelemetry collector, by OTLP over HTTP. Imported only where traces are on: see `wiring.telemetry`.

What is sent, and when, is decided here: a sampler by the trace's id, who obeys a caller's `traceparent`; batches from a
thread of their own, with a bounded queue, so that a collector that's down or slow costs spans and nothing else.
Nothing global of the SDK's is set: what libraries would record of their own stays unrecorded.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast
from uuid import uuid4

import requests
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from base.tracing import Kind, Place, Value, code_of

QUEUE_SPANS_MAX = 4_096
"""Spans that wait to be sent; more are dropped."""

SEND_SECONDS = 5
"""The longest that one batch is being sent, tries included."""

PAUSE_MS = 1_000
"""Between two batches, unless one is full before."""

HELD_SPANS_MAX = 1_000
"""Spans below a tentative one that wait for its end; more are dropped."""

FORGOTTEN_MAX = 1_000
"""Traces that are remembered as forgotten, for spans of theirs that end later."""

_KINDS = {
    Kind.INTERNAL: trace.SpanKind.INTERNAL,
    Kind.SERVER: trace.SpanKind.SERVER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
}
_w3c = TraceContextTextMapPropagator()


class Otlp:
    """`base.tracing.Tracing`, on an SDK provider of its own. Close it, or the last spans are lost."""

    def __init__(self, *, endpoint: str, service: str, version: str, ratio: float) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy of the environment, no .netrc
        exporter = OTLPSpanExporter(
            endpoint=f"{endpoint.rstrip('/')}/v1/traces",
            timeout=SEND_SECONDS,
            compression=Compression.NoCompression,
            session=session,
        )
        sending = BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS_MAX,
            schedule_delay_millis=PAUSE_MS,
            export_timeout_millis=SEND_SECONDS * 1_000,
        )
        self._held = Held(sending)
        told = {"service.name": service, "service.version": version, "service.instance.id": str(uuid4())}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource(told),  # as it is: none of what the environment would add
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attributes=32, max_links=32, max_attribute_length=200),
        )
        self._provider.add_span_processor(self._held)
        self._tracer = self._provider.get_tracer("onebook", version)

    def close(self) -> None:
        """Send what waits, for at most about SEND_SECONDS."""
        self._provider.shutdown()

    def here(self) -> Place | None:
        """The span we're in, if it's recorded."""
        span = trace.get_current_span()
        return cast(Place, span.get_span_context()) if span.is_recording() else None

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Value],
        *,
        traceparent: str | None = None,
        parent: Place | None = None,
        links: Sequence[Place] = (),
        tentative: bool = False,
    ) -> Iterator["Recorded"]:
        """See `base.tracing.Tracing`."""
        started = self._tracer.start_span(
            name,
            context=_context(traceparent, parent, alone=tentative or kind is Kind.SERVER),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[trace.Link(cast(trace.SpanContext, link)) for link in links],
        )
        number = started.get_span_context().trace_id
        holding = tentative and started.is_recording()
        if holding:
            self._held.hold(number)
        recorded = Recorded(started)
        try:
            with trace.use_span(started, record_exception=False, set_status_on_exception=False):
                yield recorded
        except BaseException as error:
            recorded.fail(code_of(error))
            raise
        finally:
            started.end()
            if holding:
                self._held.release(number, keep=not recorded.is_forgotten)


class Recorded:
    """A span that is recorded, or that the sampler left out."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.is_forgotten = False

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attribute: str, value: Value) -> None:
        self._span.set_attribute(attribute, value)

    def fail(self, code: str) -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(trace.StatusCode.ERROR)

    def forget(self) -> None:
        self.is_forgotten = True


class Held(SpanProcessor):
    """Keeps ended spans back while it isn't decided whether their trace is worth sending; all others go on at once."""

    def __init__(self, sending: SpanProcessor) -> None:
        self._sending = sending
        self._held: dict[int, list[ReadableSpan]] = {}
        self._forgotten: OrderedDict[int, None] = OrderedDict()

    def hold(self, trace_id: int) -> None:
        """Keep this trace's spans until its `release`."""
        self._held[trace_id] = []

    def release(self, trace_id: int, *, keep: bool) -> None:
        """Send them, or forget the trace."""
        spans = self._held.pop(trace_id)
        if keep:
            for span in spans:
                self._sending.on_end(span)
            return
        self._forgotten[trace_id] = None
        if len(self._forgotten) > FORGOTTEN_MAX:
            self._forgotten.popitem(last=False)

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Nothing is done at a start."""

    def on_end(self, span: ReadableSpan) -> None:
        """A span is over."""
        context = span.get_span_context()
        number = context.trace_id if context is not None else 0
        held = self._held.get(number)
        if held is None:
            if number not in self._forgotten:
                self._sending.on_end(span)
        elif len(held) < HELD_SPANS_MAX or span.parent is None:  # without its root a trace tells little
            held.append(span)

    def shutdown(self) -> None:
        """Send what waits, then no more."""
        self._sending.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits."""
        return self._sending.force_flush(timeout_millis)


class ToLog(logging.Handler):
    """What the SDK says (a collector that can't be reached, spans that were dropped) as lines of our log."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger("traces").warning("traces", said=record.getMessage()[:300])


def say_in_our_log() -> None:
    """Let the SDK's words go to our log, and nowhere else."""
    words = logging.getLogger("opentelemetry")
    words.handlers = [ToLog(logging.WARNING)]
    words.propagate = False


def _context(traceparent: str | None, parent: Place | None, *, alone: bool) -> Context | None:
    """What a span begins below; None for where we are."""
    if parent is not None:
        return trace.set_span_in_context(trace.NonRecordingSpan(cast(trace.SpanContext, parent)), Context())
    if traceparent is not None:  # its tracestate isn't taken: anything may stand there
        return _w3c.extract({"traceparent": traceparent}, Context())
    return Context() if alone else None
