"""The tariff as values: rules of fees, and by tier what is free, what is limited and what an account costs. Pure.

Of the rules that fit an operation the most specific one holds. A rule fits by what it names: a tier, an asset, a place
(a network or a rail); one that names all that another names, and more, is more specific. `contradiction` finds two of
which neither is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import gcd

from ledger.money import Asset

STANDARD = "standard"
"""The tier of everybody where no tariff names any."""


class Operation(StrEnum):
    """What users do that can cost something. TOP_UP: a payment asked for at a provider; who bears the provider's own
    fee, a setting says."""

    TRANSFER = "transfer"
    HOLD = "hold"
    WITHDRAWAL = "withdrawal"
    PAYOUT = "payout"
    CONVERSION = "conversion"
    TOP_UP = "top_up"


class Sum(StrEnum):
    """What limits add up. OUT: all that leaves a user's hands. TOP_UP: what they ask providers for."""

    OUT = "out"
    CONVERSION = "conversion"
    TOP_UP = "top_up"


SUMS: Mapping[Operation, Sum] = {
    Operation.TRANSFER: Sum.OUT,
    Operation.HOLD: Sum.OUT,
    Operation.WITHDRAWAL: Sum.OUT,
    Operation.PAYOUT: Sum.OUT,
    Operation.CONVERSION: Sum.CONVERSION,
    Operation.TOP_UP: Sum.TOP_UP,
}
"""In which sum each operation counts."""


class Short(StrEnum):
    """What becomes of an account fee that its user hasn't got whole.

    WAIVE: nothing is taken. TAKE: what is there. OWE: the rest is owed to the house, and stops what debts stop.
    """

    WAIVE = "waive"
    TAKE = "take_what_is_there"
    OWE = "owe"


@dataclass(frozen=True, slots=True)
class Percent:
    """An exact percentage: `text` as it was written, `num / den` as a fraction of the whole, in lowest terms."""

    text: str
    num: int
    den: int

    def of(self, amount: int) -> int:
        """So much of `amount`, rounded up."""
        return -(-amount * self.num // self.den)


def percent(text: str, units: int, decimals: int) -> Percent:
    """`units / 10^decimals` percent, written `text`."""
    den = 100 * 10**decimals
    common = gcd(units, den)
    return Percent(text, units // common, den // common)


NOTHING = percent("0", 0, 0)


def of_basis_points(points: int) -> Percent:
    """So many hundredths of a percent."""
    whole, rest = divmod(points, 100)
    return percent(f"{whole}.{rest:02}", points, 2)


@dataclass(frozen=True, slots=True)
class Rule:
    """What an operation costs: `flat` and `percent` of the amount together, at least `minimum`, at most `maximum`.

    In smallest units of the asset moved. `tier`, `asset`, `place`: what it's for, None for any. `name` tells where it
    stands (`fees[3]`, from 1), or the setting that it's made of.
    """

    name: str
    operation: Operation
    tier: str | None = None
    asset: str | None = None
    place: str | None = None
    flat: int = 0
    percent: Percent = NOTHING
    minimum: int = 0
    maximum: int | None = None

    @property
    def named(self) -> Mapping[str, str]:
        """What it's for, by the kinds of things."""
        told = {"tier": self.tier, "asset": self.asset, "place": self.place}
        return {kind: name for kind, name in told.items() if name is not None}

    def fits(self, operation: Operation, tier: str, asset: str, place: str | None) -> bool:
        return (
            self.operation is operation
            and self.tier in (None, tier)
            and self.asset in (None, asset)
            and self.place in (None, place)
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """Caps of a sum in smallest units of the reference: of one operation, of a day and of a month (UTC). None: any."""

    operation: int | None = None
    day: int | None = None
    month: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is free in each calendar month (UTC): so many operations, of so much value together. None: any."""

    operations: int | None = None
    value: int | None = None


@dataclass(frozen=True, slots=True)
class AccountFee:
    """What an account costs a month, in smallest units of `asset`."""

    asset: str
    amount: int
    short: Short


@dataclass(frozen=True, slots=True)
class Tier:
    """How the users in it are treated."""

    name: str
    limits: Mapping[Sum, Limit] = field(default_factory=dict)
    free: Mapping[Operation, Allowance] = field(default_factory=dict)
    account_fee: AccountFee | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """All of it. `reference`: the asset that limits and free values are told in."""

    tiers: Mapping[str, Tier]
    default_tier: str
    rules: Sequence[Rule] = ()
    reference: Asset | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing costs and nothing is limited."""
        return not self.rules and not any(tier.limits or tier.free or tier.account_fee for tier in self.tiers.values())

    def rule_for(self, operation: Operation, tier: str, asset: str, place: str | None) -> Rule | None:
        """The most specific rule that fits; for a hold without one of its own, a transfer's. None: there is none."""
        found = [rule for rule in self.rules if rule.fits(operation, tier, asset, place)]
        if not found and operation is Operation.HOLD:
            return self.rule_for(Operation.TRANSFER, tier, asset, place)
        return max(found, key=lambda rule: len(rule.named), default=None)


EMPTY = Tariff({STANDARD: Tier(STANDARD)}, STANDARD)
"""Nothing costs and nothing is limited."""


def contradiction(rules: Iterable[Rule]) -> tuple[Rule, Rule] | None:
    """Two rules of which neither is more specific, though both fit something that no third rule is made for."""
    known = list(rules)
    exact = {(rule.operation, frozenset(rule.named.items())) for rule in known}
    for place, one in enumerate(known):
        for other in known[place + 1 :]:
            if one.operation is not other.operation:
                continue
            mine, theirs = set(one.named.items()), set(other.named.items())
            if mine == theirs:
                return one, other
            both = frozenset(mine | theirs)
            overlap = len(dict(both)) == len(both)  # else they name two tiers, assets or places
            if overlap and not (mine < theirs or theirs < mine) and (one.operation, both) not in exact:
                return one, other
    return None
