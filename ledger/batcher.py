"""Group commit: whoever waits is decided together, and while one batch is being written the next is decided.

No timer. Two connections: `reader` looks up what the next commands need, `writer` writes. Decisions are made ahead of
the book's lock, on what this process knows (`ledger.working`); the write takes the lock and does nothing unless the
book is exactly where those decisions begin. If another process was faster, or the database went away, everything that
was decided ahead is dropped and decided again under the lock. A COMMIT whose answer was lost is repeated with the same
ids, so that its callers get the outcome that stands, whichever it was.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Unavailable
from db.engine import driver, driver_of, tx
from ledger import store
from ledger.batch import Batch
from ledger.commands import Group
from ledger.errors import BookBusy, OutcomeUnknown
from ledger.outcomes import Outcome
from ledger.riders import Advance
from ledger.state import row_key
from ledger.store import Driver
from ledger.working import Missing, Working

BATCH_MAX = 1_000
"""Groups written in one tx at most; bounds how long the book's lock is held."""

STRETCH_MAX = 200
"""Groups decided in one go at most, so that the callers of small ones aren't kept waiting behind a bulk."""

LINGER_SECONDS = 0.2
"""How long the two connections are kept while nobody asks."""

LOCKED_BATCHES = 20
"""Batches decided under the lock after another process was faster, before deciding ahead is tried again."""

BUSY_ROW_ROUNDS = 200
"""How often a group whose rider's row another tx has locked is put back, about 10 ms apart."""

