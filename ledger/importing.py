"""Entries from a file's rows: what each column means, and what is wrong with a row. Pure.

A row is a posting. Rows with one id are one entry and stand together; entries with one group succeed or fail together
and stand together too. What is asked of the book (does the account exist, was the id used) is in `ledger.import_run`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from msgspec.structs import replace

from ledger.accounts import HOUSE, WALLET, split_account_id
from ledger.bounds import TEXT_MAX, check_group
from ledger.commands import (
    BankEvidence,
    ChainEvidence,
    Evidence,
    Group,
    Post,
    Posting,
    RailEvidence,
    SignerEvidence,
)
from ledger.errors import BadFile, InvalidAmount, InvalidCommand
from ledger.money import Asset, parse_amount
from ledger.requests import import_id
from ledger.rowfiles import Fault, Record

REQUIRED = ("id", "debit", "credit", "asset", "amount")
OPTIONAL = ("group", "effective_at", "subject", "evidence", "metadata")
TOLD = ("code", "facts")
"""What a file of refused rows says besides; an import doesn't read it."""

OBJECTS = ("evidence", "metadata")
"""Columns whose cell is a JSON object; in CSV `metadata.memo` is a column of its own for one key."""

_SIMPLE = frozenset((*REQUIRED, *OPTIONAL, *TOLD)) - frozenset(OBJECTS)
"""Columns whose cell is one text."""

_NOTHING: Mapping[str, str] = {}

ENTRY_COLUMNS = ("effective_at", "subject", *OBJECTS)
"""What is said of an entry and not of a posting: further rows leave it out, or say the same."""

GROUP_ROWS_MAX = 10_000
"""Rows of a group, or of an entry without one."""

ATTEMPT_WIDTH = 4
"""Characters kept free behind an id, for the number of the attempt."""

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_CHAIN = {"network", "block_number", "block_hash", "tx_hash", "place"}
_BANK = {"account", "statement", "line"}
_SIGNER = {"journal_row", "journal_hash"}
_RAIL = {"rail", "object"}
_NUMBERS = {"block_number": 2**63, "line": 2**31, "journal_row": 2**63}
"""Parts of evidence that are whole numbers, and what they are below."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """What people may book: users' wallets, and these purposes of the house; no evidence, which only the world gives.

    From those in `waiting`, which hold others' value, no more than is there.
    """

    purposes: frozenset[str]
    waiting: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: as it's submitted at first, and the rows that tell it."""

    post: Post
    rows: tuple[Record, ...]

    @property
    def id(self) -> str:
        """The id that the file gives it."""
        return str(self.rows[0].cells["id"])


@dataclass(frozen=True, slots=True)
class Bundle:
    """Entries that succeed or fail together: those of a group, or one alone. `name` is the group's."""

    name: str | None
    entries: tuple[Entry, ...]

    @property
    def line(self) -> int:
        return self.entries[0].rows[0].line

    @property
    def rows(self) -> int:
        return sum(len(entry.rows) for entry in self.entries)

    def attempt(self, number: int) -> Group:
        """The group as it's submitted for the nth time, from 1: under ids of their own, since a refusal is for ever."""
        if number == 1:
            return Group(tuple([entry.post for entry in self.entries]))
        return Group(tuple([replace(entry.post, id=import_id(entry.id, number)) for entry in self.entries]))

    def accounts(self) -> Iterator[tuple[str, int, str]]:
        """Every account named: its id, the line, the column."""
        for entry in self.entries:
            for posting, row in zip(entry.post.postings, entry.rows, strict=True):
                yield posting.debit, row.line, "debit"
                yield posting.credit, row.line, "credit"


class _Bad(Exception):
    """What is wrong with a cell. Only inside this module: callers see a Fault."""

    def __init__(self, column: str | None, code: str, why: str, remedy: str) -> None:
        super().__init__(why)
        self.column, self.code, self.why, self.remedy = column, code, why, remedy

    def at(self, line: int) -> Fault:
        """The fault of a row that begins on this line."""
        return Fault(line, self.column, self.code, self.why, self.remedy)


def check_header(columns: Sequence[str]) -> None:
    """Raise BadFile for a header that isn't one of entries: all that is wrong with it at once."""
    faults = []
    for column in dict.fromkeys(columns):
        if columns.count(column) > 1:
            faults.append(f"{column!r} stands twice")
        if not _is_known(column):
            near = difflib.get_close_matches(column, (*REQUIRED, *OPTIONAL), n=1)
            faults.append(f"{column!r} is no column" + (f" (is it {near[0]!r}?)" if near else ""))
        if column in OBJECTS and any(other.startswith(f"{column}.") for other in columns):
            faults.append(f"{column!r} stands beside columns of its parts")
    faults += [f"{column!r} is missing" for column in REQUIRED if column not in columns]
    if faults:
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise BadFile(
            f"line 1, the header: {'; '.join(faults)}. Columns are {known}, and metadata.KEY",
            code="bad_header",
            line=1,
        )


