"""Who may come in: each `/v1` request is authenticated and counted before its body is read."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import JSON_BYTES_MAX, is_plain_text, read_json
from api.errors import InvalidRequest, NoKey
from api.ratelimit import RateLimit
from api.turns import Turns
from identity.keys import Principal
from identity.scopes import Scope
from wiring.services import Services

bearer = HTTPBearer(
    auto_error=False, scheme_name="API key", description="An API key: `Authorization: Bearer ob_live_...`"
)
"""Declares the key in the OpenAPI document; `Door` checks it."""


class Door(APIRoute):
    """A route behind the door: key, rate, plain text, JSON, in this order; then the route itself."""

    bytes_max = JSON_BYTES_MAX
    """The largest JSON body that it takes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.behind(super().get_route_handler())

    def behind(
        self, inner: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """`inner` for those who may come in, with the JSON of their request read."""
        takes_json = self.body_field is not None

        async def handle(request: Request) -> Response:
            await admit(request)
            if takes_json:
                await read_json(request, bytes_max=self.bytes_max)
            key = request.headers.get("idempotency-key")
            if key is None:
                return await inner(request)
            turns: Turns = request.app.state.turns
            async with turns.of(request.state.principal.owner, request.scope["path"], key):
                return await inner(request)

        return handle


async def admit(request: Request) -> None:
    """Find out who asks and count the request. Raises NoKey, NotAuthenticated, RateExceeded, InvalidRequest."""
    services: Services = request.app.state.services
    limit: RateLimit = request.app.state.rate_limit
    principal = await services.identity.authenticate(secret_of(request))
    request.state.principal = principal
    limit.count(principal, request.state.headers)
    if not is_plain_text(request.scope["path"]) or b"%00" in request.scope["query_string"]:
        raise InvalidRequest("the address has a character that can't be part of any id", code="malformed_text")


def secret_of(request: Request) -> str:
    """The key that was sent. Raises NoKey."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        raise NoKey("this needs an API key: send the header Authorization: Bearer <key>")
    if scheme.lower() != "bearer" or not secret.strip():
        raise NoKey("the Authorization header must be: Bearer <key>")
    return secret.strip()


async def any_caller(request: Request) -> Principal:
    """Whoever has a valid key."""
    principal: Principal = request.state.principal
    return principal


def caller(scope: Scope) -> Any:
    """A dependency: the principal, if its key has `scope`. Raises ScopeMissing."""

    async def check(request: Request) -> Principal:
        principal: Principal = request.state.principal
        principal.require(scope)
        return principal

    return Security(check, scopes=[str(scope)])


def owner(scope: Scope) -> Any:
    """A dependency: the id of the user whose key this is, if it has `scope`. Raises ScopeMissing."""

    async def check(request: Request) -> str:
        principal: Principal = request.state.principal
        principal.require(scope)
        assert principal.user_id is not None, "user scopes are only given to keys with an owner"
        return principal.user_id

    return Security(check, scopes=[str(scope)])
