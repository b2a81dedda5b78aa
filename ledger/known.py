"""The book as one process knows it while it's writing: accounts, holds and recent outcomes between database and core.

What is known, and what of it is missing before some groups can be decided. Pure: `ledger.batcher` loads what is
missing, and drops all of this once another process has written to the book.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from ledger.batch import Batch, KnownHold, Slot
from ledger.commands import (
    CloseAccount,
    Command,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.errors import BookCorrupt
from ledger.freezing import freezable
from ledger.outcomes import Outcome
from ledger.riders import Insert, Row
from ledger.seen import Seen
from ledger.state import HoldRecord, RowKey, row_key

ACCOUNTS_KEPT = 20_000
"""Accounts that are kept after their last use; at most twice as many. Bounds the process's memory, as the next two."""

UNOPENED_KEPT = 100_000
"""Names of accounts that nobody has opened, kept until there are so many."""

HOLDS_KEPT = 4_000
"""Holds, and counters of limits, that are kept after their last use; at most twice as many."""

OUTCOMES_KEPT = 5_000
"""Outcomes that are kept to answer a quick repeat; at most twice as many."""

Name = TypeVar("Name")
Value = TypeVar("Value")


class Kept(Generic[Name, Value]):
    """What was used lately, by name: two generations, the older one forgotten when the younger is full.

    Nothing is forgotten that a decision has changed and that isn't durable yet: read again it would be as before.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.young: dict[Name, Value] = {}
        self._old: dict[Name, Value] = {}
        self._old_through = 0  # no decision behind this seq has touched what is old

    def find(self, name: Name) -> Value | None:
        """The value, young again if it's known."""
        found = self.young.get(name)
        if found is None and (found := self._old.pop(name, None)) is not None:
            self.young[name] = found
        return found

    def age(self, *, decided: int, durable: int) -> None:
        """Forget what wasn't used since the younger generation was last full. Both are seqs."""
        if len(self.young) >= self._size and self._old_through <= durable:
            self._old, self.young, self._old_through = self.young, {}, decided

    def values(self) -> Iterable[Value]:
        yield from self.young.values()
        yield from self._old.values()


@dataclass(slots=True)
class Missing:
    """What has to be loaded before some groups can be decided.

    Ids of commands, ids of entries that they name, seqs of entries to reverse, names of accounts, ids of holds,
    counters of limits.
    """

    ids: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    entries: set[int] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    holds: set[str] = field(default_factory=set)
    counters: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.ids or self.named or self.entries or self.accounts or self.holds or self.counters)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a book stands: its number, the last command's seq and instant, what is closed, accounts opened so far."""

    number: int
    seq: int
    booked_at: datetime
    closed_until: datetime | None
    accounts: int


