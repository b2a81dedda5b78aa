"""Top-ups over all rails: instructions for a bank transfer, payments at a provider, and their refunds."""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode, accepted_fee
from api.answers import Assets, answer, instant, money
from api.auth import owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from fiat.rails.protocol import Capturing
from fiat.rails.records import Refund
from fiat.references import show
from fiat.top_ups import TopUp
from identity.scopes import Scope
from ledger.money import parse_amount

router = resource("top-ups")

RailName = Annotated[str, Field(max_length=31, examples=["sandbox"], description="A payment provider, by its name.")]


class BankAccountView(TypedDict):
    iban: str
    asset: str
    virtual_iban: str | None


class InstructionsView(TypedDict):
    reference: str
    reference_shown: str
    accounts: list[BankAccountView]


class ActionView(TypedDict):
    kind: Literal["client_secret", "redirect"]
    value: str


class TopUpView(TypedDict):
    id: str
    rail: str
    state: str
    asset: str
    amount: str
    service_fee: str
    captured: str
    refunded: str
    capturing: str
    action: ActionView | None
    code: str | None
    reason: str | None
    source: str | None
    created_at: str
    updated_at: str


class TopUpList(TypedDict):
    items: list[TopUpView]
    has_more: bool


class RefundView(TypedDict):
    id: str
    top_up: str
    rail: str
    state: str
    origin: str
    asset: str
    amount: str
    code: str | None
    reason: str | None
    created_at: str
    updated_at: str


class RefundList(TypedDict):
    items: list[RefundView]
    has_more: bool


class NewTopUp(Asked):
    """A payment to be made at a provider. Without a method its payer chooses one there: see `action` in the answer."""

    rail: RailName
    asset: AssetCode
    amount: AmountText
    method: str | None = Field(
        default=None,
        max_length=255,
        examples=["tok_visa"],
        description="A saved method's id (pm_...), or the token that the provider's own library gave.",
    )
    capturing: Literal["automatic", "manual"] = Field(
        default="automatic", description="manual: authorised only, until you capture or cancel it."
    )
    return_url: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^https://[!-~]+$",
        examples=["https://shop.example/done"],
        description="Where the payer's browser goes after the provider's page.",
    )
    fee_accepted: AmountText | None = Field(default=None, description="The highest fee of the house that you accept.")


class Capture(Asked):
    """How much of an authorised payment to take; all of it if nothing is said. The rest is released."""

    amount: AmountText | None = None


class NewRefund(Asked):
    """How much to give back to where the payment came from; all that's left if nothing is said."""

    amount: AmountText | None = None


def top_up_view(top_up: TopUp, assets: Assets) -> TopUpView:
    """`captured` is what was paid, `service_fee` the house's of it; `refunded` what was given back or is being."""
    action = top_up.action
    return {
        "id": top_up.id,
        "rail": top_up.rail,
        "state": top_up.state.value,
        "asset": top_up.asset,
        "amount": money(top_up.amount, top_up.asset, assets),
        "service_fee": money(top_up.service_fee, top_up.asset, assets),
        "captured": money(top_up.captured, top_up.asset, assets),
        "refunded": money(top_up.refunded, top_up.asset, assets),
        "capturing": top_up.capturing.value,
        "action": None if action is None else {"kind": action.kind.value, "value": action.value},
        "code": top_up.code,
        "reason": top_up.reason,
        "source": top_up.source,
        "created_at": instant(top_up.created_at),
        "updated_at": instant(top_up.updated_at),
    }


def refund_view(refund: Refund, assets: Assets) -> RefundView:
    return {
        "id": refund.id,
        "top_up": refund.top_up,
        "rail": refund.rail,
        "state": refund.state.value,
        "origin": refund.origin.value,
        "asset": refund.asset,
        "amount": money(refund.amount, refund.asset, assets),
        "code": refund.code,
        "reason": refund.reason,
        "created_at": instant(refund.created_at),
        "updated_at": instant(refund.updated_at),
    }


