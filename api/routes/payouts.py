"""Payouts to a user's own bank or PayPal account: ask, watch, cancel; the treasurer's view of them and their files."""

from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.amounts import AmountText, AssetCode, FeeAccepted, accepted_fee
from api.answers import Assets, answer, instant, money
from api.auth import caller, owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from fiat.payouts import Payout, PayoutBatch, PayoutState, ProviderRecipient, Recipient
from identity.scopes import Scope
from ledger.money import parse_amount

router = resource("payouts")


class BankRecipientView(TypedDict):
    name: str
    iban: str


class PayPalRecipientView(TypedDict):
    paypal: str


RecipientView = BankRecipientView | PayPalRecipientView


class PayoutView(TypedDict):
    id: str
    state: str
    cancellable: bool
    accepted: bool
    reason: str | None
    rail: str
    asset: str
    amount: str
    fee: str
    total: str
    recipient: RecipientView
    end_to_end_id: str
    created_at: str
    updated_at: str


class PayoutList(TypedDict):
    items: list[PayoutView]
    has_more: bool


class AnyPayoutView(PayoutView):
    user: str
    account: str
    batch: str | None


class AnyPayoutList(TypedDict):
    items: list[AnyPayoutView]
    has_more: bool


class PayoutBatchView(TypedDict):
    id: str
    state: str
    reason: str | None
    rail: str
    account: str
    message_id: str
    payouts: int
    asset: str
    total: str
    created_at: str
    updated_at: str


class PayoutBatchList(TypedDict):
    items: list[PayoutBatchView]
    has_more: bool


class NewRecipient(Asked):
    """The account that is to be paid: a bank's, by `name` and `iban`, or `paypal` alone."""

    name: str | None = Field(
        default=None, max_length=140, examples=["Alice Example"], description="The bank account's holder."
    )
    iban: str | None = Field(
        default=None,
        max_length=64,
        examples=["DE89 3704 0044 0532 0130 00"],
        description="The bank account's number. Checked, spaces allowed.",
    )
    paypal: str | None = Field(
        default=None, max_length=254, description="Instead of both: the e-mail address of a PayPal account."
    )


class NewPayout(Asked):
    """A payment to a bank or PayPal account of your own."""

    asset: AssetCode
    amount: AmountText
    recipient: NewRecipient
    fee_accepted: FeeAccepted = None


def _recipient_view(recipient: Recipient | ProviderRecipient) -> RecipientView:
    match recipient:
        case Recipient():
            return {"name": recipient.name, "iban": recipient.iban}
        case ProviderRecipient():
            return {"paypal": recipient.address}


def payout_view(payout: Payout, assets: Assets) -> PayoutView:
    """`total` is what it takes of the balance; `accepted`: the bank said that it will pay.

    `reason` `unclaimed`: it waits at PayPal for its receiver, and comes back if nobody takes it.
    """
    asset = payout.asset
    return {
        "id": payout.id,
        "state": payout.state.value,
        "cancellable": payout.state is PayoutState.REQUESTED,
        "accepted": payout.accepted_at is not None,
        "reason": payout.reason,
        "rail": payout.rail,
        "asset": asset,
        "amount": money(payout.amount, asset, assets),
        "fee": money(payout.fee, asset, assets),
        "total": money(payout.total, asset, assets),
        "recipient": _recipient_view(payout.recipient),
        "end_to_end_id": payout.end_to_end_id,
        "created_at": instant(payout.created_at),
        "updated_at": instant(payout.updated_at),
    }


def any_payout_view(payout: Payout, assets: Assets) -> AnyPayoutView:
    return {**payout_view(payout, assets), "user": payout.owner, "account": payout.account, "batch": payout.batch}


def batch_view(batch: PayoutBatch, assets: Assets) -> PayoutBatchView:
    return {
        "id": batch.id,
        "state": batch.state.value,
        "reason": batch.reason,
        "rail": batch.rail,
        "account": batch.account,
        "message_id": batch.message_id,
        "payouts": batch.payouts,
        "asset": batch.asset,
        "total": money(batch.total, batch.asset, assets),
        "created_at": instant(batch.created_at),
        "updated_at": instant(batch.updated_at),
    }


@router.post(
    "/payouts", response_model=PayoutView, status_code=201, summary="Pay to a bank or PayPal account of your own"
)
async def create_payout(
    parts: Parts, key: IdempotencyKey, asked: NewPayout, user: Annotated[str, owner(Scope.WITHDRAWALS_WRITE)]
) -> Response:
    """Amount and fee are held until bank or PayPal has paid; a payment that they reject comes back by itself."""
    assets = await assets_of(parts, asked.asset)
    made = await parts.payouts.request(
        key=key,
        owner=user,
        asset=asked.asset,
        amount=parse_amount(asked.amount, assets[asked.asset]),
        name=asked.recipient.name,
        iban=asked.recipient.iban,
        paypal=asked.recipient.paypal,
        fee_accepted=accepted_fee(asked.fee_accepted, assets[asked.asset]),
    )
    return answer(payout_view(made, assets), status=201, replayed=made.replayed)


@router.get("/payouts", response_model=PayoutList, summary="List your payouts")
async def list_payouts(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.payouts.list_for, user))
    return answer(listing(*found, partial(payout_view, assets=await assets_of(parts))))


@router.get("/payouts/{payout}", response_model=PayoutView, summary="Read a payout")
async def read_payout(parts: Parts, payout: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(payout_view(await parts.payouts.get(user, payout), await assets_of(parts)))


@router.post("/payouts/{payout}/cancel", response_model=PayoutView, summary="Give up a payout")
async def cancel_payout(
    parts: Parts, payout: str, key: IdempotencyKey, user: Annotated[str, owner(Scope.WITHDRAWALS_WRITE)]
) -> Response:
    ended = await parts.payouts.cancel(key=key, owner=user, payout=payout)
    return answer(payout_view(ended, await assets_of(parts)), replayed=ended.replayed)


# The treasurer's


@router.get(
    "/treasury/payouts",
    response_model=AnyPayoutList,
    summary="List everybody's payouts",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_all_payouts(
    parts: Parts, page: Wanted, state: Annotated[PayoutState | None, Query(description="Only those.")] = None
) -> Response:
    found = await page.of(partial(parts.payouts.all, state=state))
    return answer(listing(*found, partial(any_payout_view, assets=await assets_of(parts))))


@router.get(
    "/treasury/payout-files",
    response_model=PayoutBatchList,
    summary="List what payouts were submitted with: the files for our banks",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_payout_files(parts: Parts, page: Wanted) -> Response:
    found = await page.of(parts.payouts.batches)
    return answer(listing(*found, partial(batch_view, assets=await assets_of(parts))))


@router.post(
    "/treasury/payouts/{payout}/fail",
    response_model=AnyPayoutView,
    summary="Say that a payout in doubt will never be paid",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("payout.fail", subject="payout")
async def fail_payout(parts: Parts, payout: str, key: IdempotencyKey) -> Response:
    """Only of one that is `unknown`, after asking the bank: its owner has the money back."""
    ended = await parts.payouts.fail(key=key, payout=payout)
    return answer(any_payout_view(ended, await assets_of(parts)), replayed=ended.replayed)
