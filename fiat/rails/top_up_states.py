"""A card or PayPal top-up's states and which may follow which. Pure; `fiat.rails.top_up_steps` does what each asks.

    requested -> submitted -> requires_action <-> processing -> final
                   |   ^            |        \\-> approved / authorised -> final
                   v   |            +-> failed, cancelled
                 unknown

`requested`: stored, nobody was asked. `submitted`: the provider is about to be asked, or was; from here on the money
may have moved. `unknown`: the answer was lost; only what the provider says under our own id leads on. `final`: the
provider has taken the payment and its user has it. What happens to it later is a refund's or a dispute's, which have
states of their own.

From the end states a provider's word that it took the payment after all still leads to `final`: it owes us the money,
and it's the user's. Nothing else leads out of them.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from fiat.rails.errors import RailCorrupt
from fiat.rails.protocol import PaymentStatus


class TopUpState(StrEnum):
    """Of every top-up; a bank's is `final` as soon as it's known."""

    REQUESTED = "requested"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    REQUIRES_ACTION = "requires_action"
    APPROVED = "approved"
    PROCESSING = "processing"
    AUTHORISED = "authorised"
    FINAL = "final"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = TopUpState
_OUTCOMES = frozenset(
    {_S.REQUIRES_ACTION, _S.APPROVED, _S.PROCESSING, _S.AUTHORISED, _S.FINAL, _S.FAILED, _S.CANCELLED}
)

TRANSITIONS: Mapping[TopUpState, frozenset[TopUpState]] = MappingProxyType(
    {
        # Failed from here: the rail was taken out of the settings before it was asked.
        _S.REQUESTED: frozenset({_S.SUBMITTED, _S.CANCELLED, _S.FAILED}),
        _S.SUBMITTED: _OUTCOMES | {_S.UNKNOWN},
        # Submitted again: the provider says that it never got the order, and the key is still good.
        _S.UNKNOWN: _OUTCOMES | {_S.SUBMITTED},
        # A payer may fail and try another method under the same payment, so these lead to each other.
        _S.REQUIRES_ACTION: _OUTCOMES - {_S.REQUIRES_ACTION},
        _S.APPROVED: _OUTCOMES - {_S.APPROVED},
        _S.PROCESSING: _OUTCOMES - {_S.PROCESSING},
        _S.AUTHORISED: frozenset({_S.PROCESSING, _S.FINAL, _S.FAILED, _S.CANCELLED}),
        _S.FINAL: frozenset(),
        _S.FAILED: frozenset({_S.FINAL}),
        _S.CANCELLED: frozenset({_S.FINAL}),
    }
)
"""The transition table."""

ENDED = frozenset({_S.FINAL, _S.FAILED, _S.CANCELLED})

OF_STATUS: Mapping[PaymentStatus, TopUpState] = MappingProxyType(
    {
        PaymentStatus.REQUIRES_ACTION: _S.REQUIRES_ACTION,
        PaymentStatus.APPROVED: _S.APPROVED,
        PaymentStatus.PROCESSING: _S.PROCESSING,
        PaymentStatus.AUTHORISED: _S.AUTHORISED,
        PaymentStatus.CAPTURED: _S.FINAL,
        PaymentStatus.FAILED: _S.FAILED,
        PaymentStatus.CANCELLED: _S.CANCELLED,
    }
)
"""Where each of a provider's outcomes leads."""


def advance(state: TopUpState, to: TopUpState) -> TopUpState:
    """`to`, if it may follow `state`. Raises RailCorrupt otherwise: no provider's answer can cause that."""
    if to not in TRANSITIONS[state]:
        raise RailCorrupt(f"a top-up can't go from {state} to {to}", state=str(state), to=str(to))
    return to


def follow(state: TopUpState, status: PaymentStatus) -> TopUpState | None:
    """Where the provider's word leads from `state`; None where it leads nowhere: nothing new, or an older word.

    Before anybody was asked there's nothing to hear.
    """
    to = OF_STATUS[status]
    return to if to in TRANSITIONS[state] and state is not _S.REQUESTED else None
