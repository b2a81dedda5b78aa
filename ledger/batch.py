"""A batch: what was decided and isn't written yet, as the columns that one `ledger_write` call takes. Pure.

Rows are appended while the core decides; `arguments` closes the batch. It holds no rule of the book.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger.accounts import Account
from ledger.canonical import charge_terms, dump, id_key, instant_text
from ledger.commands import BankEvidence, ChainEvidence, Command, FreezeScope
from ledger.outcomes import Line, LineKind, Outcome
from ledger.riders import Rider
from ledger.state import HoldRecord


@dataclass(eq=False, slots=True)
class Slot:
    """An account as the process knows it: mutable, with the counters that the database has (`written_*`)."""

    number: int
    name: str
    owner: str
    purpose: str
    asset: str
    limited: bool
    frozen: bool
    closed: bool
    credit_line: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int
    stopped: bool = False
    is_dirty: bool = False
    written: tuple[int, int, int, int] = (0, 0, 0, 0)

    def account(self) -> Account:
        """The account as the core knows it."""
        return Account(
            id=self.name,
            owner=self.owner,
            purpose=self.purpose,
            asset=self.asset,
            limited=self.limited,
            frozen=self.frozen,
            closed=self.closed,
            credit_line=self.credit_line,
            debits_posted=self.debits_posted,
            credits_posted=self.credits_posted,
            debits_pending=self.debits_pending,
            credits_pending=self.credits_pending,
        )

    def counters(self) -> tuple[int, int, int, int]:
        return self.debits_posted, self.credits_posted, self.debits_pending, self.credits_pending


@dataclass(eq=False, slots=True)
class KnownHold:
    """A hold as the process knows it, with the seq that is its name in rows and its postings' account numbers."""

    seq: int
    record: HoldRecord
    numbers: tuple[tuple[int, int], ...]
    is_stored: bool = True
    is_dirty: bool = False


