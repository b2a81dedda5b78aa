"""A provider's HTTP door: finds the operation, meets the failure switches, gives the answer."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from railsim.calls import Answer, Call, Operation, Refused
from railsim.peers import hang_up
from railsim.provider import Provider
from railsim.switches import Fault, Switch

HANG_SECONDS = 600.0
"""A request that is to time out is let go after this long at the latest."""


def provider_app(provider: Provider) -> Starlette:
    """The ASGI application of one provider."""
    routes = [
        Route(operation.path, _endpoint(provider, operation), methods=[operation.method])
        for operation in provider.operations()
    ]

    async def unknown(request: Request, _: Exception) -> Response:
        call = await _call(provider, request)
        return _response(provider.failure(call, 404))

    return Starlette(routes=routes, exception_handlers={404: unknown, 405: unknown, HTTPException: unknown})


async def _call(provider: Provider, request: Request) -> Call:
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Call(
        method=request.method,
        target=target,
        headers={name.lower(): value for name, value in request.headers.items()},
        query=provider.parse_query(request.url.query),
        raw=await request.body(),
        path={name: str(value) for name, value in request.path_params.items()},
    )


def _endpoint(provider: Provider, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            call = await _call(provider, request)
        except Refused as refused:
            return _response(refused.answer)
        provider.timeline.run_due()
        switch = provider.world.switches.take(Fault, provider.name, request.method, request.url.path)
        if switch is None:
            return _response(provider.answer(call, operation))
        return await _faulty(provider, operation, request, call, switch)

    return endpoint


async def _faulty(provider: Provider, operation: Operation, request: Request, call: Call, switch: Switch) -> Response:
    match Fault(switch.kind):
        case Fault.LATENCY:
            await asyncio.sleep(switch.milliseconds / 1000)
            return _response(provider.answer(call, operation))
        case Fault.RATE_LIMITED:
            return _response(provider.failure(call, 429))
        case Fault.ERROR_BEFORE:
            return _response(provider.failure(call, 500))
        case Fault.ERROR_AFTER:
            provider.answer(call, operation)
            return _response(provider.failure(call, 500))
        case Fault.TIMEOUT_BEFORE | Fault.TIMEOUT_AFTER as kind:
            if kind is Fault.TIMEOUT_AFTER:
                provider.answer(call, operation)
            await _gone(request)
        case Fault.CLOSED_BEFORE | Fault.CLOSED_AFTER as kind:
            if kind is Fault.CLOSED_AFTER:
                provider.answer(call, operation)
            hang_up(request.client)
            await _gone(request)
    return Response(status_code=504)


async def _gone(request: Request) -> None:
    """Wait until the caller has gone, or `HANG_SECONDS`."""
    try:
        async with asyncio.timeout(HANG_SECONDS):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


def _response(answer: Answer) -> Response:
    media = None if answer.body is None or "content-type" in answer.headers else "application/json"
    return Response(answer.rendered(), status_code=answer.status, headers=answer.headers, media_type=media)
