"""Taking a file of entries into the book: check the whole of it first, then submit it in bulk, in its own order.

An entry's id makes the command's id, so a file may be taken in again at any time: what was booked stays as it is and
what is missing is added. What the book refused is tried again under the id of its next attempt. Memory holds what is
in flight and nothing of the rest.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import count
from operator import attrgetter

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from base.errors import Unavailable
from db.engine import driver_of, tx
from ledger import reading, store
from ledger.asking import ATTEMPTS_MAX, refusal_of
from ledger.commands import Group, OpenAccount
from ledger.engine import Ledger
from ledger.errors import BadFile
from ledger.importing import Bundle, Entry, Parser
from ledger.money import Asset, format_amount
from ledger.outcomes import Outcome, Refusal
from ledger.repeats import Repeats
from ledger.requests import worker_id
from ledger.rowfiles import Fault
from ledger.tables import accounts

CHUNK = 1_000
"""Commands submitted together, until a group goes beyond."""

IN_FLIGHT_MAX = 4_000
"""Commands submitted and not answered, unless one chunk alone has more."""

_BREATH = 100
"""Bundles read without a pause: the book's writer works in the same process."""

FAULTS_KEPT = 100
"""Faults that are told; the others are only counted."""

NAMES_KEPT = 100_000
"""Accounts that are remembered as looked up, or as opened."""

RETRY_SECONDS = 60.0
"""How long a chunk is sent again while the database doesn't answer."""

_SUMS = ("required", "available")
"""Facts of a refusal that are smallest units of the account's asset."""

_ENTRY, _GROUP = 0, 1
_LINE = attrgetter("line")


# Checking


@dataclass(slots=True)
class Checked:
    """What a file would bring, and what is wrong with it: the first faults, and how many there are."""

    rows: int = 0
    entries: int = 0
    faults: int = 0
    first_faults: list[Fault] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return self.faults == 0

    def add(self, fault: Fault) -> None:
        self.faults += 1
        if len(self.first_faults) < FAULTS_KEPT:
            self.first_faults.append(fault)


async def check_file(
    inquiry: "Inquiry", parsed: Iterable[Bundle | Fault], parser: Parser, *, told: Callable[[int], None]
) -> Checked:
    """Read a file to its end and write nothing. `told` hears of each further number of rows.

    Raises BadFile where the file can't be read on.
    """
    checked = Checked()
    done = 0
    for item in parsed:
        if isinstance(item, Fault):
            checked.add(item)
        else:
            inquiry.add(item)
        if parser.rows - done >= CHUNK:
            told(parser.rows - done)
            done = parser.rows
        if inquiry.size >= CHUNK:
            for fault in await inquiry.faults():
                checked.add(fault)
    told(parser.rows - done)
    for fault in await inquiry.faults():
        checked.add(fault)
    more, repeated = inquiry.repeated()
    checked.rows, checked.entries, checked.faults = parser.rows, parser.entries, checked.faults + more
    checked.first_faults = sorted(checked.first_faults + repeated, key=_LINE)[:FAULTS_KEPT]
    return checked


class Inquiry:
    """What rows alone don't tell: whether the accounts are open, whether the book made this very entry itself, and
    whether an entry or a group stands twice in the file. A context. `opens`: missing accounts will be opened.
    """

    def __init__(self, engine: AsyncEngine, book: str, *, opens: bool) -> None:
        self._engine = engine
        self._book = book
        self._opens = opens
        self._repeats = Repeats()
        self._seen: set[str] = set()
        self._accounts: dict[str, tuple[int, str]] = {}
        self._ids: dict[str, int] = {}

    def __enter__(self) -> "Inquiry":
        self._repeats.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._repeats.__exit__()

    @property
    def size(self) -> int:
        """Entries of which the book hasn't been asked yet."""
        return len(self._ids)

    def add(self, bundle: Bundle) -> None:
        if bundle.name is not None:
            self._repeats.add(_GROUP, bundle.name, bundle.line)
        for entry in bundle.entries:
            self._repeats.add(_ENTRY, entry.id, entry.rows[0].line)
            self._ids[entry.id] = entry.rows[0].line
        if not self._opens:
            for account, line, column in bundle.accounts():
                if account not in self._seen:
                    self._accounts.setdefault(account, (line, column))

    async def faults(self) -> list[Fault]:
        """What the book says of what was added since the last time, by line."""
        if not self._ids:
            return []
        async with tx(self._engine) as connection:
            number = await reading.book_number(connection, self._book)
            known = await store.find_ids(await driver_of(connection), number, self._ids)
            named = select(accounts.c.name, accounts.c.closed).where(
                accounts.c.book == number, accounts.c.name.in_(list(self._accounts))
            )
            closed: dict[str, bool] = {}
            if self._accounts:
                closed = {row.name: row.closed for row in await connection.execute(named)}
        found = [
            Fault(
                line,
                "id",
                "already_in_book",
                f"{name[:100]!r} is an entry that this book made itself",
                "an export isn't taken in by the book that it came from",
            )
            for name, line in self._ids.items()
            if name in known
        ]
        for account, (line, column) in self._accounts.items():
            if account not in closed:
                found.append(Fault(line, column, "unknown_account", f"{account} isn't open", "open it, or add --open"))
            elif closed[account]:
                found.append(Fault(line, column, "account_closed", f"{account} is closed", "name another account"))
        if len(self._seen) > NAMES_KEPT:
            self._seen.clear()
        self._seen.update(self._accounts)
        self._accounts.clear()
        self._ids.clear()
        return sorted(found, key=_LINE)

    def repeated(self) -> tuple[int, list[Fault]]:
        """How many entries and groups stood in the file before, and the first of them. To be asked at the end."""
        counter = count()
        found = (record for record, _ in zip(self._repeats.found(), counter, strict=False))
        first = nsmallest(FAULTS_KEPT, (_repeated(*record) for record in found), key=_LINE)
        return next(counter), first


