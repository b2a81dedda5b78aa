"""The short way to a route: most requests are answered without what the framework does for the rarest ones.

FastAPI describes every route and stays the way to all of them. But where a route's path is fixed, and each of its
parameters is of a kind that this API uses everywhere, nothing has to be searched for or solved anew at every request:
the route is found by method and path, and called. Both ways end in the same door (`api.auth`) and the same function.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import Door, bearer
from api.idempotency import key_of
from base.errors import OnebookError

Endpoint = Callable[[Request], Awaitable[Response]]
OnError = Callable[[Request, Exception], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Straight:
    """A route and the way straight to it: its checks and arguments in order, then its function, all behind the door."""

    route: APIRoute
    steps: tuple["Step", ...]
    handle: Endpoint

    @property
    def without_query(self) -> bool:
        """Whether it's only for requests whose address ends with the path."""
        return any(step.without_query for step in self.steps)


class Express:
    """Wraps the router of an application: takes the requests that it can, and passes the others on."""

    def __init__(self, app: ASGIApp, *, on_error: OnError) -> None:
        self._app = app
        self._on_error = on_error
        self._routes: Mapping[tuple[str, str], Straight] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = self._find(scope) if scope["type"] == "http" else None
        if straight is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = straight.route
        request = Request(scope, receive, send)
        try:
            response = await straight.handle(request)
        except (OnebookError, RequestValidationError) as error:
            response = await self._on_error(request, error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> Straight | None:
        if self._routes is None:
            self._routes = straight_routes(scope["app"].routes)
        found = self._routes.get((scope["method"], scope["path"]))
        return found if found is None or not (found.without_query and scope["query_string"]) else None


def straight_routes(routes: list[Any]) -> dict[tuple[str, str], Straight]:
    """The routes that can be called straight away, by method and path. The first one of several has it, as ever."""
    found: dict[tuple[str, str], Straight | None] = {}
    for route in routes:
        for method in getattr(route, "methods", None) or ():
            found.setdefault((method, route.path), _straight(route) if isinstance(route, Door) else None)
    return {place: straight for place, straight in found.items() if straight is not None}


def _straight(route: Door) -> Straight | None:
    """The way to this route, None if a parameter of its isn't of the usual kinds."""
    dependant = route.dependant
    if "{" in route.path or dependant.call is None or not _has_only(dependant, "dependencies", "body_params"):
        return None
    steps = [_step(part) for part in dependant.dependencies if part.call is not bearer]  # the door looks at the key
    known = [step for step in steps if step is not None]
    if len(known) < len(steps) or len(dependant.body_params) > 1:
        return None
    return Straight(route, tuple(known), route.behind(_call(dependant, known)))


@dataclass(frozen=True, slots=True)
class Step:
    """How a parameter of a route's function is made of a request. `name` is None for what is only checked."""

    name: str | None
    make: Endpoint | Callable[[Request], Awaitable[Any]]
    without_query: bool = False


def _step(part: Dependant) -> Step | None:
    """The parameter that this dependency makes, None if it's of no kind that is known here."""
    call = part.call
    if call is None or part.dependencies:
        return None
    if call is key_of:
        return Step(part.name, _key)
    if part.request_param_name is not None and _has_only(part):
        given = part.request_param_name
        return Step(part.name, call if given == "request" else lambda request: call(**{given: request}))
    optional = part.request_param_name is None and all(
        not asked.field_info.is_required() for asked in part.query_params
    )
    if part.query_params and optional and _has_only(part, "query_params"):
        return Step(part.name, lambda request: call(), without_query=True)
    return None


def _has_only(part: Dependant, *parameters: str) -> bool:
    """Whether a dependency asks for nothing but what these of its lists name (and the request)."""
    lists = ("path_params", "query_params", "header_params", "cookie_params", "body_params", "dependencies")
    special = (
        part.websocket_param_name,
        part.http_connection_param_name,
        part.response_param_name,
        part.background_tasks_param_name,
        part.security_scopes_param_name,
    )
    return not any(special) and not any(getattr(part, name) for name in lists if name not in parameters)


def _call(dependant: Dependant, steps: list[Step]) -> Endpoint:
    """The route's function behind its checks, with its arguments made one after the other, as FastAPI would."""
    function = dependant.call
    assert function is not None
    body = dependant.body_params[0] if dependant.body_params else None
    asks_for = dependant.request_param_name
    in_order = [(step.name, step.make) for step in steps]

    async def call(request: Request) -> Response:
        values: dict[str, Any] = {}
        for name, make in in_order:
            made = await make(request)
            if name is not None:
                values[name] = made
        if asks_for is not None:
            values[asks_for] = request
        if body is not None:
            sent = getattr(request, "_json", None)
            if sent is None:
                raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required"}])
            values[body.name], errors = body.validate(sent, {}, loc=("body",))
            if errors:
                raise RequestValidationError(errors, body=sent)
        response: Response = await function(**values)
        return response

    return call


async def _key(request: Request) -> Any:
    return await key_of(request, request.headers.get("idempotency-key"))
