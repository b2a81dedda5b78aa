"""The lines of a range, followed account by account, and put into the form that leaves are made of. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.audit.holds import HeldLine
from ledger.audit.report import Findings, at, said
from ledger.copying import NULL, rows_of

_POSTED, _HELD = b"posted", b"held"


@dataclass(slots=True)
class Moved:
    """What a range did to one account. `opening` is what its first line, (`seq`, `line`), says the balance was before.

    `held` and `incoming` are steps of the pending counters.
    """

    name: bytes
    opening: int
    closing: int
    seq: int
    line: int
    debited: int = 0
    held: int = 0
    incoming: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """As one call: ranges hand over every account."""
        kept = (self.name, self.opening, self.closing, self.seq, self.line, self.debited, self.held, self.incoming)
        return Moved, kept


class Lines:
    """Follows every balance and every counter through the lines of one range, chunk by chunk in order.

    `names` are accounts' names by their numbers, as rows write both.
    """

    def __init__(self, names: Mapping[bytes, bytes], findings: Findings, *, is_first: bool) -> None:
        self.accounts: dict[bytes, Moved] = {}
        self.count = 0
        self._names = names
        self._findings = findings
        self._is_first = is_first
        self._astray: set[bytes] = set()

    def take(self, text: bytes) -> tuple[dict[bytes, bytes], dict[bytes, list[HeldLine]]]:
        """Follow the next lines. By seq as rows write it: each command's part of its preimage, its lines with holds."""
        accounts, join = self.accounts, b"\t".join
        texts: dict[bytes, bytes] = {}
        held: dict[bytes, list[HeldLine]] = {}
        current, place = b"", 0
        rows = rows_of(text)
        self.count += len(rows)
        for row in rows:
            seq, line, kind, debit, credit, amount, debit_balance, credit_balance, hold, posting = row.split(b"\t")
            try:
                payer, payee = accounts[debit], accounts[credit]
            except KeyError:
                payer, payee = self._meet(row)
            said_by_row = join((kind, payer.name, payee.name, amount, debit_balance, credit_balance, hold, posting))
            if seq != current:
                current, place = seq, 0
                texts[seq] = b"\n" + said_by_row
                if line != b"0":
                    self._misplaced(seq, line, 0)
            else:
                place += 1
                texts[seq] += b"\n" + said_by_row
                if line != b"%d" % place:
                    self._misplaced(seq, line, place)
            try:
                moved = units = int(amount)
                debit_after, credit_after = int(debit_balance), int(credit_balance)
                if hold != NULL or posting != NULL or kind != _POSTED:
                    part = HeldLine(kind, int(hold), int(posting), debit, credit, units)
                    held.setdefault(seq, []).append(part)
                    step = units if kind == _HELD else -units
                    payer.held += step
                    payee.incoming += step
                    if kind != _POSTED:
                        moved = 0
            except ValueError:
                where = f"line {said(seq)}.{said(line)}"
                self._findings.add(at(seq, line), where, "row", expected="whole", found=row)
                continue
            payer.debited += moved
            payer.closing = balance = payer.closing - moved
            if balance != debit_after:
                self._stray(seq, line, debit, balance, debit_after)
            payee.closing = balance = payee.closing + moved
            if balance != credit_after:
                self._stray(seq, line, credit, balance, credit_after)
        return texts, held

    def _meet(self, row: bytes) -> tuple[Moved, Moved]:
        """The accounts of a line of which one wasn't met before, each as it is before the line.

        Of a row that isn't whole nothing is known but the names.
        """
        seq, line, kind, debit, credit, amount, debit_balance, credit_balance, *_ = row.split(b"\t")
        met = []
        for account, after, sign in ((debit, debit_balance, 1), (credit, credit_balance, -1)):
            name = self._name(account)
            moved = self.accounts.get(account)
            if moved is None:
                try:
                    step = sign * int(amount) if kind == _POSTED else 0
                    opening = 0 if self._is_first else int(after) + step
                    moved = self.accounts[account] = Moved(name, opening, opening, int(seq), int(line))
                except ValueError:
                    moved = Moved(name, 0, 0, 0, 0)
            met.append(moved)
        return met[0], met[1]

    def _misplaced(self, seq: bytes, line: bytes, place: int) -> None:
        self._findings.add(at(seq), f"line {said(seq)}.{said(line)}", "line", expected=place, found=line)

    def _stray(self, seq: bytes, line: bytes, account: bytes, expected: int, found: int) -> None:
        """A balance after a line isn't what the lines add up to; an account is named where it first goes astray."""
        if account not in self._astray:
            self._astray.add(account)
            where = f"line {said(seq)}.{said(line)} ({said(self._name(account))})"
            self._findings.add(at(seq, line), where, "balance after", expected=expected, found=found)

    def _name(self, account: bytes) -> bytes:
        """A number without a row gets a name that nobody has."""
        return self._names.get(account, b"#" + account)
