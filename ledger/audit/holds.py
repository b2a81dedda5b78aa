"""Holds through their lives: what remains of each, how it ended, and whether its row says so. Pure.

Only open holds are kept. A stretch of the journal may end holds that were made before it; what it can't judge it keeps
as `foreign`, in order, for whoever knows the stretches before.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.audit.report import JOURNAL, Findings, Place
from ledger.copying import NULL

ENDS = {b"settle": b"settled", b"void": b"voided", b"expire": b"expired"}
"""The state of a hold that nothing remains of, by the kind of the command that took the last of it."""


class HeldLine(NamedTuple):
    """A line that touched a hold. Accounts are their numbers, as rows say them; `hold` is the seq of its command."""

    kind: bytes
    hold: int
    posting: int
    debit: bytes
    credit: bytes
    amount: int


@dataclass(slots=True)
class OpenHold:
    """A hold that still holds something. `rows` are its rows' (state, remaining), by posting."""

    postings: list[HeldLine]
    remaining: list[int]
    rows: dict[int, tuple[bytes, bytes]]
    charges: list[tuple[str, int]]
    is_settled: bool = False


@dataclass(slots=True)
class HoldBook:
    """The holds that are open at some seq. `counters` is what charges have used up of limits, less what came back."""

    knows_all: bool
    open: dict[int, OpenHold] = field(default_factory=dict)
    foreign: list[tuple[int, bytes, list[HeldLine]]] = field(default_factory=list)
    counters: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    ended: int = 0

    def make(
        self,
        findings: Findings,
        seq: int,
        lines: Sequence[HeldLine],
        rows: Sequence[Sequence[bytes]],
        *,
        expires_at: bytes,
        charges_text: bytes,
        charges: list[tuple[str, int]],
    ) -> None:
        """A hold was made; `rows` are (posting, expires_at, debit, credit, amount, charges, state, remaining)."""
        place = Place(JOURNAL, seq)
        stored = {int(row[0]): row for row in rows}
        for index, line in enumerate(lines):
            where = f"hold {seq} posting {index}"
            if (line.kind, line.hold, line.posting) != (b"held", seq, index):
                findings.add(place, where, "line", expected=f"held {seq}.{index}", found=f"{line.hold}.{line.posting}")
            row = stored.pop(index, None)
            if row is None:
                findings.add(place, where, "row", expected="there", found="missing")
                continue
            said = (expires_at, line.debit, line.credit, b"%d" % line.amount, charges_text if index == 0 else NULL)
            for column, expected, found in zip(_COLUMNS, said, row[1:6], strict=True):
                findings.expect(place, where, column, expected=expected, found=found)
        for index in stored:
            findings.add(place, f"hold {seq} posting {index}", "row", expected="none", found="there")
        for counter, amount in charges:
            self.counters[counter] += amount
        states = {int(row[0]): (row[6], row[7]) for row in rows}
        self.open[seq] = OpenHold(list(lines), [line.amount for line in lines], states, charges)

    def change(self, findings: Findings, seq: int, kind: bytes, lines: list[HeldLine]) -> None:
        """A settle, void or expire took these parts of one hold."""
        number = lines[0].hold
        hold = self.open.get(number)
        place, where = Place(JOURNAL, seq), f"command {seq}"
        if hold is None:
            if self.knows_all:
                findings.add(place, where, "hold", expected="an open one", found=number)
            else:
                self.foreign.append((seq, kind, lines))
            return
        for line in lines:
            posting = hold.postings[line.posting] if 0 <= line.posting < len(hold.postings) else None
            if posting is None or (line.hold, line.debit, line.credit) != (number, posting.debit, posting.credit):
                findings.add(place, where, "hold", expected="a posting of one hold", found=f"{number}.{line.posting}")
                return
            hold.remaining[line.posting] -= line.amount
            hold.is_settled |= line.kind == b"posted"
            if hold.remaining[line.posting] < 0:
                findings.add(place, where, f"remainder of hold {number}", expected=">= 0", found="less")
        if not any(hold.remaining):
            del self.open[number]
            self.ended += 1
            self._judge(findings, number, hold, ENDS[kind])
            if not hold.is_settled:
                for counter, amount in hold.charges:
                    self.counters[counter] -= amount

    def absorb(self, findings: Findings, later: "HoldBook") -> None:
        """Go on through the stretch that `later` has seen."""
        for seq, kind, lines in later.foreign:
            self.change(findings, seq, kind, lines)
        self.open.update(later.open)
        self.ended += later.ended
        for counter, used in later.counters.items():
            self.counters[counter] += used

    def finish(self, findings: Findings) -> None:
        """The journal ended: what is still open must say so."""
        for seq, hold in self.open.items():
            self._judge(findings, seq, hold, b"open")

    def _judge(self, findings: Findings, seq: int, hold: OpenHold, state: bytes) -> None:
        for index, (found, remaining) in hold.rows.items():
            if index < len(hold.remaining):
                where, place = f"hold {seq} posting {index}", Place(JOURNAL, seq)
                findings.expect(place, where, "state", expected=state, found=found)
                findings.expect(place, where, "remaining", expected=b"%d" % hold.remaining[index], found=remaining)


_COLUMNS = ("expires_at", "debit", "credit", "amount", "charges")
