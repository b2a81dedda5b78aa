"""Who acts for the house in a request, and what the audit log is told of it. Users' own requests aren't in it."""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Annotated, Any

import msgspec
from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from identity.keys import Principal
from ledger.requests import RequestKey
from treasury.operations.acts import Actor, Noted
from treasury.operations.audit_log import AuditLog, Doing

SUBJECT_LENGTH_MAX = 100
"""Characters of a subject that are kept: what is longer is no id of ours."""


class Acts:
    """The acts of one request."""

    def __init__(self, log: AuditLog, principal: Principal, request: str) -> None:
        self._log = log
        self._actor = Actor(principal.key_id, principal.user_id)
        self._request = request

    def booking(
        self,
        action: str,
        key: RequestKey,
        *,
        subject: str | None = None,
        reason_code: str | None = None,
        reason: str | None = None,
    ) -> AbstractAsyncContextManager[Noted]:
        """For what is a command of the book: see `AuditLog.booking`."""
        act = self._log.act(
            self._actor, action, subject=subject, reason_code=reason_code, reason=reason, request=self._request
        )
        return self._log.booking(act, key)

    def doing(
        self, action: str, *, subject: str | None = None, reason: str | None = None, detail: str | None = None
    ) -> AbstractAsyncContextManager[Doing]:
        """For what is none: see `AuditLog.doing`."""
        act = self._log.act(self._actor, action, subject=subject, reason=reason, request=self._request, detail=detail)
        return self._log.doing(act)


async def _acts(request: Request) -> Acts:
    return Acts(request.app.state.services.audit_log, request.state.principal, request.state.request_id)


Acting = Annotated[Acts, Depends(_acts)]
"""Notes what its request does."""

Route = Callable[..., Awaitable[Response]]


def noted(action: str, *, subject: str | None = None, told: str = "id") -> Callable[[Route], Route]:
    """Note what a route does, before it's done and how it ended: for acts that are no commands of the book.

    `subject` names the route's parameter that says to what it's done; None: the field `told` of its answer does. The
    reason is the body's, where it has one.
    """

    def around(route: Route) -> Route:
        @wraps(route)
        async def act(*, acts: Acts, **values: Any) -> Response:
            reason = getattr(values.get("asked"), "reason", None)
            named = None if subject is None else str(values[subject])[:SUBJECT_LENGTH_MAX]
            async with acts.doing(action, subject=named, reason=reason) as doing:
                response = await route(**values)
                if named is None:
                    doing.subject = msgspec.json.decode(response.body).get(told)
                if "idempotent-replayed" in response.headers:
                    doing.detail = "replayed"
            return response

        asks = inspect.signature(route)
        own = inspect.Parameter("acts", inspect.Parameter.KEYWORD_ONLY, annotation=Acting)
        act.__signature__ = asks.replace(parameters=[*asks.parameters.values(), own])  # type: ignore[attr-defined]
        return act

    return around