PARTITION_MARGIN = 1_000_000
"""Commands that must still fit into the partitions there are."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """Groups of one caller, decided next to each other, and where the answer goes."""

    groups: Sequence[Group]
    answer: "asyncio.Future[list[tuple[Outcome, ...]]]"
    rounds: int = 0


@dataclass(eq=False, slots=True)
class _Decided:
    """What was decided on a caller's groups and isn't committed yet."""

    waiting: _Waiting
    outcomes: list[tuple[Outcome, ...]]


class Batcher:
    """The one writer of one book in this process."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        clock: Clock,
        entropy: Entropy,
        retry_seconds: float,
        queue_max: int,
    ) -> None:
        self._engine = engine
        self._book = book
        self._clock = clock
        self._entropy = entropy
        self._retry_seconds = retry_seconds
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._working: Working | None = None
        self._extended_to = 0
        self._locked_left = 0
        self._loading: list[_Waiting] = []
        self._open: list[_Decided] = []
        self._writing: asyncio.Task[None] | None = None
        self._in_flight: list[_Decided] = []
        self._in_flight_ids: set[str] = set()
        self._failure: Exception | None = None
        self.decided: Counter[str] = Counter()
        self.batches: Counter[str] = Counter()

    async def submit(self, groups: Sequence[Group]) -> list[tuple[Outcome, ...]]:
        """Each group's outcomes once they are durable. Raises BookBusy and OutcomeUnknown."""
        if not groups:
            return []
        if self._queued + len(groups) > self._queue_max:
            raise BookBusy("too many commands are waiting; try again in a second", retry_after=1)
        loop = asyncio.get_running_loop()
        parts = [
            _Waiting(groups[start : start + STRETCH_MAX], loop.create_future())
            for start in range(0, len(groups), STRETCH_MAX)
        ]
        self._queue.extend(parts)
        self._queued += len(groups)
        self._stirred.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        if len(parts) == 1:
            return await parts[0].answer
        answers = await asyncio.gather(*(part.answer for part in parts))
        return [outcomes for answer in answers for outcomes in answer]

    # The loop

    async def _run(self) -> None:
        """Commit batches until nobody waits. A cancelled caller's command is decided all the same."""
        try:
            while self._queue or self._open or self._in_flight:
                try:
                    if self._locked_left or not await self._ahead():
                        await self._locked(self._take(BATCH_MAX))
                        self._locked_left = max(0, self._locked_left - 1)
                except Exception as error:
                    await self._start_over(error)
        except BaseException:
            self._answer_stopped()
            raise

    async def _ahead(self) -> bool:
        """Decide ahead and write behind until nobody waits; False if what waits first needs the book's lock."""
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(driver(self._engine))
            writer = await stack.enter_async_context(driver(self._engine))
            await self._begin(reader)
            while True:
                if self._failure is not None:
                    raise self._failure
                if self._queue and _compares(self._queue[0]):
                    await self._written()
                    return False
                if self._queue and sum(len(d.waiting.groups) for d in self._open) < BATCH_MAX:
                    await self._decide(reader, self._take(self._stretch(), ahead=True))
                    if self._writing is None:
                        self._writing = asyncio.get_running_loop().create_task(self._write_all(writer))
                elif self._writing is not None:
                    self._stirred.clear()
                    await self._stirred.wait()
                elif not await self._linger():
                    return True

    def _stretch(self) -> int:
        """How many groups to decide next: half of those who wait if nothing is being written.

        So two halves of the callers soon take turns, one decided while the other is written.
        """
        return STRETCH_MAX if self._writing is not None else max(1, min(STRETCH_MAX, (self._queued + 1) // 2))

    async def _linger(self) -> bool:
        """Whether somebody came within the time that connections are kept."""
        self._stirred.clear()
        if self._queue:
            return True
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self._stirred.wait()
        except TimeoutError:
            return False
        return True

    async def _written(self) -> None:
        """Until all that was decided ahead is committed."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        if self._failure is not None:
            raise self._failure

    def _take(self, most: int, *, ahead: bool = False) -> list[_Waiting]:
        """The next of those who wait, about `most` groups; `ahead`: only such as can be decided without the lock."""
        taken: list[_Waiting] = []
        count = 0
        while self._queue and count < most and not (ahead and taken and _compares(self._queue[0])):
            waiting = self._queue.popleft()
            count += len(waiting.groups)
            taken.append(waiting)
        self._queued -= count
        return taken

    # Ahead of the lock

    async def _begin(self, reader: Driver) -> None:
        """Make a working state of where the book stands now, unless ours stands there already."""
        head = await store.read_head(reader, self._book)
        if self._working is None or self._working.seq != head.seq:
            self._working = Working(self._book, head, await store.load_frozen(reader, head.number), self.decided)

    async def _decide(self, reader: Driver, taken: list[_Waiting]) -> None:
        working = self._working
        assert working is not None
        self._loading = taken
        groups = [group for waiting in taken for group in waiting.groups]
        await self._make_room(reader, working)
        await load(reader, working, groups)
        if self._failure is not None:
            raise self._failure
        try:
            outcomes = iter(working.decide(groups, now=self._clock.now(), salt=self._salt))
        except Exception as error:
            self._failure = error  # the open batch is half done: nobody may write it
            raise
        self._open.extend(_Decided(waiting, [next(outcomes) for _ in waiting.groups]) for waiting in taken)
        self._loading = []

    async def _make_room(self, reader: Driver, working: Working) -> None:
        if working.seq + PARTITION_MARGIN > self._extended_to:
            self._extended_to = await store.extend(reader, working.number)

    def _salt(self) -> bytes:
        return self._entropy.draw(16)

    async def _write_all(self, writer: Driver) -> None:
        """Write what is decided, batch after batch, and answer; whatever goes wrong is left to `_start_over`."""
        working = self._working
        assert working is not None
        try:
            while self._open and self._failure is None:
                self._in_flight, self._open = self._open, []
                batch = working.flush()
                self._in_flight_ids = set(batch.ids)
                if batch.ids and not await self._write(writer, working, batch):
                    self._locked_left = LOCKED_BATCHES
                    raise _Overtaken
                in_flight, self._in_flight, self._in_flight_ids = self._in_flight, [], set()
                for item in in_flight:
                    _answer(item.waiting, item.outcomes)
                self.batches["ahead"] += 1
                self._stirred.set()
        except Exception as error:
            self._failure = error
        finally:
            self._writing = None
            self._stirred.set()

    async def _write(self, writer: Driver, working: Working, batch: Batch) -> bool:
        return await store.write(
            writer, batch, number=working.number, closed_until=working.closed_until, accounts=working.accounts_opened
        )

    # Under the lock

    async def _start_over(self, error: Exception) -> None:
        """Decide again, under the lock, all that was decided ahead and isn't known to be committed."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        sent = set() if isinstance(error, _Overtaken) else self._in_flight_ids
        taken = [item.waiting for item in (*self._in_flight, *self._open)] + self._loading
        self._failure, self._working = None, None
        self._in_flight, self._open, self._loading, self._in_flight_ids = [], [], [], set()
        if not taken and not isinstance(error, _Overtaken):
            taken = self._take(BATCH_MAX)  # it failed before anything was taken: those who wait must learn it
        await self._locked(taken, sent)

    async def _locked(self, taken: list[_Waiting], sent: Collection[str] = ()) -> None:
        """Decide a batch under the lock and answer its callers. A group that can't be written fails alone.

        `sent` are ids that we ourselves have sent before, in a COMMIT whose answer was lost.
        """
        if not taken:
            return
        try:
            decided = await self._commit_for_sure(taken, set(sent))
        except Unavailable as error:
            _answer_all(taken, error)
            return
        except Exception as error:
            if len(taken) == 1 and len(taken[0].groups) == 1:
                _answer_all(taken, error)
                return
            for item in taken:
                await self._one_by_one(item, sent)
            return
        self._answer_or_put_back(taken, decided)
        if all(outcomes is None for outcomes in decided):
            await asyncio.sleep(0.01)  # only locked rows are left: give their owner time

    async def _one_by_one(self, waiting: _Waiting, sent: Collection[str]) -> None:
        """Decide a caller's groups each in a tx of its own; the caller hears the first that can't be written."""
        loop = asyncio.get_running_loop()
        parts = [_Waiting((group,), loop.create_future()) for group in waiting.groups]
        for part in parts:
            await self._locked([part], sent)
            if not part.answer.done():  # put back: a row is locked elsewhere
                self._queue.remove(part)
                self._queued -= 1
                part.answer.set_exception(BookBusy("a row that this needs is locked; try again", retry_after=1))
        failed = [error for part in parts if (error := part.answer.exception()) is not None]
        if failed:
            _answer_all([waiting], failed[0])
        else:
            _answer(waiting, [part.answer.result()[0] for part in parts])

    def _answer_or_put_back(
        self, taken: Sequence[_Waiting], decided: Sequence[list[tuple[Outcome, ...]] | None]
    ) -> None:
        put_back = []
        for item, outcomes in zip(taken, decided, strict=True):
            if outcomes is not None:
                _answer(item, outcomes)
            elif item.rounds < BUSY_ROW_ROUNDS:
                item.rounds += 1
                put_back.append(item)
            else:
                _answer_all([item], BookBusy("a row that this needs stayed locked; nothing was written", retry_after=1))
        self._queue.extendleft(reversed(put_back))
        self._queued += sum(len(item.groups) for item in put_back)

    async def _commit_for_sure(
        self, taken: Sequence[_Waiting], sent: set[str]
    ) -> list[list[tuple[Outcome, ...]] | None]:
        """Commit a batch, sending the same ids again while the database is away: a lost COMMIT may have happened."""
        deadline = time.monotonic() + self._retry_seconds
        pause = 0.02
        while True:
            try:
                earlier = frozenset(sent)
                return _as_first(taken, await self._commit(taken, sent), earlier)
            except Unavailable as error:
                self._working = None
                if time.monotonic() + pause > deadline:
                    raise OutcomeUnknown(
                        "the database went away; the outcome is unknown, send the same id again", retry_after=1
                    ) from error
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def _commit(self, taken: Sequence[_Waiting], sent: set[str]) -> list[list[tuple[Outcome, ...]] | None]:
        """One tx: lock, load, decide, write. None stands for a caller whose rider's row is locked elsewhere.

        The ids decided here go into `sent`: if this COMMIT's answer is lost, their repeat is no replay to its caller.
        """
        async with tx(self._engine) as connection:
            head = await store.lock_book(connection, self._book)
            raw = await driver_of(connection)
            working = self._working
            if working is None or working.seq != head.seq:
                working = Working(self._book, head, await store.load_frozen(raw, head.number), self.decided)
            self._working = None  # until this is committed
            await self._make_room(raw, working)
            riders = [rider for item in taken for group in item.groups for rider in group.riders]
            rows, busy = await store.load_rows(connection, riders)
            ready = [
                item
                for item in taken
                if not any(row_key(r.table, r.key) in busy for group in item.groups for r in group.riders)
            ]
            groups = [group for item in ready for group in item.groups]
            await load(raw, working, groups)
            working.rows.update(rows)
            outcomes = working.decide(groups, now=self._clock.now(), salt=self._salt)
            batch = working.flush()
            if batch.ids:
                sent.update(batch.ids)
                riding, batch.riders = batch.riders, []
                await self._write(raw, working, batch)
                await store.write_riders(connection, riding)
        self._working = working
        self.batches["locked"] += 1
        rest = iter(outcomes)
        answers = {id(item): [next(rest) for _ in item.groups] for item in ready}
        return [answers.get(id(item)) for item in taken]

    def _answer_stopped(self) -> None:
        """The service is stopping: nobody may wait for ever."""
        waiting = [item.waiting for item in (*self._in_flight, *self._open)] + self._loading + list(self._queue)
        _answer_all(waiting, OutcomeUnknown("the service is stopping; send the same id again"))
        self._queue.clear()
        self._queued = 0
        self._in_flight, self._open, self._loading, self._working = [], [], [], None
        if self._writing is not None:
            self._writing.cancel()


class _Overtaken(Exception):
    """Another process wrote to the book first."""


async def load(raw: Driver, working: Working, groups: Sequence[Group]) -> None:
    """Load what deciding these groups needs."""
    missing = working.prepare(groups)
    number = working.number
    found = await store.find_ids(raw, number, (*missing.ids, *missing.holds))
    own = set(missing.ids)
    repeated = [seq for name, seq in found.items() if name in own]
    for outcome in await store.load_outcomes(raw, number, repeated):
        working.recent.young[outcome.id] = outcome
    while True:
        await _load_missing(raw, working, missing, found)
        missing = working.missing(groups)
        if not missing:
            return


async def _load_missing(raw: Driver, working: Working, missing: Missing, found: dict[str, int]) -> None:
    if missing.holds:
        seqs = {name: found[name] for name in missing.holds if name in found}
        holds = await store.load_holds(raw, working.number, seqs)
        working.holds.young.update(holds)
        working.set_absent(missing.holds - holds.keys())
    if missing.accounts:
        slots = await store.load_slots(raw, working.number, missing.accounts)
        for slot in slots:
            working.add_slot(slot)
        working.set_absent(missing.accounts - {slot.name for slot in slots})
    if missing.entries:
        reversed_ = await store.load_reversed(raw, working.number, missing.entries)
        working.reversed.young.update({str(entry): reversed_.get(entry, {}) for entry in missing.entries})
    if missing.counters:
        counters = await store.load_counters(raw, working.number, missing.counters)
        working.counters.young.update({**dict.fromkeys(missing.counters, 0), **counters})


def _compares(waiting: _Waiting) -> bool:
    """Whether a row that rides along must be compared, which takes the book's lock first."""
    return any(isinstance(rider, Advance) for group in waiting.groups for rider in group.riders)


def _as_first(
    taken: Sequence[_Waiting], answers: list[list[tuple[Outcome, ...]] | None], sent: frozenset[str]
) -> list[list[tuple[Outcome, ...]] | None]:
    """The answers, those that we ourselves sent before a lost COMMIT no longer marked as replays.

    Of several groups with one id only the one that was decided then is the first, told by its place and its subject.
    """
    unclaimed = set(sent)
    for item, outcomes in zip(taken, answers, strict=True):
        for place, group in enumerate(item.groups):
            if outcomes is None:
                break
            subjects = [command.subject for command in group.commands]
            if subjects == [outcome.subject for outcome in outcomes[place]]:
                ours = {outcome.id for outcome in outcomes[place]} & unclaimed
                unclaimed -= ours
                outcomes[place] = tuple(replace(o, replayed=o.replayed and o.id not in ours) for o in outcomes[place])
    return answers


def _answer(item: _Waiting, outcomes: list[tuple[Outcome, ...]]) -> None:
    if not item.answer.done():
        item.answer.set_result(outcomes)


def _answer_all(items: Sequence[_Waiting], error: BaseException) -> None:
    for item in items:
        if not item.answer.done():
            item.answer.set_exception(error)
