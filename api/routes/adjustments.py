"""What the treasurer moves by hand between accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import Acting
from api.amounts import AmountText, AssetCode
from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.instants import Instant
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from base.errors import OnebookError
from identity.keys import Principal
from identity.scopes import Scope
from ledger.money import parse_amount
from treasury.records import Adjustment

router = resource("treasury")


class AdjustmentView(TypedDict):
    id: str
    asset: str
    amount: str
    debit: str
    credit: str
    reason: str
    evidence: str | None
    made_by: str
    created_at: str


class AdjustmentList(TypedDict):
    items: list[AdjustmentView]
    has_more: bool


class BookedDates(TypedDict):
    effective_at: str
    effective_at_requested: str | None
    moved_out_of: str | None


class BookedAdjustmentView(AdjustmentView, BookedDates):
    """`effective_at_requested`: the date that was asked for, where the closed period `moved_out_of` has it."""


class MoveByHand(Asked):
    """Value to move by hand. Accounts are a house purpose such as `suspense`, or whole account names."""

    asset: AssetCode
    amount: AmountText
    debit: str = Field(max_length=300, examples=["suspense"], description="What gives.")
    credit: str = Field(max_length=300, examples=["capital"], description="What gets.")
    reason: str = Field(max_length=1000, examples=["opening capital"])
    evidence: str | None = Field(
        default=None, max_length=1000, description="Whose it is, shown by what: needed to credit a user."
    )


class NewAdjustment(MoveByHand):
    """What is moved at once may have an earlier date."""

    effective_at: Instant | None = Field(
        default=None, description="An earlier date; inside a closed period it takes effect at that period's end."
    )


def adjustment_view(adjustment: Adjustment, assets: Assets) -> AdjustmentView:
    return {
        "id": adjustment.id,
        "asset": adjustment.asset,
        "amount": money(adjustment.amount, adjustment.asset, assets),
        "debit": adjustment.source,
        "credit": adjustment.target,
        "reason": adjustment.reason,
        "evidence": adjustment.evidence,
        "made_by": adjustment.treasurer,
        "created_at": instant(adjustment.created_at),
    }


@contextmanager
def fields_named(**names: str) -> Iterator[None]:
    """Errors inside name a service's argument; here they name the request's field."""
    try:
        yield
    except OnebookError as error:
        error.param = names.get(error.param or "", error.param)
        raise


@router.post(
    "/treasury/adjustments",
    response_model=BookedAdjustmentView,
    status_code=201,
    summary="Move value by hand, with a reason",
)
async def create_adjustment(
    parts: Parts,
    key: IdempotencyKey,
    asked: NewAdjustment,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
    acts: Acting,
) -> Response:
    assets = await assets_of(parts, asked.asset)
    with fields_named(source="debit", target="credit"):
        async with acts.booking("adjustment.create", key, reason=asked.reason) as noted:
            made = await parts.adjustments.move(
                key=key,
                treasurer=treasurer.acts_as,
                source=asked.debit,
                target=asked.credit,
                asset=asked.asset,
                amount=parse_amount(asked.amount, assets[asked.asset]),
                reason=asked.reason,
                evidence=asked.evidence,
                effective_at=asked.effective_at,
                noted=noted,
            )
    view: BookedAdjustmentView = {**adjustment_view(made, assets), **await _dates(parts, made)}
    return answer(view, status=201, replayed=made.replayed)


async def _dates(parts: Parts, adjustment: Adjustment) -> BookedDates:
    """Since when it's effective; and where a closed period moved it, which, and from when."""
    (line, *_) = await parts.ledger.history(subject=adjustment.id, limit=1)
    requested = line.effective_at_requested
    period = None if requested is None else await parts.periods.holding(requested)
    return {
        "effective_at": instant(line.effective_at),
        "effective_at_requested": maybe_instant(requested),
        "moved_out_of": None if period is None else period.id,
    }


@router.get(
    "/treasury/adjustments",
    response_model=AdjustmentList,
    summary="List what was moved by hand",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_adjustments(parts: Parts, page: Onward) -> Response:
    found = await parts.adjustments.recent(before=page.starting_after, limit=page.limit + 1)
    view = partial(adjustment_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))
