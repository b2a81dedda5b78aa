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
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base import tracing
from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError, Unavailable
from db.engine import Driver, driver, driver_of, tx
from db.errors import PoolExhausted, UniqueBroken, translate
from ledger import store
from ledger.batch import Batch
from ledger.commands import Group
from ledger.commit_spans import commit_span
from ledger.errors import BookBusy, BookCorrupt, OutcomeUnknown
from ledger.known import Head, Missing
from ledger.outcomes import Outcome
from ledger.seen import Seen
from ledger.state import row_key
from ledger.waiting import (
    STRETCH_MAX,
    Attempt,
    Contended,
    Decided,
    Overlooked,
    Overtaken,
    Waiting,
    answer,
    answer_error,
    answer_failed,
    as_first,
    compares,
    is_conflict,
    may_have_happened,
    parts_of,
)
from ledger.working import Working

BATCH_MAX = 1_000
"""Commands written in one tx, until a caller's own stretch goes beyond; bounds how long the book's lock is held."""

LINGER_SECONDS = 0.2
"""How long the two connections are kept while nobody asks."""

LOCKED_BATCHES = 20
"""Batches decided under the lock after another process was faster, before deciding ahead is tried again."""

LOOKUPS = 1_000
"""Stretches decided with ids, or rows that ride along, looked for, after one that was taken for new wasn't."""

BUSY_ROW_ROUNDS = 200
"""How often a group whose rider's row another tx has locked is put back, about 10 ms apart."""

CONFLICTS_MAX = 3
"""How often a batch runs into others' locks, with the book's lock in hand, before its groups are written one by one."""

PARTITION_MARGIN = 1_000_000
"""Commands that must still fit into the partitions there are."""

