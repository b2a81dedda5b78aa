"""A user's balances, now or at any instant."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NotRequired

from fastapi import Depends, Query
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, money
from api.auth import owner
from api.door import resource
from api.errors import InvalidRequest
from api.instants import Instant
from api.parts import Parts, assets_of
from identity.scopes import Scope
from ledger.statements import TimeKind
from wallet.accounts import Balance

router = resource("balances")


class BalanceView(TypedDict):
    asset: str
    balance: str
    held: str
    available: str
    incoming: str


class ListedBalanceView(TypedDict):
    """At an instant of the past only `balance` is told."""

    asset: str
    balance: str
    held: NotRequired[str]
    available: NotRequired[str]
    incoming: NotRequired[str]


class BalanceList(TypedDict):
    items: list[ListedBalanceView]
    has_more: bool
    at: NotRequired[str]
    by: NotRequired[str]
    known_at: NotRequired[str]


def balance_view(balance: Balance, assets: Assets) -> BalanceView:
    """`available` can be spent: `balance` less `held`. `incoming` was seen, and isn't part of the balance yet."""
    return {
        "asset": balance.asset,
        "balance": money(balance.balance, balance.asset, assets),
        "held": money(balance.held, balance.asset, assets),
        "available": money(balance.available, balance.asset, assets),
        "incoming": money(balance.incoming, balance.asset, assets),
    }


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant that is asked about."""

    at: datetime
    by: TimeKind
    known_at: datetime | None


async def _moment_asked(
    at: Annotated[
        Instant | None, Query(description="What you had then (RFC 3339), after all that was booked by then.")
    ] = None,
    by: Annotated[
        TimeKind | None, Query(description="Whether `at` is about when it was booked, or when it took effect.")
    ] = None,
    known_at: Annotated[
        Instant | None, Query(description="As it would have been told then, without what was booked later.")
    ] = None,
) -> Moment | None:
    if at is None:
        if by is not None or known_at is not None:
            raise InvalidRequest("`by` and `known_at` are about an instant: give `at` as well", param="at")
        return None
    return Moment(at, by or TimeKind.BOOKED, known_at)


@router.get("/balances", response_model=BalanceList, summary="What you have, by asset; or had at an instant")
async def list_balances(
    parts: Parts,
    user: Annotated[str, owner(Scope.WALLET_READ)],
    asked: Annotated[Moment | None, Depends(_moment_asked)],
) -> Response:
    assets = await assets_of(parts)
    if asked is not None:
        return answer(await _past(parts, user, asked, assets))
    items = [balance_view(balance, assets) for balance in await parts.accounts.balances(user)]
    return answer({"items": items, "has_more": False})


@router.get("/balances/{asset}", response_model=BalanceView, summary="What you have of one asset")
async def read_balance(parts: Parts, asset: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await parts.accounts.balance(user, asset)
    return answer(balance_view(found, await assets_of(parts, asset)))


async def _past(parts: Parts, user: str, asked: Moment, assets: Assets) -> BalanceList:
    found = await parts.accounts.balances_at(user, asked.at, by=asked.by, known_at=asked.known_at)
    view: BalanceList = {
        "items": [{"asset": asset, "balance": money(units, asset, assets)} for asset, units in found],
        "has_more": False,
        "at": instant(asked.at),
        "by": asked.by.value,
    }
    if asked.known_at is not None:
        view["known_at"] = instant(asked.known_at)
    return view
