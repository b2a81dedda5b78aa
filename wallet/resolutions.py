"""How a person ends a withdrawal under review, and what the chain must show for it. Pure.

`paid`: a final transaction that isn't ours by the record, or not any more, paid the recipient this very amount out of
our addresses; or the final transaction of its batch did, by the leg's own logs. `returned`: nothing of ours can pay it
any more, since its nonce is used up for good, and nothing did.
Paying again is a new withdrawal, with all that belongs to one.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chain.transaction_states import State
from wallet.batch_results import LegSeen
from wallet.errors import ResolutionRefused
from wallet.resources import Withdrawal

ENDED_ON_CHAIN = (State.FINAL, State.REVERTED, State.CANCELLED)
"""Ends of a transaction of ours by its own evidence."""


class Outcome(StrEnum):
    PAID = "paid"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class UsedUp:
    """What made the nonce of a withdrawal's transaction final: a transaction, ours or not, or (None) none at all."""

    tx_hash: str | None
    block_number: int
    block_hash: str
    is_ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPayment:
    """A transfer of the withdrawn asset from one of our addresses to the recipient, in a live block.

    `subject` is what it carries out, where it's a transaction of ours. `booked`: it stands in suspense as an outflow
    that nobody has accounted for. `gas_booked`: so its gas (`fee_wei`; 0 where another paid it) is booked as one, and
    `gas_open`: nobody has accounted for that. `claimed_by`: the withdrawal that was said to be paid by it already.
    """

    tx_hash: str
    place: str
    block_number: int
    block_hash: str
    sender: str
    chain_amount: int
    seen_at: datetime
    is_final: bool
    subject: str | None
    claimed_by: str | None
    fee_wei: int
    booked: bool = False
    gas_booked: bool = False
    gas_open: bool = False


@dataclass(frozen=True, slots=True)
class InBatch:
    """A withdrawal as the leg of a batch: its place there from 0, and the batch's rows as far as they matter here.

    `has_row`: a row of ours stands for the leg; without one what it took stands in suspense. `is_booked`: what the
    batch moved is in the book. `is_coin`: of the coin all has left with the batch.
    """

    batch: str
    position: int
    has_row: bool
    is_booked: bool
    is_coin: bool


@dataclass(frozen=True, slots=True)
class OnChainFindings:
    """What the chain shows of a withdrawal: its transaction's state, sender, nonce and attempts, what became of the
    nonce (None: it isn't final), and what was paid to its recipient."""

    state: State | None
    sender: str | None
    nonce: int | None
    attempts: tuple[str, ...]
    used_up: UsedUp | None
    payments: tuple[SeenPayment, ...]
    leg: InBatch | None = None

    @property
    def ended_with_batch(self) -> InBatch | None:
        """Its place in the batch whose own transaction used the nonce up: that shows what became of it."""
        return self.leg if self.used_up is not None and self.used_up.is_ours else None


def paid_by(withdrawal: Withdrawal, found: OnChainFindings, tx_hash: str) -> SeenPayment:
    """The payment that `tx_hash` made of it. Raises ResolutionRefused, in the order in which a person would ask."""
    used_up = _check_nonce(found)
    own = found.ended_with_batch
    if own is not None and own.is_coin and own.has_row:
        raise _refused(f"{own.batch} carried its amount: only that one's transaction can have paid it", "tx_hash")
    named = [one for one in found.payments if one.tx_hash == tx_hash]
    if not named:
        raise _refused(
            f"no transaction {tx_hash} is on record that paid {withdrawal.asset} from one of our addresses to"
            f" {withdrawal.address}: compare the hash, and that the worker has followed the chain so far",
            "tx_hash",
        )
    exact = [one for one in named if one.chain_amount == withdrawal.chain_amount]
    if not exact:
        amounts = " and ".join(str(one.chain_amount) for one in named)
        raise _refused(
            f"transaction {tx_hash} paid the recipient {amounts} units, and {withdrawal.chain_amount} were asked for",
            "tx_hash",
        )
    if (subject := exact[0].subject) is not None:
        of = "this withdrawal's own: the worker ends it" if subject == withdrawal.id else f"the payment of {subject}"
        raise _refused(f"transaction {tx_hash} is {of}", "tx_hash")
    also = [one for one in found.payments if used_up.is_ours and one.tx_hash == used_up.tx_hash]
    if also:
        raise _refused(
            f"its own transaction {used_up.tx_hash} paid the recipient {also[0].chain_amount} units: what another one"
            " paid beside it is a loss, and written off as one",
            "tx_hash",
        )
    free = [one for one in exact if one.claimed_by is None]
    if not free:
        raise _refused(f"transaction {tx_hash} is the payment of {exact[0].claimed_by} already", "tx_hash")
    payment = next((one for one in free if one.booked), free[0])
    if not payment.is_final:
        raise _refused(
            f"block {payment.block_number} of transaction {tx_hash} isn't final: wait until it is", "tx_hash"
        )
    if payment.seen_at < withdrawal.created_at:
        raise _refused(f"transaction {tx_hash} was seen before this withdrawal was asked for", "tx_hash")
    if not payment.booked or (payment.fee_wei and not payment.gas_booked):
        raise _refused(
            f"what left by transaction {tx_hash} isn't booked yet (let the worker run, and try again), or somebody has"
            " said already what it was: see GET /v1/treasury/outflows"
        )
    return payment


