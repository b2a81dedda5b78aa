"""A sweep's states and which may follow which, and what it is made of on chain. Pure; the work is `treasury.sweeping`.

    planned -> (authorising | topping_up) -> reserved -> signed -> broadcast <-> mined -> final
    unsweepable: a token that refuses, a transaction that failed, a signer that said no; tried again later
    dropped: nothing was left to sweep, or its chain is gone

An authorised sweep can become final from anywhere after `authorising`: whoever carries it, it's done.
"""

from collections.abc import Mapping
from enum import StrEnum

from base.errors import BrokenInvariant


class SweepState(StrEnum):
    PLANNED = "planned"
    AUTHORISING = "authorising"
    TOPPING_UP = "topping_up"
    RESERVED = "reserved"
    SIGNED = "signed"
    BROADCAST = "broadcast"
    MINED = "mined"
    FINAL = "final"
    UNSWEEPABLE = "unsweepable"
    NEEDS_REVIEW = "needs_review"
    DROPPED = "dropped"


class Method(StrEnum):
    """How value leaves a deposit address."""

    TRANSFER = "transfer"
    """By the address's own transaction, for which it needs gas."""
    AUTHORISATION = "authorisation"
    """By its signature, which the gas address carries (EIP-3009)."""


class MoveKind(StrEnum):
    """What one of our own transactions does for a sweep."""

    SWEEP = "sweep"
    RELAY = "relay"
    TOP_UP = "top_up"


class MoveState(StrEnum):
    UNDER_WAY = "under_way"
    BOOKED = "booked"
    """It's final, as done or as failed, and so stands in the book."""
    REFUSED = "refused"
    """The signer said no, or it was given back unsigned; there is nothing on chain."""
    NEEDS_REVIEW = "needs_review"
    DROPPED = "dropped"
    """Its chain is gone."""


_S = SweepState
_CARRIED = frozenset({_S.SIGNED, _S.BROADCAST, _S.MINED, _S.FINAL, _S.UNSWEEPABLE, _S.NEEDS_REVIEW, _S.DROPPED})

NEXT: Mapping[SweepState, frozenset[SweepState]] = {
    _S.PLANNED: frozenset({_S.AUTHORISING, _S.TOPPING_UP, _S.RESERVED, _S.UNSWEEPABLE, _S.DROPPED}),
    _S.AUTHORISING: frozenset({_S.RESERVED, _S.FINAL, _S.UNSWEEPABLE, _S.DROPPED}),
    _S.TOPPING_UP: frozenset({_S.RESERVED, _S.UNSWEEPABLE, _S.DROPPED}),
    _S.RESERVED: _CARRIED,
    _S.SIGNED: _CARRIED,
    _S.BROADCAST: _CARRIED,
    _S.MINED: _CARRIED,
    _S.NEEDS_REVIEW: _CARRIED | {_S.RESERVED},
    _S.UNSWEEPABLE: frozenset({_S.PLANNED, _S.FINAL, _S.DROPPED}),
    _S.FINAL: frozenset(),
    _S.DROPPED: frozenset(),
}
"""The transition table. An empty set ends the sweep."""

OPEN = frozenset(NEXT) - {_S.FINAL, _S.UNSWEEPABLE, _S.DROPPED}
"""The states of a sweep that holds its address: no other begins there meanwhile."""


def advance(state: SweepState, to: SweepState) -> SweepState:
    """`to`, if it may follow `state`. Raises BrokenInvariant otherwise."""
    if to is not state and to not in NEXT[state]:
        raise BrokenInvariant(f"a sweep can't go from {state} to {to}", code="impossible_step")
    return to
