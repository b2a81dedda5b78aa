"""What is plainly fine, decided in place by the core's own rules: most of what a busy book is sent. Pure.

Anything else is left to `ledger.core`, refusals first of all: here a group is accepted wholly, or nothing has changed.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ledger.batch import KnownHold, Slot
from ledger.canonical import command_content
from ledger.commands import Command, Group, Hold, Post, Posting, Settle, Void
from ledger.known import Known
from ledger.money import AMOUNT_END
from ledger.outcomes import Kind, Line, LineKind, Outcome
from ledger.riders import Insert
from ledger.state import HeldPosting, HoldRecord, HoldState, row_key


def decide_plainly(known: Known, group: Group) -> tuple[Outcome, ...] | None:
    """The group's outcomes if all of it is plainly fine, else None and nothing has changed."""
    if group.riders and not all(isinstance(rider, Insert) for rider in group.riders):
        return None
    attempt = _Attempt(known)
    outcomes: list[Outcome] = []
    seq, now, recent = known.seq, known.now, known.recent.young
    for command in group.commands:
        seq += 1
        lines = None
        kind, decide = _WAYS.get(type(command), (None, None))
        if decide is not None and command.id not in recent and command.effective_at is None:
            lines = decide(attempt, command, seq)
        if lines is None or kind is None:
            attempt.undo()
            return None
        content = group.content or command_content(command)
        outcomes.append(Outcome(command.id, seq, now, kind, command.subject, content, None, lines))
    if group.riders and not _take_rows(known, group):
        attempt.undo()
        return None
    attempt.keep()
    return tuple(outcomes)


class _Attempt:
    """A group on its way to be accepted: what it has changed of the known state, and how that was before."""

    __slots__ = ("_before", "_held_before", "_holds", "_known", "_made", "_slots")

    def __init__(self, known: Known) -> None:
        self._known = known
        self._slots = known.slots.young
        self._holds = known.holds.young
        self._before: dict[Slot, tuple[int, int, int, int]] = {}
        self._held_before: list[tuple[KnownHold, HoldRecord]] = []
        self._made: list[KnownHold] = []

    def undo(self) -> None:
        """Nothing has happened."""
        for slot, counters in self._before.items():
            slot.debits_posted, slot.credits_posted, slot.debits_pending, slot.credits_pending = counters
        for known, record in reversed(self._held_before):
            known.record = record
        for hold in self._made:
            del self._holds[hold.record.id]

    def keep(self) -> None:
        """It has happened, and is written with the batch. From here all must succeed."""
        batch = self._known.batch
        for slot in self._before:
            batch.touch(slot)
        for known, _ in self._held_before:
            batch.touch_hold(known)
        for hold in self._made:
            batch.touch_hold(hold)

    # One method a kind of command: its lines, or None if it isn't plainly fine

    def post(self, command: Post, seq: int) -> tuple[Line, ...] | None:
        if command.covered or command.charges or command.bounds:
            return None
        if not (command.postings and self._owe_nothing(command.owing_nothing)):
            return None
        lines, debits = [], []
        for posting in command.postings:
            pair = self._pair(posting)
            if pair is None:
                return None
            debit, credit = pair
            amount = posting.amount
            debit.debits_posted += amount
            credit.credits_posted += amount
            if not _fits(debit, credit):
                return None
            debits.append(debit)
            lines.append(
                Line(
                    LineKind.POSTED,
                    posting.debit,
                    posting.credit,
                    posting.asset,
                    amount,
                    debit.credits_posted - debit.debits_posted,
                    credit.credits_posted - credit.debits_posted,
                )
            )
        return tuple(lines) if _are_covered(debits) else None

    def hold(self, command: Hold, seq: int) -> tuple[Line, ...] | None:
        expires_at = command.expires_at
        if command.charges or not (command.postings and self._owe_nothing(command.owing_nothing)):
            return None
        if expires_at is not None and expires_at <= self._known.now:
            return None
        lines, debits, held, numbers = [], [], [], []
        for index, posting in enumerate(command.postings):
            pair = self._pair(posting)
            if pair is None:
                return None
            debit, credit = pair
            amount = posting.amount
            debit.debits_pending += amount
            credit.credits_pending += amount
            if not _fits(debit, credit):
                return None
            debits.append(debit)
            lines.append(_held_line(LineKind.HELD, posting, amount, debit, credit, command.id, index))
            held.append(HeldPosting(posting.debit, posting.credit, posting.asset, amount, amount))
            numbers.append((debit.number, credit.number))
        if not _are_covered(debits):
            return None
        record = HoldRecord(command.id, HoldState.OPEN, expires_at, tuple(held))
        made = self._holds[command.id] = KnownHold(seq, record, tuple(numbers), is_stored=False)
        self._made.append(made)
        return tuple(lines)

    def settle(self, command: Settle, seq: int) -> tuple[Line, ...] | None:
        known = self._usable_hold(command.hold)
        if known is None or not self._owe_nothing(command.owing_nothing):
            return None
        record = known.record
        amounts = command.amounts
        if amounts is None:
            amounts = tuple((i, posting.remaining) for i, posting in enumerate(record.postings) if posting.remaining)
        lines = []
        for index, amount in amounts:
            if not (0 <= index < len(record.postings) and 0 < amount <= record.postings[index].remaining):
                return None
            lines.append(self._move_held(LineKind.POSTED, record, index, amount))
            record = record.without(index, amount)
        if command.close:
            return (*lines, *self._release(known, record, HoldState.SETTLED))
        if not any(posting.remaining for posting in record.postings):
            record = replace(record, state=HoldState.SETTLED)
        self._held_before.append((known, known.record))
        known.record = record
        return tuple(lines)

    def void(self, command: Void, seq: int) -> tuple[Line, ...] | None:
        known = self._usable_hold(command.hold)
        return None if known is None else self._release(known, known.record, HoldState.VOIDED)

    # What they share

    def _owe_nothing(self, accounts: tuple[str, ...]) -> bool:
        for name in accounts:
            slot = self._slots.get(name)
            if slot is not None and slot.credits_posted < slot.debits_posted:
                return False
        return True

    def _pair(self, posting: Posting) -> tuple[Slot, Slot] | None:
        """The posting's accounts, noted as they were, if intents may touch them and it's of the usual shape."""
        debit, credit = self._slots.get(posting.debit), self._slots.get(posting.credit)
        if (
            debit is None
            or credit is None
            or debit is credit
            or debit.stopped
            or credit.stopped
            or debit.asset != posting.asset
            or credit.asset != posting.asset
            or posting.debit_rest is not None
            or posting.credit_rest is not None
            or not 0 < posting.amount < AMOUNT_END
        ):
            return None
        self._note(debit)
        self._note(credit)
        return debit, credit

    def _note(self, slot: Slot) -> None:
        if slot not in self._before:
            self._before[slot] = slot.debits_posted, slot.credits_posted, slot.debits_pending, slot.credits_pending

    def _usable_hold(self, hold: str) -> KnownHold | None:
        """An open hold that hasn't expired and gives no charges back, None for any other."""
        known = self._holds.get(hold)
        if known is None or known.record.state is not HoldState.OPEN or known.record.charges:
            return None
        expires_at = known.record.expires_at
        return known if expires_at is None or self._known.now < expires_at else None

    def _release(self, known: KnownHold, record: HoldRecord, end: HoldState) -> tuple[Line, ...]:
        lines = []
        for index, held in enumerate(record.postings):
            if held.remaining:
                lines.append(self._move_held(LineKind.RELEASED, record, index, held.remaining))
                record = record.without(index, held.remaining)
        self._held_before.append((known, known.record))
        known.record = replace(record, state=end)
        return tuple(lines)

    def _move_held(self, kind: LineKind, record: HoldRecord, index: int, amount: int) -> Line:
        held = record.postings[index]
        debit, credit = self._slots[held.debit], self._slots[held.credit]
        self._note(debit)
        self._note(credit)
        debit.debits_pending -= amount
        credit.credits_pending -= amount
        if kind is LineKind.POSTED:
            debit.debits_posted += amount
            credit.credits_posted += amount
        return _held_line(kind, held, amount, debit, credit, record.id, index)


