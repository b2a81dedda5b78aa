"""The book as one process knows it while it's writing: accounts, holds and recent outcomes between database and core.

What is plainly fine is decided here, in place and by the core's own rules; anything else, refusals first of all, goes
to `ledger.core` over this same state. Both in one order, so that every outcome is the one that the core alone would
give. Pure: `ledger.batcher` loads what is missing, and drops all of this once another process has written to the book.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from msgspec.structs import replace

from ledger.accounts import Account
from ledger.batch import Batch, KnownHold, Slot
from ledger.canonical import (
    command_content,
    command_row,
    detail_of,
    instant_text,
    leaf_hash,
    line_row,
    metadata_hash,
)
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
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.core import apply
from ledger.errors import BookCorrupt
from ledger.money import AMOUNT_END
from ledger.outcomes import Kind, Line, LineKind, Outcome
from ledger.riders import Insert, Row
from ledger.seen import Seen
from ledger.state import HeldPosting, HoldRecord, HoldState, RowKey, State, row_key

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


class Working:
    """One book's working state, from `head` on; `decided` counts outcomes by the way that they took."""

    def __init__(
        self, book: str, head: Head, frozen: Iterable[tuple[FreezeScope, str]], decided: Counter[str] | None = None
    ) -> None:
        self.book = book
        self.number = head.number
        self.seq = head.seq
        self.durable = head.seq  # of the last command that is committed; whoever writes moves it on
        self.booked_at = self._now = head.booked_at
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
        self.decided: Counter[str] = Counter() if decided is None else decided
        self.batch = Batch(head=head.seq, through=head.seq)
        self._view = _View(self)
        self._absent: set[str] = set()  # holds and counters that this stretch has looked for in vain
        self._unopened: set[str] = set()  # accounts of which we know that nobody has opened them

    # What deciding needs

    def prepare(self, groups: Sequence[Group], *, trusting: bool = False) -> Missing:
        """Begin a stretch of deciding: what must be loaded first, the groups' own ids among it.

        `trusting`: an id that this process hasn't seen is taken for new; the write fails if it isn't.
        """
        for kept in (self.slots, self.holds, self.recent, self.counters, self.reversed):
            kept.age(decided=self.seq, durable=self.durable)
        self._absent.clear()
        if len(self._unopened) > UNOPENED_KEPT:
            self._unopened.clear()
        self.rows.age(decided=self.seq, durable=self.durable)
        if self.seq == self.durable:
            self.rows = Kept(0)  # others may have changed them
        missing = self.missing(groups)
        find = self.recent.find
        maybe = self.seen.may_have if trusting and self.seen is not None else _always
        missing.ids = [
            command.id
            for group in groups
            for command in group.commands
            if find(command.id) is None and maybe(command.id)
        ]
        missing.named = [
            command.entry
            for group in groups
            for command in group.commands
            if isinstance(command, Reverse) and find(command.entry) is None
        ]
        return missing

    def missing(self, groups: Sequence[Group]) -> Missing:
        """Which accounts, holds and counters of these groups aren't known yet."""
        missing = Missing()
        for group in groups:
            for command in group.commands:
                if isinstance(command, Post | Hold):
                    self._want_accounts(missing, _sides(command.postings))
                    if command.owing_nothing:
                        self._want_accounts(missing, command.owing_nothing)
                    for charge in command.charges:
                        if self.counters.find(charge.counter) is None and charge.counter not in self._absent:
                            missing.counters.add(charge.counter)
                elif isinstance(command, Settle | Void | Expire):
                    hold = self.holds.find(command.hold)
                    if hold is None and command.hold not in self._absent:
                        missing.holds.add(command.hold)
                    elif hold is not None:
                        self._want_hold(missing, hold.record)
                elif isinstance(command, Reverse):
                    entry = self.recent.find(command.entry)
                    if entry is not None:
                        if self.reversed.find(str(entry.seq)) is None:
                            missing.entries.add(entry.seq)
                        self._want_accounts(missing, (s for line in entry.lines for s in (line.debit, line.credit)))
                elif isinstance(command, OpenAccount | CloseAccount | SetCreditLine):
                    self._want_accounts(missing, (command.account,))
                elif isinstance(command, Freeze | Unfreeze) and command.scope is FreezeScope.ACCOUNT:
                    self._want_accounts(missing, (command.target,))
        return missing

    def _want_accounts(self, missing: Missing, names: Iterable[str]) -> None:
        find = self.slots.find
        for name in names:
            if find(name) is None and name not in self._unopened:
                missing.accounts.add(name)

    def _want_hold(self, missing: Missing, record: HoldRecord) -> None:
        self._want_accounts(missing, (side for p in record.postings for side in (p.debit, p.credit)))
        for charge in record.charges:
            if self.counters.find(charge.counter) is None and charge.counter not in self._absent:
                missing.counters.add(charge.counter)

    def add_slot(self, slot: Slot) -> None:
        """A loaded account. Raises BookCorrupt for one that was changed behind the book's back."""
        if slot.number in self.altered:
            raise BookCorrupt(
                f"account {slot.name} isn't what was booked on it; nothing more is, until `onebook audit` has named the"
                " rows, they are put right and this process is started again",
                account=slot.name,
            )
        self._unopened.discard(slot.name)
        slot.stopped = self._is_stopped(slot)
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

    def _is_stopped(self, slot: Slot) -> bool:
        scopes = ((FreezeScope.OWNER, slot.owner), (FreezeScope.ASSET, slot.asset))
        return slot.closed or slot.frozen or any(place in self.frozen for place in scopes)

    # Deciding

    def decide(self, groups: Sequence[Group], *, now: datetime, salt: Callable[[], bytes]) -> list[tuple[Outcome, ...]]:
        """Decide groups in order into the open batch. All that they touch is loaded."""
        self._now = max(now, self.booked_at)
        stamp = instant_text(self._now)
        decided = []
        for group in groups:
            outcomes = self._plainly(group)
            if outcomes is None:
                outcomes = self._ordered(group, now)
                self.decided["ordered"] += len(outcomes)
            else:
                self.decided["plain"] += len(outcomes)
            if outcomes[0].seq > self.batch.through:
                self._record(group, outcomes, stamp, salt)
            decided.append(outcomes)
        return decided

    def flush(self) -> Batch:
        """The open batch; a new one begins behind it."""
        batch = self.batch
        self.batch = Batch(head=self.seq, through=self.seq)
        return batch

    def _record(self, group: Group, outcomes: tuple[Outcome, ...], stamp: str, salt: Callable[[], bytes]) -> None:
        """Append a decision's rows to the batch, leaves included."""
        batch, slots = self.batch, self.slots.young
        self.booked_at = self._now  # a repeat alone doesn't move the book's time
        batch.begin_stretch(self.booked_at)
        for command, outcome in zip(group.commands, outcomes, strict=True):
            seq = str(outcome.seq)
            rows = []
            for number, line in enumerate(outcome.lines):
                debit, credit = slots[line.debit], slots[line.credit]
                kind = line.kind
                amounts = str(line.amount), str(line.debit_balance), str(line.credit_balance)
                held: tuple[str, str] = ("NULL", "NULL")
                if line.hold is not None:
                    held = str(self.holds.young[line.hold].seq), str(line.hold_posting)
                batch.lines.append((seq, str(number), kind, str(debit.number), str(credit.number), *amounts, *held))
                rows.append(line_row(kind, line.debit, line.credit, *amounts, *held))
                if outcome.effective_at is not None:
                    batch.add_backdated(outcome, number, line, debit=debit, credit=credit)
            detail, hashed = None, None
            if outcome.refusal is not None or not _says_it_all(command):
                opened = slots.get(command.account) if isinstance(command, OpenAccount) else None
                detail = detail_of(command, outcome, account_number=None if opened is None else opened.number)
            if command.metadata:
                drawn = salt()
                hashed = metadata_hash(drawn, command.metadata)
                batch.add_rest(
                    "metadata", {"seq": outcome.seq, "salt": drawn.hex(), "metadata": dict(command.metadata)}
                )
            row = command_row(
                book=self.book,
                seq=outcome.seq,
                command_id=outcome.id,
                kind=outcome.kind,
                subject=outcome.subject,
                content=outcome.content,
                booked_at=stamp,
                refusal=None if outcome.refusal is None else outcome.refusal.code,
                detail=detail,
                effective_at=None if outcome.effective_at is None else instant_text(outcome.effective_at),
                metadata=hashed,
            )
            leaf = leaf_hash(row + "".join(rows))
            batch.add_command(command, outcome, leaf=leaf, detail=detail, metadata_hash=hashed)
            self.recent.young[outcome.id] = outcome
            if self.seen is not None:
                self.seen.add(outcome.id)
        self.seq = batch.through
        if outcomes[0].refusal is None:
            batch.riders.extend(group.riders)

    # The core's way, for all that isn't plain

    def _ordered(self, group: Group, now: datetime) -> tuple[Outcome, ...]:
        layer, [outcomes] = apply(self._view, now, [group])
        if layer.seq == self.seq:
            return outcomes  # a repeat or a conflict: nothing new
        self._take_accounts(layer)
        self._take_holds(layer, outcomes)
        for (scope, target), frozen in layer.frozen.items():
            self.batch.add_freeze(scope, target, frozen=frozen)
            (self.frozen.add if frozen else self.frozen.discard)((scope, target))
        if layer.frozen:
            for slot in self.slots.values():
                slot.stopped = self._is_stopped(slot)
        for counter, used in layer.counters.items():
            self.counters.young[counter] = used
            self.batch.add_counter(counter, used)
        for command, outcome in zip(group.commands, outcomes, strict=True):
            if isinstance(command, Reverse) and outcome.reverses is not None:
                self._take_reversal(command, outcome.seq, layer)
        self.rows.young.update((key, row) for key, row in layer.rows.items() if row is not None)
        self.closed_until = layer.closed_until
        return outcomes

    def _take_accounts(self, layer: State) -> None:
        for account in layer.accounts.values():
            slot = self.slots.young.get(account.id)
            if slot is None:
                slot = self._open_slot(account)
            flags = (slot.frozen, slot.closed, slot.credit_line)
            slot.debits_posted, slot.credits_posted = account.debits_posted, account.credits_posted
            slot.debits_pending, slot.credits_pending = account.debits_pending, account.credits_pending
            if slot.counters() != slot.written:
                self.batch.touch(slot)
            if flags != (account.frozen, account.closed, account.credit_line):
                slot.frozen, slot.closed, slot.credit_line = account.frozen, account.closed, account.credit_line
                slot.stopped = self._is_stopped(slot)
                self.batch.add_flags(slot)

    def _open_slot(self, account: Account) -> Slot:
        self.accounts_opened += 1
        slot = Slot(
            number=self.accounts_opened,
            name=account.id,
            owner=account.owner,
            purpose=account.purpose,
            asset=account.asset,
            limited=account.limited,
            frozen=False,
            closed=False,
            credit_line=0,
            debits_posted=0,
            credits_posted=0,
            debits_pending=0,
            credits_pending=0,
        )
        self.add_slot(slot)
        named = {"account": slot.number, "limited": slot.limited, "name": slot.name}
        self.batch.add_rest("accounts", {**named, "owner": slot.owner, "purpose": slot.purpose, "asset": slot.asset})
        return slot

    def _take_holds(self, layer: State, outcomes: Sequence[Outcome]) -> None:
        seqs = {outcome.id: outcome.seq for outcome in outcomes}
        slots = self.slots.young
        for record in layer.holds.values():
            known = self.holds.young.get(record.id)
            if known is None:
                numbers = tuple((slots[p.debit].number, slots[p.credit].number) for p in record.postings)
                known = KnownHold(seqs[record.id], record, numbers, is_stored=False)
                self.holds.young[record.id] = known
            known.record = record
            self.batch.touch_hold(known)

    def _take_reversal(self, command: Reverse, seq: int, layer: State) -> None:
        """Note how much of which lines a command took back: others of its group may have taken from them too."""
        entry = layer.outcome(command.entry)
        assert entry is not None
        taken = self.reversed.young.setdefault(str(entry.seq), {})
        left = {
            index: line.amount - taken.get(index, 0)
            for index, line in enumerate(entry.lines)
            if line.kind is LineKind.POSTED
        }
        steps: Counter[int] = Counter()
        for index, amount in left.items() if command.amounts is None else command.amounts:
            steps[index] += amount
        for index, amount in (+steps).items():
            taken[index] = taken.get(index, 0) + amount
            row = {"entry": entry.seq, "line": index, "seq": seq, "amount": str(amount)}
            self.batch.add_rest("reversals", row)

    # The plain way

    def _plainly(self, group: Group) -> tuple[Outcome, ...] | None:
        """The group's outcomes if all of it is plainly fine, else None and nothing changed."""
        if group.riders and not all(isinstance(rider, Insert) for rider in group.riders):
            return None
        before: dict[Slot, tuple[int, int, int, int]] = {}
        held_before: list[tuple[KnownHold, HoldRecord]] = []
        made: list[str] = []
        outcomes: list[Outcome] = []
        seq = self.seq
        recent = self.recent.young
        for command in group.commands:
            seq += 1
            lines = None
            if command.id not in recent and command.effective_at is None:
                match command:
                    case Post():
                        lines = self._post(command, before)
                    case Hold():
                        lines = self._hold(command, seq, before, made)
                    case Settle():
                        lines = self._settle(command, before, held_before)
                    case Void():
                        lines = self._void(command, before, held_before)
                    case _:
                        pass
            if lines is None:
                self._undo(before, held_before, made)
                return None
            kind = _PLAIN_KINDS[type(command)]
            content = group.content or command_content(command)
            outcomes.append(Outcome(command.id, seq, self._now, kind, command.subject, content, None, lines))
        if group.riders and not self._take_rows(group):
            self._undo(before, held_before, made)
            return None

        # From here it must succeed.
        batch = self.batch
        for slot in before:
            batch.touch(slot)
        for known, _ in held_before:
            batch.touch_hold(known)
        for hold in made:
            batch.touch_hold(self.holds.young[hold])
        return tuple(outcomes)

    def _undo(
        self,
        before: dict[Slot, tuple[int, int, int, int]],
        held_before: list[tuple[KnownHold, HoldRecord]],
        made: list[str],
    ) -> None:
        for slot, counters in before.items():
            slot.debits_posted, slot.credits_posted, slot.debits_pending, slot.credits_pending = counters
        for known, record in reversed(held_before):
            known.record = record
        for hold in made:
            del self.holds.young[hold]

    def _take_rows(self, group: Group) -> bool:
        """Whether the rows that ride along are new, as far as is known here; the database has the last word."""
        keys = [row_key(rider.table, rider.key) for rider in group.riders]
        if len(set(keys)) < len(keys) or any(self.rows.find(key) is not None for key in keys):
            return False
        self.rows.young.update(
            (key, {**r.key, **r.values}) for key, r in zip(keys, group.riders, strict=True) if isinstance(r, Insert)
        )
        return True

    def _post(self, command: Post, before: dict[Slot, tuple[int, int, int, int]]) -> tuple[Line, ...] | None:
        if command.covered or command.charges or not command.postings or not self._owe_nothing(command):
            return None
        pairs = self._open_pairs(command.postings)
        if pairs is None:
            return None
        lines = []
        for posting, debit, credit in pairs:
            amount = posting.amount
            if debit not in before:
                before[debit] = debit.counters()
            if credit not in before:
                before[credit] = credit.counters()
            debit.debits_posted += amount
            credit.credits_posted += amount
            if not _fits(debit, credit):
                return None
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
        return tuple(lines) if _are_covered(pairs) else None

    def _hold(
        self, command: Hold, seq: int, before: dict[Slot, tuple[int, int, int, int]], made: list[str]
    ) -> tuple[Line, ...] | None:
        expires_at = command.expires_at
        if command.charges or not command.postings or (expires_at is not None and expires_at <= self._now):
            return None
        if not self._owe_nothing(command):
            return None
        pairs = self._open_pairs(command.postings)
        if pairs is None:
            return None
        lines = []
        for index, (posting, debit, credit) in enumerate(pairs):
            amount = posting.amount
            if debit not in before:
                before[debit] = debit.counters()
            if credit not in before:
                before[credit] = credit.counters()
            debit.debits_pending += amount
            credit.credits_pending += amount
            if not _fits(debit, credit):
                return None
            lines.append(_held_line(LineKind.HELD, posting, amount, debit, credit, command.id, index))
        if not _are_covered(pairs):
            return None
        held = tuple(HeldPosting(p.debit, p.credit, p.asset, p.amount, p.amount) for p in command.postings)
        record = HoldRecord(command.id, HoldState.OPEN, expires_at, held)
        numbers = tuple((debit.number, credit.number) for _, debit, credit in pairs)
        self.holds.young[command.id] = KnownHold(seq, record, numbers, is_stored=False)
        made.append(command.id)
        return tuple(lines)

    def _settle(
        self,
        command: Settle,
        before: dict[Slot, tuple[int, int, int, int]],
        held_before: list[tuple[KnownHold, HoldRecord]],
    ) -> tuple[Line, ...] | None:
        known = self._usable_hold(command.hold)
        if known is None:
            return None
        record = known.record
        amounts = command.amounts
        if amounts is None:
            amounts = tuple((i, posting.remaining) for i, posting in enumerate(record.postings) if posting.remaining)
        lines = []
        for index, amount in amounts:
            if not (0 <= index < len(record.postings) and 0 < amount <= record.postings[index].remaining):
                break
            lines.append(self._move_held(LineKind.POSTED, record, index, amount, before))
            record = record.without(index, amount)
        else:
            if command.close:
                return (*lines, *self._release(known, record, HoldState.SETTLED, before, held_before))
            if not any(posting.remaining for posting in record.postings):
                record = replace(record, state=HoldState.SETTLED)
            held_before.append((known, known.record))
            known.record = record
            return tuple(lines)
        return None

    def _void(
        self,
        command: Void,
        before: dict[Slot, tuple[int, int, int, int]],
        held_before: list[tuple[KnownHold, HoldRecord]],
    ) -> tuple[Line, ...] | None:
        known = self._usable_hold(command.hold)
        if known is None:
            return None
        return self._release(known, known.record, HoldState.VOIDED, before, held_before)

    def _usable_hold(self, hold: str) -> KnownHold | None:
        """An open hold that hasn't expired and gives no charges back, None for any other."""
        known = self.holds.young.get(hold)
        if known is None or known.record.state is not HoldState.OPEN or known.record.charges:
            return None
        expires_at = known.record.expires_at
        return known if expires_at is None or self._now < expires_at else None

    def _release(
        self,
        known: KnownHold,
        record: HoldRecord,
        end: HoldState,
        before: dict[Slot, tuple[int, int, int, int]],
        held_before: list[tuple[KnownHold, HoldRecord]],
    ) -> tuple[Line, ...]:
        lines = []
        for index, held in enumerate(record.postings):
            if held.remaining:
                lines.append(self._move_held(LineKind.RELEASED, record, index, held.remaining, before))
                record = record.without(index, held.remaining)
        held_before.append((known, known.record))
        known.record = replace(record, state=end)
        return tuple(lines)

    def _move_held(
        self,
        kind: LineKind,
        record: HoldRecord,
        index: int,
        amount: int,
        before: dict[Slot, tuple[int, int, int, int]],
    ) -> Line:
        held = record.postings[index]
        debit, credit = self.slots.young[held.debit], self.slots.young[held.credit]
        if debit not in before:
            before[debit] = debit.counters()
        if credit not in before:
            before[credit] = credit.counters()
        debit.debits_pending -= amount
        credit.credits_pending -= amount
        if kind is LineKind.POSTED:
            debit.debits_posted += amount
            credit.credits_posted += amount
        return _held_line(kind, held, amount, debit, credit, record.id, index)

    def _owe_nothing(self, command: Post | Hold) -> bool:
        slots = self.slots.young
        for name in command.owing_nothing:
            slot = slots.get(name)
            if slot is not None and slot.credits_posted < slot.debits_posted:
                return False
        return True

    def _open_pairs(self, postings: Sequence[Posting]) -> list[tuple[Posting, Slot, Slot]] | None:
        """The postings with their accounts, if each is one that intents may touch."""
        slots = self.slots.young
        pairs = []
        for posting in postings:
            debit, credit = slots.get(posting.debit), slots.get(posting.credit)
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
            pairs.append((posting, debit, credit))
        return pairs


