"""Orders: one request for a conversion and what follows it, or for a top-up and its conversion. Pure.

    transfer, withdrawal, payout:  done at once: the conversion and what follows are booked together, or not at all
    top_up:  awaiting_top_up -> converting -> done
                   |                |
                   +-> failed       +-> cancelled (also from awaiting_top_up)

`converting`: the payment is there, and the conversion waits for a price within what its owner accepts, or for rates;
`waiting_for` says which. Nothing is lost meanwhile: the money stands on the owner's account, and they may accept less
or give the conversion up. What a withdrawal or payout becomes afterwards is its own state's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from base.errors import BrokenInvariant


class OrderKind(StrEnum):
    """What follows the conversion; `TOP_UP`: what comes before it."""

    TRANSFER = "transfer"
    WITHDRAWAL = "withdrawal"
    PAYOUT = "payout"
    TOP_UP = "top_up"


class OrderState(StrEnum):
    AWAITING_TOP_UP = "awaiting_top_up"
    CONVERTING = "converting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = OrderState
NEXT: Mapping[OrderState, frozenset[OrderState]] = {
    _S.AWAITING_TOP_UP: frozenset({_S.CONVERTING, _S.FAILED, _S.CANCELLED}),
    _S.CONVERTING: frozenset({_S.DONE, _S.CANCELLED}),
    _S.DONE: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}

OPEN = frozenset({_S.AWAITING_TOP_UP, _S.CONVERTING})


@dataclass(frozen=True, slots=True)
class Order:
    """`amount`: what is delivered, in smallest units of `buy`; of a top-up, what is paid in, of `sell`.

    `request`: the command of what follows, or of the top-up. `buy_at_least`: the least that a top-up's conversion may
    bring; None: whatever the price. `following`: the id of the transfer, withdrawal or payout. `revision` counts its
    changes.
    """

    id: str
    owner: str
    kind: OrderKind
    state: OrderState
    request: str
    sell: str
    buy: str
    amount: int
    buy_at_least: int | None
    conversion: str | None
    top_up: str | None
    waiting_for: str | None
    attempts: int
    due_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime
    following: str | None = None
    replayed: bool = False


def advance(order: Order, to: OrderState) -> OrderState:
    """The state, if it may follow. Raises BrokenInvariant."""
    if to not in NEXT[order.state]:
        raise BrokenInvariant(f"order {order.id} can't go from {order.state} to {to}")
    return to
