"""What nodes told that own addresses held at a block, beside what the book has there. Values, compared. Pure.

Nodes forget a block's state soon, so only what was sampled then is known. A figure is compared with the book's at the
same block and no other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ledger.accounts import split_account_id
from treasury.position import Position
from treasury.samples import Sample


@dataclass(frozen=True, slots=True)
class Compared:
    """One role's holdings of an asset, in smallest units: by the book through the block, and as nodes told of it."""

    asset: str
    role: str
    book: int
    nodes: int

    @property
    def difference(self) -> int:
        """How much more is there than the book says."""
        return self.nodes - self.book


@dataclass(frozen=True, slots=True)
class ToldByNodes:
    """What nodes told of one block. `rows` is empty where it wasn't sampled (`taken_at` is None): then `below` and
    `above` are the numbers of the nearest blocks that were, if any."""

    network: str
    taken_at: datetime | None
    rows: tuple[Compared, ...] = ()
    below: int | None = None
    above: int | None = None

    @property
    def sampled(self) -> bool:
        return self.taken_at is not None

    @property
    def agrees(self) -> bool | None:
        """Whether book and nodes say the same; None where the nodes said nothing."""
        return None if not self.sampled else not any(one.difference for one in self.rows)


def compare(sample: Sample, positions: Iterable[Position]) -> ToldByNodes:
    """A sample laid beside positions through its very block. A role that the sample doesn't know isn't compared: what
    stands at cold addresses no node was asked for."""
    booked = {one.asset: one.on(sample.network) for one in positions}
    rows = []
    for account, nodes in sorted(sample.held.items()):
        _, purpose, asset = split_account_id(account)
        role = purpose.rpartition(":")[2]
        book = booked.get(asset, {}).get(role, 0)
        if book or nodes:
            rows.append(Compared(asset, role, book, nodes))
    return ToldByNodes(sample.network, sample.taken_at, tuple(rows))
