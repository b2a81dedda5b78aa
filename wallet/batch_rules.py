"""When approved withdrawals share a transaction, what that may cost, and how its cost is shared. Pure.

A withdrawal waits for company for so many seconds at most from when it was asked for. Once enough wait and the oldest
has waited so long, or as many wait as fit, they're paid together; what finds too little company is paid alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from base.errors import ConfigError
from chain.fees import GAS_MARGIN_PERCENT
from chain.networks import Deployment
from chain.payout import LEGS_MAX, NATIVE_LEG_GAS, gas_bound, tail_gas
from chain.tokens import Quirk

LEGS_MIN = 4
"""Fewer don't pay off: a batch of a token needs an allowance before it (docs/batches.md)."""

WAIT_SECONDS = 10
"""How long a withdrawal waits for company, if nothing else is configured."""

PATIENCE = timedelta(hours=1)
"""After so long beyond its wait nobody is kept for a batch that for some reason isn't made."""

ALONE = frozenset({Quirk.FEE_ON_TRANSFER, Quirk.HOOKS, Quirk.REBASING})
"""Of tokens that do so, an event and the token's own log don't tell what was paid: they're paid one by one."""

_TX_GAS = 21_000
NATIVE_GAS_MAX = (_TX_GAS + NATIVE_LEG_GAS) * GAS_MARGIN_PERCENT // 100
"""Gas limit of a single payment of the coin above which its recipient may need more than the contract hands on."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How withdrawals of one network are gathered."""

    legs_min: int = LEGS_MIN
    legs_max: int = LEGS_MAX
    wait: timedelta = timedelta(seconds=WAIT_SECONDS)

    def __post_init__(self) -> None:
        if not 1 <= self.legs_min <= self.legs_max <= LEGS_MAX:
            raise ConfigError(f"batches: 1 <= legs_min <= legs_max <= {LEGS_MAX}", param="legs_min")


class Priced(Protocol):
    """What a withdrawal was promised to cost at most: gas limit, and wei in all."""

    @property
    def gas_limit(self) -> int: ...
    @property
    def fee_wei_max(self) -> int: ...


def due(terms: Terms, *, waiting: int, oldest: timedelta) -> bool:
    """Whether those that wait are paid together now; `oldest`: for how long the first of them has waited."""
    return waiting >= terms.legs_max or (waiting >= terms.legs_min and oldest >= terms.wait)


def waits(terms: Terms, *, waiting: int, age: timedelta) -> bool:
    """Whether one of `waiting` withdrawals still waits for the others; else it's paid alone."""
    return age < terms.wait or (waiting >= terms.legs_min and age < terms.wait + PATIENCE)


def may_share(deployment: Deployment, withdrawal: Priced) -> bool:
    """Whether a withdrawal may go into a batch, by all that is known without asking a node."""
    if deployment.contract is None:
        return withdrawal.gas_limit <= NATIVE_GAS_MAX
    return not deployment.quirks & ALONE


def gas_limit(legs: Sequence[Priced], *, native: bool) -> int:
    """What each would have had alone, and what must be left for the last: at most what suffices in the worst case."""
    wanted = _TX_GAS + sum(leg.gas_limit for leg in legs) + tail_gas(native=native)
    return min(wanted, gas_bound(len(legs), native=native))


def price_max(legs: Sequence[Priced]) -> int:
    """The most to offer per gas, in wei: what the best-paying leg was promised to cost."""
    return max(leg.fee_wei_max // leg.gas_limit for leg in legs)


def shares(cost_wei: int, legs: int) -> list[int]:
    """The cost in equal parts, to the wei: what doesn't divide is on the first ones."""
    each, rest = divmod(cost_wei, legs)
    return [each + (place < rest) for place in range(legs)]
