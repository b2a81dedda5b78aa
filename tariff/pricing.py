"""What an operation costs. Pure integer arithmetic: a percentage is exact, and rounded up to a smallest unit once."""

from dataclasses import dataclass

import msgspec

from tariff.schedule import NOTHING, Allowance, Operation, Percent, Rule, Tariff


class Move(msgspec.Struct, frozen=True, gc=False):
    """What a user is about to do with `amount` smallest units of `asset`.

    `place`: the network of a withdrawal, the rail of a payout. `otherwise`: what it costs where the tariff
    has no rule for it.
    """

    owner: str
    operation: Operation
    asset: str
    amount: int
    place: str | None = None
    otherwise: Rule | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What a move costs by the rule that holds: `min(max(flat + percent of amount, minimum), maximum)`, or nothing.

    `full` is by the rule alone; `fee` is 0 where an allowance makes it `free`.
    """

    operation: Operation
    tier: str
    asset: str
    amount: int
    rule: str | None
    flat: int
    percent: Percent
    minimum: int
    maximum: int | None
    full: int
    free: bool = False

    @property
    def fee(self) -> int:
        return 0 if self.free else self.full


def fee_of(rule: Rule, amount: int) -> int:
    """What `rule` takes of `amount`, both in smallest units."""
    fee = max(rule.flat + rule.percent.of(amount), rule.minimum)
    return fee if rule.maximum is None else min(fee, rule.maximum)


def price(tariff: Tariff, tier: str, move: Move, *, free: bool = False) -> Price:
    """The price of `move` for a user in `tier`."""
    rule = tariff.rule_for(move.operation, tier, move.asset, move.place) or move.otherwise
    if rule is None:
        return Price(move.operation, tier, move.asset, move.amount, None, 0, NOTHING, 0, None, 0)
    return Price(
        operation=move.operation,
        tier=tier,
        asset=move.asset,
        amount=move.amount,
        rule=rule.name,
        flat=rule.flat,
        percent=rule.percent,
        minimum=rule.minimum,
        maximum=rule.maximum,
        full=fee_of(rule, move.amount),
        free=free,
    )


def allowance_of(tariff: Tariff, tier: str, operation: Operation) -> Allowance | None:
    """What is free of such operations; a hold's is a transfer's where it has none of its own."""
    free = tariff.tiers[tier].free
    if operation is Operation.HOLD and operation not in free:
        return free.get(Operation.TRANSFER)
    return free.get(operation)
