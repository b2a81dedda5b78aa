"""Freezes, for the treasurer: what is frozen, for which reasons, until when; set, and lifted one by one."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import Acting
from api.answers import answer, instant, maybe_instant
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.instants import Instant
from api.paging import Onward, listing
from api.parts import Parts
from api.schemas import Asked
from identity.keys import Principal
from identity.scopes import Scope
from ledger.accounts import HOUSE
from ledger.commands import FreezeScope
from treasury.operations.freeze_reasons import FreezeReason, StandingFreeze

router = resource("treasury")

Treasurer = Annotated[Principal, caller(Scope.TREASURY_WRITE)]


class FreezeView(TypedDict):
    id: str
    scope: str
    target: str
    reason_code: str
    reason: str
    set_by: str
    set_at: str
    expires_at: str | None
    lifted_at: str | None
    lifted_by: str | None
    lift_reason: str | None


class BookFreezeView(TypedDict):
    scope: str
    target: str


class FreezeList(TypedDict):
    items: list[FreezeView]
    unexplained: list[BookFreezeView]
    has_more: bool


class NewFreeze(Asked):
    """A freeze to set. It stops what people intend; what the chain or a bank did is still booked."""

    scope: Literal["account", "owner", "asset", "network"]
    target: str = Field(
        min_length=1,
        max_length=300,
        examples=["@alice"],
        description="An account's name, a user's id or handle, an asset's code, a network, rail or bank account.",
    )
    reason_code: Literal["court_order", "fraud_suspected", "sanctions", "user_request", "incident", "other"]
    reason: str = Field(max_length=1000, examples=["order 17/26 of the district court"])
    expires_at: Instant | None = Field(default=None, description="It's lifted then by itself; none: by somebody.")


class FreezeToLift(Asked):
    """Why a freeze is lifted."""

    reason: str = Field(max_length=1000, examples=["the court has withdrawn its order"])


def freeze_view(freeze: StandingFreeze) -> FreezeView:
    return {
        "id": freeze.id,
        "scope": freeze.scope.value,
        "target": freeze.target,
        "reason_code": freeze.reason_code.value,
        "reason": freeze.reason,
        "set_by": freeze.set_by,
        "set_at": instant(freeze.set_at),
        "expires_at": maybe_instant(freeze.expires_at),
        "lifted_at": maybe_instant(freeze.lifted_at),
        "lifted_by": freeze.lifted_by,
        "lift_reason": freeze.lift_reason,
    }


@router.post("/treasury/freezes", response_model=FreezeView, status_code=201, summary="Freeze something")
async def create_freeze(
    parts: Parts, key: IdempotencyKey, asked: NewFreeze, treasurer: Treasurer, acts: Acting
) -> Response:
    """Another reason for what is frozen already stands beside the first: each is lifted by itself."""
    target = asked.target
    if asked.scope == "owner" and target != HOUSE:
        target = (await parts.identity.user(target)).id  # a freeze on a name that nobody has would stop nothing
    code = FreezeReason(asked.reason_code)
    async with acts.booking("freeze.set", key, subject=target, reason_code=code.value, reason=asked.reason) as noted:
        freeze = await parts.freezes.set(
            key=key,
            by=treasurer.acts_as,
            scope=FreezeScope(asked.scope),
            target=target,
            code=code,
            reason=asked.reason,
            expires_at=asked.expires_at,
            noted=noted,
        )
    return answer(freeze_view(freeze), status=201, replayed=freeze.replayed)


@router.post(
    "/treasury/freezes/{freeze}/lift", response_model=FreezeView, summary="Lift a freeze: one of its target's reasons"
)
async def lift_freeze(
    parts: Parts, key: IdempotencyKey, freeze: str, asked: FreezeToLift, treasurer: Treasurer, acts: Acting
) -> Response:
    """The target stays frozen as long as another reason stands."""
    async with acts.booking("freeze.lift", key, subject=freeze[:64], reason=asked.reason) as noted:
        lifted = await parts.freezes.lift(freeze, key=key, by=treasurer.acts_as, reason=asked.reason, noted=noted)
    return answer(freeze_view(lifted), replayed=lifted.replayed)


@router.get(
    "/treasury/freezes",
    response_model=FreezeList,
    summary="List what is frozen, and why",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_freezes(
    parts: Parts,
    page: Onward,
    lifted: Annotated[bool, Query(description="Also those that are over.")] = False,
) -> Response:
    """`unexplained`: what the book says is frozen and nobody gave a reason for here, with the first page."""
    found = await parts.freezes.recent(lifted=lifted, before=page.starting_after, limit=page.limit + 1)
    unexplained = [] if page.starting_after else await parts.freezes.unexplained()
    shown = listing(found[: page.limit], len(found) > page.limit, freeze_view)
    return answer({**shown, "unexplained": [{"scope": scope.value, "target": target} for scope, target in unexplained]})
