"""Breaks, for treasurers: whose they are, what was said of them, and how two people resolve one.

One treasurer proposes, another one confirms: an entry that brings the book to what is there, or that the difference is
a matter of time until a date. Neither ends a break: the next cycle tells whether the difference is gone. What is
proposed is confirmed for the difference that it was proposed for, and for no other.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from db.engine import tx
from ledger.asking import decide, decided_before
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from treasury import break_store
from treasury.break_entries import check_acceptance, check_entry, correction, source_of
from treasury.break_records import (
    HistoryKind,
    HistoryLine,
    Resolution,
    ResolutionKind,
    ResolutionState,
)
from treasury.break_states import Act, BreakState, advance, may
from treasury.break_store import Said, Wanted, revised
from treasury.by_hand import WAITING
from treasury.errors import (
    BreakChanged,
    BreakClosed,
    NoBreak,
    NoResolution,
    ResolutionClosed,
    SamePerson,
    SuspenseShort,
)
from treasury.notes import said_in_full
from treasury.operations.acts import Noted, unnoted
from treasury.records import Break

ID_PREFIX = "brs"
"""Begins the id of a resolution; a break's is `brk`."""

HISTORY_MAX = 500
"""Lines of one break's history, and resolutions, that are shown: the latest."""


@dataclass(frozen=True, slots=True)
class BreakFile:
    """A break with all that happened to it."""

    entry: Break
    history: tuple[HistoryLine, ...]
    resolutions: tuple[Resolution, ...]