class Known:
    """What one process knows of a book, from `head` on."""

    def __init__(self, book: str, head: Head, frozen: Iterable[tuple[FreezeScope, str]]) -> None:
        self.book = book
        self.number = head.number
        self.seq = head.seq
        self.durable = head.seq  # of the last command that is committed; whoever writes moves it on
        self.booked_at = self.now = head.booked_at
        self.closed_until = head.closed_until
        self.accounts_opened = head.accounts
        self.slots: Kept[str, Slot] = Kept(ACCOUNTS_KEPT)
        self.holds: Kept[str, KnownHold] = Kept(HOLDS_KEPT)
        self.recent: Kept[str, Outcome] = Kept(OUTCOMES_KEPT)
        self.counters: Kept[str, int] = Kept(HOLDS_KEPT)
        self.reversed: Kept[str, dict[int, int]] = Kept(HOLDS_KEPT)
        self.rows: Kept[RowKey, Row] = Kept(0)  # those that are there and that riders name
        self.frozen = set(frozen)
        self.seen: Seen | None = None  # None: every id is looked for
        self.altered: Collection[int] = ()  # numbers of accounts that somebody else has changed
        self.batch = Batch(head=head.seq, through=head.seq)
        self._absent: set[str] = set()  # holds and counters that this stretch has looked for in vain
        self._unopened: set[str] = set()  # accounts of which we know that nobody has opened them

    # What deciding needs

    def prepare(self, groups: Sequence[Group], *, trusting: bool = False) -> Missing:
        """Begin a stretch of deciding: what must be loaded first, the groups' own ids among it.

        `trusting`: ids that this process hasn't seen are taken for new; the write fails if they aren't. A group is one
        request, so if one of its ids may be known, or is about to be, all are looked for: a repeat of which only a
        part was found would pass for a conflict, and nothing would be written that could fail.
        """
        for kept in (self.slots, self.holds, self.recent, self.counters, self.reversed, self.rows):
            kept.age(decided=self.seq, durable=self.durable)
        self._absent.clear()
        if len(self._unopened) > UNOPENED_KEPT:
            self._unopened.clear()
        if self.seq == self.durable:
            self.rows = Kept(0)  # others may have changed them
        missing, find = Missing(), self.recent.find
        maybe = self.seen.may_have if trusting and self.seen is not None else _always
        taken_for_new: list[list[str]] = []
        for group in groups:
            unknown: list[str] = []
            for command in group.commands:
                if find(command.id) is None:
                    unknown.append(command.id)
                if type(command) is Reverse and find(command.entry) is None:
                    missing.named.append(command.entry)
                self._want(missing, command)
            if len(unknown) < len(group.commands) or any(map(maybe, unknown)):
                missing.ids += unknown
            else:
                taken_for_new.append(unknown)
        if missing.named:
            named = set(missing.named)
            missing.ids += (name for ids in taken_for_new if not named.isdisjoint(ids) for name in ids)
        return missing

    def missing(self, groups: Sequence[Group]) -> Missing:
        """Which accounts, holds and counters of these groups aren't known yet."""
        missing = Missing()
        for group in groups:
            for command in group.commands:
                self._want(missing, command)
        return missing

    def _want(self, missing: Missing, command: Command) -> None:
        match command:
            case Post() | Hold():
                self._want_postings(missing, command.postings)
                if command.owing_nothing:
                    self._want_accounts(missing, command.owing_nothing)
                if type(command) is Post and command.bounds:
                    self._want_accounts(missing, [bound.account for bound in command.bounds])
                for charge in command.charges:
                    self._want_counter(missing, charge.counter)
            case Settle() | Void() | Expire():
                if type(command) is Settle and command.owing_nothing:
                    self._want_accounts(missing, command.owing_nothing)
                hold = self.holds.find(command.hold)
                if hold is not None:
                    self._want_hold(missing, hold.record)
                elif command.hold not in self._absent:
                    missing.holds.add(command.hold)
            case Reverse():
                entry = self.recent.find(command.entry)
                if entry is not None:
                    if self.reversed.find(str(entry.seq)) is None:
                        missing.entries.add(entry.seq)
                    self._want_accounts(missing, (s for line in entry.lines for s in (line.debit, line.credit)))
            case OpenAccount() | CloseAccount() | SetCreditLine():
                self._want_accounts(missing, (command.account,))
            case Record() if command.charges:
                for charge in command.charges:
                    self._want_counter(missing, charge.counter)
            case Freeze() | Unfreeze() if command.scope is FreezeScope.ACCOUNT:
                self._want_accounts(missing, (command.target,))
            case _:
                pass

    def _want_postings(self, missing: Missing, postings: Sequence[Posting]) -> None:
        young = self.slots.young
        for posting in postings:
            if posting.debit not in young or posting.credit not in young:
                self._want_accounts(missing, (posting.debit, posting.credit))
            if posting.debit_rest is not None:
                self._want_accounts(missing, (posting.debit_rest,))
            if posting.credit_rest is not None:
                self._want_accounts(missing, (posting.credit_rest,))

    def _want_accounts(self, missing: Missing, names: Iterable[str]) -> None:
        find = self.slots.find
        for name in names:
            if find(name) is None and name not in self._unopened:
                missing.accounts.add(name)

    def _want_hold(self, missing: Missing, record: HoldRecord) -> None:
        self._want_accounts(missing, (side for p in record.postings for side in (p.debit, p.credit)))
        for charge in record.charges:
            self._want_counter(missing, charge.counter)

    def _want_counter(self, missing: Missing, counter: str) -> None:
        if self.counters.find(counter) is None and counter not in self._absent:
            missing.counters.add(counter)

    def add_slot(self, slot: Slot) -> None:
        """A loaded account. Raises BookCorrupt for one that was changed behind the book's back."""
        if slot.number in self.altered:
            raise BookCorrupt(
                f"account {slot.name} isn't what was booked on it; nothing more is, until `onebook audit` has named the"
                " rows, they are put right and this process is started again",
                account=slot.name,
            )
        self._unopened.discard(slot.name)
        slot.stopped = self.is_stopped(slot)
        slot.written = slot.counters()
        self.slots.young[slot.name] = slot

    def unknown_rows(self, groups: Sequence[Group]) -> list[Insert]:
        """Riders that would add a row of which we don't know that it's there."""
        inserts = [rider for group in groups for rider in group.riders if isinstance(rider, Insert)]
        return [rider for rider in inserts if self.rows.find(row_key(rider.table, rider.key)) is None]

    def set_rows(self, rows: Mapping[RowKey, Row | None]) -> None:
        """Rows as the database has them, None for those that aren't there. All that was decided is in the database."""
        self.rows = Kept(0)
        self.rows.young.update((key, row) for key, row in rows.items() if row is not None)

    def set_absent(self, names: Iterable[str]) -> None:
        """Holds and counters that were looked for and aren't in the database."""
        self._absent.update(names)

    def set_unopened(self, names: Iterable[str]) -> None:
        """Accounts that aren't in the database. As long as nobody else writes to this book, only we can open them."""
        self._unopened.update(names)

    def is_stopped(self, slot: Slot) -> bool:
        """Whether intents may not touch it."""
        if slot.closed or slot.frozen:
            return True
        return any(place in self.frozen for place in freezable(slot.owner, slot.purpose, slot.asset))


def _always(name: str) -> bool:
    return True
