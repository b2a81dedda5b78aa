"""One asset's position: what is owed, where what is held lies, what is on its way, and how far it reaches. Pure.

It's made of sums over the book's accounts by purpose, whoever added them up and for whatever moment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

USERS = ""
"""The part of a book's sums that is all users' together; every other part is a purpose of the house."""

RECEIVABLE = "receivable"
"""The part of all that users owe, whoever they are."""

PLACES = 6
"""Decimals of a ratio as it's shown."""

DAY = timedelta(days=1)

RUNWAY_SPAN = timedelta(days=7)
"""Gas runway goes by what was spent in this time."""

RUNWAY_SPAN_MIN = timedelta(days=1)
"""With less history than that nobody can say how long the coins last."""

PAYERS = ("hot", "gas")
"""Roles whose addresses pay gas of their own: the coins there are what runs out."""


class Direction(StrEnum):
    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True, order=True)
class Custody:
    """What own addresses of one role hold on one network."""

    network: str
    role: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Outside:
    """What one bank account, or one payment provider, owes us."""

    name: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Transit:
    """What is on its way over one network or rail: out of the house, or into it."""

    place: str
    direction: Direction
    amount: int


@dataclass(frozen=True, slots=True)
class Share:
    """An exact share of two whole numbers; None as text where nothing is to be shared."""

    part: int
    whole: int

    @property
    def text(self) -> str | None:
        """A decimal of six places, rounded down; None where the whole isn't above zero."""
        if self.whole <= 0:
            return None
        scaled = self.part * 10**PLACES // self.whole
        digits = str(abs(scaled)).rjust(PLACES + 1, "0")
        return f"{'-' if scaled < 0 else ''}{digits[:-PLACES]}.{digits[-PLACES:]}"


@dataclass(frozen=True, slots=True)
class Position:
    """One asset, in smallest units. Every figure is positive in its usual direction.

    `owed`: to users; what some owe on a credit line is taken off. `held`: in custody, at banks and providers.
    `in_transit`: on its way out, less what is on its way in. `receivable`: owed by users. `unassigned`: in suspense and
    quarantine. `stock`: the exchange's. `equity`: capital and income less expenses.
    held + receivable = owed + in_transit + unassigned + stock + equity.
    """

    asset: str
    owed: int = 0
    held: int = 0
    in_transit: int = 0
    receivable: int = 0
    unassigned: int = 0
    stock: int = 0
    equity: int = 0
    custody: tuple[Custody, ...] = ()
    banks: tuple[Outside, ...] = ()
    providers: tuple[Outside, ...] = ()
    transits: tuple[Transit, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether the figures add up, as those of a sound book always do."""
        left = self.held + self.receivable
        return left == self.owed + self.in_transit + self.unassigned + self.stock + self.equity

    @property
    def coverage(self) -> Share:
        """What is held, of what is owed and on its way."""
        return Share(self.held, self.owed + self.in_transit)

    @property
    def covered(self) -> bool:
        """Whether what is held reaches for what is owed and on its way."""
        return self.held >= self.owed + self.in_transit

    def on(self, network: str) -> Mapping[str, int]:
        """What own addresses hold on a network, by role."""
        return {place.role: place.amount for place in self.custody if place.network == network}


FIGURES = ("owed", "held", "in_transit", "receivable", "unassigned", "stock", "equity")
"""A position's sums, in the order in which they're told."""


@dataclass(slots=True)
class _Sorting:
    """An asset's sums while they are put where they belong."""

    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0))
    custody: list[Custody] = field(default_factory=list)
    banks: list[Outside] = field(default_factory=list)
    providers: list[Outside] = field(default_factory=list)
    transits: list[Transit] = field(default_factory=list)

    def put(self, purpose: str, balance: int) -> None:
        """Take in one part's balance, which is credits less debits."""
        kind, _, rest = purpose.partition(":")
        match kind:
            case "custody":
                network, _, role = rest.rpartition(":")
                self.custody.append(Custody(network, role, -balance))
                self.sums["held"] -= balance
            case "bank":
                self.banks.append(Outside(rest, -balance))
                self.sums["held"] -= balance
            case "provider":
                self.providers.append(Outside(rest, -balance))
                self.sums["held"] -= balance
            case "in-transit":
                place, _, direction = rest.rpartition(":")
                way = Direction(direction)
                self.transits.append(Transit(place, way, balance if way is Direction.OUT else -balance))
                self.sums["in_transit"] += balance
            case "receivable":
                self.sums["receivable"] -= balance
            case "suspense" | "quarantine":
                self.sums["unassigned"] += balance
            case "fx":
                self.sums["stock"] += balance
            case "":
                self.sums["owed"] += balance
            case _:
                self.sums["equity"] += balance


def positions_of(assets: Iterable[str], sums: Mapping[tuple[str, str], int]) -> list[Position]:
    """The positions of these assets, from balances by (asset, part)."""
    found = {asset: _Sorting() for asset in sorted(assets)}
    for (asset, purpose), balance in sorted(sums.items()):
        found[asset].put(purpose, balance)
    return [
        Position(
            asset=asset,
            **one.sums,
            custody=tuple(one.custody),
            banks=tuple(one.banks),
            providers=tuple(one.providers),
            transits=tuple(sorted(one.transits)),
        )
        for asset, one in found.items()
    ]


@dataclass(frozen=True, slots=True)
class Hot:
    """How much of what own addresses hold of an asset on a network lies at hot ones, and what is to lie there.

    `floor` and `target` are None where the settings name none.
    """

    network: str
    asset: str
    hot: int
    custody: int
    floor: int | None
    target: int | None

    @property
    def share(self) -> Share:
        return Share(self.hot, self.custody)

    @property
    def short(self) -> int | None:
        """How much is missing up to the target; None without one."""
        return None if self.target is None else max(0, self.target - self.hot)


@dataclass(frozen=True, slots=True)
class GasSpent:
    """What a network's transactions cost: `amount` in the time `since` a payment that was, or the span's beginning."""

    amount: int
    span: timedelta


@dataclass(frozen=True, slots=True)
class Runway:
    """How long the coins at hot and gas addresses last, at the pace of what was `spent`."""

    network: str
    asset: str
    coins: int
    spent: GasSpent

    @property
    def unknown(self) -> str | None:
        """Why nobody can say; None where `tenths` does."""
        if self.spent.span < RUNWAY_SPAN_MIN:
            return f"less than {RUNWAY_SPAN_MIN // timedelta(hours=1)} hours of payments are in the book"
        if self.spent.amount <= 0:
            return f"nothing was spent in {RUNWAY_SPAN // DAY} days"
        return None

    @property
    def tenths(self) -> int | None:
        """Tenths of a day, rounded down; None where it's unknown."""
        if self.unknown is not None:
            return None
        return self.coins * (self.spent.span // timedelta(seconds=1)) * 10 // (self.spent.amount * 86_400)

    @property
    def days(self) -> str | None:
        """The same as a decimal."""
        return None if self.tenths is None else f"{self.tenths // 10}.{self.tenths % 10}"