def check_returnable(withdrawal: Withdrawal, found: OnChainFindings) -> UsedUp:
    """What made it impossible that it's still paid. Raises ResolutionRefused."""
    used_up = _check_nonce(found)
    for one in found.payments:
        exact = one.chain_amount == withdrawal.chain_amount and one.seen_at >= withdrawal.created_at
        if exact and one.subject is None and one.claimed_by is None:
            raise _refused(
                f"transaction {one.tx_hash} paid the recipient this very amount from {one.sender}: if that was it,"
                " say `paid` and name it; else their money would be theirs twice"
            )
        if one.tx_hash == used_up.tx_hash and one.claimed_by is None and found.ended_with_batch is None:
            raise _refused(
                f"transaction {one.tx_hash}, which used up the nonce, paid the recipient {one.chain_amount} units:"
                " what is returned must not have been paid in part"
            )
    return used_up


def check_paid_in_batch(withdrawal: Withdrawal, found: OnChainFindings, seen: LegSeen, *, claimed: set[str]) -> str:
    """The place at which the batch's own transaction paid it. `claimed`: places that are other withdrawals' already.

    Raises ResolutionRefused.
    """
    _check_nonce(found)
    places = [place for place in seen.paid(withdrawal.address, withdrawal.chain_amount) if place not in claimed]
    if not places:
        raise _refused(
            f"the batch's own transaction shows no payment of {withdrawal.chain_amount} units to {withdrawal.address}"
            " that isn't another withdrawal's",
            "tx_hash",
        )
    return places[0]


def check_unpaid_in_batch(withdrawal: Withdrawal, seen: LegSeen, *, claimed: set[str]) -> None:
    """That the batch's own transaction paid it nothing. Raises ResolutionRefused."""
    places = [place for place in seen.paid(withdrawal.address) if place not in claimed]
    if places:
        raise _refused(
            f"the batch's own transaction paid the recipient at {places[0]}: what is returned must not have been paid,"
            " nor in part"
        )


def _check_nonce(found: OnChainFindings) -> UsedUp:
    """What used up the nonce. Raises ResolutionRefused while something of ours could still be mined."""
    if found.state is None or found.nonce is None:
        raise _refused("no transaction of ours is on record for it: nobody can say that none will be mined")
    ended = (State.NEEDS_REVIEW, State.FINAL) if found.leg is None else (*ENDED_ON_CHAIN, State.NEEDS_REVIEW)
    if found.state not in ended:
        raise _refused(f"its transaction is {found.state}: the worker is still at it")
    if found.leg is not None and found.state in ENDED_ON_CHAIN and not found.leg.is_booked:
        raise _refused(f"what {found.leg.batch} moved isn't booked yet: let the worker run, and try again")
    if found.used_up is None:
        raise _refused(
            f"nonce {found.nonce} of {found.sender} isn't used up by a final transaction: what was signed for this"
            " withdrawal may still be mined. Wait until its block is final"
        )
    return found.used_up


def _refused(why: str, param: str | None = None) -> ResolutionRefused:
    return ResolutionRefused(why, param=param) if param else ResolutionRefused(why)
