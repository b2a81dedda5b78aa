"""What became of writing an epoch's hash on a chain, read off the transactions that were to do it. Pure.

Nothing of it is kept beside these: a reorganisation that takes the transaction back takes the state back with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chain.payments import Mined, OwnTransaction
from chain.transaction_states import State


class AnchorState(StrEnum):
    """Where it stands. REFUSED: the signer wouldn't, or it was given back. FAILED: its nonce did something else."""

    PENDING = "pending"
    MINED = "mined"
    FINAL = "final"
    REFUSED = "refused"
    FAILED = "failed"


ENDED = frozenset({AnchorState.REFUSED, AnchorState.FAILED})
"""Nothing was written, and nothing will be: it may be asked for anew."""

_STATES = {
    State.RESERVED: AnchorState.PENDING,
    State.SIGNED: AnchorState.PENDING,
    State.BROADCAST: AnchorState.PENDING,
    State.MINED: AnchorState.MINED,
    State.FINAL: AnchorState.FINAL,
    State.REVERTED: AnchorState.FAILED,
    State.CANCELLED: AnchorState.FAILED,
    State.NEEDS_REVIEW: AnchorState.FAILED,
    State.REFUSED: AnchorState.REFUSED,
    State.GIVEN_BACK: AnchorState.REFUSED,
}

_WORDS = {
    State.REVERTED: "what it was written to refused the call",
    State.CANCELLED: "its nonce was used up by a cancellation",
    State.NEEDS_REVIEW: "its nonce was used up by a transaction of others",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """An epoch's anchor: on which network, from which address, and where it is mined, if it is.

    `waiting_for`: what a pending one lacks; `reason`: the words to that, or why it ended without effect.
    """

    transaction: str
    network: str
    sender: str
    to: str
    state: AnchorState
    mined: Mined | None
    waiting_for: str | None
    reason: str | None


def anchored(tries: Sequence[OwnTransaction]) -> Anchored | None:
    """The anchor of an epoch by its transactions, the oldest first: the one that counts is the last that didn't end.

    None where nothing was asked for.
    """
    told = [_one(own) for own in tries]
    going = [one for one in told if one.state not in ENDED]
    standing = going or told
    return standing[-1] if standing else None


def _one(own: OwnTransaction) -> Anchored:
    state = _STATES[own.state]
    if state is AnchorState.MINED and (own.cancelling is not None or own.mined is None or not own.mined.succeeded):
        state = AnchorState.PENDING  # what is mined may not be what writes it: its final block will tell
    return Anchored(
        transaction=own.id,
        network=own.payment.network,
        sender=own.payment.sender.address,
        to=own.payment.recipient,
        state=state,
        mined=own.mined if state in (AnchorState.MINED, AnchorState.FINAL) else None,
        waiting_for=own.waiting_for,
        reason=_WORDS.get(own.state, own.refusal),
    )
