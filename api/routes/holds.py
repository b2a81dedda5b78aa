"""What is set aside of a user's balances, and for what; and holds between users, from their making to their end."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode, FeeAccepted, accepted_fee
from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.instants import Instant
from api.parts import Parts, assets_of
from api.schemas import Asked
from identity.scopes import Scope
from ledger.engine import OpenHold
from ledger.money import parse_amount
from wallet.holds import ID_PREFIX, Hold, HoldStep
from wallet.receipts import in_words, kind_of

HOLDS_MAX = 200
KIND = kind_of(f"{ID_PREFIX}_")

router = resource("holds")


class HeldView(TypedDict):
    asset: str
    amount: str
    remaining: str
    counterparty: str


class HoldView(TypedDict):
    id: str
    kind: str
    subject: str | None
    created_at: str
    expires_at: str | None
    postings: list[HeldView]


class HoldList(TypedDict):
    items: list[HoldView]
    has_more: bool


class PromiseView(TypedDict):
    id: str
    sender: str
    recipient: str
    asset: str
    amount: str
    fee: str
    settled: str
    remaining: str
    state: str
    memo: str | None
    created_at: str
    expires_at: str | None


class HoldStepView(TypedDict):
    hold: str
    asset: str
    settled: str
    fee: str
    released: str
    booked_at: str


class NewHold(Asked):
    """Value to set aside for another user."""

    recipient: str = Field(max_length=64, examples=["@bob"], description="@handle, or a user id.")
    asset: AssetCode
    amount: AmountText
    expires_at: Instant = Field(description="When what isn't paid by then comes back to you (RFC 3339).")
    memo: str | None = Field(default=None, max_length=1000, examples=["deposit for the bike"])
    fee_accepted: FeeAccepted = None


class Settlement(Asked):
    """What to pay of a hold."""

    amount: AmountText | None = Field(default=None, description="At most what remains; left out: all of it.")
    close: bool = Field(default=False, examples=[True], description="Release the rest; only its recipient may.")


def hold_view(hold: OpenHold, assets: Assets) -> HoldView:
    return {
        "id": hold.subject if hold.subject is not None and kind_of(hold.subject) == KIND else hold.id,
        "kind": kind_of(hold.subject),
        "subject": hold.subject,
        "created_at": instant(hold.booked_at),
        "expires_at": maybe_instant(hold.expires_at),
        "postings": [
            {
                "asset": posting.asset,
                "amount": money(posting.amount, posting.asset, assets),
                "remaining": money(posting.remaining, posting.asset, assets),
                "counterparty": in_words(posting.credit),
            }
            for posting in hold.postings
        ],
    }


@router.get("/holds", response_model=HoldList, summary="What is set aside of your balances")
async def list_holds(parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    """The newest 200 open holds."""
    found, assets = await parts.ledger.open_holds(user, limit=HOLDS_MAX + 1), await assets_of(parts)
    items = [hold_view(hold, assets) for hold in found[:HOLDS_MAX]]
    return answer({"items": items, "has_more": len(found) > HOLDS_MAX})


def promise_view(hold: Hold, assets: Assets) -> PromiseView:
    """`fee` comes on top of `amount`; `settled` of that was paid, `remaining` is still held."""
    return {
        "id": hold.id,
        "sender": hold.sender,
        "recipient": hold.recipient,
        "asset": hold.asset,
        "amount": money(hold.amount, hold.asset, assets),
        "fee": money(hold.fee, hold.asset, assets),
        "settled": money(hold.settled, hold.asset, assets),
        "remaining": money(hold.remaining, hold.asset, assets),
        "state": hold.state.value,
        "memo": hold.memo,
        "created_at": instant(hold.created_at),
        "expires_at": maybe_instant(hold.expires_at),
    }


def step_view(step: HoldStep, assets: Assets) -> HoldStepView:
    """`settled` went to the recipient and `fee` to the house; `released` of the amount came back to the sender."""
    return {
        "hold": step.hold,
        "asset": step.asset,
        "settled": money(step.settled, step.asset, assets),
        "fee": money(step.fee, step.asset, assets),
        "released": money(step.released, step.asset, assets),
        "booked_at": instant(step.booked_at),
    }


@router.post("/holds", response_model=PromiseView, status_code=201, summary="Set value aside for another user")
async def create_hold(
    parts: Parts, key: IdempotencyKey, asked: NewHold, user: Annotated[str, owner(Scope.TRANSFERS_WRITE)]
) -> Response:
    """It's a promise: only its recipient can let go of it before it expires."""
    assets = await assets_of(parts, asked.asset)
    made = await parts.holds.create(
        key=key,
        sender=user,
        recipient=asked.recipient,
        asset=asked.asset,
        amount=parse_amount(asked.amount, assets[asked.asset]),
        expires_at=asked.expires_at,
        memo=asked.memo,
        fee_accepted=accepted_fee(asked.fee_accepted, assets[asked.asset]),
    )
    return answer(promise_view(made, assets), status=201, replayed=made.replayed)


@router.get("/holds/{hold}", response_model=PromiseView, summary="Read a hold that you made, or that is for you")
async def read_hold(parts: Parts, hold: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await parts.holds.get(user, hold)
    return answer(promise_view(found, await assets_of(parts, found.asset)))


@router.post("/holds/{hold}/settle", response_model=HoldStepView, summary="Pay a hold, wholly or in part")
async def settle_hold(
    parts: Parts, hold: str, key: IdempotencyKey, asked: Settlement, user: Annotated[str, owner(Scope.TRANSFERS_WRITE)]
) -> Response:
    """Its sender and its recipient may. The rest stays held unless its recipient releases it with `close`."""
    found = await parts.holds.get(user, hold)
    assets = await assets_of(parts, found.asset)
    amount = None if asked.amount is None else parse_amount(asked.amount, assets[found.asset])
    step = await parts.holds.settle(key=key, owner=user, hold=hold, amount=amount, close=asked.close)
    return answer(step_view(step, assets), replayed=step.replayed)


@router.post("/holds/{hold}/void", response_model=HoldStepView, summary="Let go of a hold that is for you")
async def void_hold(
    parts: Parts, hold: str, key: IdempotencyKey, user: Annotated[str, owner(Scope.TRANSFERS_WRITE)]
) -> Response:
    step = await parts.holds.void(key=key, owner=user, hold=hold)
    return answer(step_view(step, await assets_of(parts, step.asset)), replayed=step.replayed)
