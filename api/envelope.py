"""What every answer carries, whoever gives it: a request id, the API's version, and a 500 that tells nothing.

A middleware in plain ASGI, outside everything else, so that no failure escapes it.
"""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import UnknownVersion
from api.foreign import from_anything
from api.metrics import UNMATCHED, Metrics
from api.problems import response_for
from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id

VERSION = "2026-11-22"
VERSIONS = frozenset({VERSION})
"""Dated versions of this API that are served. A change that would break a caller gets a new date."""

VERSION_HEADER = "Onebook-Version"
REQUEST_ID_HEADER = "Request-Id"
_VERSION_NAME = VERSION_HEADER.lower().encode()
_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that get a series of their own; made-up ones share one."""

_FIXED = tuple(
    (name.lower().encode(), value.encode())
    for name, value in (
        (VERSION_HEADER, VERSION),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Frame-Options", "DENY"),
        ("Cache-Control", "no-store"),
    )
)
"""Headers of every answer; a route's own value for the same name wins."""

log = structlog.get_logger("api")


class Envelope:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, *, clock: Clock, entropy: Entropy, metrics: Metrics) -> None:
        self._app = app
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(send, new_id("req", self._clock, self._entropy))
        state = scope.setdefault("state", {})
        state["request_id"], state["headers"] = exchange.request_id, exchange.headers
        began = time.perf_counter()
        try:
            _require_version(scope)
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            await self._fail(error, exchange, scope, receive)
        finally:
            self._metrics.observe(
                method=scope["method"] if scope["method"] in METHODS else "other",
                route=route_of(scope),
                status=exchange.status,
                seconds=time.perf_counter() - began,
            )

    async def _fail(self, error: Exception, exchange: "_Exchange", scope: Scope, receive: Receive) -> None:
        """Answer for a failure that nothing inside has answered for."""
        ours = from_anything(error)
        scope["state"]["problem"] = ours.code
        response = response_for(ours, request_id=exchange.request_id)
        if response.status_code >= 500:
            log.error("failed", code=ours.code, request_id=exchange.request_id, path=scope["path"], exc_info=error)
            self._metrics.broken.labels(ours.code).inc()
        if exchange.status:
            raise error  # the answer is on its way: only breaking the connection can still tell
        await response(scope, receive, exchange.send)


class _Exchange:
    """One request's answer on its way out."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.headers: list[tuple[str, str]] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = list(message.get("headers", ()))
            given = {name for name, _ in headers}
            headers += [header for header in _FIXED if header[0] not in given]
            headers.append((_REQUEST_ID, self.request_id.encode()))
            headers += [(name.lower().encode(), value.encode()) for name, value in self.headers]
            message["headers"] = headers
        await self._send(message)


def route_of(scope: Scope) -> str:
    """The template of the path that was taken, such as `/v1/transfers/{transfer}`."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))


def _require_version(scope: Scope) -> None:
    asked = next((value.decode("latin-1") for name, value in scope["headers"] if name == _VERSION_NAME), None)
    if asked is not None and asked not in VERSIONS:
        raise UnknownVersion(
            f"{asked[:40]!r} is no version of this API; leave the header {VERSION_HEADER} out for the newest",
            param=VERSION_HEADER,
            known=sorted(VERSIONS),
        )
