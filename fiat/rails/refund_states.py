"""A refund's states and which may follow which. Pure; what is done at each is in `fiat.rails.refund_steps`.

    requested -> submitted -> pending -> final -> failed
                   |   ^         |
                   v   |         +-> failed
                 unknown

A user's refund is held on their account from `requested` on; `final` settles the hold, `failed` before that voids it. A
bank may send a refund back long after it was final (`failed` then): the provider has the money again, and so has the
user. One that was made at the provider's own pages starts as `pending` or `final`, and holds nothing.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from fiat.rails.errors import RailCorrupt
from fiat.rails.protocol import RefundStatus


class RefundState(StrEnum):
    REQUESTED = "requested"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    PENDING = "pending"
    FINAL = "final"
    FAILED = "failed"


class RefundOrigin(StrEnum):
    """Who began it. HOUSE: a treasurer, for a user. PROVIDER: somebody at the provider's own pages."""

    USER = "user"
    HOUSE = "house"
    PROVIDER = "provider"


_S = RefundState

TRANSITIONS: Mapping[RefundState, frozenset[RefundState]] = MappingProxyType(
    {
        _S.REQUESTED: frozenset({_S.SUBMITTED, _S.FAILED}),
        _S.SUBMITTED: frozenset({_S.UNKNOWN, _S.PENDING, _S.FINAL, _S.FAILED}),
        _S.UNKNOWN: frozenset({_S.SUBMITTED, _S.PENDING, _S.FINAL, _S.FAILED}),
        _S.PENDING: frozenset({_S.FINAL, _S.FAILED}),
        _S.FINAL: frozenset({_S.FAILED}),
        _S.FAILED: frozenset(),
    }
)
"""The transition table."""

OPEN = frozenset({_S.REQUESTED, _S.SUBMITTED, _S.UNKNOWN, _S.PENDING})

OF_STATUS: Mapping[RefundStatus, RefundState] = MappingProxyType(
    {
        RefundStatus.PENDING: _S.PENDING,
        RefundStatus.COMPLETED: _S.FINAL,
        RefundStatus.FAILED: _S.FAILED,
    }
)
"""Where each of a provider's outcomes leads."""


def advance(state: RefundState, to: RefundState) -> RefundState:
    """`to`, if it may follow `state`. Raises RailCorrupt otherwise."""
    if to not in TRANSITIONS[state]:
        raise RailCorrupt(f"a refund can't go from {state} to {to}", state=str(state), to=str(to))
    return to


def follow(state: RefundState, status: RefundStatus) -> RefundState | None:
    """Where the provider's word leads from `state`; None where it leads nowhere."""
    to = OF_STATUS[status]
    return to if to in TRANSITIONS[state] and state is not _S.REQUESTED else None
