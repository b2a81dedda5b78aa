"""A withdrawal's states and which may follow which. Pure; what is done on each step is in `wallet.withdrawals`.

    requested -> held -> screened -> approved -> nonce_reserved -> signed -> broadcast <-> mined -> final
                                        ^               |
                                        +-- awaiting_approval, where the signer wants people's approvals

Before a nonce is reserved it may be rejected or cancelled; one that would fail on chain goes back to `approved`. From
`signed` on only final evidence ends it: `final`,
`reverted`, or `cancelled` by a transaction of ours that used up its nonce. Where the evidence contradicts itself it
`needs_review`, which a person ends (`wallet.resolutions`). Where its whole chain is gone and a person says so, it's
cancelled (`wallet.lost_chains`).
"""

from collections.abc import Mapping
from enum import StrEnum

from wallet.errors import WalletCorrupt


class WithdrawalState(StrEnum):
    REQUESTED = "requested"
    HELD = "held"
    SCREENED = "screened"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    NONCE_RESERVED = "nonce_reserved"
    SIGNED = "signed"
    BROADCAST = "broadcast"
    MINED = "mined"
    FINAL = "final"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    REVERTED = "reverted"
    NEEDS_REVIEW = "needs_review"


class WaitingFor(StrEnum):
    """What a stalled withdrawal waits for; it keeps its state meanwhile."""

    GAS = "gas"
    FUNDS = "funds"
    FEE = "fee"
    SIGNER = "signer"
    SCREENING = "screening"
    NODE = "node"
    APPROVAL = "approval"


_S = WithdrawalState

NEXT: Mapping[WithdrawalState, frozenset[WithdrawalState]] = {
    # Final at once where the recipient is a user here: then it's settled in the book.
    _S.REQUESTED: frozenset({_S.HELD, _S.FINAL}),
    _S.HELD: frozenset({_S.SCREENED, _S.REJECTED, _S.CANCELLED}),
    _S.SCREENED: frozenset({_S.APPROVED, _S.REJECTED, _S.CANCELLED}),
    _S.AWAITING_APPROVAL: frozenset({_S.APPROVED, _S.REJECTED, _S.CANCELLED}),
    _S.APPROVED: frozenset({_S.NONCE_RESERVED, _S.REJECTED, _S.CANCELLED}),
    # A refusal that the signer journalled frees the nonce, so the withdrawal can still be rejected here, or wait for
    # people's approvals, where the signer wants these. One that was
    # never signed gives its nonce back: because a treasurer cancels it, to be looked at anew,
    # or because it was a batch that was refused.
    _S.NONCE_RESERVED: frozenset(
        {_S.SIGNED, _S.APPROVED, _S.AWAITING_APPROVAL, _S.REJECTED, _S.CANCELLED, _S.NEEDS_REVIEW}
    ),
    _S.SIGNED: frozenset({_S.BROADCAST, _S.MINED, _S.NEEDS_REVIEW}),
    _S.BROADCAST: frozenset({_S.MINED, _S.NEEDS_REVIEW}),
    # Cancelled from here means: another transaction used up the nonce, and that one is final.
    _S.MINED: frozenset({_S.BROADCAST, _S.FINAL, _S.REVERTED, _S.CANCELLED, _S.NEEDS_REVIEW}),
    _S.NEEDS_REVIEW: frozenset({_S.BROADCAST, _S.MINED, _S.FINAL, _S.REVERTED, _S.CANCELLED}),
    _S.FINAL: frozenset(),
    _S.REJECTED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.REVERTED: frozenset(),
}
"""The transition table. An empty set ends the withdrawal."""

CANCELLABLE = frozenset({_S.HELD, _S.SCREENED, _S.AWAITING_APPROVAL, _S.APPROVED})
"""Before a nonce is reserved nothing has left the house, so its owner may still take it back."""

UNPAID = frozenset({_S.REJECTED, _S.CANCELLED, _S.REVERTED})
"""Ends of a withdrawal that paid nobody."""

ENDED = frozenset(state for state, following in NEXT.items() if not following)


def advance(state: WithdrawalState, to: WithdrawalState) -> WithdrawalState:
    """`to`, if it may follow `state`. Raises WalletCorrupt otherwise: no evidence can cause that."""
    if to not in NEXT[state]:
        raise WalletCorrupt(f"a withdrawal can't go from {state} to {to}", state=str(state), to=str(to))
    return to


def catch_up(state: WithdrawalState, to: WithdrawalState) -> WithdrawalState:
    """`to`, if allowed steps lead there from `state`, be they one or several.

    The chain's own record may be some steps ahead of ours: signed, sent and mined between two of our steps. Raises
    WalletCorrupt where no way leads there.
    """
    reached, frontier = {state}, {state}
    while frontier:
        frontier = {following for here in frontier for following in NEXT[here]} - reached
        reached |= frontier
    if to not in reached:
        raise WalletCorrupt(f"no way leads a withdrawal from {state} to {to}", state=str(state), to=str(to))
    return to