class _View(State):
    """The working state as the core reads it."""

    def __init__(self, working: Working) -> None:
        super().__init__(seq=working.seq, booked_at=working.booked_at)
        self._working = working

    def layer(self) -> State:
        at = self._working
        return State(seq=at.seq, booked_at=at.booked_at, closed_until=at.closed_until, below=self)

    def account(self, account: str) -> Account | None:
        slot = self._working.slots.young.get(account)
        return None if slot is None else slot.account()

    def hold(self, hold: str) -> HoldRecord | None:
        known = self._working.holds.young.get(hold)
        return None if known is None else known.record

    def outcome(self, command: str) -> Outcome | None:
        return self._working.recent.young.get(command)

    def is_frozen(self, scope: FreezeScope, target: str) -> bool:
        return (scope, target) in self._working.frozen

    def counter(self, counter: str) -> int:
        return self._working.counters.young.get(counter, 0)

    def reversed_of(self, line: tuple[int, int]) -> int:
        return self._working.reversed.young.get(str(line[0]), {}).get(line[1], 0)

    def row(self, key: RowKey) -> Row | None:
        return self._working.rows.find(key)


_PLAIN_KINDS: dict[type[Command], Kind] = {
    Post: Kind.POST,
    Hold: Kind.HOLD,
    Settle: Kind.SETTLE,
    Void: Kind.VOID,
}


def _always(name: str) -> bool:
    return True


def _sides(postings: Sequence[Posting]) -> Iterable[str]:
    for posting in postings:
        yield posting.debit
        yield posting.credit
        if posting.debit_rest is not None:
            yield posting.debit_rest
        if posting.credit_rest is not None:
            yield posting.credit_rest


def _fits(debit: Slot, credit: Slot) -> bool:
    return (
        debit.debits_posted + debit.debits_pending < AMOUNT_END
        and credit.credits_posted + credit.credits_pending < AMOUNT_END
    )


def _are_covered(pairs: Sequence[tuple[Posting, Slot, Slot]]) -> bool:
    """Whether no limited account that is debited owes more than it may."""
    return not any(
        debit.limited and debit.debits_posted + debit.debits_pending > debit.credits_posted + debit.credit_line
        for _, debit, _ in pairs
    )


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


def _says_it_all(command: Command) -> bool:
    """Whether columns and lines tell all that an accepted command did."""
    if command.evidence is not None or command.effective_at is not None:
        return False
    match command:
        case Post():
            return not command.charges
        case Hold():
            return not command.charges and command.expires_at is None
        case Settle() | Void() | Expire():
            return True
        case _:
            return False
