"""Positions, for the treasurer: what is owed, where what is held lies, what is on its way, at any moment."""

import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import Query
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, maybe_instant, maybe_money, money
from api.auth import caller
from api.door import resource
from api.errors import InvalidRequest
from api.instants import Instant
from api.parts import Parts
from identity.scopes import Scope
from ledger.money import Asset, format_amount
from treasury.position import Hot, Position, Runway, Share
from treasury.positions import Standing, Through
from treasury.told_by_nodes import ToldByNodes
from treasury.valuing import Valuation

router = resource("treasury")


class CustodyView(TypedDict):
    network: str
    role: str
    amount: str


class BankView(TypedDict):
    account: str
    amount: str


class ProviderView(TypedDict):
    rail: str
    amount: str


class TransitView(TypedDict):
    place: str
    direction: str
    amount: str


class ShareView(TypedDict):
    """`part` of `whole`, exactly and in smallest units; `ratio` rounded down, null where the whole isn't above zero."""

    part: str
    whole: str
    ratio: str | None


class PositionView(TypedDict):
    asset: str
    owed: str
    held: str
    in_transit: str
    receivable: str
    unassigned: str
    stock: str
    equity: str
    covered: bool
    balanced: bool
    coverage: ShareView
    custody: list[CustodyView]
    banks: list[BankView]
    providers: list[ProviderView]
    transits: list[TransitView]


class HotView(TypedDict):
    network: str
    asset: str
    hot: str
    custody: str
    share: ShareView
    floor: str | None
    target: str | None
    short: str | None


class RunwayView(TypedDict):
    network: str
    asset: str
    coins: str
    spent: str
    span_seconds: int
    days: str | None
    unknown: str | None


class FiguresView(TypedDict):
    owed: str
    held: str
    in_transit: str
    receivable: str
    unassigned: str
    stock: str
    equity: str


class ValueView(FiguresView):
    asset: str


class UnvaluedView(TypedDict):
    asset: str
    reason: str


class ValuationView(TypedDict):
    reference: str
    rates: str | None
    rates_as_of: str | None
    rates_age_seconds: int | None
    items: list[ValueView]
    totals: FiguresView
    unvalued: list[UnvaluedView]


class BlockView(TypedDict):
    network: str
    number: int
    hash: str


class ComparedView(TypedDict):
    asset: str
    role: str
    book: str
    nodes: str
    difference: str


class ToldByNodesView(TypedDict):
    """`items` and `agrees` are null where the block wasn't sampled; then `nearest_below` and `nearest_above` are the
    numbers of the blocks around it that were."""

    network: str
    sampled: bool
    taken_at: str | None
    agrees: bool | None
    items: list[ComparedView] | None
    nearest_below: int | None
    nearest_above: int | None


class PositionList(TypedDict):
    as_of: str
    seq: int
    block: BlockView | None
    told_by_nodes: ToldByNodesView | None
    items: list[PositionView]
    hot: list[HotView]
    gas: list[RunwayView]
    valuation: ValuationView | None
    has_more: bool


_BLOCK = re.compile(r"([A-Za-z0-9_.+-]{1,100}):([0-9]{1,18})", re.ASCII)