@lru_cache(maxsize=1_024)
def _is_known(column: str) -> bool:
    if column in REQUIRED or column in OPTIONAL or column in TOLD:
        return True
    head, _, part = column.partition(".")
    return bool(part) and (head == "metadata" or (head == "evidence" and part in _CHAIN | _BANK | _SIGNER))


class Parser:
    """Turns rows into bundles. `assets` are the book's by code; nothing may be effective later than `now`.

    `by_hand` is what may be booked; None: anything, as it stands in another book.
    """

    def __init__(self, assets: Mapping[str, Asset], *, now: datetime, by_hand: ByHand | None) -> None:
        self._assets = assets
        self._now = now
        self._by_hand = by_hand
        self._waiting = by_hand.waiting if by_hand is not None else frozenset()
        self.rows = 0
        self.entries = 0

    def bundles(self, rows: Iterable[Record | Fault]) -> Iterator[Bundle | Fault]:
        """The bundles in the file's order, and between them what is wrong with rows.

        A bundle with a faulty row isn't given; nor is the one being gathered where a row can't be read at all, since
        that row may belong to it.
        """
        gathering: _Gathering | None = None
        for row in rows:
            if isinstance(row, Fault):
                self.rows += 1
                yield row
                if gathering is not None:
                    gathering.is_sound = False
                continue
            self.rows += 1
            try:
                name, entry = self._place(row)
                if gathering is None or not gathering.takes(name, entry):
                    if gathering is not None:
                        yield from self._finished(gathering)
                    gathering = _Gathering(name, entry, self._waiting)
                self._add(gathering, row, entry)
            except _Bad as found:
                yield found.at(row.line)
                if gathering is not None:
                    gathering.is_sound = False
        if gathering is not None:
            yield from self._finished(gathering)

    def _place(self, row: Record) -> tuple[str | None, str]:
        """The row's group and id."""
        cells = row.cells
        for column in cells.keys() - _SIMPLE:
            if not _is_known(column):
                near = difflib.get_close_matches(column, (*REQUIRED, *OPTIONAL), n=1)
                hint = f"is it {near[0]!r}?" if near else f"use {', '.join((*REQUIRED, *OPTIONAL))}"
                raise _Bad(column, "unknown_column", "there is no such column", hint)
        entry = _text(cells, "id")
        if entry is None:
            raise _missing("id")
        return _text(cells, "group"), entry

    def _add(self, gathering: "_Gathering", row: Record, entry: str) -> None:
        if gathering.rows == GROUP_ROWS_MAX:
            gathering.rows += 1
            raise _Bad(
                "id" if gathering.name is None else "group",
                "too_many_rows",
                f"a group, or an entry, has at most {GROUP_ROWS_MAX:,} rows",
                "part it into several",
            )
        if gathering.rows > GROUP_ROWS_MAX:
            return  # said once
        gathering.rows += 1
        posting = self._posting(row)
        if gathering.ids and gathering.ids[-1] == entry:
            _check_same(gathering.entry_rows[0], row)
            gathering.postings.append(posting)
            gathering.entry_rows.append(row)
            return
        if entry in gathering.seen:
            raise _Bad("id", "repeated_id", f"{entry[:100]!r} stands in this group already", _TOGETHER)
        gathering.close_entry()
        gathering.open_entry(entry, self._said(row, entry), posting, row)

    def _finished(self, gathering: "_Gathering") -> Iterator[Bundle | Fault]:
        if not gathering.is_sound:
            return
        gathering.close_entry()
        bundle = Bundle(gathering.name, tuple(gathering.entries))
        try:
            check_group(bundle.attempt(1))
        except InvalidCommand as error:
            column = error.param or ("id" if gathering.name is None else "group")
            yield Fault(gathering.line, column, error.code, error.message, "")
            return
        self.entries += len(gathering.entries)
        yield bundle

    # Cells

    def _posting(self, row: Record) -> Posting:
        cells = row.cells
        code = _text(cells, "asset")
        if code is None:
            raise _missing("asset")
        asset = self._assets.get(code)
        if asset is None:
            known = ", ".join(sorted(self._assets)) or "none yet"
            raise _Bad("asset", "unknown_asset", f"{code[:100]!r} is no asset of the book", f"known are: {known}")
        debit, credit = self._account(cells, "debit", code), self._account(cells, "credit", code)
        if debit == credit:
            raise _Bad("credit", "same_account", "debit and credit are the same account", "name two accounts")
        amount = cells.get("amount")
        if amount is None:
            raise _missing("amount")
        try:
            return Posting(debit, credit, code, parse_amount(amount, asset))  # type: ignore[arg-type] # it looks itself
        except InvalidAmount as error:
            raise _Bad("amount", error.code, error.message, "") from None

    def _account(self, cells: Mapping[str, object], column: str, asset: str) -> str:
        name = _text(cells, column)
        if name is None:
            raise _missing(column)
        owner, purpose, of = _parts_of(name)
        if not of:
            raise _Bad(column, "bad_account", f"{name[:100]!r} is no account", "accounts are named owner/purpose/asset")
        if of != asset:
            raise _Bad(
                column, "asset_mismatch", f"this is an account in {of}, not in {asset}", "one asset in a posting"
            )
        if self._by_hand is not None:
            if owner != HOUSE and purpose != WALLET:
                raise _Bad(column, "not_by_hand", f"{name} is no user's wallet", f"write {owner}/{WALLET}/{asset}")
            if owner == HOUSE and purpose not in self._by_hand.purposes:
                by_hand = ", ".join(sorted(self._by_hand.purposes))
                raise _Bad(column, "not_by_hand", f"{name} isn't moved by hand", f"these are: {by_hand}; {_MIGRATE}")
        return name

    def _said(self, row: Record, entry: str) -> "_Said":
        cells = row.cells
        if len(entry) > TEXT_MAX - len(import_id("", 1)) - ATTEMPT_WIDTH:
            raise _Bad("id", "too_long", f"an id of {len(entry)} characters is too long", "write 490 at most")
        evidence, metadata = None, _NOTHING
        if further := sorted(cells.keys() - _SIMPLE):
            evidence = _evidence(_object(cells, "evidence", further))
            metadata = _metadata(_object(cells, "metadata", further))
        if evidence is not None and self._by_hand is not None:
            raise _Bad("evidence", "not_by_hand", "only the chain and the bank give evidence", _MIGRATE)
        subject, effective_at = _text(cells, "subject"), self._instant(cells.get("effective_at"))
        return _Said(import_id(entry, 1), subject, evidence, effective_at, metadata)

    def _instant(self, cell: object) -> datetime | None:
        if cell is None:
            return None
        try:
            instant = _parse_instant(cell)
        except (TypeError, ValueError, OverflowError):
            raise _Bad(
                "effective_at",
                "bad_instant",
                f"{str(cell)[:40]!r} is no instant",
                "write 2026-11-23T02:45:22Z, or with an offset such as +01:00",
            ) from None
        if instant > self._now:
            raise _Bad("effective_at", "effective_in_future", "this is later than now", "an entry can't be post-dated")
        return instant


