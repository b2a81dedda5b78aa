"""The application: routes, their errors and their envelope put together around one set of services."""

from collections.abc import Callable

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api import foreign, health, pages
from api.envelope import VERSION, Envelope
from api.express import Express
from api.metrics import Metrics
from api.problems import problem_of, response_for
from api.ratelimit import RateLimit
from api.routes import ROUTERS
from api.traced import Traced
from api.turns import Turns
from base import tracing
from base.errors import OnebookError
from ledger.money import Asset
from wiring.services import Services

DESCRIPTION = """
One book for fiat, stablecoins and crypto.

Send `Authorization: Bearer <key>` with every request. Amounts are exact decimal strings (`"12.50"`). Requests that move
money need an `Idempotency-Key`; repeated with the same body they give the first answer again and move nothing twice.
Errors are problems (RFC 9457) with a `code`, a `detail` for people, the numbers behind it, and a `type` that is a page.
"""

log = structlog.get_logger("api")


def create_app(services: Services) -> FastAPI:
    """The ASGI application that serves `services`. It opens and closes nothing of theirs."""
    metrics = Metrics()
    app: FastAPI = FastAPIOffline(
        title="Onebook",
        version=VERSION,
        description=DESCRIPTION,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        exception_handlers={
            OnebookError: _on_refusal,
            RequestValidationError: _on_validation,
            HTTPException: _on_http,
        },
    )
    app.state.services, app.state.metrics, app.state.rate_limit = services, metrics, RateLimit(services.clock)
    app.state.turns = Turns()
    for router in (pages.router, health.router, *ROUTERS):
        app.router.routes.extend(router.routes)  # as they are: an included router is matched anew at every request
    # Around the framework's own layers, so that a request that goes straight to its route passes none of them.
    express = Express(app.build_middleware_stack(), on_error=_on_error)
    envelope = Envelope(express, clock=services.clock, entropy=services.entropy, metrics=metrics)
    app.middleware_stack = envelope if tracing.active is None else Traced(envelope, tracing.active)
    return app


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, OnebookError)
    return await _answer(request, error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _answer(request, foreign.from_validation(error))


async def _on_error(request: Request, error: Exception) -> Response:
    return await (_on_validation if isinstance(error, RequestValidationError) else _on_refusal)(request, error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = await _answer(request, foreign.from_http(error, method=request.method, path=request.scope["path"]))
    response.headers.update(error.headers or {})
    return response


async def _answer(request: Request, error: OnebookError) -> Response:
    """The problem for `error`; what is our own fault is logged and counted."""
    row = problem_of(error)
    request.state.problem = error.code
    if row.status >= 500:
        record: Callable[..., None] = log.error if row.status == 500 else log.warning
        record(
            "failed", code=error.code, request_id=request.state.request_id, path=request.scope["path"], exc_info=error
        )
    if row.status == 500:
        request.app.state.metrics.broken.labels(error.code).inc()
    return response_for(
        error,
        request_id=request.state.request_id,
        assets=await _assets(request, error),
        body=getattr(request, "_json", None),
    )


async def _assets(request: Request, error: OnebookError) -> dict[str, Asset]:
    """The assets, for showing the error's numbers; none when the error has none, or they can't be read now."""
    if not error.facts:
        return {}
    services: Services = request.app.state.services
    try:
        return await services.ledger.assets()
    except OnebookError:
        return {}
