"""When a deposit address is swept, and of how much: what must stay there never leaves. Pure.

Amounts are chain units of one asset on one network; prices are wei per gas.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

WORTH_TIMES = 3
"""Old money is swept although it's little, if it's worth its gas so many times over."""

RETRY_FIRST = timedelta(minutes=5)
"""How long an unsweepable address is left alone after the first refusal; then twice as long each time."""

RETRY_LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one address has of one asset.

    `recorded`: by all transfers seen up to the final block. `at_final`, `now`: by the node, at that block and at its
    head. `kept_back`: of it must stay (a listed sender's, or not judged yet). `oldest_at`: since when anything of it
    lies there; None where nothing came since it was last swept.
    """

    recorded: int
    at_final: int
    now: int
    kept_back: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRule:
    """`threshold`: so much is swept at once; None: nothing by itself. `after`: older money is swept, though less."""

    threshold: int | None
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTerms:
    """For all of them: the gas price above which none begins, how many begin in a step, how often one is tried."""

    gas_price_max: int
    per_step: int
    tries: int


def sweepable(holding: Holding) -> int:
    """What may leave: the least that anybody says is there, less what must stay."""
    return max(0, min(holding.recorded, holding.at_final, holding.now) - holding.kept_back)


def is_due(amount: int, rule: SweepRule, *, oldest_at: datetime | None, gas_cost: int | None, now: datetime) -> bool:
    """Whether an amount that may leave is to be swept now.

    `oldest_at` and `gas_cost` are the holding's and what sweeping costs, in the same units; None where nobody can say,
    and then age alone moves nothing.
    """
    if amount == 0 or rule.threshold is None:
        return False
    if amount >= rule.threshold:
        return True
    is_old = oldest_at is not None and now - oldest_at >= rule.after
    return is_old and gas_cost is not None and amount >= WORTH_TIMES * gas_cost


def native_amount(holding: Holding, *, fee_wei: int) -> int:
    """Of the network's own coin: what may leave beside its own gas. The part that the gas doesn't use stays as dust.

    The gas comes out of what may leave, never out of what only a node says is there beyond it: it may be taken back by
    a reorganisation, or never have been, and what was signed by then could never be sent.
    """
    return max(0, sweepable(holding) - fee_wei)


def top_up(coins: Holding, *, fee_wei: int) -> int:
    """What an address lacks to pay a fee. What must stay there pays none, nor does what isn't on record."""
    return max(0, fee_wei - sweepable(coins))


def retry_after(tries: int) -> timedelta:
    """How long to wait after so many refusals in a row, from 1."""
    doublings: int = 2 ** min(tries - 1, 16)
    return min(RETRY_LONGEST, RETRY_FIRST * doublings)
