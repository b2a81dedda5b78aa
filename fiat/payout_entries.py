"""What a payout books, from asking to its end: commands and their accounts, as the chart says. Pure, for every rail.

Asked: one hold with two postings, Dr user / Cr in-transit (amount) and Dr user / Cr fees (fee). Paid: settled, and Dr
in-transit / Cr the account that paid. Not paid: voided. Back: Dr that account / Cr user. `paying` is the house account
that pays (`house/bank:main/EUR`, `house/provider:paypal/EUR`).
"""

from collections.abc import Mapping
from datetime import datetime

from fiat.payouts import Payout, PayoutState, advance
from ledger.accounts import house_account, user_account
from ledger.commands import Charge, Command, Evidence, Hold, Post, Posting, Settle, Void
from ledger.requests import worker_id
from ledger.riders import Advance, Insert

FEES = "fees"

PAYOUTS = "fiat_payouts"
"""The table by name, as riders take it (`fiat.tables` declares it)."""


def hold(payout: Payout, *, owing_nothing: tuple[str, ...] = (), charges: tuple[Charge, ...] = ()) -> Hold:
    """What asking sets aside; without an end, since only the rail's evidence settles or voids it.

    `charges`: what it uses up of limits and allowances.
    """
    return Hold(id=payout.hold, subject=payout.id, postings=_held(payout), owing_nothing=owing_nothing, charges=charges)


def settled(
    payout: Payout, paying: str, *, act: str, evidence: Evidence | None, effective_at: datetime | None = None
) -> tuple[Command, ...]:
    """It was paid: the hold is settled with its fee, and the money has left `paying`. `act` makes the ids unique."""
    fee = ((1, payout.fee),) if payout.fee else ()
    settle = Settle(
        id=worker_id(f"payout:{payout.id}:settle", act),
        subject=payout.id,
        evidence=evidence,
        hold=payout.hold,
        amounts=((0, payout.amount), *fee),
        close=True,
    )
    left = Post(
        id=worker_id(f"payout:{payout.id}:paid", act),
        subject=payout.id,
        evidence=evidence,
        effective_at=effective_at,
        postings=(Posting(in_transit(payout), paying, payout.asset, payout.amount),),
    )
    return settle, left


def released(
    payout: Payout, *, act: str, evidence: Evidence | None = None, said: Mapping[str, str] | None = None
) -> Void:
    """It wasn't paid: all of it comes back to its owner."""
    return Void(
        id=worker_id(f"payout:{payout.id}:release", act),
        subject=payout.id,
        evidence=evidence,
        hold=payout.hold,
        metadata=said or {},
    )


def returned(
    payout: Payout, receiving: str, *, act: str, evidence: Evidence | None, effective_at: datetime | None = None
) -> Post:
    """It came back after it was paid: its owner has the amount again; the fee stays the house's."""
    user = user_account(payout.owner, payout.asset)
    return Post(
        id=worker_id(f"payout:{payout.id}:returned", act),
        subject=payout.id,
        evidence=evidence,
        effective_at=effective_at,
        postings=(Posting(receiving, user, payout.asset, payout.amount),),
    )


def kept(book: str, payout: Payout, personal: bytes, mark: str) -> Insert:
    """The row that commits with the hold. `personal`: the recipient, sealed; `mark`: its IBAN's keyed hash."""
    return Insert(
        PAYOUTS,
        {"book": book, "id": payout.id},
        {
            "owner": payout.owner,
            "rail": payout.rail,
            "account": payout.account,
            "asset": payout.asset,
            "amount": payout.amount,
            "fee": payout.fee,
            "state": payout.state.value,
            "reason": payout.reason,
            "detail": payout.detail,
            "recipient": personal,
            "recipient_mark": mark,
            "hold": payout.hold,
            "batch": payout.batch,
            "accepted_at": payout.accepted_at,
            "created_at": payout.created_at,
            "updated_at": payout.updated_at,
        },
    )


def moved(book: str, payout: Payout, to: PayoutState, *, now: datetime, **columns: object) -> Advance:
    """Compare and set: from the state in which it was read to `to`. Raises BrokenInvariant for a step not allowed."""
    return Advance(
        PAYOUTS,
        key={"book": book, "id": payout.id},
        expect={"state": payout.state.value},
        change={"state": advance(payout.state, to).value, "updated_at": now, **columns},
    )


def in_transit(payout: Payout) -> str:
    """Where its amount stands between the user and the rail."""
    return house_account(f"in-transit:{payout.rail}:out", payout.asset)


def accounts(payout: Payout, paying: str) -> tuple[str, ...]:
    """Every account that it may touch until its end."""
    sides = [side for posting in _held(payout) for side in (posting.debit, posting.credit)]
    return (*sides, paying)


def _held(payout: Payout) -> tuple[Posting, ...]:
    """In the order in which settling names them: 0 the amount, 1 the fee."""
    user, asset = user_account(payout.owner, payout.asset), payout.asset
    amount = Posting(user, in_transit(payout), asset, payout.amount)
    if not payout.fee:
        return (amount,)
    return amount, Posting(user, house_account(FEES, asset), asset, payout.fee)
