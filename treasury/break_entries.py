"""The entry that resolves a break: which breaks have one, and which way it goes. Pure.

Where the book is wrong about what is there, one posting brings its account to it, against an account of the house that
may be moved by hand. It never goes further than the difference, nor the other way, so it can only lessen a break.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from ledger.accounts import house_account, split_account_id
from ledger.commands import Post, Posting
from treasury.break_records import Resolution
from treasury.by_hand import ADJUSTABLE, WAITING
from treasury.errors import ResolutionUnfit
from treasury.records import Break, BreakReason

CORRECTABLE = frozenset(
    {
        BreakReason.CHAIN_DIFFERS,
        BreakReason.BANK_DIFFERS,
        BreakReason.STATEMENT_OVERLAP,
        BreakReason.RAIL_DIFFERS,
    }
)
"""Breaks whose account holds, outside, another amount than the book says: an entry can bring it there."""

NEVER_TIME = frozenset(
    {
        BreakReason.COUNTER_DRIFT,
        BreakReason.UNBALANCED,
        BreakReason.HOLD_DRIFT,
        BreakReason.JOURNAL_DIFFERS,
        BreakReason.POSITION_DIFFERS,
    }
)
"""Breaks of the book with itself: no time mends them, so nobody accepts them for a while."""

INSTEAD: Mapping[BreakReason, str] = {
    BreakReason.COUNTER_DRIFT: "the stored counter is wrong, not the book: `onebook audit` names the row",
    BreakReason.UNBALANCED: "a stored balance is wrong, not the book: `onebook audit` names the row",
    BreakReason.HOLD_DRIFT: "a stored hold or counter is wrong, not the book: `onebook audit` names the row",
    BreakReason.JOURNAL_DIFFERS: "a line of the journal was altered: `onebook audit` names it; restore a backup",
    BreakReason.POSITION_DIFFERS: "a row of exchange_positions or exchange_moves was altered: put it right, or restore",
    BreakReason.STATEMENT_GAP: "import the bank's statement that is missing in between",
    BreakReason.NO_STATEMENT: "import the bank's statement: nothing is known yet that the book could be wrong about",
    BreakReason.SURPLUS: "name its evidence: POST /v1/treasury/deposits/{deposit}/credit, or an adjustment",
    BreakReason.FOREIGN_OUTFLOW: "POST /v1/treasury/adjustments with the outflow's id as `evidence` says what it was",
    BreakReason.UNBOOKED: "the worker books it; look why it doesn't (`onebook doctor`, the worker's log)",
}
"""What is done about the others."""

ACCEPTED_DAYS_MAX = 92
"""Days for which a difference may be accepted as a matter of time: a quarter."""


def check_entry(entry: Break, *, against: str, amount: int) -> None:
    """Raises ResolutionUnfit unless a posting of `amount` against this purpose of the house can resolve it."""
    if entry.reason not in CORRECTABLE:
        instead = INSTEAD.get(entry.reason, "nothing that the book says of an account is wrong here")
        raise ResolutionUnfit(f"no entry resolves a break {entry.reason}: {instead}", param="kind")
    if against not in ADJUSTABLE:
        raise ResolutionUnfit(
            f"nothing is booked against {against[:40]!r} by hand", param="against", adjustable=sorted(ADJUSTABLE)
        )
    if not 0 < amount <= abs(entry.difference):
        raise ResolutionUnfit(
            "an entry moves at most the difference",
            param="amount",
            asset=entry.asset,
            required=amount,
            available=abs(entry.difference),
        )


def check_acceptance(entry: Break, *, until: datetime, now: datetime) -> None:
    """Raises ResolutionUnfit unless the break can be a matter of time until then."""
    if entry.reason in NEVER_TIME:
        raise ResolutionUnfit(f"a break {entry.reason} is no matter of time: {INSTEAD[entry.reason]}", param="kind")
    if not now < until <= now + timedelta(days=ACCEPTED_DAYS_MAX):
        raise ResolutionUnfit(f"accept it until a date within {ACCEPTED_DAYS_MAX} days from now", param="until")


def source_of(entry: Break, against: str) -> str:
    """The account that gives: custody, banks and providers are assets, so what is there and unbooked debits them."""
    return entry.account if entry.difference > 0 else house_account(against, entry.asset)


def correction(command: str, entry: Break, resolution: Resolution, *, by: str) -> Post:
    """The command that posts a confirmed resolution. It's about the break, and says who wanted it, and why."""
    against = house_account(resolution.against or "", entry.asset)
    source = source_of(entry, resolution.against or "")
    target = against if source == entry.account else entry.account
    return Post(
        id=command,
        subject=entry.id,
        postings=(Posting(source, target, entry.asset, resolution.amount or 0),),
        covered=split_account_id(source)[1] in WAITING,  # as with adjustments: only evidence may overdraw them
        metadata={
            "reason": resolution.reason,
            "by": by,
            "break": entry.id,
            "resolution": resolution.id,
            "proposed_by": resolution.proposed_by,
        },
    )
