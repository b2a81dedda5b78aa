"""Deciding ahead: what is plainly fine in place (`ledger.plain`), anything else by `ledger.core` over the same state.

Both in one order, so that every outcome is the one that the core alone would give. Pure.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from ledger.accounts import Account
from ledger.batch import Batch, KnownHold, Slot
from ledger.canonical import command_row, detail_of, instant_text, leaf_hash, line_row, metadata_hash
from ledger.commands import Command, Expire, FreezeScope, Group, Hold, OpenAccount, Post, Reverse, Settle, Void
from ledger.core import apply
from ledger.known import Head, Known
from ledger.outcomes import LineKind, Outcome
from ledger.plain import decide_plainly
from ledger.riders import Row
from ledger.state import HoldRecord, RowKey, State


class Working(Known):
    """One book's working state; `decided` counts outcomes by the way that they took."""

    def __init__(
        self, book: str, head: Head, frozen: Iterable[tuple[FreezeScope, str]], decided: Counter[str] | None = None
    ) -> None:
        super().__init__(book, head, frozen)
        self.decided: Counter[str] = Counter() if decided is None else decided
        self._view = _View(self)

    def decide(self, groups: Sequence[Group], *, now: datetime, salt: Callable[[], bytes]) -> list[tuple[Outcome, ...]]:
        """Decide groups in order into the open batch. All that they touch is loaded."""
        self.now = max(now, self.booked_at)
        stamp = instant_text(self.now)
        decided = []
        for group in groups:
            outcomes = decide_plainly(self, group)
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
        self.booked_at = self.now  # a repeat alone doesn't move the book's time
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
                slot.stopped = self.is_stopped(slot)
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
                slot.stopped = self.is_stopped(slot)
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
