"""Whose money a bank line is, decided by what it names alone. Pure: no guessing by name or amount.

Money in: the user's payment reference, or a virtual IBAN of theirs as the account that was paid; or a payout of ours
that came back. Money out: a payout of ours, or the whole file of payouts. Anything else, and whatever has another
amount than the payout named, waits for a person.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from fiat.bank.lines import Direction, StatementLine
from fiat.payouts import OUTSIDE, Payout, PayoutState, named_batches, named_payouts
from fiat.references import find_references
from fiat.top_ups import BANK


class Reason(StrEnum):
    """Why a line is nobody's yet, in the order in which the matcher looks."""

    ZERO_AMOUNT = "zero_amount"
    DEBIT = "debit"
    REVERSAL = "reversal"
    SEVERAL_PAYOUTS = "several_payouts"
    UNKNOWN_PAYOUT = "unknown_payout"
    WRONG_AMOUNT = "wrong_amount"
    PAYOUT_ENDED = "payout_ended"
    RETURNED_PAYMENT = "returned_payment"
    UNCLEAR_BATCH = "unclear_batch"
    NO_REFERENCE = "no_reference"
    MISSPELT_REFERENCE = "misspelt_reference"
    SEVERAL_REFERENCES = "several_references"
    UNKNOWN_REFERENCE = "unknown_reference"
    ACCOUNT_REFUSED = "account_refused"
    """The book wouldn't credit the user named (a closed account). Never the matcher's answer."""
    TOLD_BEFORE = "told_before"
    """A notification told this very money in other words, and it was booked by that. Nor is this."""


EXPLANATIONS: Mapping[Reason, str] = {
    Reason.ZERO_AMOUNT: "an entry over nothing; noted, not booked",
    Reason.TOLD_BEFORE: "what another file told in other words; noted, not booked again",
    Reason.DEBIT: "money left our bank account, and no payout of ours is named",
    Reason.REVERSAL: "the bank took back an entry of its own",
    Reason.SEVERAL_PAYOUTS: "two or more of our payouts in one line",
    Reason.UNKNOWN_PAYOUT: "a payout that isn't ours, or not of this account",
    Reason.WRONG_AMOUNT: "another amount than the payout's or the file's",
    Reason.PAYOUT_ENDED: "a payout that isn't waiting for this: paid, rejected, failed or returned already",
    Reason.RETURNED_PAYMENT: "a payment that we had sent came back, and no payout of ours is named",
    Reason.UNCLEAR_BATCH: "several payments in one entry, whose amounts don't make up the entry's",
    Reason.NO_REFERENCE: "no payment reference of ours in what the payer wrote",
    Reason.MISSPELT_REFERENCE: "what looks like our payment reference fails its check digits",
    Reason.SEVERAL_REFERENCES: "two or more of our users, or a user and a payout",
    Reason.UNKNOWN_REFERENCE: "a payment reference or a virtual IBAN that was given to nobody",
    Reason.ACCOUNT_REFUSED: "the book wouldn't credit the user's account",
}


@dataclass(frozen=True, slots=True)
class Matched:
    """A payment for `owner`; `reference` is what named them, None where a virtual IBAN did."""

    owner: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """A line that names one user, by a reference, a virtual IBAN's number, or both; whose they are is looked up."""

    reference: str | None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class NamesPayout:
    payout: str


@dataclass(frozen=True, slots=True)
class NamesBatch:
    batch: str


@dataclass(frozen=True, slots=True)
class PaidOut:
    """These payouts left by the line: one, or all of a file that the bank booked as one (`name` is the file's then)."""

    payouts: tuple[Payout, ...]
    name: str


@dataclass(frozen=True, slots=True)
class CameBack:
    payout: Payout


@dataclass(frozen=True, slots=True)
class Unmatched:
    reason: Reason


Reading = Named | NamesPayout | NamesBatch | Unmatched
Match = Matched | PaidOut | CameBack | Unmatched