_MIGRATE = "for another book's entries add --migrate"
_TOGETHER = "rows of one entry stand next to each other, and so do those of one group"


@dataclass(frozen=True, slots=True)
class _Said:
    """What a row says of its entry, beside the posting."""

    id: str
    subject: str | None
    evidence: Evidence | None
    effective_at: datetime | None
    metadata: Mapping[str, str]

    def post(self, postings: Sequence[Posting], *, waiting: frozenset[str]) -> Post:
        """The entry's command; `waiting` are the house's purposes from which no more is taken than is there."""
        debited = {_parts_of(posting.debit)[:2] for posting in postings} if waiting else ()
        return Post(
            id=self.id,
            postings=tuple(postings),
            covered=any(owner == HOUSE and purpose in waiting for owner, purpose in debited),
            subject=self.subject,
            evidence=self.evidence,
            effective_at=self.effective_at,
            metadata=self.metadata,
        )


class _Gathering:
    """The bundle whose rows are being read."""

    def __init__(self, name: str | None, entry: str, waiting: frozenset[str]) -> None:
        self._waiting = waiting
        self.name = name
        self.alone = entry
        self.line = 0
        self.rows = 0
        self.is_sound = True
        self.entries: list[Entry] = []
        self.ids: list[str] = []
        self.seen: set[str] = set()
        self.postings: list[Posting] = []
        self.entry_rows: list[Record] = []
        self._said: _Said | None = None

    def takes(self, name: str | None, entry: str) -> bool:
        """Whether a row of this group and id belongs here."""
        last = self.ids[-1] if self.ids else self.alone
        if name is None:
            return entry == last
        if name != self.name and entry == last:
            raise _Bad("group", "differs", "rows of one entry name different groups", "give all of them one group")
        return name == self.name

    def open_entry(self, entry: str, said: _Said, posting: Posting, row: Record) -> None:
        if not self.line:
            self.line = row.line
        self.ids.append(entry)
        self.seen.add(entry)
        self._said, self.postings, self.entry_rows = said, [posting], [row]

    def close_entry(self) -> None:
        if self._said is not None:
            self.entries.append(Entry(self._said.post(self.postings, waiting=self._waiting), tuple(self.entry_rows)))
            self._said = None


