"""Transfers to other users of this book."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode, FeeAccepted, accepted_fee
from api.answers import Assets, answer, instant, money
from api.auth import owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from identity.scopes import Scope
from ledger.money import parse_amount
from wallet.transfers import Transfer

router = resource("transfers")


class TransferView(TypedDict):
    id: str
    sender: str
    recipient: str
    asset: str
    amount: str
    fee: str
    memo: str | None
    booked_at: str


class TransferList(TypedDict):
    items: list[TransferView]
    has_more: bool


class NewTransfer(Asked):
    """A transfer to make."""

    recipient: str = Field(max_length=64, examples=["@bob"], description="@handle, or a user id.")
    asset: AssetCode
    amount: AmountText
    memo: str | None = Field(default=None, max_length=1000, examples=["dinner"])
    fee_accepted: FeeAccepted = None


def transfer_view(transfer: Transfer, assets: Assets) -> TransferView:
    return {
        "id": transfer.id,
        "sender": transfer.sender,
        "recipient": transfer.recipient,
        "asset": transfer.asset,
        "amount": money(transfer.amount, transfer.asset, assets),
        "fee": money(transfer.fee, transfer.asset, assets),
        "memo": transfer.memo,
        "booked_at": instant(transfer.booked_at),
    }


@router.post("/transfers", response_model=TransferView, status_code=201, summary="Send to another user")
async def create_transfer(
    parts: Parts, key: IdempotencyKey, asked: NewTransfer, user: Annotated[str, owner(Scope.TRANSFERS_WRITE)]
) -> Response:
    assets = await assets_of(parts, asked.asset)
    sent = await parts.transfers.send(
        key=key,
        sender=user,
        recipient=asked.recipient,
        asset=asked.asset,
        amount=parse_amount(asked.amount, assets[asked.asset]),
        memo=asked.memo,
        fee_accepted=accepted_fee(asked.fee_accepted, assets[asked.asset]),
    )
    return answer(transfer_view(sent, assets), status=201, replayed=sent.replayed)


@router.get("/transfers", response_model=TransferList, summary="List your transfers, sent and received")
async def list_transfers(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.transfers.list_for, user))
    assets = await assets_of(parts)
    return answer(listing(*found, partial(transfer_view, assets=assets)))


@router.get("/transfers/{transfer}", response_model=TransferView, summary="Read a transfer")
async def read_transfer(parts: Parts, transfer: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await parts.transfers.get(user, transfer)
    return answer(transfer_view(found, await assets_of(parts, found.asset)))
