"""A settlement's states, and what it should consist of. Pure.

    sent -> matched
      |        |
      +--------+--> failed

`sent`: the provider has taken it out of our balance there; a negative one is in our balance there, and taken from our
bank account. `matched`: a line of our bank statement is its money. `failed`: it came back into our balance, or left it
again; where it had been matched, the bank's own line of that waits in suspense for a person.

`differences` names what doesn't fit between what the provider lists in it and what our book knows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from fiat.rails.errors import RailCorrupt
from fiat.rails.protocol import EntryKind, SettlementEntry


class SettlementState(StrEnum):
    SENT = "sent"
    MATCHED = "matched"
    FAILED = "failed"


_S = SettlementState

TRANSITIONS: Mapping[SettlementState, frozenset[SettlementState]] = MappingProxyType(
    {
        _S.SENT: frozenset({_S.MATCHED, _S.FAILED}),
        _S.MATCHED: frozenset({_S.FAILED}),
        _S.FAILED: frozenset(),
    }
)
"""The transition table."""


class Difference(StrEnum):
    """Why an entry of a settlement, or all of it, needs a person."""

    UNKNOWN_OBJECT = "unknown_object"
    """It's about a payment, refund or dispute that we don't have."""
    AMOUNT_DIFFERS = "amount_differs"
    """The provider's gross isn't what our book has for the object."""
    FEE_DIFFERS = "fee_differs"
    """The provider's fee isn't what our book has for the object."""
    NOT_OURS = "not_ours"
    """An adjustment or fee that belongs to nothing: the book doesn't know of it yet."""
    UNSUMMED = "unsummed"
    """Its gross less its fee isn't its net."""


@dataclass(frozen=True, slots=True)
class Known:
    """What our book has for one object of the provider's, signed as its entry should be. `fee` None: not compared."""

    subject: str
    gross: int
    fee: int | None


def advance(state: SettlementState, to: SettlementState) -> SettlementState:
    """`to`, if it may follow `state`. Raises RailCorrupt otherwise."""
    if to not in TRANSITIONS[state]:
        raise RailCorrupt(f"a settlement can't go from {state} to {to}", state=str(state), to=str(to))
    return to


def difference(entry: SettlementEntry, known: Known | None) -> Difference | None:
    """What doesn't fit about one entry. `known`: what we have for its object."""
    if entry.gross - entry.fee != entry.net:
        return Difference.UNSUMMED
    if entry.kind in (EntryKind.ADJUSTMENT, EntryKind.FEE) and known is None:
        return Difference.NOT_OURS
    if known is None:
        return Difference.UNKNOWN_OBJECT
    if entry.gross != known.gross:
        return Difference.AMOUNT_DIFFERS
    if known.fee is not None and entry.fee != known.fee:
        return Difference.FEE_DIFFERS
    return None


def unexplained(amount: int, entries: Iterable[SettlementEntry]) -> int:
    """How much of a settlement its entries don't make up: 0 when all is listed."""
    return amount - sum(entry.net for entry in entries)