TROUBLE_SECONDS = 10
"""How long the book counts as in trouble after a write failed for want of a database."""


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
        self._queue: deque[Waiting] = deque()
        self._queued = 0
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._working: Working | None = None
        self._extended_to = 0
        self._locked_left = 0
        self._id_lookups_left = 0
        self._row_lookups_left = 0
        self._seen = Seen()
        self._loading: list[Waiting] = []
        self._open: list[Decided] = []
        self._writing: asyncio.Task[None] | None = None
        self._in_flight: list[Decided] = []
        self._under_lock: Sequence[Waiting] = ()
        self._failure: Exception | None = None
        self._altered: set[int] = set()
        self._trouble: str | None = None
        self._trouble_until: float = 0  # of the monotonic clock
        self._is_closing = False
        self.decided: Counter[str] = Counter()
        self.batches: Counter[str] = Counter()

    async def submit(self, groups: Sequence[Group]) -> list[tuple[Outcome, ...]]:
        """Each group's outcomes once they are durable. Raises BookBusy, OutcomeUnknown and what a database lacks."""
        if not groups:
            return []
        loop = asyncio.get_running_loop()
        parts = parts_of(groups, loop)
        size = sum(part.size for part in parts)
        if tracing.active is not None:
            here = tracing.active.here()
            for part in parts:
                part.place = here
        if self._is_closing:
            raise BookBusy("the service is stopping; nothing was written", retry_after=1)
        if self._queued + size > self._queue_max:
            raise BookBusy(
                f"more than {self._queue_max} commands would wait; try again in a second, or send fewer at once",
                retry_after=1,
            )
        self._queue.extend(parts)
        self._queued += size
        self._stirred.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        if len(parts) == 1:
            return await parts[0].answer
        answers = await asyncio.gather(*(part.answer for part in parts))
        return [outcomes for answer in answers for outcomes in answer]

    async def aclose(self, *, seconds: float) -> None:
        """Take no more; write what waits, for at most `seconds`; then whoever still waits is told so."""
        self._is_closing = True
        self._stirred.set()
        if self._task is None or self._task.done():
            return
        await asyncio.wait({self._task}, timeout=seconds)
        if not self._task.done():
            if self._writing is not None:
                self._writing.cancel()
            self._task.cancel()
            await asyncio.wait({self._task})

    @property
    def trouble(self) -> str | None:
        """The code of the error for which the book couldn't be written lately, None if it could."""
        return self._trouble if time.monotonic() < self._trouble_until else None

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
            stack.push_async_callback(self._let_go)
            await self._begin(reader)
            while True:
                if self._failure is not None:
                    raise self._failure
                if self._queue and compares(self._queue[0]):
                    await self._written()
                    return False
                if self._queue and sum(decided.waiting.size for decided in self._open) < BATCH_MAX:
                    await self._decide(reader, self._take(self._stretch(), ahead=True))
                    if self._writing is None:
                        self._writing = asyncio.get_running_loop().create_task(self._write_all(writer))
                elif self._writing is not None:
                    self._encode_ahead()
                    self._stirred.clear()
                    await self._stirred.wait()
                elif not await self._linger():
                    return True

    def _encode_ahead(self) -> None:
        """Make the open batch's columns while the one before it is being written: nothing else is to be done."""
        if self._open and self._working is not None:
            self._working.batch.encode()

    async def _let_go(self) -> None:
        """Until nothing is being written: giving the writer's connection back would break it off."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def _stretch(self) -> int:
        """How many commands to decide next: half of those that wait if nothing is being written.

        So two halves of the callers soon take turns, one decided while the other is written.
        """
        return STRETCH_MAX if self._writing is not None else max(1, min(STRETCH_MAX, (self._queued + 1) // 2))

    async def _linger(self) -> bool:
        """Whether somebody came within the time that connections are kept."""
        if self._queue:
            return True
        if self._is_closing:
            return False
        self._stirred.clear()
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self._stirred.wait()
        except TimeoutError:
            return False
        return True

    async def _written(self) -> None:
        """Until all that was decided ahead is committed."""
        await self._let_go()
        if self._failure is not None:
            raise self._failure

    def _take(self, most: int, *, ahead: bool = False) -> list[Waiting]:
        """The next of those who wait, about `most` commands; `ahead`: only such as can be decided without the lock."""
        taken: list[Waiting] = []
        size = 0
        while self._queue and size < most and not (ahead and taken and compares(self._queue[0])):
            waiting = self._queue.popleft()
            size += waiting.size
            taken.append(waiting)
        self._queued -= size
        return taken

    # Ahead of the lock

    async def _begin(self, reader: Driver) -> None:
        """Make a working state of where the book stands now, unless ours stands there already."""
        head = await store.read_head(reader, self._book)
        self._working = await self._working_at(reader, head)

    async def _working_at(self, raw: Driver, head: Head) -> Working:
        """Our working state if it stands at `head`, else a new one."""
        working = self._working
        if working is None or working.seq != head.seq:
            working = Working(self._book, head, await store.load_frozen(raw, head.number), self.decided)
            working.altered = self._altered
            working.seen = self._seen
        return working

    async def _decide(self, reader: Driver, taken: list[Waiting]) -> None:
        working = self._working
        assert working is not None
        self._loading = taken
        groups = [group for waiting in taken for group in waiting.groups]
        await self._make_room(reader, working)
        await load(reader, working, groups, trusting=self._id_lookups_left == 0)
        self._id_lookups_left = max(0, self._id_lookups_left - 1)
        trusts_rows = self._row_lookups_left == 0
        if not trusts_rows:
            self._row_lookups_left -= 1
            if unknown := working.unknown_rows(groups):
                working.rows.young.update(await store.find_rows(reader, unknown))
        if self._failure is not None:
            raise self._failure
        try:
            decided = working.decide(groups, now=self._clock.now(), salt=self._salt)
            if trusts_rows and any(map(_needs_rows, groups, decided)):
                raise Overlooked
        except Exception as error:
            self._failure = error  # the open batch is half done: nobody may write it
            raise
        outcomes = iter(decided)
        self._open.extend(Decided(waiting, [next(outcomes) for _ in waiting.groups]) for waiting in taken)
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
                if batch.ids:
                    with commit_span((item.waiting for item in self._in_flight), way="ahead") as span:
                        is_written = await self._write(writer, working, batch)
                        span.set("onebook.commit.lines", len(batch.lines))
                        if not is_written:
                            self._locked_left = LOCKED_BATCHES
                            raise Overtaken
                working.durable = batch.through
                in_flight, self._in_flight = self._in_flight, []
                for item in in_flight:
                    answer(item.waiting, item.outcomes)
                self._note_success("ahead")
                self._stirred.set()
        except Exception as raised:
            self._failure = translate(raised) or raised
            if may_have_happened(self._failure):
                for item in self._in_flight:
                    item.note_lost()
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
        for waiting in self._under_lock:
            answer_error(waiting, error)
        for cause in (error, self._failure):
            self._note_altered(cause)
            if isinstance(cause, UniqueBroken):
                self._id_lookups_left = LOOKUPS
            if isinstance(cause, UniqueBroken | Overlooked):
                self._row_lookups_left = LOOKUPS
        if isinstance(error, PoolExhausted):
            self._locked_left = LOCKED_BATCHES  # that needs one connection only
        taken = [item.waiting for item in (*self._in_flight, *self._open)] + self._loading
        self._failure, self._working = None, None
        self._in_flight, self._open, self._loading, self._under_lock = [], [], [], ()
        if not taken and not isinstance(error, Overtaken):
            taken = self._take(BATCH_MAX)  # it failed before anything was taken: those who wait must learn it
        await self._locked(taken)

    async def _locked(self, taken: Sequence[Waiting]) -> None:
        """Decide a batch under the lock and answer its callers. A group that can't be written fails alone."""
        if not taken:
            return
        self._under_lock = taken
        try:
            decided = await self._commit_for_sure(taken)
        except Unavailable as error:
            self._answer_unavailable(taken, error)
        except Exception as error:
            if len(taken) == 1 and len(taken[0].groups) == 1:
                answer_error(taken[0], error)
            else:
                await self._apart(taken)
        else:
            self._answer_or_put_back(taken, decided)
            if all(outcomes is None for outcomes in decided):
                await asyncio.sleep(0.01)  # only locked rows are left: give their owner time
        self._under_lock = ()

    async def _apart(self, taken: Sequence[Waiting]) -> None:
        """Decide each group in a tx of its own. A caller hears the first of its groups that can't be written."""
        self.batches["apart"] += 1
        for place, item in enumerate(taken):
            answers: list[tuple[Outcome, ...] | None] = []
            failed: Exception | None = None
            written = Decided(item, [])
            for group in item.groups:
                try:
                    [outcomes] = await self._commit_for_sure([replace(item, groups=(group,))])
                except Unavailable as error:
                    written.note_lost()
                    self._answer_unavailable(taken[place:], error)
                    return
                except Exception as error:
                    failed = failed or error
                else:
                    answers.append(None if outcomes is None else outcomes[0])
                    written.outcomes += outcomes or []
            written.note_lost()  # whatever becomes of the caller's others
            if failed is not None:
                answer_error(item, failed)
            elif None in answers:
                self._answer_or_put_back([item], [None])
            else:
                answer(item, [outcomes for outcomes in answers if outcomes is not None])

    def _answer_or_put_back(
        self, taken: Sequence[Waiting], decided: Sequence[list[tuple[Outcome, ...]] | None]
    ) -> None:
        put_back = []
        for item, outcomes in zip(taken, decided, strict=True):
            if outcomes is not None:
                answer(item, outcomes)
            elif item.rounds < BUSY_ROW_ROUNDS:
                item.rounds += 1
                put_back.append(item)
            else:
                answer_failed(item, BookBusy("a row that this needs stayed locked; nothing was written", retry_after=1))
        self._queue.extendleft(reversed(put_back))
        self._queued += sum(item.size for item in put_back)

    def _answer_unavailable(self, taken: Iterable[Waiting], error: Unavailable) -> None:
        """The database stayed away: tell these, and whoever has waited as long as we have tried."""
        self._trouble, self._trouble_until = error.code, time.monotonic() + TROUBLE_SECONDS
        for item in taken:
            answer_failed(item, error)
        patience_ended = time.monotonic() - self._retry_seconds
        while self._queue and self._queue[0].since < patience_ended:
            [item] = self._take(1)
            answer_failed(item, error)

    async def _commit_for_sure(self, taken: Sequence[Waiting]) -> list[list[tuple[Outcome, ...]] | None]:
        """Commit a batch, sending the same ids again while the database is away: a lost COMMIT may have happened."""
        deadline = time.monotonic() + self._retry_seconds
        pause, conflicts = 0.02, 0
        while True:
            attempt = Attempt()
            try:
                with commit_span(taken, way="locked") as span:
                    return await self._commit(taken, attempt, span)
            except BookCorrupt:
                raise
            except Exception as error:
                self._working = None
                for item in attempt.sent:
                    item.note_lost()
                if not self._note_altered(error):
                    if not isinstance(error, Unavailable):
                        raise
                    conflicts += attempt.has_lock and is_conflict(error)
                    if conflicts == CONFLICTS_MAX:
                        raise Contended from error
                    if time.monotonic() + pause > deadline:
                        raise
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def _commit(
        self, taken: Sequence[Waiting], attempt: Attempt, span: tracing.Span
    ) -> list[list[tuple[Outcome, ...]] | None]:
        """One tx: lock, load, decide, write. None stands for a caller whose rider's row is locked elsewhere."""
        async with tx(self._engine) as connection:
            head = await store.lock_book(connection, self._book)
            attempt.has_lock = True
            raw = await driver_of(connection)
            working = await self._working_at(raw, head)
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
            working.set_rows(rows)
            outcomes = iter(working.decide(groups, now=self._clock.now(), salt=self._salt))
            decided = [Decided(item, [next(outcomes) for _ in item.groups]) for item in ready]
            batch = working.flush()
            if batch.ids:
                riding, batch.riders = batch.riders, []
                if not await self._write(raw, working, batch):
                    raise BookCorrupt(f"book {self._book!r} isn't where its lock said that it is")
                await store.write_riders(connection, riding)
                span.set("onebook.commit.lines", len(batch.lines))
            attempt.sent = decided
        working.durable = batch.through
        self._working = working
        self._note_success("locked")
        answers = {id(item.waiting): as_first(item) for item in decided}
        return [answers.get(id(item)) for item in taken]

    # What happened

    def _note_success(self, way: str) -> None:
        self.batches[way] += 1
        self._trouble = None

    def _note_altered(self, error: Exception | None) -> bool:
        """Whether the database named accounts that aren't what we wrote: nothing more is written on them."""
        facts = error.facts if isinstance(error, OnebookError) else {}
        if facts.get("sqlstate") != store.ALTERED_STATE:
            return False
        named = {int(number) for number in str(facts.get("detail", "{}")).strip("{}").split(",") if number}
        is_news = not named <= self._altered
        self._altered |= named
        return is_news

    def _answer_stopped(self) -> None:
        """The service is stopping: nobody may wait for ever."""
        for waiting in (*(item.waiting for item in self._in_flight), *self._under_lock):
            answer_error(waiting, OutcomeUnknown("the service is stopping; send the same id again", retry_after=1))
        for waiting in (*(item.waiting for item in self._open), *self._loading, *self._queue):
            answer_failed(waiting, BookBusy("the service is stopping; nothing was written", retry_after=1))
        self._queue.clear()
        self._queued = 0
        self._in_flight, self._open, self._loading, self._under_lock = [], [], [], ()
        self._failure, self._working = None, None
        if self._writing is not None:
            self._writing.cancel()


