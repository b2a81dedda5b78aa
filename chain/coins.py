"""The native coin where nothing tells of it: what contracts pay inside calls, and what is simply there. Pure.

The coin moves without an event. A transaction's own value stands at the place `value`, what a block pays by itself at
`withdrawal:index`: both are covered by the block's hash. What a contract pays in an inner call, or leaves behind by
SELFDESTRUCT, only a trace tells (`trace:path`), and a trace is a claim: it's believed as far as balances bear it out.
What is there without any of these is a surplus (`surplus:address`), and nobody's until a person names its evidence.
What isn't there though nothing took it is a shortage (`shortage:address`): it left without us.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chain.observations import NOBODY, BlockRef, Observation

SURPLUS = "surplus:"
"""How the place of a surplus begins; the address follows."""

SHORTAGE = "shortage:"
"""How the place of a shortage begins; the address follows."""

TRACE = "trace:"
"""How the place of an inner transfer begins; the way to its call follows."""


def surplus(block: BlockRef, address: str, amount: int) -> Observation:
    """`amount` wei too much at `address`, as an observation of the block at which it was looked at."""
    return Observation(block.block_hash, f"{SURPLUS}{address}", None, NOBODY, address, amount)


def shortage(block: BlockRef, address: str, amount: int) -> Observation:
    """`amount` wei too little at `address`, as an observation of the block at which it was looked at."""
    return Observation(block.block_hash, f"{SHORTAGE}{address}", None, address, NOBODY, amount)


def believed(told: Iterable[Observation], rises: Mapping[str, int | None]) -> list[Observation]:
    """Of a block's inner transfers those that the balances of our addresses bear out.

    `rises`: by own address, by how many wei its balance grew in the block beyond all else that is recorded of it; None:
    nobody can tell. An address that grew by less than it was told to be paid is believed nothing, and so is one that
    paid: what is told to have left it lessens nothing of what must have come.
    """
    told = list(told)
    paid_in, paid_out = dict.fromkeys(rises, 0), dict.fromkeys(rises, 0)
    for one in told:
        if one.recipient in rises:
            paid_in[one.recipient] += one.amount
        if one.sender in rises:
            paid_out[one.sender] += one.amount
    borne_out = {
        address
        for address, rise in rises.items()
        if rise is not None and (rise >= paid_in[address] if paid_in[address] else rise <= -paid_out[address])
    }
    ours = [one for one in told if one.recipient in rises or one.sender in rises]
    return [one for one in ours if {one.recipient, one.sender} & rises.keys() <= borne_out]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Blocks after `low` up to `high`, and by how many wei what is there exceeds what is recorded, at either end."""

    low: int
    low_excess: int
    high: int
    high_excess: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    @property
    def single(self) -> bool:
        """Whether it's one block."""
        return self.high - self.low == 1

    def cut(self, height: int, excess: int) -> list["Stretch"]:
        """Those of its two parts in which something came, with the excess at a height between its ends known."""
        parts = [
            Stretch(self.low, self.low_excess, height, excess),
            Stretch(height, excess, self.high, self.high_excess),
        ]
        return [part for part in parts if part.high_excess > part.low_excess]


def latest(stretches: Sequence[Stretch], *, limit: int) -> list[Stretch]:
    """At most `limit` of them: the latest, about which nodes still know most."""
    return sorted(stretches, key=lambda stretch: stretch.high)[-limit:]