@router.post("/top-ups/instructions", response_model=InstructionsView, summary="How to pay in by bank transfer")
async def create_top_up_instructions(parts: Parts, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]) -> Response:
    """Gives our bank accounts and your payment reference (ISO 11649), the same each time: write it in the transfer.

    Where there is a `virtual_iban`, it's yours alone: what is paid to it needs no reference.
    """
    reference = await parts.bank.reference_for(user)
    accounts: list[BankAccountView] = [
        {"iban": own.iban, "asset": own.asset, "virtual_iban": await parts.bank.virtual_iban_for(user, own)}
        for own in parts.bank.accounts
    ]
    view: InstructionsView = {"reference": reference, "reference_shown": show(reference), "accounts": accounts}
    return answer(view)


@router.post("/top-ups", response_model=TopUpView, status_code=201, summary="Pay in by card or at a provider")
async def create_top_up(
    parts: Parts, key: IdempotencyKey, asked: NewTopUp, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]
) -> Response:
    """A decline is a top-up in state `failed`. `unknown`: the provider's answer was lost; it's asked what became of it,
    and never charged again. `service_fee` is taken off what is paid, in proportion where less is captured."""
    assets = await assets_of(parts, asked.asset)
    made = await parts.rails.top_ups.request(
        key=key,
        owner=user,
        rail=asked.rail,
        asset=asked.asset,
        amount=parse_amount(asked.amount, assets[asked.asset]),
        method=asked.method,
        capturing=Capturing(asked.capturing),
        return_url=asked.return_url,
        fee_accepted=accepted_fee(asked.fee_accepted, assets[asked.asset]),
    )
    return answer(top_up_view(made, assets), status=201, replayed=made.replayed)


@router.get("/top-ups", response_model=TopUpList, summary="List your top-ups over all rails")
async def list_top_ups(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.rails.top_ups.list_for, user))
    return answer(listing(*found, partial(top_up_view, assets=await assets_of(parts))))


@router.get("/top-ups/{top_up}", response_model=TopUpView, summary="Read a top-up")
async def read_top_up(parts: Parts, top_up: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(top_up_view(await parts.rails.top_ups.get(user, top_up), await assets_of(parts)))


@router.post("/top-ups/{top_up}/capture", response_model=TopUpView, summary="Take an authorised payment")
async def capture_top_up(
    parts: Parts, top_up: str, key: IdempotencyKey, asked: Capture, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]
) -> Response:
    found, assets = await parts.rails.top_ups.get(user, top_up), await assets_of(parts)
    amount = None if asked.amount is None else parse_amount(asked.amount, assets[found.asset])
    done = await parts.rails.top_ups.capture(key=key, owner=user, top_up=top_up, amount=amount)
    return answer(top_up_view(done, assets), replayed=done.replayed)


@router.post("/top-ups/{top_up}/cancel", response_model=TopUpView, summary="Give up a top-up that isn't captured")
async def cancel_top_up(
    parts: Parts, top_up: str, key: IdempotencyKey, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]
) -> Response:
    done = await parts.rails.top_ups.cancel(key=key, owner=user, top_up=top_up)
    return answer(top_up_view(done, await assets_of(parts)), replayed=done.replayed)


@router.post(
    "/top-ups/{top_up}/refunds", response_model=RefundView, status_code=201, summary="Give a top-up back to its payer"
)
async def create_refund(
    parts: Parts,
    top_up: str,
    key: IdempotencyKey,
    asked: NewRefund,
    user: Annotated[str, owner(Scope.WITHDRAWALS_WRITE)],
) -> Response:
    """The amount is held on your account until the provider says what came of it."""
    found, assets = await parts.rails.top_ups.get(user, top_up), await assets_of(parts)
    amount = None if asked.amount is None else parse_amount(asked.amount, assets[found.asset])
    made = await parts.rails.refunds.request(key=key, owner=user, top_up=top_up, amount=amount)
    return answer(refund_view(made, assets), status=201, replayed=made.replayed)


@router.get("/top-ups/{top_up}/refunds", response_model=RefundList, summary="List a top-up's refunds")
async def list_refunds(
    parts: Parts, top_up: str, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]
) -> Response:
    found = await page.of(partial(parts.rails.refunds.list_for, user, top_up))
    return answer(listing(*found, partial(refund_view, assets=await assets_of(parts))))