@router.get(
    "/treasury/positions",
    response_model=PositionList,
    summary="Per asset: owed, held and where, in transit, receivable; now, at an instant, or through a final block",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_positions(
    parts: Parts,
    at: Annotated[Instant | None, Query(description="As it was then (RFC 3339), after all that was booked.")] = None,
    block: Annotated[
        str | None,
        Query(
            description="As it was through a network's final block, `network:number`, or the number with `network`;"
            " with what nodes told of it.",
            max_length=120,
        ),
    ] = None,
    network: Annotated[str | None, Query(description="The block's, where it's a mere number.", max_length=100)] = None,
    reference: Annotated[
        str | None, Query(description="The asset to value all in, at the rates of that time.", max_length=100)
    ] = None,
) -> Response:
    standing = await parts.positions.read(at=at, through=through(block, network), reference=reference)
    return answer(standing_view(standing))


def through(block: str | None, network: str | None = None) -> Through | None:
    """The block that `network:number` names, or the number alone of a `network`. Raises InvalidRequest."""
    if block is None and network is None:
        return None
    if block is None:
        raise InvalidRequest("name the network's block, too: positions are of all networks together", param="block")
    found = _BLOCK.fullmatch(block if network is None else f"{network}:{block}")
    if found is None:
        raise InvalidRequest('a block is written as its network and its number, such as "local:120"', param="block")
    return Through(found[1], int(found[2]))


def standing_view(standing: Standing) -> PositionList:
    assets, block = standing.assets, standing.block
    return {
        "as_of": instant(standing.at),
        "seq": standing.seq,
        "block": None
        if block is None
        else {"network": block.network, "number": block.number, "hash": block.block_hash},
        "told_by_nodes": None if standing.told is None else _told(standing.told, assets),
        "items": [position_view(position, assets) for position in standing.positions],
        "hot": [_hot(one, assets) for one in standing.hot],
        "gas": [_runway(one, assets) for one in standing.runways],
        "valuation": None if standing.valuation is None else _valuation(standing.valuation),
        "has_more": False,
    }


def _told(told: ToldByNodes, assets: Assets) -> ToldByNodesView:
    items: list[ComparedView] = [
        {
            "asset": one.asset,
            "role": one.role,
            "book": money(one.book, one.asset, assets),
            "nodes": money(one.nodes, one.asset, assets),
            "difference": money(one.difference, one.asset, assets),
        }
        for one in told.rows
    ]
    return {
        "network": told.network,
        "sampled": told.sampled,
        "taken_at": maybe_instant(told.taken_at),
        "agrees": told.agrees,
        "items": items if told.sampled else None,
        "nearest_below": told.below,
        "nearest_above": told.above,
    }


def position_view(position: Position, assets: Assets) -> PositionView:
    """Every figure is positive in its usual direction; `covered`: what is held reaches for what is owed."""

    def shown(amount: int) -> str:
        return money(amount, position.asset, assets)

    return {
        "asset": position.asset,
        "owed": shown(position.owed),
        "held": shown(position.held),
        "in_transit": shown(position.in_transit),
        "receivable": shown(position.receivable),
        "unassigned": shown(position.unassigned),
        "stock": shown(position.stock),
        "equity": shown(position.equity),
        "covered": position.covered,
        "balanced": position.balanced,
        "coverage": _share(position.coverage),
        "custody": [
            {"network": one.network, "role": one.role, "amount": shown(one.amount)} for one in position.custody
        ],
        "banks": [{"account": one.name, "amount": shown(one.amount)} for one in position.banks],
        "providers": [{"rail": one.name, "amount": shown(one.amount)} for one in position.providers],
        "transits": [
            {"place": one.place, "direction": one.direction.value, "amount": shown(one.amount)}
            for one in position.transits
        ],
    }


def _share(share: Share) -> ShareView:
    return {"part": str(share.part), "whole": str(share.whole), "ratio": share.text}


def _hot(one: Hot, assets: Assets) -> HotView:
    return {
        "network": one.network,
        "asset": one.asset,
        "hot": money(one.hot, one.asset, assets),
        "custody": money(one.custody, one.asset, assets),
        "share": _share(one.share),
        "floor": maybe_money(one.floor, one.asset, assets),
        "target": maybe_money(one.target, one.asset, assets),
        "short": maybe_money(one.short, one.asset, assets),
    }


def _runway(one: Runway, assets: Assets) -> RunwayView:
    return {
        "network": one.network,
        "asset": one.asset,
        "coins": money(one.coins, one.asset, assets),
        "spent": money(one.spent.amount, one.asset, assets),
        "span_seconds": int(one.spent.span.total_seconds()),
        "days": one.days,
        "unknown": one.unknown,
    }


def _valuation(valuation: Valuation) -> ValuationView:
    return {
        "reference": valuation.reference.code,
        "rates": valuation.rates,
        "rates_as_of": maybe_instant(valuation.as_of),
        "rates_age_seconds": None if valuation.age is None else int(valuation.age.total_seconds()),
        "items": [{"asset": asset, **_figures(told, valuation.reference)} for asset, told in valuation.values.items()],
        "totals": _figures(valuation.totals, valuation.reference),
        "unvalued": [{"asset": asset, "reason": reason} for asset, reason in valuation.unvalued.items()],
    }


def _figures(told: Mapping[str, int], unit: Asset) -> FiguresView:
    return {
        "owed": format_amount(told["owed"], unit),
        "held": format_amount(told["held"], unit),
        "in_transit": format_amount(told["in_transit"], unit),
        "receivable": format_amount(told["receivable"], unit),
        "unassigned": format_amount(told["unassigned"], unit),
        "stock": format_amount(told["stock"], unit),
        "equity": format_amount(told["equity"], unit),
    }
