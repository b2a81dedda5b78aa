"""The house's position, kept by the book: every change of the exchange's stock and of what it earned, in their order.

A conversion's sides are at the value that it had; what the treasurer brings in or takes out at the rate when it's seen,
which is kept with it. So all of it can be computed again from `exchange_moves`, and the quantity is the book's balance.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.errors import ConfigError, Unavailable
from db.engine import tx
from exchange.errors import NoRate, ReferenceChanged
from exchange.position import FINE, MoveKind, Position, fine, move
from exchange.rates import Rates, RateSource
from exchange.tables import moves, positions
from exchange.terms import Exposure, Terms
from ledger.accounts import HOUSE, house_account, split_account_id
from ledger.engine import Ledger, Movement
from ledger.money import Asset
from ledger.outcomes import LineKind

STOCK, EARNED = "fx", "fx-result"
"""Purposes of the house: what can be sold, and what spreads brought."""

LINES = 500
"""Lines of one account taken in at a time."""


@dataclass(frozen=True, slots=True)
class Trade:
    """What a conversion and its spread were worth, in thousandths of the reference's smallest unit."""

    value: int
    spread_value: int
    rates: str


class Trades(Protocol):
    """Who knows the conversions."""

    async def trades(self, ids: Sequence[str]) -> Mapping[str, Trade]:
        """Those of these that are conversions whose worth was noted, by id."""
        ...


@dataclass(frozen=True, slots=True)
class Exposed:
    """An asset's position now, costs and results in `reference`. `value` and `unrealised` are None where nobody knows
    its rate."""

    asset: str
    reference: Asset
    position: Position
    value: int | None
    exposure: Exposure | None

    @property
    def unrealised(self) -> int | None:
        return None if self.value is None else self.position.unrealised(self.value)


