"""What became of each leg of a batch that succeeded: the contract's event and the token's own log, together. Pure.

The transaction is one out of a whole block whose hash and roots were recomputed. The contract writes an event for each
leg, in order; what a token logs while it pays a leg stands before that leg's event and after the one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from base.errors import BrokenInvariant
from chain.evm.blocks import MinedTransaction
from chain.evm.transfers import of_log
from chain.observations import Observation
from chain.orders import leg_id
from chain.payout import LegOutcome, leg_outcomes
from chain.signing import Leg


class LegResult(StrEnum):
    """Where a leg stands."""

    OPEN = "open"
    PAID = "paid"
    FAILED = "failed"
    """The recipient or the token refused it; the others went their way."""
    UNCLEAR = "unclear"
    """Event and log contradict each other: a person must look."""
    RELEASED = "released"
    """The batch as a whole paid nobody."""
    GIVEN_BACK = "given_back"
    """Never signed: it's paid alone."""
    LOST = "lost"
    """Its withdrawal was ended by something else: the chain was reset."""


@dataclass(frozen=True, slots=True)
class JudgedLeg:
    """A leg's result, its place in the transaction, and why it isn't paid.

    `on_record`: whether the chain's record knows of the coin that came back for it. It doesn't where its block was
    taken in by a process that knew neither contract nor batch, and nobody traced it: then the coin is a surplus, and
    stands in suspense.
    """

    result: LegResult
    place: str
    reason: str | None = None
    on_record: bool = True


@dataclass(frozen=True, slots=True)
class LegSeen:
    """What a batch's transaction shows of one leg, for a person to judge.

    `told`: the contract's event about it, if there is one. `moved`: what the token says that left us while this leg was
    paid; in the whole transaction, where the contract's events aren't those of the legs.
    """

    is_coin: bool
    told: LegOutcome | None = None
    moved: tuple[Observation, ...] = ()

    def paid(self, recipient: str, chain_amount: int | None = None) -> list[str]:
        """The places at which it paid the recipient this amount, or (None) anything."""
        if self.is_coin:
            told = self.told
            found = [] if told is None or not told.paid else [(f"log:{told.position}", told.leg.to, told.leg.amount)]
        else:
            found = [(one.place, one.recipient, one.amount) for one in self.moved]
        return [place for place, to, amount in found if to == recipient and chain_amount in (None, amount)]


def seen(
    legs: Sequence[Leg], position: int, transaction: MinedTransaction, *, via: str, contract: str | None
) -> LegSeen:
    """What `transaction` shows of the leg at `position`."""
    try:
        told = leg_outcomes(transaction.logs, via)
    except BrokenInvariant:
        told = ()
    mine = next((one for one in told if one.leg.id == leg_id(legs[position].subject)), None)
    if contract is None:
        return LegSeen(True, mine)
    ends, is_whole = [one.position for one in told], _fits(told, legs)
    if is_whole and _moved(transaction, contract, ends[-1], len(transaction.logs)):
        is_whole = False
    if not is_whole:
        return LegSeen(False, mine, tuple(_moved(transaction, contract, -1, len(transaction.logs))))
    return LegSeen(False, mine, tuple(_moved(transaction, contract, [-1, *ends][position], ends[position])))


def judge(
    legs: Sequence[Leg], transaction: MinedTransaction, *, via: str, contract: str | None
) -> tuple[JudgedLeg, ...]:
    """What became of the `legs` of a batch that `transaction` carried through `via`, in `contract` (None: the coin)."""
    try:
        told = leg_outcomes(transaction.logs, via)
    except BrokenInvariant as problem:
        return _all_unclear(legs, problem.message)
    if not _fits(told, legs):
        return _all_unclear(legs, "the payout contract's events aren't those of the batch's legs")
    if contract is None:
        if transaction.value != sum(leg.amount for leg in legs):
            return _all_unclear(legs, "the transaction carried another amount than its legs come to")
        return tuple(_coin_leg(one) for one in told)
    ends = [one.position for one in told]
    moved = [_moved(transaction, contract, *part) for part in zip([-1, *ends[:-1]], ends, strict=True)]
    if _moved(transaction, contract, ends[-1], len(transaction.logs)):
        return _all_unclear(legs, "the token tells of payments that no leg made")
    return tuple(_token_leg(leg, one, found) for leg, one, found in zip(legs, told, moved, strict=True))


def _fits(told: Sequence[LegOutcome], legs: Sequence[Leg]) -> bool:
    """Whether the contract's events are exactly the legs, in order."""
    return [(one.leg.id, one.leg.to, one.leg.amount) for one in told] == [
        (leg_id(leg.subject), leg.to, leg.amount) for leg in legs
    ]


def _coin_leg(told: LegOutcome) -> JudgedLeg:
    place = f"log:{told.position}"
    if told.paid:
        return JudgedLeg(LegResult.PAID, place)
    return JudgedLeg(LegResult.FAILED, place, "the recipient's contract refused the payment")


def _token_leg(leg: Leg, told: LegOutcome, found: Sequence[Observation]) -> JudgedLeg:
    place = f"log:{told.position}"
    if told.paid and [(one.recipient, one.amount) for one in found] == [(leg.to, leg.amount)]:
        return JudgedLeg(LegResult.PAID, found[0].place)
    if not told.paid and not found:
        return JudgedLeg(LegResult.FAILED, place, "the token refused the payment")
    word = "paid" if told.paid else "not paid"
    amounts = ", ".join(f"{one.amount} to {one.recipient}" for one in found) or "nothing"
    return JudgedLeg(LegResult.UNCLEAR, place, f"the payout contract says {word}, the token's logs tell of {amounts}")


def _moved(transaction: MinedTransaction, contract: str, after: int, before: int) -> list[Observation]:
    """What the token says that left the transaction's sender, in the logs between two positions."""
    found = [
        of_log(transaction.tx_hash, position, transaction.logs[position])
        for position in range(after + 1, before)
        if transaction.logs[position].contract == contract
    ]
    return [one for one in found if one is not None and one.sender == transaction.sender]


def _all_unclear(legs: Sequence[Leg], reason: str) -> tuple[JudgedLeg, ...]:
    return tuple(JudgedLeg(LegResult.UNCLEAR, "gas", reason) for _ in legs)