_Decide = Callable[[_Attempt, Any, int], tuple[Line, ...] | None]
_WAYS: dict[type[Command], tuple[Kind, _Decide]] = {
    Post: (Kind.POST, _Attempt.post),
    Hold: (Kind.HOLD, _Attempt.hold),
    Settle: (Kind.SETTLE, _Attempt.settle),
    Void: (Kind.VOID, _Attempt.void),
}


def _take_rows(known: Known, group: Group) -> bool:
    """Whether the rows that ride along are new, as far as is known here; the database has the last word."""
    keys = [row_key(rider.table, rider.key) for rider in group.riders]
    if len(set(keys)) < len(keys) or any(known.rows.find(key) is not None for key in keys):
        return False
    known.rows.young.update(
        (key, {**r.key, **r.values}) for key, r in zip(keys, group.riders, strict=True) if isinstance(r, Insert)
    )
    return True


def _fits(debit: Slot, credit: Slot) -> bool:
    return (
        debit.debits_posted + debit.debits_pending < AMOUNT_END
        and credit.credits_posted + credit.credits_pending < AMOUNT_END
    )


def _are_covered(debits: list[Slot]) -> bool:
    """Whether no limited account among these owes more than it may."""
    for debit in debits:
        if debit.limited and debit.debits_posted + debit.debits_pending > debit.credits_posted + debit.credit_line:
            return False
    return True


def _held_line(
    kind: LineKind, posting: Posting | HeldPosting, amount: int, debit: Slot, credit: Slot, hold: str, index: int
) -> Line:
    return Line(
        kind,
        posting.debit,
        posting.credit,
        posting.asset,
        amount,
        debit.credits_posted - debit.debits_posted,
        credit.credits_posted - credit.debits_posted,
        hold,
        index,
    )
