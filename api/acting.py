"""Who acts for the house in a request, and what the audit log is told of it. Users' own requests aren't in it."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from identity.keys import Principal
from ledger.requests import RequestKey
from treasury.operations.acts import Actor, Noted
from treasury.operations.audit_log import AuditLog, Doing


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