def read_line(line: StatementLine, *, number_of: Callable[[str], int | None] = lambda _: None) -> Reading:
    """What the line names, or why it can't be matched. `number_of`: the number of a virtual IBAN of ours, else None."""
    if line.amount == 0:
        return Unmatched(Reason.ZERO_AMOUNT)
    return _read_debit(line) if line.direction is Direction.DEBIT else _read_credit(line, number_of)


def _read_debit(line: StatementLine) -> Reading:
    if line.reversal:
        return Unmatched(Reason.DEBIT)
    payouts = named_payouts(line.names) or named_payouts(line.texts)
    if len(payouts) == 1:
        return NamesPayout(min(payouts))
    if payouts:
        return Unmatched(Reason.SEVERAL_PAYOUTS)
    batches = named_batches(line.names) or named_batches(line.texts)
    return NamesBatch(min(batches)) if len(batches) == 1 else Unmatched(Reason.DEBIT)


def _read_credit(line: StatementLine, number_of: Callable[[str], int | None]) -> Reading:
    if line.reversal:
        return Unmatched(Reason.REVERSAL)
    payouts = named_payouts(line.names) or (named_payouts(line.texts) if line.returned else frozenset())
    number = number_of(line.own_account) if line.own_account else None
    found = find_references(line.texts)
    if payouts and not line.returned and (found.references or number is not None):
        return Unmatched(
            Reason.SEVERAL_REFERENCES
        )  # any payer can write a payout's name; only the bank says `returned`
    if len(payouts) == 1:
        return NamesPayout(min(payouts))
    if payouts:
        return Unmatched(Reason.SEVERAL_PAYOUTS)
    if line.returned:
        return Unmatched(Reason.RETURNED_PAYMENT)
    if line.unclear_batch:
        return Unmatched(Reason.UNCLEAR_BATCH)
    if len(found.references) > 1:
        return Unmatched(Reason.SEVERAL_REFERENCES)
    if found.references or number is not None:
        return Named(min(found.references) if found.references else None, number)
    return Unmatched(Reason.MISSPELT_REFERENCE if found.misspelt else Reason.NO_REFERENCE)


def match_line(
    reading: Named | Unmatched, owners: Mapping[str, str], numbers: Mapping[int, str] | None = None
) -> Matched | Unmatched:
    """Whose an incoming line is, given who owns which reference and which number of a virtual IBAN."""
    match reading:
        case Unmatched():
            return reading
        case Named(reference, number):
            told = [owners.get(reference)] if reference is not None else []
            told += [(numbers or {}).get(number)] if number is not None else []
            found = {owner for owner in told if owner is not None}
            if len(found) > 1:
                return Unmatched(Reason.SEVERAL_REFERENCES)
            return Matched(min(found), reference) if found else Unmatched(Reason.UNKNOWN_REFERENCE)
        case _ as never:
            assert_never(never)


def match_payout(line: StatementLine, payout: Payout | None, *, account: str, asset: str) -> Match:
    """What a line of our account does to the payout that it names: paid, came back, or neither."""
    if payout is None or (payout.rail, payout.account, payout.asset) != (BANK, account, asset):
        return Unmatched(Reason.UNKNOWN_PAYOUT)
    outgoing = line.direction is Direction.DEBIT
    if not (payout.state in OUTSIDE if outgoing else payout.state is PayoutState.PAID):
        return Unmatched(Reason.PAYOUT_ENDED)
    if line.amount != payout.amount:
        return Unmatched(Reason.WRONG_AMOUNT)
    return PaidOut((payout,), payout.id) if outgoing else CameBack(payout)


def match_batch(line: StatementLine, batch: str, payouts: Sequence[Payout], *, account: str, asset: str) -> Match:
    """What a line over a whole file does: all of its payouts that are outside leave by it, if the sum is right."""
    if any((one.rail, one.account, one.asset) != (BANK, account, asset) for one in payouts) or not payouts:
        return Unmatched(Reason.UNKNOWN_PAYOUT)
    outside = tuple(payout for payout in payouts if payout.state in OUTSIDE)
    if not outside:
        return Unmatched(Reason.PAYOUT_ENDED)
    if sum(payout.amount for payout in outside) != line.amount:
        return Unmatched(Reason.WRONG_AMOUNT)
    return PaidOut(outside, batch)