class HousePositions:
    """Takes in what happened to the stock (the worker's step) and tells what it comes to."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, rates: RateSource, trades: Trades, terms: Terms, clock: Clock
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._rates = rates
        self._trades = trades
        self._terms = terms
        self._clock = clock

    async def step(self) -> int:
        """Take in new lines of every asset; how many. Nothing without a reference.

        An asset whose rate isn't known waits, and no other with it; then this raises what its rate raised. Raises
        ReferenceChanged where positions were kept in another one: no sum of two currencies means anything.
        """
        if self._terms.reference is None:
            return 0
        await self._require_same_reference(self._terms.reference)
        reference = await self._ledger.asset(self._terms.reference)
        taken, waiting = 0, None
        for asset in await self._assets():
            try:
                taken += await self._take_in(asset, reference)
            except (NoRate, Unavailable) as error:
                waiting = error
        if waiting is not None and not taken:
            raise waiting
        return taken

    async def _require_same_reference(self, reference: str) -> None:
        others = positions.c.reference != reference
        query = select(positions.c.reference).where(positions.c.book == self._ledger.book, others).limit(1)
        async with tx(self._engine) as connection:
            kept = (await connection.execute(query)).scalar_one_or_none()
        if kept is not None:
            raise ReferenceChanged(
                f"the exchange's positions were kept in {kept}, and [exchange] names {reference} as reference now:"
                f" nothing more is taken in; write {kept} back",
                kept=kept,
                reference=reference,
            )

    async def all(self) -> list[Exposed]:
        """Every asset's position in the reference that it was kept in, valued at the rates of now."""
        async with tx(self._engine) as connection:
            found = await connection.execute(select(positions).where(positions.c.book == self._ledger.book))
            rows = sorted(found, key=lambda row: row.asset)
        try:
            rates = await self._rates.current()
        except (Unavailable, ConfigError):
            rates = None
        assets = await self._ledger.assets()
        return [
            Exposed(
                row.asset,
                assets[row.reference],
                Position(row.quantity, row.cost, row.realised, row.earned),
                _value(rates, assets[row.asset], row.quantity, assets[row.reference]),
                self._bound(row.asset),
            )
            for row in rows
        ]

    def _bound(self, asset: str) -> Exposure | None:
        return self._terms.exposures.get(asset)

    async def _assets(self) -> list[Asset]:
        """Assets of which the exchange has had some."""
        accounts = await self._ledger.accounts(owner=HOUSE)
        codes = {account.asset for account in accounts if account.purpose in (STOCK, EARNED)}
        known = await self._ledger.assets()
        return [known[code] for code in sorted(codes)]

    async def _take_in(self, asset: Asset, reference: Asset) -> int:
        book = self._ledger.book
        async with tx(self._engine) as connection:
            through = await _through(connection, book, asset.code)
        lines, until = await self._lines(asset.code, through)
        if until == through:
            return 0
        trades = await self._trades.trades(sorted({line.subject for line in lines if line.subject}))
        rates = None
        if any(_trade(line, trades) is None for line in lines) and asset.code != reference.code:
            rates = await self._rates.current()
        async with tx(self._engine) as connection:
            row = await _locked(connection, book, asset.code, reference.code, self._clock)
            if row.through_seq != through:
                return 0  # another worker was faster
            position = Position(row.quantity, row.cost, row.realised, row.earned)
            spreads = await _spreads(connection, book, asset.code, {line.reverses for line in lines if line.reverses})
            rows = []
            for line in lines:
                kind, quantity = _kind(line, asset.code, trades)
                trade = _trade(line, trades)
                spread = spreads.get(line.reverses or 0) if line.debit == house_account(EARNED, asset.code) else None
                if spread is not None:  # of a conversion that is taken back: it isn't earned any more
                    kind, value = MoveKind.SPREAD, round(Fraction(spread[1] * quantity, spread[0]))
                else:
                    value = _worth(rates, asset, quantity, reference) if trade is None else _trade_value(kind, trade)
                if kind is MoveKind.SPREAD and line.reverses is None:
                    spreads[line.seq] = quantity, value
                after = move(position, kind, quantity, value)
                rows.append(
                    {
                        "book": book,
                        "seq": line.seq,
                        "line": line.line,
                        "asset": asset.code,
                        "kind": kind.value,
                        "quantity": quantity,
                        "value": value,
                        "realised": after.realised - position.realised,
                        "rates": trade.rates if trade else (rates.id if rates else None),
                        "booked_at": line.booked_at,
                    }
                )
                position = after
            if rows:
                await connection.execute(insert(moves), rows)
            await _keep(connection, book, asset.code, position, until, self._clock)
        return len(lines)

    async def _lines(self, asset: str, through: int) -> tuple[list[Movement], int]:
        """What touched stock or earnings behind `through`, in order, and through where; not what moved between both.

        The second account is read after the first, so that nothing before the first one's last line is missing in it.
        """
        stock, earned = house_account(STOCK, asset), house_account(EARNED, asset)
        first, _ = await self._after(stock, through)
        if not first:
            first, _ = await self._after(earned, through)
            stock, earned = earned, stock
        if not first:
            return [], through
        until = first[-1].seq
        behind, all_read = await self._after(earned, through)
        if not all_read:
            until = min(until, behind[-1].seq)
        second = [line for line in behind if line.seq <= until]
        both = {(line.seq, line.line): line for line in (*first, *second) if line.seq <= until}
        ordered = (both[place] for place in sorted(both))
        return [line for line in ordered if not {line.debit, line.credit} <= {stock, earned}], until

    async def _after(self, account: str, through: int) -> tuple[list[Movement], bool]:
        """Lines of the account behind `through`, at most LINES, and whether that is all there are.

        Never a part of an entry: one that has more than LINES comes alone, and whole.
        """
        lines = await self._posted(account, (through, _LAST_LINE))
        if len(lines) < LINES:
            return lines, True
        last = lines[-1].seq
        if lines[0].seq != last:
            return [line for line in lines if line.seq != last], False
        while True:
            more = [line for line in await self._posted(account, (last, lines[-1].line)) if line.seq == last]
            lines += more
            if len(more) < LINES:
                return lines, False

    async def _posted(self, account: str, after: tuple[int, int]) -> list[Movement]:
        return list(await self._ledger.history(account=account, kinds=(LineKind.POSTED,), after=after, limit=LINES))


_LAST_LINE = 2**15 - 1
"""Above the number of any line in its entry."""


