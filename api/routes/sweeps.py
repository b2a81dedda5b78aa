"""Sweeps of deposit addresses, for the treasurer: what is under way, what can't be swept, and one asked for by hand."""

from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.amounts import AssetCode
from api.answers import Assets, answer, instant, maybe_instant, maybe_money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from chain.evm.addresses import show_address
from identity.keys import Principal
from identity.scopes import Scope
from treasury.sweep_records import Sweep
from treasury.sweep_states import SweepState

router = resource("treasury")


class SweepView(TypedDict):
    id: str
    state: str
    method: str
    asset: str
    network: str
    address: str
    amount: str | None
    tries: int
    next_try_at: str | None
    waiting_for: str | None
    reason: str | None
    tx_hash: str | None
    block_number: int | None
    asked_by: str | None
    created_at: str
    updated_at: str


class SweepList(TypedDict):
    items: list[SweepView]
    has_more: bool


class NewSweep(Asked):
    """A deposit address of ours, whose final holding of an asset is to go to the hot address."""

    asset: AssetCode
    network: str = Field(min_length=1, max_length=40, examples=["ethereum"])
    address: str = Field(min_length=1, max_length=100, examples=["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"])


def sweep_view(sweep: Sweep, assets: Assets) -> SweepView:
    """`tries` are the refusals in a row; without `next_try_at` an unsweepable one waits for a treasurer."""
    return {
        "id": sweep.id,
        "state": sweep.state.value,
        "method": sweep.method.value,
        "asset": sweep.asset,
        "network": sweep.network,
        "address": show_address(sweep.address.address),
        "amount": maybe_money(sweep.amount, sweep.asset, assets),
        "tries": sweep.tries,
        "next_try_at": maybe_instant(sweep.next_try_at),
        "waiting_for": sweep.waiting_for,
        "reason": sweep.reason,
        "tx_hash": sweep.tx_hash,
        "block_number": sweep.block_number,
        "asked_by": sweep.asked_by,
        "created_at": instant(sweep.created_at),
        "updated_at": instant(sweep.updated_at),
    }


@router.get(
    "/treasury/sweeps",
    response_model=SweepList,
    summary="List sweeps of deposit addresses",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_sweeps(
    parts: Parts,
    page: Onward,
    state: Annotated[SweepState | None, Query(description="Only those in this state.")] = None,
) -> Response:
    found = await parts.sweeps.recent(state=state, before=page.starting_after, limit=page.limit + 1)
    view = partial(sweep_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.get(
    "/treasury/sweeps/{sweep}",
    response_model=SweepView,
    summary="One sweep",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_sweep(parts: Parts, sweep: str) -> Response:
    return answer(sweep_view(await parts.sweeps.get(sweep), await assets_of(parts)))


@router.post("/treasury/sweeps", response_model=SweepView, status_code=201, summary="Sweep a deposit address now, once")
@noted("sweep.request")
async def create_sweep(
    parts: Parts,
    key: IdempotencyKey,
    asked: NewSweep,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    assets = await assets_of(parts, asked.asset)
    made, replayed = await parts.sweeps.request(
        key=key, treasurer=treasurer.owner, network=asked.network, asset=asked.asset, address=asked.address
    )
    return answer(sweep_view(made, assets), status=201, replayed=replayed)


@router.post(
    "/treasury/sweeps/{sweep}/retry",
    response_model=SweepView,
    summary="Try an unsweepable address again",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("sweep.retry", subject="sweep")
async def retry_sweep(parts: Parts, sweep: str) -> Response:
    """Asked twice it's tried once, so it needs no Idempotency-Key."""
    found, replayed = await parts.sweeps.retry(sweep)
    return answer(sweep_view(found, await assets_of(parts)), replayed=replayed)
