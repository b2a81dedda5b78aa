"""What people did to treasury and operation, for whoever looks after it."""

from functools import partial
from typing import Annotated

from fastapi import Query
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant
from api.auth import caller
from api.door import resource
from api.instants import Instant
from api.paging import Wanted, listing
from api.parts import Parts
from identity.scopes import Scope
from treasury.operations.acts import Act

router = resource("treasury")


class ActorView(TypedDict):
    key: str
    user: str | None


class ActView(TypedDict):
    id: str
    act: str
    at: str
    actor: ActorView
    action: str
    subject: str | None
    outcome: str
    reason_code: str | None
    reason: str | None
    request_id: str | None
    detail: str | None


class ActList(TypedDict):
    items: list[ActView]
    has_more: bool


def act_view(act: Act) -> ActView:
    """Rows of one act share `act`: an act beside the book has one when it's begun and one when it's over."""
    return {
        "id": act.id,
        "act": act.act,
        "at": instant(act.at),
        "actor": {"key": act.actor.key, "user": act.actor.user},
        "action": act.action,
        "subject": act.subject,
        "outcome": act.outcome.value,
        "reason_code": act.reason_code,
        "reason": act.reason,
        "request_id": act.request,
        "detail": act.detail,
    }


@router.get(
    "/treasury/audit-log",
    response_model=ActList,
    summary="List what people did: who, when, on what, why, and what came of it",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_acts(
    parts: Parts,
    page: Wanted,
    actor: Annotated[str | None, Query(max_length=64, description="A key's or a user's id.")] = None,
    action: Annotated[str | None, Query(max_length=64, description="Such as `adjustment.create`.")] = None,
    subject: Annotated[str | None, Query(max_length=300, description="What it was done to: an id.")] = None,
    since: Annotated[Instant | None, Query(description="From this instant on.")] = None,
    until: Annotated[Instant | None, Query(description="Before this instant.")] = None,
) -> Response:
    rows = partial(parts.audit_log.recent, actor=actor, action=action, subject=subject, since=since, until=until)
    return answer(listing(*await page.of(rows), act_view))
