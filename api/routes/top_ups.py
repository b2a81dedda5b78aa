"""Top-ups by bank transfer: where to pay, with which reference, and what arrived."""

from functools import partial
from typing import Annotated

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, money
from api.auth import owner
from api.door import resource
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from fiat.references import show
from fiat.top_ups import TopUp
from identity.scopes import Scope

router = resource("top-ups")


class BankAccountView(TypedDict):
    iban: str
    asset: str
    virtual_iban: str | None


class InstructionsView(TypedDict):
    reference: str
    reference_shown: str
    accounts: list[BankAccountView]


class TopUpView(TypedDict):
    id: str
    rail: str
    state: str
    asset: str
    amount: str
    source: str
    created_at: str


class TopUpList(TypedDict):
    items: list[TopUpView]
    has_more: bool


def top_up_view(top_up: TopUp, assets: Assets) -> TopUpView:
    return {
        "id": top_up.id,
        "rail": top_up.rail.value,
        "state": top_up.state.value,
        "asset": top_up.asset,
        "amount": money(top_up.amount, top_up.asset, assets),
        "source": top_up.source,
        "created_at": instant(top_up.created_at),
    }


@router.post("/top-ups", response_model=InstructionsView, summary="How to pay in by bank transfer")
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


@router.get("/top-ups", response_model=TopUpList, summary="List your top-ups")
async def list_top_ups(parts: Parts, page: Onward, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await parts.bank.top_ups(user, before=page.starting_after, limit=page.limit + 1)
    assets = await assets_of(parts)
    return answer(listing(found[: page.limit], len(found) > page.limit, partial(top_up_view, assets=assets)))
