"""Whose money a bank line is, decided by the payment reference alone. Pure: no guessing by name or amount."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from fiat.bank.camt053 import Direction, StatementLine
from fiat.references import find_references


class Reason(StrEnum):
    """Why a line is nobody's yet, in the order in which the matcher looks."""

    ZERO_AMOUNT = "zero_amount"
    DEBIT = "debit"
    REVERSAL = "reversal"
    RETURNED_PAYMENT = "returned_payment"
    UNCLEAR_BATCH = "unclear_batch"
    NO_REFERENCE = "no_reference"
    MISSPELT_REFERENCE = "misspelt_reference"
    SEVERAL_REFERENCES = "several_references"
    UNKNOWN_REFERENCE = "unknown_reference"
    ACCOUNT_REFUSED = "account_refused"
    """The book wouldn't credit the user named (a closed account). Never the matcher's answer."""


EXPLANATIONS: Mapping[Reason, str] = {
    Reason.ZERO_AMOUNT: "an entry over nothing; noted, not booked",
    Reason.DEBIT: "money left our bank account",
    Reason.REVERSAL: "the bank took back an entry of its own",
    Reason.RETURNED_PAYMENT: "a payment that we had sent came back",
    Reason.UNCLEAR_BATCH: "several payments in one entry, whose amounts don't make up the entry's",
    Reason.NO_REFERENCE: "no payment reference of ours in what the payer wrote",
    Reason.MISSPELT_REFERENCE: "what looks like our payment reference fails its check digits",
    Reason.SEVERAL_REFERENCES: "two or more of our payment references",
    Reason.UNKNOWN_REFERENCE: "a payment reference that was given to nobody",
    Reason.ACCOUNT_REFUSED: "the book wouldn't credit the user's account",
}


@dataclass(frozen=True, slots=True)
class Matched:
    owner: str
    reference: str


@dataclass(frozen=True, slots=True)
class Named:
    """A line that names one reference; whether somebody has it is for a lookup to say."""

    reference: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    reason: Reason


def read_line(line: StatementLine) -> Named | Unmatched:
    """The one reference that a creditable line names, or why it can't be credited."""
    if line.amount == 0:
        return Unmatched(Reason.ZERO_AMOUNT)
    if line.direction is Direction.DEBIT:
        return Unmatched(Reason.DEBIT)
    if line.reversal:
        return Unmatched(Reason.REVERSAL)
    if line.returned:
        return Unmatched(Reason.RETURNED_PAYMENT)
    if line.unclear_batch:
        return Unmatched(Reason.UNCLEAR_BATCH)
    found = find_references(line.texts)
    if not found.references:
        return Unmatched(Reason.MISSPELT_REFERENCE if found.misspelt else Reason.NO_REFERENCE)
    if len(found.references) > 1:
        return Unmatched(Reason.SEVERAL_REFERENCES)
    return Named(min(found.references))


def match_line(reading: Named | Unmatched, owners: Mapping[str, str]) -> Matched | Unmatched:
    """Whose the line is, given who owns which reference."""
    match reading:
        case Unmatched():
            return reading
        case Named(reference):
            owner = owners.get(reference)
            return Matched(owner, reference) if owner else Unmatched(Reason.UNKNOWN_REFERENCE)
        case _ as never:
            assert_never(never)
