"""Withdrawals over a chain: estimate, ask, watch, cancel."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode, FeeAccepted, accepted_fee
from api.answers import Assets, answer, instant, maybe_money, money
from api.auth import owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from chain.evm.addresses import show_address
from identity.scopes import Scope
from ledger.money import parse_amount
from wallet.recipients import NOTES, Warned
from wallet.resources import Estimate, Withdrawal

router = resource("withdrawals")

Accepted = Annotated[str, Field(max_length=40)]


class WarningView(TypedDict):
    code: str
    detail: str
    resembles: str | None


class NoteView(TypedDict):
    code: str
    detail: str


class EstimateView(TypedDict):
    asset: str
    network: str
    address: str | None
    internal: bool
    amount: str
    fee_highest: str
    fee_expected: str
    service_fee: str
    total: str
    warnings: list[WarningView]
    notes: list[NoteView]


class WithdrawalView(TypedDict):
    id: str
    state: str
    cancellable: bool
    waiting_for: str | None
    reason: str | None
    asset: str
    network: str
    address: str
    internal: bool
    accepted: list[str]
    amount: str
    fee_highest: str
    fee: str | None
    service_fee: str
    tx_hash: str | None
    block_number: int | None
    block_hash: str | None
    created_at: str
    updated_at: str


class WithdrawalList(TypedDict):
    items: list[WithdrawalView]
    has_more: bool


class NewWithdrawal(Asked):
    """A payment to an address outside; to a user here who has it as a deposit address, in the book and at once."""

    asset: AssetCode
    network: str = Field(max_length=64, examples=["local"])
    address: str = Field(
        max_length=200, examples=["0x000000000000000000000000000000000000dEaD"], description="With its checksum."
    )
    amount: AmountText
    fee_highest: AmountText | None = Field(
        default=None,
        examples=["1.20"],
        description="The highest fee of the network's that you agree to, as the estimate told it; above it the request"
        " is refused.",
    )
    fee_accepted: FeeAccepted = None
    accept: list[Accepted] = Field(
        default=[],
        max_length=10,
        examples=[["looks_alike"]],
        description="Codes of the estimate's warnings that you accept; the request is refused while one is missing.",
    )


class WithdrawalToEstimate(Asked):
    """A withdrawal whose cost is wanted. The address makes the estimate exact; it may be left out."""

    asset: AssetCode
    network: str = Field(max_length=64, examples=["local"])
    amount: AmountText
    address: str | None = Field(default=None, max_length=200)


def estimate_view(estimate: Estimate, assets: Assets) -> EstimateView:
    """`total` is held; the service fee and what the network's really came to are taken of it, the rest comes back."""
    paid = estimate.recipient
    return {
        "asset": estimate.asset,
        "network": estimate.network,
        "address": None if paid is None else show_address(paid.address),
        "internal": paid is not None and paid.user is not None,
        "amount": money(estimate.amount, estimate.asset, assets),
        "fee_highest": money(estimate.fee_highest, estimate.asset, assets),
        "fee_expected": money(estimate.fee_expected, estimate.asset, assets),
        "service_fee": money(estimate.service_fee, estimate.asset, assets),
        "total": money(estimate.total, estimate.asset, assets),
        "warnings": [] if paid is None else [_warning_view(warned) for warned in paid.warnings],
        "notes": [] if paid is None else [{"code": note.value, "detail": NOTES[note]} for note in paid.notes],
    }


def _warning_view(warned: Warned) -> WarningView:
    twin = warned.resembles
    return {
        "code": warned.code.value,
        "detail": warned.says,
        "resembles": None if twin is None else show_address(twin),
    }


def withdrawal_view(withdrawal: Withdrawal, assets: Assets) -> WithdrawalView:
    """`fee` is known once it's final; until then `fee_highest` and `service_fee` are held beside the amount."""
    asset = withdrawal.asset
    return {
        "id": withdrawal.id,
        "state": withdrawal.state.value,
        "cancellable": withdrawal.cancellable,
        "waiting_for": withdrawal.waiting_for and withdrawal.waiting_for.value,
        "reason": withdrawal.reason,
        "asset": asset,
        "network": withdrawal.network,
        "address": show_address(withdrawal.address),
        "internal": withdrawal.internal,
        "accepted": [code.value for code in withdrawal.accepted],
        "amount": money(withdrawal.amount, asset, assets),
        "fee_highest": money(withdrawal.fee_highest, asset, assets),
        "fee": maybe_money(withdrawal.fee, asset, assets),
        "service_fee": money(withdrawal.service_fee, asset, assets),
        "tx_hash": withdrawal.tx_hash,
        "block_number": withdrawal.block_number,
        "block_hash": withdrawal.block_hash,
        "created_at": instant(withdrawal.created_at),
        "updated_at": instant(withdrawal.updated_at),
    }


@router.post(
    "/withdrawals/estimate",
    response_model=EstimateView,
    summary="What a withdrawal would cost at most, and what speaks against it",
)
async def estimate_withdrawal(
    parts: Parts, asked: WithdrawalToEstimate, user: Annotated[str, owner(Scope.WALLET_READ)]
) -> Response:
    assets = await assets_of(parts, asked.asset)
    estimate = await parts.withdrawals.estimate(
        user,
        asset=asked.asset,
        network=asked.network,
        amount=parse_amount(asked.amount, assets[asked.asset]),
        to=asked.address,
    )
    return answer(estimate_view(estimate, assets))


@router.post("/withdrawals", response_model=WithdrawalView, status_code=201, summary="Pay to an address outside")
async def create_withdrawal(
    parts: Parts, key: IdempotencyKey, asked: NewWithdrawal, user: Annotated[str, owner(Scope.WITHDRAWALS_WRITE)]
) -> Response:
    assets = await assets_of(parts, asked.asset)
    made = await parts.withdrawals.request(
        key=key,
        owner=user,
        asset=asked.asset,
        network=asked.network,
        to=asked.address,
        amount=parse_amount(asked.amount, assets[asked.asset]),
        fee_accepted=accepted_fee(asked.fee_highest, assets[asked.asset], param="fee_highest"),
        service_fee_accepted=accepted_fee(asked.fee_accepted, assets[asked.asset]),
        accept=asked.accept,
    )
    return answer(withdrawal_view(made, assets), status=201, replayed=made.replayed)


@router.get("/withdrawals", response_model=WithdrawalList, summary="List your withdrawals")
async def list_withdrawals(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.withdrawals.list_for, user))
    return answer(listing(*found, partial(withdrawal_view, assets=await assets_of(parts))))


@router.get("/withdrawals/{withdrawal}", response_model=WithdrawalView, summary="Read a withdrawal")
async def read_withdrawal(parts: Parts, withdrawal: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(withdrawal_view(await parts.withdrawals.get(user, withdrawal), await assets_of(parts)))


@router.post("/withdrawals/{withdrawal}/cancel", response_model=WithdrawalView, summary="Give up a withdrawal")
async def cancel_withdrawal(
    parts: Parts, withdrawal: str, key: IdempotencyKey, user: Annotated[str, owner(Scope.WITHDRAWALS_WRITE)]
) -> Response:
    ended = await parts.withdrawals.cancel(key=key, owner=user, withdrawal=withdrawal)
    return answer(withdrawal_view(ended, await assets_of(parts)), replayed=ended.replayed)