def _kind(line: Movement, asset: str, trades: Mapping[str, Trade]) -> tuple[MoveKind, int]:
    """What the line was, and by how much the house had more."""
    mine = {house_account(STOCK, asset), house_account(EARNED, asset)}
    more = line.credit in mine
    quantity = line.amount if more else -line.amount
    if line.subject not in trades or line.reverses is not None:
        return (MoveKind.BROUGHT_IN if more else MoveKind.TAKEN_OUT), quantity
    if split_account_id(line.credit if more else line.debit)[1] == EARNED:
        return MoveKind.SPREAD, quantity
    return (MoveKind.BOUGHT if more else MoveKind.SOLD), quantity


def _trade(line: Movement, trades: Mapping[str, Trade]) -> Trade | None:
    """The conversion that the line is part of; None for what the treasurer moved or took back."""
    return trades.get(line.subject or "") if line.reverses is None else None


def _trade_value(kind: MoveKind, trade: Trade) -> int:
    """What the side was worth, with the sign of its quantity."""
    if kind is MoveKind.SPREAD:
        return trade.spread_value
    return trade.value if kind is MoveKind.BOUGHT else -trade.value


def _worth(rates: Rates | None, asset: Asset, quantity: int, reference: Asset) -> int:
    """What a quantity is worth now, with its sign. Raises NoRate, RateUnavailable."""
    if asset.code == reference.code:
        return quantity * FINE
    assert rates is not None
    worth = fine(rates.worth(asset, abs(quantity), reference))
    return worth if quantity >= 0 else -worth


def _value(rates: Rates | None, asset: Asset, quantity: int, reference: Asset) -> int | None:
    """The same, or None where nobody knows."""
    if rates is None and asset.code != reference.code:
        return None
    try:
        return _worth(rates, asset, quantity, reference)
    except (NoRate, Unavailable):
        return None


async def _through(connection: AsyncConnection, book: str, asset: str) -> int:
    query = select(positions.c.through_seq).where(positions.c.book == book, positions.c.asset == asset)
    return int((await connection.execute(query)).scalar_one_or_none() or 0)


async def _spreads(
    connection: AsyncConnection, book: str, asset: str, entries: Collection[int]
) -> dict[int, tuple[int, int]]:
    """Quantity and value of the spreads that were taken in with these entries."""
    if not entries:
        return {}
    query = select(moves.c.seq, moves.c.quantity, moves.c.value).where(
        moves.c.book == book,
        moves.c.seq.in_(entries),
        moves.c.asset == asset,
        moves.c.kind == MoveKind.SPREAD.value,
        moves.c.quantity > 0,
    )
    return {row.seq: (int(row.quantity), int(row.value)) for row in await connection.execute(query)}


async def _locked(connection: AsyncConnection, book: str, asset: str, reference: str, clock: Clock) -> "_Row":
    new = {
        "book": book,
        "asset": asset,
        "reference": reference,
        "quantity": 0,
        "cost": 0,
        "realised": 0,
        "earned": 0,
        "through_seq": 0,
        "updated_at": clock.now(),
    }
    await connection.execute(insert(positions).values(new).on_conflict_do_nothing())
    query = select(positions).where(positions.c.book == book, positions.c.asset == asset).with_for_update()
    row = (await connection.execute(query)).one()
    return _Row(row.quantity, row.cost, row.realised, row.earned, row.through_seq)


@dataclass(frozen=True, slots=True)
class _Row:
    quantity: int
    cost: int
    realised: int
    earned: int
    through_seq: int


async def _keep(
    connection: AsyncConnection, book: str, asset: str, position: Position, through: int, clock: Clock
) -> None:
    change = positions.update().where(positions.c.book == book, positions.c.asset == asset)
    await connection.execute(
        change.values(
            quantity=position.quantity,
            cost=position.cost,
            realised=position.realised,
            earned=position.earned,
            through_seq=through,
            updated_at=clock.now(),
        )
    )


async def recompute(connection: AsyncConnection, book: str) -> dict[str, Position]:
    """Every position computed anew from its moves: what `exchange_positions` must equal."""
    found: dict[str, Position] = {}
    query = select(moves).where(moves.c.book == book).order_by(moves.c.seq, moves.c.line)
    async for row in await connection.stream(query):
        before = found.get(row.asset, Position())
        found[row.asset] = move(before, MoveKind(row.kind), row.quantity, row.value)
    return found
