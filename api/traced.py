"""A request as a span: method, route's template, status, and a problem's code. Outside of all else in the application,
and only where traces are on; never with a path, query, header or body, since these may tell of somebody."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.envelope import METHODS, route_of
from base.tracing import Kind, Tracing

UNTRACED = ("/health/", "/metrics")
"""Paths that monitoring asks all the time."""


class Traced:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UNTRACED):
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "other"
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        told = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        with self._tracing.span(method, Kind.SERVER, {"http.request.method": method}, traceparent=told) as span:
            try:
                await self._app(scope, receive, watched)
            finally:
                route, state = route_of(scope), scope.get("state", {})
                span.name(f"{method} {route}")
                span.set("http.route", route)
                span.set("http.response.status_code", status)
                span.set("onebook.request_id", str(state.get("request_id", "")))
                if (code := state.get("problem")) is not None:
                    span.set("onebook.problem", code)
                    if status >= 500:
                        span.fail(code)
