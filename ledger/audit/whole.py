"""The whole book, put together from its ranges in order, and compared with the rows that the journal determines. Pure.

In memory are the accounts with their counters and flags, the holds that are open, the counters of limits, the freezes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ledger.accounts import new_account, split_account_id
from ledger.audit.holds import HoldBook
from ledger.audit.ranges import RangeResult
from ledger.audit.report import JOURNAL, NAMES, STATES, Findings, Place
from ledger.audit.rows import ACCOUNT_COLUMNS
from ledger.copying import NULL, rows_of

EPOCH = b"1970-01-01 00:00:00+00"
"""`booked_at` of a book in which nothing has happened."""


@dataclass(slots=True)
class Total:
    """An account as the journal leaves it: balance, posted debits, pending debits and credits."""

    balance: int = 0
    debited: int = 0
    held: int = 0
    incoming: int = 0


@dataclass(slots=True)
class Flags:
    """What commands set on accounts, by name, and on scopes; only what is or was set stands here."""

    opened: dict[bytes, bytes] = field(default_factory=dict)
    """Number -> name."""
    numbers: dict[bytes, bytes] = field(default_factory=dict)
    """Name -> number."""
    closed: set[bytes] = field(default_factory=set)
    frozen: dict[bytes, bool] = field(default_factory=dict)
    credit_lines: dict[bytes, int] = field(default_factory=dict)
    freezes: dict[tuple[str, str], bool] = field(default_factory=dict)
    closed_until: bytes = NULL


Key = TypeVar("Key", str, tuple[str, str])


class Whole:
    """The book rebuilt. `knows_all` says whether the ranges begin at the book's first command."""

    def __init__(self, *, book: str, after: int, knows_all: bool) -> None:
        self.book = book
        self.findings = Findings()
        self.through = after
        self.commands = self.lines = self.erased = 0
        self.last_booked_at = b""
        self.totals: dict[bytes, Total] = {}
        self.openings: dict[bytes, tuple[int, Place]] = {}
        self.flags = Flags()
        self.holds = HoldBook(knows_all=knows_all)
        self.roots: dict[int, tuple[int, bytes]] = {}
        self.reversals: list[tuple[int, int, list[tuple[bytes, bytes, int]]]] = []
        self.keys: dict[bytes, int] = {}
        self.ids = self.backdated = 0
        self._knows_all = knows_all

    def add(self, result: RangeResult) -> None:
        """Go on through the next range."""
        self.findings.absorb(result.findings)
        self.commands += result.commands
        self.lines += result.lines
        self.erased += result.erased
        if result.commands:
            if result.first_booked_at < self.last_booked_at:
                where, place = f"command {result.after + 1}", Place(JOURNAL, result.after + 1)
                earliest = self.last_booked_at.decode()
                found = result.first_booked_at
                self.findings.add(place, where, "booked_at", expected=f">= {earliest}", found=found)
            self.last_booked_at = result.last_booked_at
        self.through = result.through
        self._add_accounts(result)
        self.holds.absorb(self.findings, result.holds)
        for seq, kind, terms in result.events:
            self._set_flags(seq, kind, {name: str(value) for name, value in terms.items()})
        self.roots.update((last, (size, root)) for last, size, root in result.roots)
        self.reversals += result.reversals
        self.keys.update(result.keys)
        self.ids += result.ids
        self.backdated += result.backdated

    def _add_accounts(self, result: RangeResult) -> None:
        for number, moved in result.accounts.items():
            total = self.totals.get(number)
            if total is None:
                total = self.totals[number] = Total(balance=0 if self._knows_all else moved.opening)
                if not self._knows_all:
                    self.openings[number] = moved.opening, Place(JOURNAL, moved.seq, moved.line)
            if moved.opening != total.balance:
                where = f"line {moved.seq}.{moved.line} ({self._name(number)})"
                place, step = Place(JOURNAL, moved.seq, moved.line), moved.opening - total.balance
                self.findings.add(place, where, "balance after", expected="what it was before", found=f"{step:+}")
            total.balance += moved.closing - moved.opening
            total.debited += moved.debited
            total.held += moved.held
            total.incoming += moved.incoming

    def _set_flags(self, seq: int, kind: str, terms: Mapping[str, str]) -> None:
        flags = self.flags
        try:
            account = terms.get("account", "").encode()
            match kind:
                case "open":
                    self._open(seq, account, terms["number"].encode())
                case "close":
                    flags.closed.add(account)
                case "credit_line":
                    flags.credit_lines[account] = int(terms["cap"])
                case "freeze" | "unfreeze":
                    flags.freezes[terms["scope"], terms["target"]] = kind == "freeze"
                    if terms["scope"] == "account":
                        flags.frozen[terms["target"].encode()] = kind == "freeze"
                case "close_period":
                    flags.closed_until = terms["until"].encode()
                case "record":
                    terms["facts"]
                case _:
                    self.findings.add(Place(JOURNAL, seq), f"command {seq}", "kind", expected="a known one", found=kind)
        except (KeyError, ValueError):
            self.findings.add(Place(JOURNAL, seq), f"command {seq}", "detail", expected="terms", found=dict(terms))

    def _open(self, seq: int, name: bytes, number: bytes) -> None:
        flags = self.flags
        expected = flags.numbers.get(name)
        if expected is None and self._knows_all:
            expected = b"%d" % (len(flags.opened) + 1)
        if expected is not None:
            self.findings.expect(Place(JOURNAL, seq), f"command {seq}", "number", expected=expected, found=number)
        flags.numbers.setdefault(name, number)
        flags.opened.setdefault(number, name)

    def _name(self, number: bytes) -> str:
        return self.flags.opened.get(number, b"#" + number).decode()

    # Comparing

    def compare_book(self, row: bytes) -> None:
        """`row`: seq, booked_at, closed_until, accounts of the book's row."""
        seq, booked_at, closed_until, accounts = row.split(b"\t")
        where, place = f"book {self.book}", Place(STATES, 0)
        expect = self.findings.expect
        expect(place, where, "seq", expected=b"%d" % self.through, found=seq)
        if self.commands or self._knows_all:
            expect(place, where, "booked_at", expected=self.last_booked_at or EPOCH, found=booked_at)
        if self._knows_all:
            expect(place, where, "closed_until", expected=self.flags.closed_until, found=closed_until)
            expect(place, where, "accounts", expected=b"%d" % len(self.flags.opened), found=accounts)

    def compare_accounts(self, text: bytes) -> int:
        """Compare a page of accounts' rows; how many there are."""
        rows = rows_of(text)
        for row in rows:
            self._compare_account(row.split(b"\t"))
        return len(rows)

    def _compare_account(self, row: list[bytes]) -> None:
        number = row[0]
        name = self.flags.opened.pop(number, None)
        if name is None:
            place, where = Place(STATES, int(number)), f"account {row[1].decode()}"
            self.findings.add(place, where, "row", expected="none: it was never opened", found=f"number {number!r}")
            return
        account = new_account(name.decode())
        total = self.totals.pop(number, None) or Total()
        expected = [
            number,
            name,
            account.owner.encode(),
            account.purpose.encode(),
            account.asset.encode(),
            _flag(account.limited),
            _flag(self.flags.frozen.get(name, False)),
            _flag(name in self.flags.closed),
            b"%d" % self.flags.credit_lines.get(name, 0),
            b"%d" % total.debited,
            b"%d" % (total.balance + total.debited),
            b"%d" % total.held,
            b"%d" % total.incoming,
        ]
        if expected == row:
            return
        place, where = Place(STATES, int(number)), f"account {name.decode()}"
        for column, should, found in zip(ACCOUNT_COLUMNS, expected, row, strict=True):
            rank = Place(NAMES, int(number)) if column == "name" else place
            self.findings.expect(rank, where, column, expected=should, found=found)

    def finish_accounts(self) -> None:
        """All accounts' rows were compared: what is left has none."""
        for number, name in self.flags.opened.items():
            place = Place(NAMES, int(number))
            self.findings.add(place, f"account {name.decode()}", "row", expected="there", found="missing")
        for number in self.totals:
            if number not in self.flags.opened:
                place = Place(STATES, int(number))
                self.findings.add(place, f"account #{number.decode()}", "row", expected="opened", found="never opened")

    def compare_sums(self) -> None:
        """All accounts of an asset sum to zero, since every line debits what it credits."""
        sums: defaultdict[str, int] = defaultdict(int)
        for number, total in self.totals.items():
            name = self.flags.opened.get(number)
            if name is not None:
                sums[split_account_id(name.decode())[2]] += total.balance
        for asset, total_balance in sums.items():
            self.findings.expect(
                Place(STATES), f"asset {asset}", "sum of all balances", expected=0, found=total_balance
            )

    def compare_freezes(self, rows: Iterable[tuple[str, str, bool]]) -> None:
        """`rows`: scope, target, frozen."""
        _compare_mapping(self.findings, "freeze of", self.flags.freezes, {(s, t): f for s, t, f in rows})

    def compare_counters(self, rows: Iterable[tuple[str, int]]) -> None:
        """`rows`: counter, used."""
        _compare_mapping(self.findings, "counter", self.holds.counters, dict(rows))


def _compare_mapping(
    findings: Findings, what: str, expected: Mapping[Key, object], stored: Mapping[Key, object]
) -> None:
    for key in expected.keys() | stored.keys():
        where = f"{what} {' '.join(key) if isinstance(key, tuple) else key}"
        if key not in expected or key not in stored:
            there, missing = ("there", "missing") if key in expected else ("none", "there")
            findings.add(Place(STATES), where, "row", expected=there, found=missing)
        else:
            findings.expect(Place(STATES), where, "value", expected=expected[key], found=stored[key])


def _flag(value: bool) -> bytes:
    return b"t" if value else b"f"
