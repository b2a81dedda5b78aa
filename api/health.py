"""Is it alive, is it ready, and how does it do: for supervisors and monitoring. No key needed, nothing secret told."""

import asyncio
from contextlib import suppress

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.parts import Parts
from api.problems import RETRY_SECONDS
from base.errors import OnebookError
from wiring.services import Check, Services

CHECK_SECONDS = 3
"""Longest wait for one check."""

router = APIRouter(tags=["health"])


@router.get("/health/live", summary="The process answers")
async def live() -> Response:
    return JSONResponse({"live": True})


@router.get("/health/ready", summary="Everything that requests need can answer")
async def ready(request: Request, parts: Parts) -> Response:
    found = await readiness(parts)
    for name, fault in found.items():
        request.app.state.metrics.ready.labels(name).set(0 if fault else 1)
    well = not any(found.values())
    checks = {name: fault or "ok" for name, fault in found.items()}
    headers = {} if well else {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"ready": well, "checks": checks}, 200 if well else 503, headers)


@router.get("/metrics", summary="Prometheus metrics", include_in_schema=False)
async def metrics(request: Request, parts: Parts) -> Response:
    for name, fault in (await readiness(parts)).items():
        request.app.state.metrics.ready.labels(name).set(0 if fault else 1)
    with suppress(OnebookError, TimeoutError):  # what is wrong with the database, readiness tells
        request.app.state.metrics.count_alerts(await asyncio.wait_for(parts.alerts.open(), CHECK_SECONDS))
    page: Response = request.app.state.metrics.page()
    return page


async def readiness(services: Services) -> dict[str, str | None]:
    """Each check's fault, None where it's well. All are looked at together, none longer than CHECK_SECONDS."""
    faults = await asyncio.gather(*(_look(check) for check in services.checks.values()))
    return dict(zip(services.checks, faults, strict=True))


async def _look(check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), CHECK_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS} s"
    except Exception as error:
        return f"failed: {type(error).__name__}"
