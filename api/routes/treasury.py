"""The house, for the treasurer: the trial balance, bank statements."""

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, money
from api.auth import caller
from api.door import resource
from api.parts import Parts, assets_of
from identity.scopes import Scope
from ledger.accounts import HOUSE, Account

router = resource("treasury")


class AccountView(TypedDict):
    account: str
    owner: str
    purpose: str
    asset: str
    balance: str
    debits_pending: str
    credits_pending: str
    frozen: bool


class SumView(TypedDict):
    asset: str
    users: str
    house: str
    sum: str
    balanced: bool


class TrialBalanceView(TypedDict):
    as_of: str
    balanced: bool
    sums: list[SumView]
    accounts: list[AccountView]


def account_view(account: Account, assets: Assets) -> AccountView:
    """`balance` is signed: credits less debits, positive is what the house owes the owner."""
    return {
        "account": account.id,
        "owner": account.owner,
        "purpose": account.purpose,
        "asset": account.asset,
        "balance": money(account.balance, account.asset, assets),
        "debits_pending": money(account.debits_pending, account.asset, assets),
        "credits_pending": money(account.credits_pending, account.asset, assets),
        "frozen": account.frozen,
    }


def sum_views(accounts: list[Account], assets: Assets) -> list[SumView]:
    """Per asset what users are owed, the house's accounts net, and both together: zero, or the book is broken."""
    views: list[SumView] = []
    for code in sorted({account.asset for account in accounts}):
        of_asset = [account for account in accounts if account.asset == code]
        house = sum(account.balance for account in of_asset if account.owner == HOUSE)
        total = sum(account.balance for account in of_asset)
        views.append(
            {
                "asset": code,
                "users": money(total - house, code, assets),
                "house": money(house, code, assets),
                "sum": money(total, code, assets),
                "balanced": total == 0,
            }
        )
    return views


@router.get(
    "/treasury/trial-balance",
    response_model=TrialBalanceView,
    summary="Every account with its balance, and the sum per asset",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_trial_balance(parts: Parts) -> Response:
    accounts, assets = await parts.ledger.accounts(), await assets_of(parts)
    sums = sum_views(accounts, assets)
    view: TrialBalanceView = {
        "as_of": instant(parts.clock.now()),
        "balanced": all(row["balanced"] for row in sums),
        "sums": sums,
        "accounts": [account_view(account, assets) for account in accounts],
    }
    return answer(view)
