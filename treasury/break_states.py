"""A break's states and what leads from one to the next. Pure; who does it is `treasury.breaks`, and each cycle.

    open <-> proposed -> awaiting_cycle -> (resolved | open)
                      -> accepted       -> (resolved | open)

What a cycle no longer sees is resolved, whatever state it was in; nothing else ends a break. `proposed` is still
unexplained: one person's word. What was posted or accepted is explained, until a cycle or a date says otherwise.
"""

from collections.abc import Mapping
from enum import StrEnum

from base.errors import BrokenInvariant


class BreakState(StrEnum):
    OPEN = "open"
    PROPOSED = "proposed"
    """A treasurer has said how it's to be resolved; another one must confirm it."""
    AWAITING_CYCLE = "awaiting_cycle"
    """An entry was posted that should end it; the next cycle tells."""
    ACCEPTED = "accepted"
    """Two treasurers take it as a matter of time, until a date."""
    RESOLVED = "resolved"
    """A cycle no longer saw it."""


class Act(StrEnum):
    """What happens to a break: by treasurers, by its date, by a cycle."""

    PROPOSE = "propose"
    WITHDRAW = "withdraw"
    POST = "post"
    ACCEPT = "accept"
    LAPSE = "lapse"
    """The date until which it was accepted has come."""
    SEE = "see"
    """A cycle sees the very same difference."""
    CHANGE = "change"
    """A cycle sees another difference at the same place."""
    MISS = "miss"
    """A cycle no longer sees it."""


_S = BreakState

NEXT: Mapping[BreakState, Mapping[Act, BreakState]] = {
    _S.OPEN: {Act.PROPOSE: _S.PROPOSED, Act.SEE: _S.OPEN, Act.CHANGE: _S.OPEN, Act.MISS: _S.RESOLVED},
    _S.PROPOSED: {
        Act.WITHDRAW: _S.OPEN,
        Act.POST: _S.AWAITING_CYCLE,
        Act.ACCEPT: _S.ACCEPTED,
        Act.SEE: _S.PROPOSED,
        Act.CHANGE: _S.PROPOSED,  # who confirms is told that it changed
        Act.MISS: _S.RESOLVED,
    },
    _S.AWAITING_CYCLE: {Act.SEE: _S.OPEN, Act.CHANGE: _S.OPEN, Act.MISS: _S.RESOLVED},
    _S.ACCEPTED: {
        Act.PROPOSE: _S.PROPOSED,
        Act.LAPSE: _S.OPEN,
        Act.SEE: _S.ACCEPTED,
        Act.CHANGE: _S.OPEN,  # another amount than the one that was accepted
        Act.MISS: _S.RESOLVED,
    },
    _S.RESOLVED: {},
}
"""The transition table. An empty row ends the break: seen again, the difference is a new one."""

EXPLAINED = frozenset({_S.AWAITING_CYCLE, _S.ACCEPTED})
"""States of a break that two people have accounted for."""

STANDING = frozenset(NEXT) - {_S.RESOLVED}
"""States of a difference that is still there, as far as anybody knows."""


def may(state: BreakState, act: Act) -> bool:
    """Whether `act` can happen to a break in this state."""
    return act in NEXT[state]


def advance(state: BreakState, act: Act) -> BreakState:
    """The state after `act`. Raises BrokenInvariant where it can't happen; ask `may` about what people ask for."""
    if not may(state, act):
        raise BrokenInvariant(f"no {act} happens to a break that is {state}", code="impossible_step")
    return NEXT[state][act]


def in_cycle(state: BreakState, *, seen: bool, changed: bool, lapsed: bool, begun_before: bool) -> tuple[Act, ...]:
    """What a cycle does to a break: what it sees of it, after its date, if that has come.

    `begun_before`: the cycle began to read before the entry was posted that it's to judge, so it says nothing of it.
    """
    acts = (Act.LAPSE,) if lapsed and state is _S.ACCEPTED else ()
    if begun_before and state is _S.AWAITING_CYCLE:
        return acts
    return (*acts, Act.MISS if not seen else Act.CHANGE if changed else Act.SEE)
