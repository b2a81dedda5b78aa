"""What a batch books: its cost once, then each leg as the withdrawal that it is. Pure.

Of the coin all of a batch leaves at once, by the transaction's value; a leg that wasn't paid came back in the same
transaction, and is booked so. Of a token each leg leaves by itself, by the token's log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.transactions import Mined
from ledger.accounts import house_account
from ledger.commands import ChainEvidence, Command, Group, Post, Posting, Settle, Void
from ledger.requests import worker_id
from ledger.riders import Rider
from wallet import withdrawal_entries as entries
from wallet.batch_results import JudgedLeg, LegResult
from wallet.batch_store import GasPaid
from wallet.resources import Batch, Withdrawal

VALUE, GAS = "value", "gas"


@dataclass(frozen=True, slots=True)
class NobodysLeg:
    """A leg that no withdrawal stands for: its place in the batch, its amount in the asset's smallest units, and what
    became of it."""

    position: int
    amount: int
    judged: JudgedLeg


def booked(
    batch: Batch,
    mined: Mined,
    postings: tuple[Posting, ...],
    place: str,
    nobodys: Sequence[NobodysLeg],
    row: Rider,
    attempt: int,
) -> Group:
    """What the whole batch moved: its gas, and of the coin (`place` is its value) what its transaction carried.

    What nobody's legs took stands in suspense, until a person says what it was.
    """
    whole = Post(
        id=worker_id(f"batch:{batch.id}:booked", attempt),
        subject=batch.id,
        evidence=ChainEvidence(batch.network, mined.block_number, mined.block_hash, mined.tx_hash, place),
        postings=postings,
    )
    left = tuple(
        Post(
            id=worker_id(f"batch:{batch.id}:nobodys:{one.position}", attempt),
            subject=batch.id,
            evidence=ChainEvidence(
                batch.network, mined.block_number, mined.block_hash, mined.tx_hash, one.judged.place
            ),
            postings=sides,
        )
        for one in nobodys
        if (sides := _nobodys(batch, one))
    )
    return Group(((whole, *left) if postings else left), (row,))


def _nobodys(batch: Batch, leg: NobodysLeg) -> tuple[Posting, ...]:
    """Of the coin all has left with the batch; of a token each leg leaves by itself, if it's paid."""
    sides = entries.left(batch.network, batch.asset, leg.amount)
    suspense = house_account(entries.SUSPENSE, batch.asset)
    match leg.judged.result, batch.contract is None:
        case LegResult.PAID, False:
            return (Posting(suspense, sides.credit, sides.asset, leg.amount),)
        case LegResult.FAILED, True:
            back = sides.credit if leg.judged.on_record else suspense
            return (Posting(back, sides.debit, sides.asset, leg.amount),)
        case ((LegResult.PAID | LegResult.UNCLEAR), True):
            return (Posting(suspense, sides.debit, sides.asset, leg.amount),)
        case _:
            return ()


def accounts(batch: Batch, *, native: str) -> tuple[str, ...]:
    """Every account of the house that a batch with legs of nobody's may touch."""
    sides, gas = entries.left(batch.network, batch.asset, 1), entries.gas_postings(batch.network, native, 1)
    return (
        house_account(entries.SUSPENSE, batch.asset),
        *(side for posting in (sides, *gas) for side in (posting.debit, posting.credit)),
    )


def leg(
    withdrawal: Withdrawal, share: Mined, judged: JudgedLeg, *, fee: int, is_coin: bool, attempt: int
) -> tuple[Command, ...]:
    """What ends one leg; `share` is the batch's transaction with this leg's part of the cost.

    `fee` is what its owner bears of that.
    """
    if judged.result is LegResult.PAID:
        if is_coin:
            return (entries.settled(withdrawal, share, place=judged.place, attempt=attempt),)
        return entries.paid(withdrawal, share, place=judged.place, gas=(), attempt=attempt)
    void = entries.unpaid(withdrawal, share, gas=(), attempt=attempt, fee=fee, place=judged.place)
    if is_coin and judged.result is LegResult.FAILED:
        given_back = entries.given_back(
            withdrawal, share, place=judged.place, on_record=judged.on_record, attempt=attempt
        )
        return (*void, given_back)
    return void


def resolved_as_paid(
    withdrawal: Withdrawal, share: Mined, *, place: str, left_by: str | None, request: str, said: Mapping[str, str]
) -> tuple[Command, ...]:
    """A leg that its batch paid at `place`, as a treasurer said. `left_by`: the account that what left is taken from.

    None: it's booked already that it left.
    """
    fee = entries.fee_of(withdrawal, share)
    settle = Settle(
        id=request,
        subject=withdrawal.id,
        evidence=_at(withdrawal, share, place),
        hold=withdrawal.hold,
        amounts=entries.shares(withdrawal, fee),
        close=True,
        metadata=said,
    )
    on_its_way = entries.left(withdrawal.network, withdrawal.asset, withdrawal.amount).debit
    return settle, *_moved(withdrawal, settle, on_its_way, left_by, request)


def resolved_as_unpaid(
    withdrawal: Withdrawal, share: Mined, *, place: str, back_to: str | None, request: str, said: Mapping[str, str]
) -> tuple[Command, ...]:
    """A leg that its batch didn't pay, as a treasurer said. `back_to`: the account that has what left with the batch.

    None: nothing of it left.
    """
    evidence = _at(withdrawal, share, place)
    void = Void(id=request, subject=withdrawal.id, evidence=evidence, hold=withdrawal.hold, metadata=said)
    on_its_way = entries.left(withdrawal.network, withdrawal.asset, withdrawal.amount).debit
    return void, *_moved(withdrawal, void, back_to, on_its_way, request)


def _moved(
    withdrawal: Withdrawal, end: Settle | Void, debit: str | None, credit: str | None, request: str
) -> tuple[Command, ...]:
    if debit is None or credit is None:
        return ()
    posting = Posting(debit, credit, withdrawal.asset, withdrawal.amount)
    id = worker_id(f"resolution:{request}:leg", 1)
    return (Post(id=id, subject=withdrawal.id, evidence=end.evidence, postings=(posting,)),)


def _at(withdrawal: Withdrawal, mined: Mined, place: str) -> ChainEvidence:
    return ChainEvidence(withdrawal.network, mined.block_number, mined.block_hash, mined.tx_hash, place)


def own_gas(paid: GasPaid, postings: tuple[Posting, ...], row: Rider, attempt: int) -> Group:
    """What an allowance, a deployment or an anchor cost."""
    post = Post(
        id=worker_id(f"own-gas:{paid.transaction}", attempt),
        subject=paid.transaction,
        evidence=ChainEvidence(paid.network, paid.block_number, paid.block_hash, paid.tx_hash, GAS),
        postings=postings,
    )
    return Group((post,), (row,))
