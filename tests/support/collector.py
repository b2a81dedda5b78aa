"""An OpenTelemetry collector for tests: takes OTLP over HTTP, and shows what it was sent.

with collector() as got:
    ...                                     # something sends to got.url
    until("the request is there", lambda: got.named("GET /v1/me"))
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

STATUS_ERROR = 2
"""Of OTLP's Status.StatusCode."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it was sent; ids in hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    failed: bool
    words: str
    attributes: dict[str, str | int | bool]


@dataclass(slots=True)
class Collector:
    """What has come. `bodies` are the requests' very bytes, `resources` the attributes of each one's sender."""

    url: str
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    resources: list[dict[str, str | int | bool]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def take(self, body: bytes) -> None:
        """One request's spans."""
        told = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            self.bodies.append(body)
            for resource in told.resource_spans:
                sender = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
                self.resources.append(sender)
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self.spans.append(
                            Seen(
                                service=str(sender["service.name"]),
                                name=span.name,
                                trace=span.trace_id.hex(),
                                id=span.span_id.hex(),
                                parent=span.parent_span_id.hex(),
                                links=tuple(link.span_id.hex() for link in span.links),
                                failed=span.status.code == STATUS_ERROR,
                                words=span.status.message + "".join(event.name for event in span.events),
                                attributes={pair.key: _value(pair.value) for pair in span.attributes},
                            )
                        )

    def named(self, name: str) -> list[Seen]:
        """The spans of this name."""
        return [span for span in list(self.spans) if span.name == name]

    def below(self, parent: Seen) -> list[Seen]:
        """Its children."""
        return [span for span in list(self.spans) if (span.trace, span.parent) == (parent.trace, parent.id)]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            got.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is written."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    got = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _value(value: AnyValue) -> str | int | bool:
    found: str | int | bool = getattr(value, str(value.WhichOneof("value")))
    return found