def _needs_rows(group: Group, outcomes: tuple[Outcome, ...]) -> bool:
    """Whether a refusal depends on rows that nobody has looked for: one that is there already would come first."""
    if not group.riders or outcomes[0].replayed or not outcomes[0].seq:
        return False
    return any(o.refusal is not None for o in outcomes)


async def load(raw: Driver, working: Working, groups: Sequence[Group], *, trusting: bool = False) -> None:
    """Load what deciding these groups needs; see `Working.prepare`."""
    missing = working.prepare(groups, trusting=trusting)
    number = working.number
    found = await store.find_ids(raw, number, (*missing.ids, *missing.named, *missing.holds))
    outcomes = {*missing.ids, *missing.named}
    for outcome in await store.load_outcomes(raw, number, [seq for name, seq in found.items() if name in outcomes]):
        working.recent.young[outcome.id] = outcome
    while missing:
        await _load_missing(raw, working, missing, found)
        missing = working.missing(groups)


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
        working.set_unopened(missing.accounts - {slot.name for slot in slots})
    if missing.entries:
        reversed_ = await store.load_reversed(raw, working.number, missing.entries)
        working.reversed.young.update({str(entry): reversed_.get(entry, {}) for entry in missing.entries})
    if missing.counters:
        counters = await store.load_counters(raw, working.number, missing.counters)
        working.counters.young.update({**dict.fromkeys(missing.counters, 0), **counters})
