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
        lines: list[HeldLine],
        rows: Sequence[bytes],
        *,
        expires_at: bytes,
        charges_text: bytes,
        charges: list[tuple[str, int]],
    ) -> None:
        """A hold was made; `rows` are (posting, expires_at, debit, credit, amount, charges, state, remaining)."""
        said, remaining = [], []
        for index, (kind, hold, posting, debit, credit, amount) in enumerate(lines):
            if kind != b"held" or hold != seq or posting != index:
                place, where = Place(JOURNAL, seq), f"hold {seq} posting {index}"
                findings.add(place, where, "line", expected=f"held {seq}.{index}", found=f"{hold}.{posting}")
            said.append(b"%d\t%b\t%b\t%b\t%d\t%b" % (index, expires_at, debit, credit, amount, charges_text))
            charges_text = NULL
            remaining.append(amount)
        stored, states = [], {}
        for row in rows:
            terms, state, left = row.rsplit(b"\t", 2)
            stored.append(terms)
            states[int(terms.partition(b"\t")[0])] = state, left
        if stored != said:
            _name_rows(findings, seq, said, stored)
        for counter, amount in charges:
            self.counters[counter] += amount
        self.open[seq] = OpenHold(lines, remaining, states, charges)

    def change(self, findings: Findings, seq: int, kind: bytes, lines: list[HeldLine]) -> None:
        """A settle, void or expire took these parts of one hold."""
        number = lines[0].hold
        hold = self.open.get(number)
        if hold is None:
            if self.knows_all:
                findings.add(Place(JOURNAL, seq), f"command {seq}", "hold", expected="an open one", found=number)
            else:
                self.foreign.append((seq, kind, lines))
            return
        postings, remaining = hold.postings, hold.remaining
        for what, of, index, debit, credit, amount in lines:
            posting = postings[index] if 0 <= index < len(postings) else None
            if posting is None or of != number or debit != posting.debit or credit != posting.credit:
                place, where = Place(JOURNAL, seq), f"command {seq}"
                findings.add(place, where, "hold", expected="a posting of one hold", found=f"{number}.{index}")
                return
            remaining[index] -= amount
            hold.is_settled |= what == b"posted"
            if remaining[index] < 0:
                place, where = Place(JOURNAL, seq), f"command {seq}"
                findings.add(place, where, f"remainder of hold {number}", expected=">= 0", found="less")
        if not any(remaining):
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
            if index >= len(hold.remaining):
                continue
            left = b"%d" % hold.remaining[index]
            if found != state or remaining != left:
                where, place = f"hold {seq} posting {index}", Place(JOURNAL, seq)
                findings.expect(place, where, "state", expected=state, found=found)
                findings.expect(place, where, "remaining", expected=left, found=remaining)


def _name_rows(findings: Findings, seq: int, said: Sequence[bytes], stored: Sequence[bytes]) -> None:
    """Name what differs between a hold's rows as its lines say them and as they are, both without their state."""
    place = Place(JOURNAL, seq)
    expected, found = ({int(row.partition(b"\t")[0]): row.split(b"\t") for row in rows} for rows in (said, stored))
    for index in expected.keys() | found.keys():
        where = f"hold {seq} posting {index}"
        if index not in found:
            findings.add(place, where, "row", expected="there", found="missing")
        elif index not in expected:
            findings.add(place, where, "row", expected="none", found="there")
        else:
            for column, should, is_ in zip(_COLUMNS, expected[index], found[index], strict=True):
                findings.expect(place, where, column, expected=should, found=is_)


_COLUMNS = ("posting", "expires_at", "debit", "credit", "amount", "charges")
