"""A range of the journal, checked by itself from what COPY wrote: all that needs no knowledge of what was before it.

Leaves, gapless seqs, time that never falls, balances after every line, holds with their rows, evidence and metadata.
What needs the ranges before it (an account's opening balance, holds made earlier, the order of flags) is handed on in
the result, for `ledger.audit.whole`. Works on bytes throughout: a row becomes no object unless it's unusual. Pure.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger.audit.fingerprints import id_value, multiply, row_value
from ledger.audit.holds import HeldLine, HoldBook
from ledger.audit.report import JOURNAL, Findings, Place
from ledger.audit.rows import Chunk
from ledger.canonical import dump, escaped
from ledger.copying import NULL, plain, rows_of
from ledger.merkle import Frontier

_POSTED, _HELD, _RELEASED = b"posted", b"held", b"released"
_NO_HOLD = NULL + b"\t" + NULL
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeJob:
    """What to check: the commands after seq `after` up to `through` of a book (by name, and by its number in rows).

    `cuts` are the last seqs of the seals that end in the range. `point` is where fingerprints are evaluated. `is_first`
    and `is_last` say that nothing comes before or after. `keeps_keys` asks for the ids' keys instead of a fingerprint.
    """

    book: str
    number: int
    after: int
    through: int
    cuts: tuple[int, ...]
    point: int
    is_first: bool = False
    is_last: bool = False
    keeps_keys: bool = False


@dataclass(slots=True)
class Moved:
    """What a range did to one account. `opening` is what its first line says the balance was before it.

    `held` and `incoming` are steps of the pending counters; `place` is where the account first appears.
    """

    opening: int
    closing: int
    debited: int
    held: int
    incoming: int
    place: Place


@dataclass(slots=True)
class RangeResult:
    """What a range comes to, for those that know the ranges before it."""

    after: int
    through: int
    commands: int = 0
    lines: int = 0
    erased: int = 0
    last_booked_at: bytes = b""
    first_booked_at: bytes = b""
    accounts: dict[bytes, Moved] = field(default_factory=dict)
    roots: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(last seq, commands, root) of each stretch between cuts."""
    events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    """(seq, kind, detail) of what set flags, opened accounts or closed periods."""
    reversals: list[tuple[int, int, list[tuple[bytes, bytes, int]]]] = field(default_factory=list)
    """(seq, the reversed entry's seq, lines as (debit, credit, amount)), accounts by name."""
    ids: int = 1
    backdated: int = 1
    keys: dict[bytes, int] = field(default_factory=dict)
    holds: HoldBook = field(default_factory=lambda: HoldBook(knows_all=False))
    findings: Findings = field(default_factory=Findings)


class AccountNames(dict[bytes, bytes]):
    """Accounts' names by their numbers, as rows write both. A number without a row gets a name that nobody has."""

    def __missing__(self, number: bytes) -> bytes:
        return b"#" + number