def _repeated(kind: int, line: int, before: int) -> Fault:
    column, what = ("group", "group") if kind == _GROUP else ("id", "entry")
    return Fault(
        line,
        column,
        f"repeated_{column}",
        f"this {what} stands on line {before:,} already",
        f"put its rows next to each other, or give this one a {column} of its own",
    )


# Importing


@dataclass(slots=True)
class Tally:
    """How far an import came: rows decided, entries by what became of them, the last line decided.

    `known` were booked by an earlier run. `fault` is the row that an unchecked import stopped at, `repeated` is how
    many entries and groups stood there twice, of which only the first was booked.
    """

    rows: int = 0
    booked: int = 0
    known: int = 0
    refused: int = 0
    line: int = 0
    fault: Fault | None = None
    repeated: int = 0
    first_repeated: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class _Flight:
    """A chunk that was submitted; without a task it has to be submitted again."""

    bundles: Sequence[Bundle]
    task: "asyncio.Task[list[tuple[Outcome, ...]]] | None"
    commands: int


class Importer:
    """Submits bundles in their order. `refused` hears of each entry that the book refused, `told` of rows decided.

    `opens`: accounts are opened before the first entry that names them. `inquiry` asks of what no check has asked.
    `tally` may be read at any time.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        opens: bool,
        refused: Callable[[Entry, Refusal], None],
        told: Callable[[int], None],
        inquiry: Inquiry | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.tally = Tally()
        self._ledger = ledger
        self._opens = opens
        self._refused = refused
        self._told = told
        self._inquiry = inquiry
        self._retry_seconds = retry_seconds
        self._opened: set[str] = set()

    async def run(self, parsed: Iterable[Bundle | Fault]) -> Tally:
        """Submit all that is parsed, up to the first faulty row. Raises Unavailable when the database stays away."""
        flights: deque[_Flight] = deque()
        try:
            async for chunk in self._chunks(parsed):
                if not chunk:
                    continue
                commands = sum(len(bundle.entries) for bundle in chunk)
                while flights and commands + sum(flight.commands for flight in flights) > IN_FLIGHT_MAX:
                    self._settle(flights[0].bundles, await self._landed(flights))
                task = asyncio.create_task(self._decide(chunk))
                flights.append(_Flight(chunk, task, commands))
                await asyncio.sleep(0)  # it takes its place in the queue now, before the next one
            while flights:
                self._settle(flights[0].bundles, await self._landed(flights))
        finally:
            for flight in flights:
                if flight.task is not None:
                    flight.task.cancel()
        if self._inquiry is not None:
            self.tally.repeated, self.tally.first_repeated = self._inquiry.repeated()
        return self.tally

    async def _chunks(self, parsed: Iterable[Bundle | Fault]) -> AsyncIterator[list[Bundle]]:
        chunk: list[Bundle] = []
        size = 0
        for number, item in enumerate(_through(parsed)):
            if isinstance(item, Fault):
                self.tally.fault = item
                break
            chunk.append(item)
            size += len(item.entries)
            if size >= CHUNK:
                yield await self._sound(chunk)
                if self.tally.fault is not None:
                    return
                chunk, size = [], 0
            elif number % _BREATH == 0:
                await asyncio.sleep(0)
        yield await self._sound(chunk)

    async def _sound(self, chunk: list[Bundle]) -> list[Bundle]:
        """The chunk, or what stands before the first row of it with which something is wrong."""
        if self._inquiry is None:
            return chunk
        for bundle in chunk:
            self._inquiry.add(bundle)
        for fault in await self._inquiry.faults():
            self.tally.fault = fault
            return [bundle for bundle in chunk if bundle.entries[-1].rows[-1].line < fault.line]
        return chunk

    async def _landed(self, flights: deque[_Flight]) -> list[tuple[Outcome, ...]]:
        """The outcomes of the first flight, which is taken off.

        If it failed, those behind it are submitted again as well: they may have been decided without what it books.
        """
        flight = flights[0]
        outcomes: list[tuple[Outcome, ...]] | None = None
        if flight.task is not None:
            try:
                outcomes = await flight.task
            except Unavailable:
                await asyncio.gather(*(other.task for other in flights if other.task), return_exceptions=True)
                for other in flights:
                    other.task = None
        if outcomes is None:
            outcomes = await self._again(flight.bundles)
        flights.popleft()
        return outcomes

    async def _again(self, bundles: Sequence[Bundle]) -> list[tuple[Outcome, ...]]:
        """Submit a chunk until the database answers, for a bounded time."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._retry_seconds, 0.1
        while True:
            self._opened.clear()
            try:
                return await self._decide(bundles)
            except Unavailable:
                if loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    async def _decide(self, bundles: Sequence[Bundle]) -> list[tuple[Outcome, ...]]:
        """The outcomes of these bundles, each under the first attempt's ids that weren't refused by an earlier run."""
        outcomes: list[tuple[Outcome, ...]] = [()] * len(bundles)
        waiting = list(range(len(bundles)))
        opening = self._opening(bundles) if self._opens else []
        for attempt in range(1, ATTEMPTS_MAX + 1):
            groups = [bundles[index].attempt(attempt) for index in waiting]
            decided = (await self._ledger.submit(*opening, *groups))[len(opening) :]
            again = []
            for index, found in zip(waiting, decided, strict=True):
                outcomes[index] = found
                if found[0].replayed and refusal_of(found) is not None:
                    again.append(index)
            if not again:
                break
            waiting, opening = again, []
        return outcomes

    def _opening(self, bundles: Sequence[Bundle]) -> list[Group]:
        """Groups that open the accounts which haven't been opened yet; one that is open already stays as it is."""
        named = dict.fromkeys(account for bundle in bundles for account, _, _ in bundle.accounts())
        missing = [account for account in named if account not in self._opened]
        if len(self._opened) > NAMES_KEPT:
            self._opened.clear()
        self._opened.update(missing)
        return [Group((OpenAccount(id=worker_id("open", account), account=account),)) for account in missing]

    def _settle(self, bundles: Sequence[Bundle], decided: Sequence[tuple[Outcome, ...]]) -> None:
        rows = 0
        for bundle, outcomes in zip(bundles, decided, strict=True):
            rows += bundle.rows
            if refusal_of(outcomes) is None:
                if outcomes[0].replayed:
                    self.tally.known += len(outcomes)
                else:
                    self.tally.booked += len(outcomes)
                continue
            self.tally.refused += len(outcomes)
            for entry, outcome in zip(bundle.entries, outcomes, strict=True):
                if outcome.refusal is not None:
                    self._refused(entry, outcome.refusal)
        self.tally.rows += rows
        self.tally.line = bundles[-1].entries[-1].rows[-1].line
        self._told(rows)


def _through(parsed: Iterable[Bundle | Fault]) -> Iterator[Bundle | Fault]:
    """What is parsed, and a fault where the file can't be read on."""
    try:
        yield from parsed
    except BadFile as error:
        line = error.facts.get("line", 0)
        yield Fault(line if isinstance(line, int) else 0, None, error.code, error.message, "")


def facts_text(refusal: Refusal, assets: Mapping[str, Asset]) -> dict[str, str]:
    """A refusal's facts as a file says them: sums as decimal strings in the account's asset."""
    asset = assets.get(str(refusal.facts.get("account", "")).rpartition("/")[2])
    return {
        name: format_amount(fact, asset) if name in _SUMS and asset is not None and isinstance(fact, int) else str(fact)
        for name, fact in refusal.facts.items()
    }
