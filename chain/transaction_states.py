"""The life of an own transaction: its states, what may happen to it, and what it may wait for. Pure.

reserved -> signed -> broadcast <-> mined -> final | reverted | cancelled
reserved -> refused | given_back: its nonce goes to the next one; anything not yet final -> needs_review, when its
nonce was used up by a transaction of others.
A stalled one keeps its state and carries what it waits for. After `signed` only final evidence ends it.
"""

from enum import StrEnum

from base.errors import BrokenInvariant


class Kind(StrEnum):
    """What a transaction is for."""

    WITHDRAWAL = "withdrawal"
    SWEEP = "sweep"
    GAS_TOPUP = "gas_topup"
    REFILL = "refill"
    BATCH = "batch"
    ALLOWANCE = "allowance"
    DEPLOYMENT = "deployment"
    ANCHOR = "anchor"
    CANCEL = "cancel"


INTERNAL = frozenset({Kind.SWEEP, Kind.GAS_TOPUP, Kind.REFILL})
"""What moves the house's own from one of its addresses to another. A withdrawal is none of it, wherever it lands."""


class State(StrEnum):
    """Where it stands."""

    RESERVED = "reserved"
    SIGNED = "signed"
    BROADCAST = "broadcast"
    MINED = "mined"
    FINAL = "final"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    GIVEN_BACK = "given_back"
    """It was never signed, and isn't to be now: whoever asked for it decides anew."""
    NEEDS_REVIEW = "needs_review"


class WaitingFor(StrEnum):
    """What a stalled transaction lacks; it goes on by itself once that is there."""

    GAS = "gas"
    FUNDS = "funds"
    FEE = "fee"
    SIGNER = "signer"
    NODE = "node"
    APPROVAL = "approval"
    """Its sender is halted until a person has looked (`chain.foreign`)."""


class Event(StrEnum):
    """What can happen to a transaction."""

    SIGNED = "signed"
    REFUSED = "refused"
    GIVEN_BACK = "given_back"
    SENT = "sent"
    MINED = "mined"
    UNMINED = "unmined"
    FINAL_PAID = "final_paid"
    FINAL_REVERTED = "final_reverted"
    FINAL_CANCELLED = "final_cancelled"
    DISPLACED = "displaced"


OPEN = frozenset({State.RESERVED, State.SIGNED, State.BROADCAST, State.MINED})
"""The states in which there is still something to do or to see."""

WITHOUT_NONCE = frozenset({State.REFUSED, State.GIVEN_BACK})
"""The states of what was never signed: its nonce went to another, and its subject may be reserved anew."""

_TABLE: dict[tuple[State, Event], State] = {
    (State.RESERVED, Event.SIGNED): State.SIGNED,
    (State.RESERVED, Event.REFUSED): State.REFUSED,
    (State.RESERVED, Event.GIVEN_BACK): State.GIVEN_BACK,
    (State.RESERVED, Event.DISPLACED): State.NEEDS_REVIEW,
    (State.SIGNED, Event.SENT): State.BROADCAST,
    (State.SIGNED, Event.MINED): State.MINED,
    (State.SIGNED, Event.DISPLACED): State.NEEDS_REVIEW,
    (State.BROADCAST, Event.SENT): State.BROADCAST,
    (State.BROADCAST, Event.MINED): State.MINED,
    (State.BROADCAST, Event.DISPLACED): State.NEEDS_REVIEW,
    (State.MINED, Event.MINED): State.MINED,
    (State.MINED, Event.UNMINED): State.BROADCAST,
    (State.MINED, Event.FINAL_PAID): State.FINAL,
    (State.MINED, Event.FINAL_REVERTED): State.REVERTED,
    (State.MINED, Event.FINAL_CANCELLED): State.CANCELLED,
    (State.MINED, Event.DISPLACED): State.NEEDS_REVIEW,
}


def advance(state: State, event: Event) -> State:
    """The state after `event`. Raises BrokenInvariant for what can't happen to a transaction in `state`."""
    if (state, event) not in _TABLE:
        raise BrokenInvariant(f"a transaction that is {state} can't become {event}", code="impossible_step")
    return _TABLE[state, event]
