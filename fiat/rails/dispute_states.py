"""A dispute's states and which may follow which. Pure; what is booked of it is in `fiat.rails.dispute_entries`.

    inquiry -> open <-> under_review -> won <-> lost
       |                                 |
       +----------> closed <-------------+ (only from inquiry, open, under_review)

States tell people what to do. Money follows another rule, which no order of events can upset: what the book has taken
from the user for a dispute is what the provider has withdrawn *now*, so each look books the difference only. A decision
may be turned by an appeal, so `won` and `lost` lead to each other.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from fiat.rails.errors import RailCorrupt
from fiat.rails.protocol import DisputeStatus


class DisputeState(StrEnum):
    INQUIRY = "inquiry"
    OPEN = "open"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"
    CLOSED = "closed"


_S = DisputeState
_DECIDED = frozenset({_S.WON, _S.LOST, _S.CLOSED})

TRANSITIONS: Mapping[DisputeState, frozenset[DisputeState]] = MappingProxyType(
    {
        _S.INQUIRY: frozenset({_S.OPEN, _S.UNDER_REVIEW}) | _DECIDED,
        _S.OPEN: frozenset({_S.UNDER_REVIEW}) | _DECIDED,
        _S.UNDER_REVIEW: frozenset({_S.OPEN}) | _DECIDED,
        _S.WON: frozenset({_S.LOST, _S.OPEN, _S.UNDER_REVIEW}),
        _S.LOST: frozenset({_S.WON, _S.UNDER_REVIEW}),
        _S.CLOSED: frozenset({_S.INQUIRY, _S.OPEN}),
    }
)
"""The transition table."""

OF_STATUS: Mapping[DisputeStatus, DisputeState] = MappingProxyType(
    {status: DisputeState(status.value) for status in DisputeStatus}
)
"""Where each of a provider's outcomes leads."""

TO_ANSWER = frozenset({_S.INQUIRY, _S.OPEN})
"""A person has something to do, until the dispute's `respond_by`."""


def advance(state: DisputeState, to: DisputeState) -> DisputeState:
    """`to`, if it may follow `state`. Raises RailCorrupt otherwise."""
    if to not in TRANSITIONS[state]:
        raise RailCorrupt(f"a dispute can't go from {state} to {to}", state=str(state), to=str(to))
    return to


def follow(state: DisputeState, status: DisputeStatus) -> DisputeState:
    """Where the provider's word leads; the same state where it leads nowhere."""
    to = OF_STATUS[status]
    return to if to in TRANSITIONS[state] else state
