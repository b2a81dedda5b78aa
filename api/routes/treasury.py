"""The house, for the treasurer: trial balance, reconciliations; breaks are in `api.routes.breaks`."""

from datetime import datetime
from functools import partial

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, money
from api.auth import caller
from api.door import resource
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.routes.breaks import BreakView, break_view
from identity.scopes import Scope
from ledger.accounts import HOUSE, Account
from treasury.break_alerts import Ages
from treasury.records import InFlight, Reconciliation

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


class JudgedView(TypedDict):
    network: str
    block_number: int | None
    block_hash: str | None
    skipped: str | None


class InFlightView(TypedDict):
    network: str
    account: str
    asset: str
    amount: str
    block_number: int
    tx_hash: str
    place: str


class ReconciliationView(TypedDict):
    id: str
    started_at: str
    finished_at: str
    checks: int
    clean: bool
    open_breaks: int
    explained: int
    breaks: list[BreakView]
    networks: list[JudgedView]
    in_flight: list[InFlightView]


class ReconciliationList(TypedDict):
    items: list[ReconciliationView]
    has_more: bool


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


def reconciliation_view(run: Reconciliation, assets: Assets, *, now: datetime, ages: Ages) -> ReconciliationView:
    """`breaks` are listed by the run itself; one read back later tells their number, and `/breaks` lists them.

    `explained`: how many of them two treasurers have accounted for.
    """
    networks: list[JudgedView] = [
        {
            "network": judged.network,
            "block_number": judged.block_number,
            "block_hash": judged.block_hash,
            "skipped": judged.skipped,
        }
        for judged in run.networks
    ]
    return {
        "id": run.id,
        "started_at": instant(run.started_at),
        "finished_at": instant(run.finished_at),
        "checks": run.checks,
        "clean": run.clean,
        "open_breaks": run.open_breaks,
        "explained": run.explained,
        "breaks": [break_view(entry, assets, now=now, ages=ages) for entry in run.breaks],
        "networks": networks,
        "in_flight": [_in_flight(item, assets) for item in run.in_flight],
    }


def _in_flight(item: InFlight, assets: Assets) -> InFlightView:
    return {
        "network": item.network,
        "account": item.account,
        "asset": item.asset,
        "amount": money(item.amount, item.asset, assets),
        "block_number": item.block_number,
        "tx_hash": item.tx_hash,
        "place": item.place,
    }


@router.post(
    "/treasury/reconciliations",
    response_model=ReconciliationView,
    status_code=201,
    summary="Compare the book with itself, the chain and the bank, now",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
async def create_reconciliation(parts: Parts) -> Response:
    """Moves nothing, so it needs no Idempotency-Key."""
    run = await parts.reconciler.run()
    view = reconciliation_view(run, await assets_of(parts), now=parts.clock.now(), ages=parts.break_ages)
    return answer(view, status=201)


@router.get(
    "/treasury/reconciliations",
    response_model=ReconciliationList,
    summary="List earlier runs",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_reconciliations(parts: Parts, page: Onward) -> Response:
    found = await parts.reconciler.recent(before=page.starting_after, limit=page.limit + 1)
    now, ages = parts.clock.now(), parts.break_ages
    view = partial(reconciliation_view, assets=await assets_of(parts), now=now, ages=ages)
    return answer(listing(found[: page.limit], len(found) > page.limit, view))
