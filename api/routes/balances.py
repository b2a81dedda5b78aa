"""A user's balances."""

from typing import Annotated

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, money
from api.auth import owner
from api.door import resource
from api.parts import Parts, assets_of
from identity.scopes import Scope
from wallet.accounts import Balance

router = resource("balances")


class BalanceView(TypedDict):
    asset: str
    balance: str
    held: str
    available: str
    incoming: str


class BalanceList(TypedDict):
    items: list[BalanceView]
    has_more: bool


def balance_view(balance: Balance, assets: Assets) -> BalanceView:
    """`available` can be spent: `balance` less `held`. `incoming` was seen, and isn't part of the balance yet."""
    return {
        "asset": balance.asset,
        "balance": money(balance.balance, balance.asset, assets),
        "held": money(balance.held, balance.asset, assets),
        "available": money(balance.available, balance.asset, assets),
        "incoming": money(balance.incoming, balance.asset, assets),
    }


@router.get("/balances", response_model=BalanceList, summary="What you have, by asset")
async def list_balances(parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    assets = await assets_of(parts)
    items = [balance_view(balance, assets) for balance in await parts.accounts.balances(user)]
    return answer({"items": items, "has_more": False})


@router.get("/balances/{asset}", response_model=BalanceView, summary="What you have of one asset")
async def read_balance(parts: Parts, asset: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await parts.accounts.balance(user, asset)
    return answer(balance_view(found, await assets_of(parts, asset)))
