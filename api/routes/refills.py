"""Requests to refill the hot address from cold, for the treasurer."""

from functools import partial

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, instant, money
from api.auth import caller
from api.door import resource
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from identity.scopes import Scope
from treasury.sweep_records import Refill

router = resource("treasury")


class RefillView(TypedDict):
    id: str
    state: str
    asset: str
    network: str
    amount: str
    reason: str
    inflow: str | None
    created_at: str
    updated_at: str


class RefillList(TypedDict):
    items: list[RefillView]
    has_more: bool


class NewClosing(Asked):
    """The inflow at the hot address that is the refill."""

    inflow: str = Field(min_length=1, max_length=64, examples=["inf_01jd3v5q8m2c7x9k4n6p0r1s2t"])


def refill_view(refill: Refill, assets: Assets) -> RefillView:
    """`inflow` is what closed it; while it has `arrived`, what may."""
    return {
        "id": refill.id,
        "state": refill.state.value,
        "asset": refill.asset,
        "network": refill.network,
        "amount": money(refill.amount, refill.asset, assets),
        "reason": refill.reason,
        "inflow": refill.inflow,
        "created_at": instant(refill.created_at),
        "updated_at": instant(refill.updated_at),
    }


@router.get(
    "/treasury/refills",
    response_model=RefillList,
    summary="List what the hot address was short of",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_refills(parts: Parts, page: Onward) -> Response:
    found = await parts.refills.recent(before=page.starting_after, limit=page.limit + 1)
    view = partial(refill_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.post(
    "/treasury/refills/{refill}/close",
    response_model=RefillView,
    summary="Say which inflow the refill was",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("refill.close", subject="refill")
async def close_refill(parts: Parts, refill: str, asked: NewClosing) -> Response:
    """It books nothing, and said twice it's said once, so it needs no Idempotency-Key."""
    closed, replayed = await parts.refills.close(refill, inflow=asked.inflow)
    return answer(refill_view(closed, await assets_of(parts)), replayed=replayed)