class RangeAudit:
    """Checks one range, chunk by chunk in order."""

    def __init__(self, job: RangeJob, names: Mapping[bytes, bytes]) -> None:
        self._job = job
        self._names = names
        self._result = RangeResult(job.after, job.after)
        self._result.holds.knows_all = job.is_first
        self._findings = self._result.findings
        self._prefix = b"\x00" + escaped(job.book).encode() + b"\t"
        self._booked_at = b""
        self._frontier = Frontier()
        self._cuts = list(job.cuts)[::-1]
        self._balances: dict[bytes, int] = {}
        self._openings: dict[bytes, tuple[int, Place]] = {}
        self._debited: defaultdict[bytes, int] = defaultdict(int)
        self._held: defaultdict[bytes, int] = defaultdict(int)
        self._incoming: defaultdict[bytes, int] = defaultdict(int)
        self._astray: set[bytes] = set()

    def take(self, chunk: Chunk) -> None:
        """Check the next chunk."""
        held: dict[bytes, list[HeldLine]] = {}
        texts = self._take_lines(chunk.lines, held)
        self._take_commands(chunk, texts, held)
        for seq in texts:
            self._findings.add(_at(seq), f"line {_said(seq)}.0", "command", expected="one", found="none")
        for seq in held:
            self._findings.add(_at(seq), f"command {_said(seq)}", "lines", expected="no hold", found="a hold")

    def finish(self) -> RangeResult:
        """What the range comes to."""
        result, job = self._result, self._job
        if result.through != job.through and not job.is_last:
            self._missing(result.through + 1, job.through)
        self._cut(result.through)
        for account, closing in self._balances.items():
            opening, place = self._openings[account]
            result.accounts[account] = Moved(
                opening, closing, self._debited[account], self._held[account], self._incoming[account], place
            )
        return result

    # Lines

    def _take_lines(self, text: bytes, held: dict[bytes, list[HeldLine]]) -> dict[bytes, bytes]:
        """Follow every balance; the lines' part of each command's preimage, by seq as its row writes it."""
        balances, debited, names = self._balances, self._debited, self._names
        texts: dict[bytes, bytes] = {}
        current, place = b"", 0
        rows = rows_of(text)
        self._result.lines += len(rows)
        for row in rows:
            seq, line, kind, debit, credit, amount, debit_balance, credit_balance, hold = row.split(b"\t", 8)
            said = b"\n%b\t%b\t%b\t%b\t%b\t%b\t%b" % (
                kind,
                names[debit],
                names[credit],
                amount,
                debit_balance,
                credit_balance,
                hold,
            )
            if seq == current:
                texts[seq] += said
                place += 1
            else:
                texts[seq] = said
                current, place = seq, 0
            try:
                moved = int(amount)
                debit_after, credit_after = int(debit_balance), int(credit_balance)
                if int(line) != place:
                    self._findings.expect(
                        _at(seq), f"line {_said(seq)}.{_said(line)}", "line", expected=place, found=line
                    )
                if hold != _NO_HOLD or kind != _POSTED:
                    moved = self._take_held(seq, kind, debit, credit, moved, hold, held)
            except ValueError:
                self._findings.add(
                    _at(seq, line), f"line {_said(seq)}.{_said(line)}", "row", expected="whole", found=row
                )
                continue
            balance = balances.get(debit)
            if balance is None:
                balance = self._open(debit, debit_after + moved, seq, line)
            balances[debit] = balance = balance - moved
            debited[debit] += moved
            if balance != debit_after:
                self._stray(seq, line, debit, balance, debit_after)
            balance = balances.get(credit)
            if balance is None:
                balance = self._open(credit, credit_after - moved, seq, line)
            balances[credit] = balance = balance + moved
            if balance != credit_after:
                self._stray(seq, line, credit, balance, credit_after)
        return texts

    def _take_held(
        self,
        seq: bytes,
        kind: bytes,
        debit: bytes,
        credit: bytes,
        amount: int,
        hold: bytes,
        held: dict[bytes, list[HeldLine]],
    ) -> int:
        """Follow the pending counters through a line that touches a hold; how much of it moved."""
        number, posting = map(int, hold.split(b"\t"))
        held.setdefault(seq, []).append(HeldLine(kind, number, posting, debit, credit, amount))
        step = amount if kind == _HELD else -amount
        self._held[debit] += step
        self._incoming[credit] += step
        return amount if kind == _POSTED else 0

    def _open(self, account: bytes, opening: int, seq: bytes, line: bytes) -> int:
        """The balance that an account has before its first line here."""
        if self._job.is_first:
            opening = 0
        self._openings[account] = opening, _at(seq, line)
        return opening

    def _stray(self, seq: bytes, line: bytes, account: bytes, expected: int, found: int) -> None:
        """A balance after a line isn't what the lines add up to; an account is named where it first goes astray."""
        if account not in self._astray:
            self._astray.add(account)
            where = f"line {_said(seq)}.{_said(line)} ({_said(self._names[account])})"
            self._findings.add(_at(seq, line), where, "balance after", expected=expected, found=found)

    # Commands

    def _take_commands(self, chunk: Chunk, texts: dict[bytes, bytes], held: dict[bytes, list[HeldLine]]) -> None:
        rows = rows_of(chunk.commands)
        if not rows:
            return
        beside = _Beside(chunk)
        expected, booked_at, point = self._result.through, self._booked_at, self._job.point
        seqs, keys, leaves, digests = [], [], [], []
        for row in rows:
            fields = row.split(b"\t")
            seq, name, kind, _, _, refusal, detail, booked, effective, hashed, leaf = fields
            number = int(seq)
            expected += 1
            if number != expected:
                self._missing(expected, number - 1)
                expected = number
            if booked < booked_at:
                where = f"command {number}"
                self._findings.add(
                    Place(JOURNAL, number), where, "booked_at", expected=f">= {booked_at!r}", found=booked
                )
            booked_at = booked
            lines = texts.pop(seq, b"")
            digests.append(_sha256(self._prefix + row[: -1 - len(leaf)] + lines).digest())
            leaves.append(leaf)
            seqs.append(number)
            keys.append(_sha256(name if b"\\" not in name else plain(name)).digest()[:16])
            if kind != b"post" or detail != NULL or refusal != NULL or effective != NULL or hashed != NULL:
                try:
                    self._take_unusual(number, fields, lines, held.pop(seq, []), beside)
                except (LookupError, TypeError, ValueError, AttributeError, msgspec.MsgspecError):
                    where = f"command {number}"
                    self._findings.add(Place(JOURNAL, number), where, "detail", expected="terms", found=detail)
        self._compare_leaves(seqs, digests, leaves)
        self._grow(seqs, digests)
        beside.finish(self._findings)
        if self._job.keeps_keys:
            self._result.keys.update(zip(keys, seqs, strict=True))
        else:
            self._result.ids = multiply(self._result.ids, map(id_value, keys, seqs), point)
        self._result.first_booked_at = self._result.first_booked_at or rows[0].split(b"\t")[7]
        self._result.last_booked_at = self._booked_at = booked_at
        self._result.commands += len(rows)
        self._result.through = expected

    def _missing(self, first: int, last: int) -> None:
        until = "missing" if first == last else f"missing, and so on to {last}"
        if first <= last:
            self._findings.add(Place(JOURNAL, first), f"command {first}", "row", expected="there", found=until)
        else:
            self._findings.add(Place(JOURNAL, last), f"command {last + 1}", "seq", expected=first, found=last + 1)

    def _compare_leaves(self, seqs: Sequence[int], digests: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        if b"".join(digests).hex().encode() == b"".join(leaves):
            return
        for seq, digest, leaf in zip(seqs, digests, leaves, strict=True):
            place, where = Place(JOURNAL, seq), f"command {seq}"
            self._findings.expect(place, where, "leaf", expected=digest.hex(), found=leaf.decode())

    def _grow(self, seqs: Sequence[int], digests: Sequence[bytes]) -> None:
        """Add leaves to the tree of the stretch that they belong to; a cut ends a stretch."""
        start = 0
        while self._cuts and seqs[-1] >= self._cuts[-1]:
            cut = self._cuts[-1]
            end = start
            while end < len(seqs) and seqs[end] <= cut:
                end += 1
            self._frontier.extend(digests[start:end])
            self._cut(cut)
            self._cuts.pop()
            start = end
        self._frontier.extend(digests[start:])

    def _cut(self, last_seq: int) -> None:
        if self._frontier.size:
            self._result.roots.append((last_seq, self._frontier.size, self._frontier.root()))
        self._frontier = Frontier()

    # Commands that say more than their lines

    def _take_unusual(
        self, seq: int, fields: Sequence[bytes], lines: bytes, held: list[HeldLine], beside: "_Beside"
    ) -> None:
        _, _, kind, _, _, refusal, text, _, effective, hashed, _ = fields
        detail = {} if text == NULL else msgspec.json.decode(plain(text))
        beside.check_evidence(self._findings, seq, detail.get("evidence"))
        if hashed != NULL and not beside.check_metadata(self._findings, seq, hashed):
            self._result.erased += 1
        if refusal != NULL:
            if lines:
                self._findings.add(Place(JOURNAL, seq), f"command {seq}", "lines", expected="none", found="some")
            return
        terms = detail.get("terms", {})
        if effective != NULL:
            self._take_backdated(seq, effective, lines)
        charges = [(counter, int(amount)) for counter, amount, _ in terms.get("charges", ())]
        match kind:
            case b"hold":
                self._make_hold(seq, held, terms, charges, beside)
            case b"settle" | b"void" | b"expire":
                if held:
                    self._result.holds.change(self._findings, seq, kind, held)
            case b"post":
                for counter, amount in charges:
                    self._result.holds.counters[counter] += amount
            case b"reverse":
                self._result.reversals.append((seq, int(detail["reverses"]), _posted(lines)))
            case _:
                self._result.events.append((seq, kind.decode(), terms))

    def _make_hold(
        self, seq: int, held: list[HeldLine], terms: dict[str, Any], charges: list[tuple[str, int]], beside: "_Beside"
    ) -> None:
        self._result.holds.make(
            self._findings,
            seq,
            held,
            beside.holds.pop(b"%d" % seq, []),
            expires_at=terms["expires_at"].encode() if "expires_at" in terms else NULL,
            charges_text=escaped(dump(terms["charges"]).decode()).encode() if charges else NULL,
            charges=charges,
        )

    def _take_backdated(self, seq: int, effective: bytes, lines: bytes) -> None:
        """The rows that tell steps of balances by effective time: two for each line that moved value."""
        values = []
        for line, row in enumerate(lines.split(b"\n")[1:]):
            kind, debit, credit, amount, *_ = row.split(b"\t")
            if kind == _POSTED:
                for name, sign in ((debit, b"-"), (credit, b"")):
                    values.append(row_value(b"%d\t%d\t%b\t%b\t%b%b" % (seq, line, name, effective, sign, amount)))
        self._result.backdated = multiply(self._result.backdated, values, self._job.point)


class _Beside:
    """The rows that hang on a chunk's commands, by seq as rows write it; each is taken off by what explains it."""

    def __init__(self, chunk: Chunk) -> None:
        self.holds: dict[bytes, list[list[bytes]]] = {}
        for row in rows_of(chunk.holds):
            seq, *rest = row.split(b"\t")
            self.holds.setdefault(seq, []).append(rest)
        self.metadata = {seq: rest for seq, _, rest in (row.partition(b"\t") for row in rows_of(chunk.metadata))}
        self.evidence = {seq: rest for seq, _, rest in (row.partition(b"\t") for row in rows_of(chunk.evidence))}

    def check_evidence(self, findings: Findings, seq: int, told: dict[str, Any] | None) -> None:
        """Compare the indexed copy of a command's evidence with what the command says."""
        if told is None:
            return
        columns = ("network", "block_number", "block_hash", "account", "statement", "line")
        expected = b"\t".join(NULL if told.get(c) is None else escaped(str(told[c])).encode() for c in columns)
        found = self.evidence.pop(b"%d" % seq, b"no row")
        findings.expect(Place(JOURNAL, seq), f"evidence of command {seq}", "row", expected=expected, found=found)

    def check_metadata(self, findings: Findings, seq: int, hashed: bytes) -> bool:
        """Compare metadata with its hash in the command; False if it was erased."""
        row = self.metadata.pop(b"%d" % seq, None)
        if row is None:
            return False
        salt, _, metadata = row.partition(b"\t")
        said = _sha256(bytes.fromhex(salt.decode()) + dump(msgspec.json.decode(plain(metadata)))).hexdigest()
        place, where = Place(JOURNAL, seq), f"metadata of command {seq}"
        findings.expect(place, where, "hash", expected=hashed, found=said.encode())
        return True

    def finish(self, findings: Findings) -> None:
        """Whatever is left hangs on nothing."""
        for what, rows in (("hold", self.holds), ("metadata of command", self.metadata)):
            for seq in rows:
                findings.add(_at(seq), f"{what} {_said(seq)}", "row", expected="none", found="there")
        for seq in self.evidence:
            findings.add(_at(seq), f"evidence of command {_said(seq)}", "row", expected="none", found="there")


def _posted(lines: bytes) -> list[tuple[bytes, bytes, int]]:
    rows = (row.split(b"\t") for row in lines.split(b"\n")[1:])
    return [(debit, credit, int(amount)) for _, debit, credit, amount, *_ in rows]


def _at(seq: bytes, line: bytes = b"-1") -> Place:
    return Place(JOURNAL, int(seq), int(line))


def _said(field: bytes) -> str:
    return field.decode("utf-8", "replace")