def _missing(column: str) -> _Bad:
    return _Bad(column, "missing", "this is empty", "every row needs it")


def _check_same(first: Record, row: Record) -> None:
    """Raise where a further row of an entry says something else of it than the first."""
    for column, cell in row.cells.items():
        if (column in ENTRY_COLUMNS or column.startswith(("metadata.", "evidence."))) and first.cells.get(
            column
        ) != cell:
            raise _Bad(
                column, "differs", "the entry's first row says something else", "say the same, or leave it empty"
            )


def _text(cells: Mapping[str, object], column: str) -> str | None:
    """A cell of text; None where there is none. Its length is checked with the group."""
    cell = cells.get(column)
    if cell is None or cell == "":
        return None
    if not isinstance(cell, str):
        raise _Bad(column, "not_text", f"{str(cell)[:40]!r} is no text", "put it into quotes")
    if not cell.isprintable() and any(char == "\0" or "\ud800" <= char <= "\udfff" for char in cell):
        raise _Bad(column, "bad_text", "a NUL character or half of a surrogate pair can't be stored", "take it out")
    return cell


@lru_cache(maxsize=65_536)
def _parts_of(account: str) -> tuple[str, str, str]:
    """Owner, purpose and asset; empty for what is no account's name."""
    try:
        return split_account_id(account)
    except InvalidCommand:
        return "", "", ""


@lru_cache(maxsize=4_096)
def _parse_instant(cell: object) -> datetime:
    if not isinstance(cell, str) or not _INSTANT.fullmatch(cell):
        raise ValueError
    return datetime.fromisoformat(cell).astimezone(UTC)


def _object(cells: Mapping[str, object], column: str, columns: Sequence[str]) -> dict[str, object]:
    """What a row says under `column`: an object, JSON text of one, or the parts in `columns` of their own."""
    cell = cells.get(column)
    prefix = f"{column}."
    parts = {name[len(prefix) :]: cells[name] for name in columns if name.startswith(prefix)}
    if cell is None:
        return parts
    if parts:
        raise _Bad(column, "differs", "this stands beside parts of its own", "use one of the two forms")
    if isinstance(cell, str):
        try:
            cell = json.loads(cell, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            cell = None
    if not isinstance(cell, dict):
        raise _Bad(column, f"bad_{column}", "this is no JSON object", 'write {"name": "value"}')
    return cell


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _metadata(said: Mapping[str, object]) -> Mapping[str, str]:
    for key, value in said.items():
        if not isinstance(value, str):
            raise _Bad(f"metadata.{key}", "bad_metadata", "a value of metadata is text", "put it into quotes")
    return said  # type: ignore[return-value] # just looked


def _evidence(said: Mapping[str, object]) -> Evidence | None:
    """The evidence that an entry names: of a chain, a bank, the signer or a rail, all of its parts."""
    if not said:
        return None
    if said.keys() not in (_CHAIN, _BANK, _SIGNER, _RAIL):
        raise _Bad(
            "evidence",
            "bad_evidence",
            f"evidence with {', '.join(sorted(said))[:200]} is neither of a chain or bank nor of a signer or rail",
            f"give {', '.join(sorted(_CHAIN))} or {', '.join(sorted(_BANK))}",
        )
    texts = {name: _evidence_text(said, name) for name in said.keys() - _NUMBERS.keys()}
    if said.keys() == _BANK:
        return BankEvidence(**texts, line=_number(said, "line"))
    if said.keys() == _RAIL:
        return RailEvidence(**texts)
    if said.keys() == _SIGNER:
        return SignerEvidence(**texts, journal_row=_number(said, "journal_row"))
    return ChainEvidence(**texts, block_number=_number(said, "block_number"))


def _evidence_text(said: Mapping[str, object], name: str) -> str:
    try:
        text = _text(said, name)
    except _Bad as found:
        raise _Bad(f"evidence.{name}", found.code, found.why, found.remedy) from None
    if text is None or len(text) > TEXT_MAX:
        raise _Bad(f"evidence.{name}", "bad_evidence", f"this has 1 to {TEXT_MAX} characters", "")
    return text


def _number(said: Mapping[str, object], name: str) -> int:
    cell = said[name]
    number = int(cell) if isinstance(cell, str) and _WHOLE.fullmatch(cell) else cell
    if type(number) is not int or not 0 <= number < _NUMBERS[name]:
        raise _Bad(f"evidence.{name}", "bad_evidence", f"{str(cell)[:40]!r} is no whole number for this", "")
    return number
