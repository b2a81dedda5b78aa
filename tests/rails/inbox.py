"""A receiver of webhooks: keeps what arrives, answers what it's told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Got:
    """One webhook as it came over the wire."""

    provider: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Inbox:
    """What arrived, and the answers to give next (else 200)."""

    url: str
    arrived: list[Got] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def clear(self) -> None:
        self.arrived.clear()
        self.answers.clear()

    def of(self, provider: str) -> list[Got]:
        return [one for one in self.arrived if one.provider == provider]


@contextmanager
def inbox() -> Iterator[Inbox]:
    """A receiver on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.arrived.append(Got(self.path.strip("/"), headers, body))
            self.send_response(made.answers.pop(0) if made.answers else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Inbox(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
