"""Statements: an account's opening balance, its lines in the order of one of the book's two times, its closing. Pure.

A statement remembers how much of the book was known when it was made (`known_seq`); asked again with that, it's the
same to the last byte, whatever has been booked since with an earlier date.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from ledger.errors import BookCorrupt, StatementTooLong

if TYPE_CHECKING:
    from ledger.engine import Movement

LINES_MAX = 10_000
"""Lines of a statement at most; longer ones are exported."""


class TimeKind(StrEnum):
    """Which time a question is about: when the book learned of something, or when it took effect."""

    BOOKED = "booked"
    EFFECTIVE = "effective"


@dataclass(frozen=True, slots=True)
class StatementLine:
    """A posted line from the account's side: `step` is signed (credits raise), `balance` is the account's after it."""

    movement: "Movement"
    step: int
    balance: int


@dataclass(frozen=True, slots=True)
class Statement:
    """Posted lines of an account from `since` on and before `until`; `opening` plus their steps is `closing`.

    `known_seq` is the last command that it knows of, `known_at` when that was booked.
    """

    account: str
    by: TimeKind
    since: datetime
    until: datetime
    known_at: datetime
    known_seq: int
    opening: int
    lines: tuple[StatementLine, ...]
    closing: int


def make_statement(
    account: str,
    movements: Sequence["Movement"],
    *,
    by: TimeKind,
    since: datetime,
    until: datetime,
    known_at: datetime,
    known_seq: int,
    opening: int,
    closing: int,
    limit: int,
) -> Statement:
    """Add a statement up. Raises StatementTooLong above `limit`, BookCorrupt if it doesn't come out at `closing`."""
    if len(movements) > limit:
        cut = movements[limit]
        fits = cut.effective_at if by is TimeKind.EFFECTIVE else cut.booked_at
        raise StatementTooLong(
            f"the statement has more than {limit} lines: end it at {fits.isoformat()} and begin the next one there, or"
            " export the account's entries",
            param="until",
            limit=limit,
            until=fits.isoformat(),
        )
    balance, lines = opening, []
    for movement in movements:
        step = movement.amount if movement.credit == account else -movement.amount
        balance += step
        lines.append(StatementLine(movement, step, balance))
    if balance != closing:
        raise BookCorrupt(f"the statement of {account} doesn't add up", expected=str(closing), found=str(balance))
    return Statement(
        account=account,
        by=by,
        since=since,
        until=until,
        known_at=known_at,
        known_seq=known_seq,
        opening=opening,
        lines=tuple(lines),
        closing=closing,
    )
