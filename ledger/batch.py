"""A batch: what was decided and isn't written yet, as the columns that one `ledger_write` call takes. Pure.

Rows are appended while the core decides; `arguments` closes the batch. It holds no rule of the book.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from ledger.accounts import Account
from ledger.canonical import charge_terms, dump, id_key, instant_text
from ledger.commands import ChainEvidence, Command, Evidence, FreezeScope, RailEvidence, SignerEvidence
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
    """Columns of one write. `head` is the book's seq before it, `through` after it.

    Numbers stand as decimal text from the start: arrays travel as PostgreSQL's array literals, which costs a fraction
    of what the driver's own encoding of each element would.
    """

    head: int
    through: int
    stretches: list[int] = field(default_factory=list)
    booked: list[datetime] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    more: dict[str, dict[str, str]] = field(default_factory=dict)
    lines: list[tuple[str, ...]] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    holds: list[KnownHold] = field(default_factory=list)
    rest: dict[str, dict[object, dict[str, object]]] = field(default_factory=dict)
    riders: list[Rider] = field(default_factory=list)
    _encoded: tuple[int, list[object]] | None = None

    def begin_stretch(self, booked_at: datetime) -> None:
        """What is added from now on is booked at this instant."""
        if not self.booked or self.booked[-1] != booked_at:
            self.stretches.append(len(self.ids) + 1)
            self.booked.append(booked_at)

    def add_command(
        self, command: Command, outcome: Outcome, *, leaf: bytes, detail: str | None, metadata_hash: bytes | None
    ) -> None:
        self.through = outcome.seq
        self.kinds.append(outcome.kind)
        self.ids.append(outcome.id)
        self.keys.append(id_key(outcome.id))
        self.subjects.append(outcome.subject or "")
        self.contents.append(outcome.content)
        self.refusals.append("" if outcome.refusal is None else outcome.refusal.code)
        self.leaves.append(leaf)
        more = {}
        if detail is not None:
            more["detail"] = detail
        if outcome.effective_at is not None:
            more["effective_at"] = instant_text(outcome.effective_at)
        if metadata_hash is not None:
            more["metadata_hash"] = metadata_hash.hex()
        if more:
            self.more[str(len(self.ids))] = more
        if command.evidence is not None:
            self._add_evidence(outcome.seq, command.evidence)

    def touch(self, slot: Slot) -> None:
        """Note that a slot's counters differ from what the database has."""
        if not slot.is_dirty:
            slot.is_dirty = True
            self.slots.append(slot)

    def touch_hold(self, hold: KnownHold) -> None:
        if not hold.is_dirty:
            hold.is_dirty = True
            self.holds.append(hold)

    def add_rest(self, part: str, row: dict[str, object], *, key: object = None) -> None:
        """A row of one of the tables that are rarely written; numbers of money come as decimal strings.

        Rows that change what's there have a `key`, and of one key the last one counts: one statement writes them all.
        """
        rows = self.rest.setdefault(part, {})
        rows[len(rows) if key is None else key] = row

    def add_flags(self, slot: Slot) -> None:
        row: dict[str, object] = {"account": slot.number, "frozen": slot.frozen, "closed": slot.closed}
        self.add_rest("flags", row | {"credit_line": str(slot.credit_line)}, key=slot.number)

    def add_freeze(self, scope: FreezeScope, target: str, *, frozen: bool) -> None:
        row: dict[str, object] = {"scope": scope.value, "target": target, "frozen": frozen}
        self.add_rest("freezes", row, key=(scope, target))

    def add_counter(self, counter: str, used: int) -> None:
        self.add_rest("counters", {"counter": counter, "used": str(used)}, key=counter)

    def add_backdated(self, outcome: Outcome, number: int, line: Line, *, debit: Slot, credit: Slot) -> None:
        """Both steps of a posted line that was effective before it was booked."""
        if outcome.effective_at is None or line.kind is not LineKind.POSTED:
            return
        place = {"seq": outcome.seq, "line": number, "effective_at": instant_text(outcome.effective_at)}
        self.add_rest("backdated", {**place, "account": debit.number, "step": str(-line.amount)})
        self.add_rest("backdated", {**place, "account": credit.number, "step": str(line.amount)})

    def _add_evidence(self, seq: int, evidence: Evidence) -> None:
        if isinstance(evidence, SignerEvidence | RailEvidence):
            return  # the command's own detail has it; nothing is looked up by it
        if isinstance(evidence, ChainEvidence):
            block = {"block_number": evidence.block_number, "block_hash": evidence.block_hash}
            place = {"tx_hash": evidence.tx_hash, "place": evidence.place}
            self.add_rest("evidence", {"seq": seq, "network": evidence.network, **block, **place})
            return
        line = {"statement": evidence.statement, "statement_line": evidence.line}
        self.add_rest("evidence", {"seq": seq, "bank_account": evidence.account, **line})

    def close(self) -> list[object]:
        """All columns in the order in which `ledger_write` takes them; what they say counts as written from now on."""
        columns = self.encode()
        for slot in self.slots:
            slot.written, slot.is_dirty = slot.counters(), False
        for hold in self.holds:
            hold.is_stored, hold.is_dirty = True, False
        return columns

    def encode(self) -> list[object]:
        """The columns as they stand. Asked again before another command is added, the same ones: so they can be made
        while the batch before this one is being written."""
        if self._encoded is None or self._encoded[0] != self.through:
            self._encoded = self.through, self._columns()
        return self._encoded[1]

    def _columns(self) -> list[object]:
        return [
            plain_array(map(str, self.stretches)),
            plain_array(f'"{instant_text(booked)}"' for booked in self.booked),
            plain_array(self.kinds),
            text_array(self.ids),
            text_array(self.subjects),
            text_array(self.refusals),
            b"".join(self.keys),
            b"".join(self.contents),
            b"".join(self.leaves),
            dump(self.more).decode() if self.more else None,
            *_plain_columns(self.lines, 10),
            *self._moved_accounts(),
            *self._new_holds(),
            *self._changed_holds(),
            dump({part: list(rows.values()) for part, rows in self.rest.items()}).decode() if self.rest else None,
        ]

    def _moved_accounts(self) -> list[str]:
        """Steps of counters with the balance that they lead to: of accounts with posted steps only, then of others.

        In the order of their numbers, so that rows that lie together are changed together.
        """
        posted: list[tuple[str, ...]] = []
        pending: list[tuple[str, ...]] = []
        for slot in sorted(self.slots, key=_number):
            debits, credits_, held, incoming = slot.written
            posted_debits, posted_credits = slot.debits_posted, slot.credits_posted
            row = (
                str(slot.number),
                str(posted_debits - debits),
                str(posted_credits - credits_),
                str(posted_credits - posted_debits),
            )
            if slot.debits_pending == held and slot.credits_pending == incoming:
                posted.append(row)
            else:
                steps = str(slot.debits_pending - held), str(slot.credits_pending - incoming)
                pending.append((*row, *steps, str(slot.debits_pending)))
        return [*_plain_columns(posted, 4), *_plain_columns(pending, 7)]

    def _new_holds(self) -> list[str]:
        rows = [
            (
                str(hold.seq),
                str(index),
                "NULL" if hold.record.expires_at is None else f'"{instant_text(hold.record.expires_at)}"',
                *map(str, hold.numbers[index]),
                str(posting.amount),
                str(posting.remaining),
                hold.record.state,
            )
            for hold in self.holds
            if not hold.is_stored
            for index, posting in enumerate(hold.record.postings)
        ]
        charges = [
            dump(charge_terms(hold.record.charges)).decode() if index == 0 and hold.record.charges else ""
            for hold in self.holds
            if not hold.is_stored
            for index in range(len(hold.record.postings))
        ]
        return [*_plain_columns(rows, 8), text_array(charges)]

    def _changed_holds(self) -> list[str]:
        rows = [
            (str(hold.seq), str(index), str(posting.remaining), hold.record.state)
            for hold in self.holds
            if hold.is_stored
            for index, posting in enumerate(hold.record.postings)
        ]
        return _plain_columns(rows, 4)


_number = attrgetter("number")


def plain_array(values: Iterable[str]) -> str:
    """An array literal of values that need no quotes, or have them."""
    return f"{{{','.join(values)}}}"


def text_array(values: Sequence[str]) -> str:
    """An array literal of any texts."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        joined = '","'.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return f'{{"{joined}"}}'


def _plain_columns(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    return [plain_array(column) for column in zip(*rows, strict=True)] if rows else ["{}"] * width
