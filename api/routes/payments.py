"""Payments over chains as the treasurer sees them: any withdrawal, giving one up, and the addresses that pay."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.parts import Parts, assets_of
from api.routes.withdrawals import WithdrawalView, withdrawal_view
from api.schemas import Asked
from chain.evm.addresses import show_address
from chain.networks import Deployment, to_ledger_units
from chain.senders import SenderState
from identity.keys import Principal
from identity.scopes import Scope
from wallet.resources import Withdrawal

router = resource("treasury")


class AnyWithdrawalView(WithdrawalView):
    owner: str
    cancelling: str | None


class HeldView(TypedDict):
    asset: str
    held: str
    free: str


class SenderView(TypedDict):
    network: str
    sender: str
    address: str
    in_flight: int
    reserved: int
    waiting_for: str | None
    reason: str | None
    holdings: list[HeldView]


class SenderList(TypedDict):
    items: list[SenderView]
    has_more: bool


class NewCancellation(Asked):
    """Why the withdrawal is given up. Its user isn't told the reason."""

    reason: str = Field(min_length=1, max_length=500, examples=["the recipient's exchange reported a theft"])


def any_withdrawal_view(withdrawal: Withdrawal, assets: Assets) -> AnyWithdrawalView:
    return {
        **withdrawal_view(withdrawal, assets),
        "owner": withdrawal.owner,
        "cancelling": withdrawal.cancelling,
    }


def sender_view(network: str, state: SenderState, places: list[Deployment], assets: Assets) -> SenderView:
    """`held` is on chain, `free` what no unfinished payment may take; below nothing free counts as nothing."""
    stalled = state.stalled

    def shown(units: int, place: Deployment) -> str:
        asset = assets[place.asset]
        return money(to_ledger_units(max(0, units), place, scale=asset.scale), place.asset, assets)

    return {
        "network": network,
        "sender": str(state.own.key),
        "address": show_address(state.own.address),
        "in_flight": state.in_flight,
        "reserved": state.reserved,
        "waiting_for": None if stalled is None or stalled.waiting_for is None else stalled.waiting_for.value,
        "reason": None if stalled is None else stalled.refusal,
        "holdings": [
            {
                "asset": place.asset,
                "held": shown(state.held[place.contract], place),
                "free": shown(state.free[place.contract], place),
            }
            for place in places
        ],
    }


@router.get(
    "/treasury/withdrawals/{withdrawal}",
    response_model=AnyWithdrawalView,
    summary="Read anybody's withdrawal",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_any_withdrawal(parts: Parts, withdrawal: str) -> Response:
    return answer(any_withdrawal_view(await parts.cancellations.get(withdrawal), await assets_of(parts)))


@router.post(
    "/treasury/withdrawals/{withdrawal}/cancellations",
    response_model=AnyWithdrawalView,
    status_code=201,
    summary="Give up anybody's withdrawal, until its payment is mined",
)
@noted("withdrawal.cancel", subject="withdrawal")
async def cancel_any_withdrawal(
    parts: Parts,
    withdrawal: str,
    key: IdempotencyKey,
    asked: NewCancellation,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    """Before it's signed it ends at once. Afterwards another transaction takes its nonce, at the house's cost; it ends
    `cancelled` when that one is final, or is paid all the same if the payment is mined first."""
    found = await parts.cancellations.ask(
        key=key, treasurer=treasurer.owner, withdrawal=withdrawal, reason=asked.reason
    )
    return answer(any_withdrawal_view(found, await assets_of(parts)), status=201, replayed=found.replayed)


@router.get(
    "/treasury/senders/{network}",
    response_model=SenderList,
    summary="List the addresses that pay withdrawals",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_senders(parts: Parts, network: str) -> Response:
    places, assets = list(parts.chains.registry.on(network)), await assets_of(parts)
    states = await parts.senders.states(network)
    return answer({"items": [sender_view(network, one, places, assets) for one in states], "has_more": False})