@dataclass(eq=False, slots=True)
class Batch:
    """Columns of one write. `head` is the book's seq before it, `through` after it."""

    head: int
    through: int
    kinds: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    subjects: list[str | None] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    refusals: list[str | None] = field(default_factory=list)
    details: list[str | None] = field(default_factory=list)
    effective: list[datetime | None] = field(default_factory=list)
    metadata_hashes: list[bytes | None] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    booked: list[datetime] = field(default_factory=list)
    line_seqs: list[int] = field(default_factory=list)
    line_numbers: list[int] = field(default_factory=list)
    line_kinds: list[str] = field(default_factory=list)
    debits: list[int] = field(default_factory=list)
    credits: list[int] = field(default_factory=list)
    amounts: list[str] = field(default_factory=list)
    debit_balances: list[str] = field(default_factory=list)
    credit_balances: list[str] = field(default_factory=list)
    line_holds: list[int | None] = field(default_factory=list)
    hold_postings: list[int | None] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    holds: list[KnownHold] = field(default_factory=list)
    rest: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    riders: list[Rider] = field(default_factory=list)

    def add_command(
        self,
        command: Command,
        outcome: Outcome,
        *,
        leaf: bytes,
        detail: str | None = None,
        metadata_hash: bytes | None = None,
    ) -> None:
        self.through = outcome.seq
        self.booked.append(outcome.booked_at)
        self.kinds.append(outcome.kind.value)
        self.ids.append(outcome.id)
        self.keys.append(id_key(outcome.id))
        self.subjects.append(outcome.subject)
        self.contents.append(outcome.content)
        self.refusals.append(None if outcome.refusal is None else outcome.refusal.code.value)
        self.details.append(detail)
        self.effective.append(outcome.effective_at)
        self.metadata_hashes.append(metadata_hash)
        self.leaves.append(leaf)
        if command.evidence is not None:
            self._add_evidence(outcome.seq, command.evidence)

    def add_line(self, seq: int, number: int, line: Line, *, debit: Slot, credit: Slot, hold: int | None) -> None:
        """`hold` is the seq of the line's hold."""
        self.line_seqs.append(seq)
        self.line_numbers.append(number)
        self.line_kinds.append(line.kind.value)
        self.debits.append(debit.number)
        self.credits.append(credit.number)
        self.amounts.append(str(line.amount))
        self.debit_balances.append(str(line.debit_balance))
        self.credit_balances.append(str(line.credit_balance))
        self.line_holds.append(hold)
        self.hold_postings.append(line.hold_posting)

    def touch(self, slot: Slot) -> None:
        """Note that a slot's counters differ from what the database has."""
        if not slot.is_dirty:
            slot.is_dirty = True
            self.slots.append(slot)

    def touch_hold(self, hold: KnownHold) -> None:
        if not hold.is_dirty:
            hold.is_dirty = True
            self.holds.append(hold)

    def add_rest(self, part: str, row: dict[str, object]) -> None:
        """A row of one of the tables that are rarely written; numbers of money come as decimal strings."""
        self.rest.setdefault(part, []).append(row)

    def add_flags(self, slot: Slot) -> None:
        row: dict[str, object] = {"account": slot.number, "frozen": slot.frozen, "closed": slot.closed}
        self.add_rest("flags", row | {"credit_line": str(slot.credit_line)})

    def add_freeze(self, scope: FreezeScope, target: str, *, frozen: bool) -> None:
        self.add_rest("freezes", {"scope": scope.value, "target": target, "frozen": frozen})

    def add_backdated(self, outcome: Outcome, number: int, line: Line, *, debit: Slot, credit: Slot) -> None:
        """Both steps of a posted line that was effective before it was booked."""
        if outcome.effective_at is None or line.kind is not LineKind.POSTED:
            return
        place = {"seq": outcome.seq, "line": number, "effective_at": instant_text(outcome.effective_at)}
        self.add_rest("backdated", {**place, "account": debit.number, "step": str(-line.amount)})
        self.add_rest("backdated", {**place, "account": credit.number, "step": str(line.amount)})

    def _add_evidence(self, seq: int, evidence: ChainEvidence | BankEvidence) -> None:
        if isinstance(evidence, ChainEvidence):
            block = {"block_number": evidence.block_number, "block_hash": evidence.block_hash}
            self.add_rest("evidence", {"seq": seq, "network": evidence.network, **block})
            return
        place = {"statement": evidence.statement, "statement_line": evidence.line}
        self.add_rest("evidence", {"seq": seq, "bank_account": evidence.account, **place})

    def close(self) -> list[object]:
        """All columns in the order in which `ledger_write` takes them; what they say counts as written from now on."""
        holds = [*self._new_holds(), *self._changed_holds()]
        return [*self._command_columns(), *self._account_columns(), *holds, self._rest_text()]

    def _account_columns(self) -> list[object]:
        numbers, balances, helds = [], [], []
        steps: tuple[list[str], ...] = ([], [], [], [])
        for slot in self.slots:
            now = slot.counters()
            for column, new, old in zip(steps, now, slot.written, strict=True):
                column.append(str(new - old))
            numbers.append(slot.number)
            balances.append(str(slot.credits_posted - slot.debits_posted))
            helds.append(str(slot.debits_pending))
            slot.written, slot.is_dirty = now, False
        return [numbers, *steps, balances, helds]

    def _new_holds(self) -> list[object]:
        rows = [
            (
                hold.seq,
                index,
                hold.record.expires_at,
                *hold.numbers[index],
                str(posting.amount),
                str(posting.remaining),
                hold.record.state.value,
                dump(charge_terms(hold.record.charges)).decode() if index == 0 and hold.record.charges else None,
            )
            for hold in self.holds
            if not hold.is_stored
            for index, posting in enumerate(hold.record.postings)
        ]
        return _columns(rows, 9)

    def _changed_holds(self) -> list[object]:
        rows = [
            (hold.seq, index, str(posting.remaining), hold.record.state.value)
            for hold in self.holds
            if hold.is_stored
            for index, posting in enumerate(hold.record.postings)
        ]
        for hold in self.holds:
            hold.is_stored, hold.is_dirty = True, False
        return _columns(rows, 4)

    def _rest_text(self) -> str | None:
        return dump(self.rest).decode() if self.rest else None

    def _command_columns(self) -> list[object]:
        return [
            self.kinds,
            self.ids,
            self.keys,
            self.subjects,
            self.contents,
            self.refusals,
            self.details,
            self.effective,
            self.metadata_hashes,
            self.leaves,
            self.line_seqs,
            self.line_numbers,
            self.line_kinds,
            self.debits,
            self.credits,
            self.amounts,
            self.debit_balances,
            self.credit_balances,
            self.line_holds,
            self.hold_postings,
        ]


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[object]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
