"""What the treasurer does by hand: adjustments between accounts, freezes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode
from api.answers import Assets, answer, instant, money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from base.errors import OnebookError
from identity.keys import Principal
from identity.scopes import Scope
from ledger.accounts import HOUSE
from ledger.commands import FreezeScope
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


class FreezeView(TypedDict):
    scope: str
    target: str


class FreezeList(TypedDict):
    items: list[FreezeView]
    has_more: bool


class FreezeChangeView(FreezeView):
    frozen: bool


class NewAdjustment(Asked):
    """Value to move by hand. Accounts are a house purpose such as `suspense`, or whole account names."""

    asset: AssetCode
    amount: AmountText
    debit: str = Field(max_length=300, examples=["suspense"], description="What gives.")
    credit: str = Field(max_length=300, examples=["capital"], description="What gets.")
    reason: str = Field(max_length=1000, examples=["opening capital"])
    evidence: str | None = Field(
        default=None, max_length=1000, description="Whose it is, shown by what: needed to credit a user."
    )


class FreezeChange(Asked):
    """A freeze to set or to lift. It stops what people intend; what the chain or a bank did is still booked."""

    scope: Literal["account", "owner", "asset"]
    target: str = Field(
        min_length=1, max_length=300, description="An account's name, a user's id or handle, an asset's code."
    )
    frozen: bool
    reason: str = Field(min_length=1, max_length=500)


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
def _fields(**names: str) -> Iterator[None]:
    """Errors inside name a service's argument; here they name the request's field."""
    try:
        yield
    except OnebookError as error:
        error.param = names.get(error.param or "", error.param)
        raise


@router.post(
    "/treasury/adjustments", response_model=AdjustmentView, status_code=201, summary="Move value by hand, with a reason"
)
async def create_adjustment(
    parts: Parts,
    key: IdempotencyKey,
    asked: NewAdjustment,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    assets = await assets_of(parts, asked.asset)
    with _fields(source="debit", target="credit"):
        made = await parts.adjustments.move(
            key=key,
            treasurer=treasurer.owner,
            source=asked.debit,
            target=asked.credit,
            asset=asked.asset,
            amount=parse_amount(asked.amount, assets[asked.asset]),
            reason=asked.reason,
            evidence=asked.evidence,
        )
    return answer(adjustment_view(made, assets), status=201, replayed=made.replayed)


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


@router.post(
    "/treasury/freezes",
    response_model=FreezeChangeView,
    summary="Freeze an account, an owner or an asset, or lift that",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
async def change_freeze(parts: Parts, key: IdempotencyKey, asked: FreezeChange) -> Response:
    target = asked.target
    if asked.scope == "owner" and target != HOUSE:
        target = (await parts.identity.user(target)).id  # a freeze on a name that nobody has would stop nothing
    replayed = await parts.freezes.change(
        key=key, scope=FreezeScope(asked.scope), target=target, frozen=asked.frozen, reason=asked.reason
    )
    view: FreezeChangeView = {"scope": asked.scope, "target": target, "frozen": asked.frozen}
    return answer(view, replayed=replayed)


@router.get(
    "/treasury/freezes",
    response_model=FreezeList,
    summary="List what is frozen",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_freezes(parts: Parts) -> Response:
    items: list[FreezeView] = [{"scope": scope.value, "target": target} for scope, target in await parts.freezes.all()]
    return answer({"items": items, "has_more": False})