class Breaks:
    """Shows breaks and takes what treasurers say of them. Cycles write their part by `treasury.break_recording`."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy

    async def list(self, wanted: Wanted | None = None, *, after: str | None = None, limit: int = 50) -> list[Break]:
        """Breaks that are wanted (all that stand, if nothing is said), the oldest first, from behind the id `after`."""
        async with tx(self._engine) as connection:
            return await break_store.list_breaks(
                connection, self._ledger.book, wanted or Wanted(), now=self._clock.now(), after=after, limit=limit
            )

    async def get(self, id: str) -> BreakFile:
        """One break with its history. Raises NoBreak."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            entry = _found(id, await break_store.load_break(connection, book, id))
            history = await break_store.load_history(connection, book, id, limit=HISTORY_MAX)
            resolutions = await break_store.load_resolutions(connection, book, id, limit=HISTORY_MAX)
        return BreakFile(entry, tuple(history), tuple(resolutions))

    async def resolution(self, id: str) -> Resolution:
        """One resolution. Raises NoResolution."""
        async with tx(self._engine) as connection:
            return await self._resolution(connection, id)

    # What one person does

    async def own(self, id: str, *, owner: str | None, by: str) -> Break:
        """Give a break to somebody (a person, or a key's id), or to nobody. Raises NoBreak, BreakClosed."""
        async with self._locked(id) as (connection, entry):
            _require_standing(entry)
            if entry.owner == owner:
                return entry
            words = "nobody looks after it any more" if owner is None else f"{owner} looks after it"
            return await self._change(connection, revised(entry, owner=owner), HistoryKind.OWNED, words, by=by)

    async def note(self, id: str, *, words: str, by: str) -> Break:
        """Add a note to the history, also of a break that is resolved. Raises NoBreak, ReasonMissing."""
        said = said_in_full(words, param="note")
        async with self._locked(id) as (connection, entry):
            return await self._change(connection, revised(entry), HistoryKind.NOTED, said, by=by)

    async def propose_entry(self, id: str, *, against: str, amount: int | None, reason: str, by: str) -> Resolution:
        """Propose an entry of `amount` (None: the whole difference) against a purpose of the house, such as `suspense`.

        Raises NoBreak, ReasonMissing, BreakClosed, ResolutionUnfit, ResolutionClosed where another one waits.
        """
        said = said_in_full(reason)
        async with self._locked(id) as (connection, entry):
            _require(entry, Act.PROPOSE)
            whole = abs(entry.difference) if amount is None else amount
            check_entry(entry, against=against, amount=whole)
            made = self._proposal(entry, ResolutionKind.ENTRY, said, by=by)
            return await self._propose(connection, entry, replace(made, against=against, amount=whole))

    async def propose_acceptance(self, id: str, *, until: datetime, reason: str, by: str) -> Resolution:
        """Propose to take the difference as a matter of time until then.

        Raises NoBreak, ReasonMissing, BreakClosed, ResolutionUnfit, ResolutionClosed where another one waits.
        """
        said = said_in_full(reason)
        async with self._locked(id) as (connection, entry):
            _require(entry, Act.PROPOSE)
            check_acceptance(entry, until=until, now=self._clock.now())
            made = self._proposal(entry, ResolutionKind.ACCEPTANCE, said, by=by)
            return await self._propose(connection, entry, replace(made, until=until))

    async def withdraw(self, id: str, *, by: str) -> Resolution:
        """Take a proposal back, whoever made it; again changes nothing. Raises NoResolution, ResolutionClosed."""
        known = await self.resolution(id)
        async with self._locked(known.break_id) as (connection, entry):
            known = await self._resolution(connection, id)
            if known.state is ResolutionState.WITHDRAWN:
                return replace(known, replayed=True)
            _require_waiting(known)
            state = advance(entry.state, Act.WITHDRAW)
            await self._close(connection, entry, ResolutionState.WITHDRAWN, by=by)
            words = f"{id} is withdrawn"
            await self._change(connection, revised(entry, state=state), HistoryKind.WITHDRAWN, words, by=by)
        return await self.resolution(id)

    # What it takes two for

    async def confirm(self, id: str, *, key: RequestKey, by: str, noted: Noted = unnoted) -> Resolution:
        """Confirm what somebody else proposed; an entry is posted with it, once. By the same person again: no change.

        Raises NoResolution, SamePerson, ResolutionClosed, BreakChanged, ResolutionUnfit (its date is over),
        RequestConflict, SuspenseShort, RefusedByBook (`frozen`, `insufficient_funds` of `fx`).
        """
        known = await self.resolution(id)
        if known.kind is ResolutionKind.ACCEPTANCE:
            return await self._accept(known, by=by)
        if await decided_before(self._ledger, key) is not None:
            return replace(await self.resolution(id), replayed=True)
        entry = (await self.get(known.break_id)).entry
        known = await self.resolution(id)  # after the break: if it waits now, it waited when the break was read
        if (repeated := self._confirmable(known, entry, by=by)) is not None:
            return repeated
        return await self._post(known, entry, key=key, by=by, noted=noted)

    async def _accept(self, known: Resolution, *, by: str) -> Resolution:
        async with self._locked(known.break_id) as (connection, entry):
            known = await self._resolution(connection, known.id)
            if (repeated := self._confirmable(known, entry, by=by)) is not None:
                return repeated
            now, until = self._clock.now(), known.until
            assert until is not None  # by the table's own check
            check_acceptance(entry, until=until, now=now)
            state = advance(entry.state, Act.ACCEPT)
            after = revised(entry, state=state, explained_at=now, accepted_until=until)
            await self._close(connection, entry, ResolutionState.CONFIRMED, by=by)
            words = f"{known.id}: a matter of time until {until.isoformat()}"
            await self._change(connection, after, HistoryKind.ACCEPTED, words, by=by)
        return await self.resolution(known.id)

    async def _post(self, known: Resolution, entry: Break, *, key: RequestKey, by: str, noted: Noted) -> Resolution:
        now = self._clock.now()
        decided = replace(known, state=ResolutionState.CONFIRMED, decided_by=by, decided_at=now, entry=key.id)
        after = revised(entry, state=advance(entry.state, Act.POST), explained_at=now)
        said = Said(HistoryKind.POSTED, f"{known.id} is posted", now, by)
        command = correction(key.id, entry, known, by=by)
        (posting,) = command.postings
        await self._ledger.ensure_open(posting.debit, posting.credit)
        riders = break_store.posted(self._ledger.book, entry, after, decided, said)
        try:
            group = noted(known.id).group(command, *riders, content=key.content)
            outcome = (await decide(self._ledger, group))[-1]
        except RefusedByBook as refusal:
            raise await self._explained(refusal, known, by=by) from refusal
        return replace(await self.resolution(known.id), replayed=outcome.replayed)

    async def _explained(self, refusal: RefusedByBook, known: Resolution, *, by: str) -> Exception:
        """The book's refusal in a treasurer's words: above all, what changed between reading and posting."""
        entry = (await self.get(known.break_id)).entry
        if refusal.code == Refused.STALE_STATE:
            try:
                self._confirmable(await self.resolution(known.id), entry, by=by)
            except (ResolutionClosed, BreakChanged) as changed:
                return changed
            return refusal
        source = source_of(entry, known.against or "")
        if refusal.code == Refused.INSUFFICIENT_FUNDS and source.split("/")[1] in WAITING:
            available = refusal.facts.get("available")
            words = f"{source} holds less than that"
            return SuspenseShort(words, account=source, required=known.amount, available=available)
        return refusal

    def _confirmable(self, known: Resolution, entry: Break, *, by: str) -> Resolution | None:
        """None if `by` may confirm it now; the resolution itself if they did before. Raises what stands against it."""
        if known.state is ResolutionState.CONFIRMED and known.decided_by == by:
            return replace(known, replayed=True)
        _require_waiting(known)
        if known.proposed_by == by:
            raise SamePerson(f"you proposed {known.id} yourself: somebody else must confirm it", resolution=known.id)
        if (known.expected, known.found) != (entry.expected, entry.found):
            raise BreakChanged(
                "the difference isn't the one that this was proposed for: withdraw it, and propose again",
                asset=entry.asset,
                proposed_for=known.difference,
                difference=entry.difference,
            )
        return None

    # Common to all

    @asynccontextmanager
    async def _locked(self, id: str) -> AsyncIterator[tuple[AsyncConnection, Break]]:
        """A break's row, locked until the end; an acceptance whose date has come is written down as over first."""
        book, now = self._ledger.book, self._clock.now()
        async with tx(self._engine) as connection:
            entry = _found(id, await break_store.load_break(connection, book, id, lock=True))
            if entry.lapsed(now):
                state = advance(entry.state, Act.LAPSE)
                entry = revised(entry, state=state, explained_at=None, accepted_until=None)
                words = "the date until which it was accepted has come"
                await self._change(connection, entry, HistoryKind.LAPSED, words, by=None)
            yield connection, entry

    async def _change(
        self, connection: AsyncConnection, after: Break, kind: HistoryKind, words: str, *, by: str | None
    ) -> Break:
        said = Said(kind, words, self._clock.now(), by)
        await break_store.change_breaks(connection, self._ledger.book, [(after, said)])
        return after

    async def _close(self, connection: AsyncConnection, entry: Break, state: ResolutionState, *, by: str) -> None:
        book, now = self._ledger.book, self._clock.now()
        await break_store.close_proposals(connection, book, [entry.id], state, by=by, now=now)

    def _proposal(self, entry: Break, kind: ResolutionKind, reason: str, *, by: str) -> Resolution:
        return Resolution(
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            break_id=entry.id,
            kind=kind,
            state=ResolutionState.PROPOSED,
            expected=entry.expected,
            found=entry.found,
            reason=reason,
            proposed_by=by,
            proposed_at=self._clock.now(),
        )

    async def _propose(self, connection: AsyncConnection, entry: Break, made: Resolution) -> Resolution:
        after = revised(entry, state=advance(entry.state, Act.PROPOSE), explained_at=None, accepted_until=None)
        await break_store.insert_resolution(connection, self._ledger.book, made)
        words = f"{made.id}: {made.reason}"
        await self._change(connection, after, HistoryKind.PROPOSED, words, by=made.proposed_by)
        return made

    async def _resolution(self, connection: AsyncConnection, id: str) -> Resolution:
        found = await break_store.load_resolution(connection, self._ledger.book, id)
        if found is None:
            raise NoResolution(f"there is no resolution {id[:40]!r}", param="resolution")
        return found


def _found(id: str, entry: Break | None) -> Break:
    if entry is None:
        raise NoBreak(f"there is no break {id[:40]!r}", param="break")
    return entry


def _require_standing(entry: Break) -> None:
    if entry.state is BreakState.RESOLVED:
        raise BreakClosed("no cycle sees it any more, so nobody need look after it", state=entry.state.value)


def _require(entry: Break, act: Act) -> None:
    _require_standing(entry)
    if not may(entry.state, act):
        why = "a proposal waits already" if entry.state is BreakState.PROPOSED else "its entry awaits the next cycle"
        raise BreakClosed(f"{why}: nothing else can be proposed now", state=entry.state.value)


def _require_waiting(known: Resolution) -> None:
    if known.state is not ResolutionState.PROPOSED:
        words = f"{known.id} is {known.state}" + (f" by {known.decided_by}" if known.decided_by else "")
        raise ResolutionClosed(words, state=known.state.value)
