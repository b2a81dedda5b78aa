"""A range of the journal, checked by itself from what COPY wrote: all that needs no knowledge of what was before it.

Leaves, gapless seqs, time that never falls, balances after every line, holds with their rows, evidence and metadata.
What needs the ranges before it (an account's opening balance, holds made earlier, the order of flags) is handed on in
the result, for `ledger.audit.whole`. Works on bytes throughout: a row becomes no object unless it's unusual. Pure.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger.audit.beside import Beside
from ledger.audit.fingerprints import KEY_BYTES, add_ids, add_rows
from ledger.audit.holds import ENDS, HeldLine, HoldBook
from ledger.audit.lines import Lines, Moved
from ledger.audit.report import JOURNAL, Findings, Place, at, said
from ledger.audit.rows import Chunk
from ledger.canonical import dump, escaped
from ledger.copying import NULL, plain, rows_of
from ledger.merkle import Frontier


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeJob:
    """What to check: the commands after seq `after` up to `through` of a book (by name, and by its number in rows).

    `cuts` are the last seqs of the seals that end in the range. `secret` is what fingerprints are made with. `is_first`
    and `is_last` say that nothing comes before or after. `keeps_keys` asks for the ids' keys instead of a fingerprint.
    """

    book: str
    number: int
    after: int
    through: int
    cuts: tuple[int, ...]
    secret: bytes
    is_first: bool = False
    is_last: bool = False
    keeps_keys: bool = False


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
    ids: int = 0
    backdated: int = 0
    keys: dict[bytes, int] = field(default_factory=dict)
    holds: HoldBook = field(default_factory=lambda: HoldBook(knows_all=False))
    findings: Findings = field(default_factory=Findings)


class RangeAudit:
    """Checks one range, chunk by chunk in order."""

    def __init__(self, job: RangeJob, names: Mapping[bytes, bytes]) -> None:
        self._job = job
        self._result = RangeResult(job.after, job.after)
        self._result.holds.knows_all = job.is_first
        self._findings = self._result.findings
        self._lines = Lines(names, self._findings, is_first=job.is_first)
        self._prefix = b"\x00" + escaped(job.book).encode() + b"\t"
        self._frontier = Frontier()
        self._cuts = list(job.cuts)[::-1]

    def take(self, chunk: Chunk) -> None:
        """Check the next chunk."""
        texts, held = self._lines.take(chunk.lines)
        self._take_commands(chunk, texts, held)
        for seq in texts:
            self._findings.add(at(seq), f"line {said(seq)}.0", "command", expected="one", found="none")
        for seq in held:
            self._findings.add(at(seq), f"command {said(seq)}", "lines", expected="no hold", found="a hold")

    def finish(self) -> RangeResult:
        """What the range comes to."""
        result, job = self._result, self._job
        if result.through != job.through and not job.is_last:
            self._missing(result.through + 1, job.through)
        self._cut(result.through)
        result.accounts, result.lines = self._lines.accounts, self._lines.count
        return result

    # Commands

    def _take_commands(self, chunk: Chunk, texts: dict[bytes, bytes], held: dict[bytes, list[HeldLine]]) -> None:
        rows = rows_of(chunk.commands)
        if not rows:
            return
        commands = [row.split(b"\t") for row in rows]
        told = [fields[0] for fields in commands]
        seqs = list(map(int, told))
        self._check_order(seqs, [fields[7] for fields in commands])
        leaves = [fields[10] for fields in commands]
        prefix, pop = self._prefix, texts.pop
        preimages = [
            prefix + row[: -1 - len(leaf)] + pop(seq, b"") for seq, row, leaf in zip(told, rows, leaves, strict=True)
        ]
        digests = _digests(preimages)
        self._grow(seqs, digests)
        self._take_ids(seqs, [fields[1] for fields in commands])
        beside = Beside(chunk)
        for number, preimage, fields in zip(seqs, preimages, commands, strict=True):
            seq, _, kind, _, _, refusal, detail, _, effective, hashed, _ = fields
            if kind != b"post" or detail != NULL or refusal != NULL or effective != NULL or hashed != NULL:
                try:
                    self._take_unusual(number, fields, preimage, held.pop(seq, []), beside)
                except (LookupError, TypeError, ValueError, AttributeError, msgspec.MsgspecError):
                    where = f"command {number}"
                    self._findings.add(Place(JOURNAL, number), where, "detail", expected="terms", found=detail)
        self._compare_leaves(seqs, digests, leaves)
        beside.finish(self._findings)
        self._result.commands += len(rows)

    def _check_order(self, seqs: list[int], booked_at: list[bytes]) -> None:
        """Seqs have no gap, and time never falls."""
        result, expected = self._result, self._result.through
        if seqs != list(range(expected + 1, expected + 1 + len(seqs))):
            for number in seqs:
                expected += 1
                if number != expected:
                    self._missing(expected, number - 1)
                    expected = number
        earliest = result.last_booked_at
        if booked_at[0] < earliest or booked_at != sorted(booked_at):
            for number, booked in zip(seqs, booked_at, strict=True):
                if booked < earliest:
                    place, where = Place(JOURNAL, number), f"command {number}"
                    self._findings.add(place, where, "booked_at", expected=f">= {earliest!r}", found=booked)
                earliest = booked
        result.first_booked_at = result.first_booked_at or booked_at[0]
        result.last_booked_at, result.through = booked_at[-1], seqs[-1]

    def _take_ids(self, seqs: list[int], names: list[bytes]) -> None:
        """What remembers ids must know these, by the first bytes of their hashes."""
        escapes = b"\\" in b"".join(names)
        keys = [digest[:KEY_BYTES] for digest in _digests(map(plain, names) if escapes else names)]
        if self._job.keeps_keys:
            self._result.keys.update(zip(keys, seqs, strict=True))
        else:
            self._result.ids += add_ids(keys, seqs, self._job.secret)

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
        self, seq: int, fields: Sequence[bytes], preimage: bytes, held: list[HeldLine], beside: Beside
    ) -> None:
        _, _, kind, _, _, refusal, text, _, effective, hashed, _ = fields
        detail = {} if text == NULL else msgspec.json.decode(plain(text))
        told = detail.get("evidence")
        if told is not None:
            beside.check_evidence(self._findings, seq, told)
        if hashed != NULL and not beside.check_metadata(self._findings, seq, hashed):
            self._result.erased += 1
        if refusal != NULL:
            if b"\n" in preimage:
                self._findings.add(Place(JOURNAL, seq), f"command {seq}", "lines", expected="none", found="some")
            return
        if held and kind != b"hold" and kind not in ENDS:
            self._findings.add(Place(JOURNAL, seq), f"command {seq}", "lines", expected="no hold", found="a hold")
        terms = detail.get("terms", {})
        if effective != NULL:
            self._take_backdated(seq, effective, preimage)
        charges = [(counter, int(amount)) for counter, amount, _ in terms["charges"]] if "charges" in terms else []
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
                self._result.reversals.append((seq, int(detail["reverses"]), _amounts(preimage)))
            case _:
                for counter, amount in charges:
                    self._result.holds.counters[counter] += amount
                self._result.events.append((seq, kind.decode(), terms))

    def _make_hold(
        self, seq: int, held: list[HeldLine], terms: dict[str, Any], charges: list[tuple[str, int]], beside: Beside
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

    def _take_backdated(self, seq: int, effective: bytes, preimage: bytes) -> None:
        """The rows that tell steps of balances by effective time: two for each line that moved value."""
        steps = []
        for line, (kind, debit, credit, amount, *_) in enumerate(_lines(preimage)):
            if kind == b"posted":
                for name, sign in ((debit, b"-"), (credit, b"")):
                    steps.append(b"%d\t%d\t%b\t%b\t%b%b" % (seq, line, name, effective, sign, amount))
        self._result.backdated += add_rows(steps, self._job.secret)


def _digests(texts: Iterable[bytes]) -> list[bytes]:
    return [found.digest() for found in map(hashlib.sha256, texts)]


def _lines(preimage: bytes) -> list[list[bytes]]:
    return [row.split(b"\t") for row in preimage.split(b"\n")[1:]]


def _amounts(preimage: bytes) -> list[tuple[bytes, bytes, int]]:
    return [(debit, credit, int(amount)) for _, debit, credit, amount, *_ in _lines(preimage)]
