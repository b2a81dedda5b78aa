"""Books the lines of a statement that is believed, in batches: a few round trips for thousands of lines.

Each line has one effect however often and in whatever file it's told, so an import that was cut off is done again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_ids
from db.engine import tx
from fiat import payout_store, store
from fiat.bank.entries import Place, come_back, credit, line_values, pay_out, suspend, suspense_account
from fiat.bank.lines import Kind, StatementLine
from fiat.bank.matching import (
    CameBack,
    Match,
    Matched,
    Named,
    NamesBatch,
    NamesPayout,
    PaidOut,
    Reading,
    Reason,
    Unmatched,
    match_batch,
    match_line,
    match_payout,
    read_line,
)
from fiat.bank.records import BankAccount, LineState
from fiat.bank.virtual import number_of
from fiat.payouts import Payout, PayoutState
from fiat.personal import Vault
from ledger.accounts import user_account
from ledger.asking import refusal_of
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.outcomes import Outcome, Refused, require_accepted

LINES_PER_SUBMIT = 1000
"""Lines booked in one go: few round trips, and the book's lock is soon free for others."""

TRIES = 4
"""Decisions about a line before it's left in suspense: each but the last may lose a race for a payout's state."""

KNOWN, AHEAD = "known", "ahead"

_CREDIT_REFUSALS = frozenset({Refused.ACCOUNT_CLOSED, Refused.UNKNOWN_ACCOUNT, Refused.AMOUNT_OVERFLOW})
"""The user's account can't take the money; the bank has it all the same, so it goes to suspense."""

_NOTED = (Unmatched(Reason.ZERO_AMOUNT), Unmatched(Reason.TOLD_BEFORE))
"""What is kept without an entry."""

_BOOKED_MEANWHILE = frozenset({Refused.DUPLICATE_ROW, Refused.ID_CONFLICT})
"""The line's row, or one of its commands, is there already: another process was quicker."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A line, what it does, and whose it would have been where the book wouldn't have it."""

    line_id: str
    line: StatementLine
    match: Match
    owner: str | None = None


class Booking:
    """Books lines of one of our accounts."""

    def __init__(
        self,
        engine: AsyncEngine,
        ledger: Ledger,
        vault: Vault,
        *,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._vault = vault
        self._clock = clock
        self._entropy = entropy

    def place(self, statement: store.StatementRow) -> Place:
        """Where the statement's lines were read."""
        return Place(
            vault=self._vault,
            book=self._ledger.book,
            account=statement.account,
            asset=statement.asset,
            statement=statement.id,
            bank_id=statement.bank_id,
            now=self._clock.now(),
        )

    async def book(
        self,
        statement: store.StatementRow,
        account: BankAccount,
        lines: Sequence[tuple[str, StatementLine]],
        *,
        again: frozenset[int] = frozenset(),
    ) -> Counter[str]:
        """Book those of these lines that the book doesn't have; count what became of each.

        `again`: numbers of lines whose money a notification told in other words: they are noted.
        """
        place = self.place(statement)
        tally: Counter[str] = Counter()
        if statement.kind is Kind.NOTIFICATION:
            told = await self._ahead_of_statements(place, lines)
            tally[AHEAD] = len(lines) - len(told)  # not surely the line that the statement will bring: waits for it
            lines = told
        fresh, decided = await self._decide(place, account, lines, statement.kind)
        decided = [
            replace(one, match=Unmatched(Reason.TOLD_BEFORE)) if one.line.number in again else one for one in decided
        ]
        tally[KNOWN] = len(lines) - len(fresh)
        noted = [one for one in decided if one.match in _NOTED]
        moving = [one for one in decided if one.match not in _NOTED]
        tally += await self._note(place, noted)
        await self._ledger.ensure_open(place.bank, suspense_account(place.asset), *_users(moving, place.asset))
        tally += await self._submit(place, moving, statement.kind)
        return tally

    # What lines are

    async def _ahead_of_statements(
        self, place: Place, lines: Sequence[tuple[str, StatementLine]]
    ) -> list[tuple[str, StatementLine]]:
        """What a notification may book: firm lines of days that no statement has told. Known ones stay among them.

        A statement has told all of its days, so what is new of them is told in other words, or comes with a later one.
        """
        firm = [(line_id, line) for line_id, line in lines if line.firm]
        async with tx(self._engine) as connection:
            closed = await store.closed_through(connection, place.book, place.account)
            past = [line_id for line_id, line in firm if closed is not None and line.booked_on <= closed]
            known = await store.known_lines(connection, place.book, past) if past else {}
        wait = set(past) - known.keys()
        return [(line_id, line) for line_id, line in firm if line_id not in wait]

    async def _decide(
        self, place: Place, account: BankAccount, lines: Sequence[tuple[str, StatementLine]], kind: Kind
    ) -> tuple[list[tuple[str, StatementLine]], list[Decided]]:
        """Lines that aren't kept yet, and what each does. Known ones that were told ahead become the statement's."""
        async with tx(self._engine) as connection:
            known = await store.known_lines(connection, place.book, [line_id for line_id, _ in lines])
            await _adopt(connection, place, lines, known, kind)
            fresh = [(line_id, line) for line_id, line in lines if line_id not in known]
            number = partial(number_of, account)
            readings = [(line_id, line, read_line(line, number_of=number)) for line_id, line in fresh]
            named = [reading for _, _, reading in readings if isinstance(reading, Named)]
            references = {one.reference for one in named if one.reference is not None}
            numbers_named = {one.number for one in named if one.number is not None}
            owners = await store.owners_of(connection, place.book, references) if references else {}
            numbers_of = (
                await store.owners_of_numbers(connection, place.book, account.name, numbers_named)
                if numbers_named
                else {}
            )
        payouts = await self._payouts([reading for _, _, reading in readings])
        decided = []
        for line_id, line, reading in readings:
            if isinstance(reading, Named | Unmatched):
                match: Match = match_line(reading, owners, numbers_of)
            else:
                match = _match(place, line, reading, payouts)
            decided.append(Decided(line_id, line, match))
        return fresh, decided

    async def _payouts(self, readings: Sequence[Reading]) -> dict[str, Payout]:
        """Every payout that these name, singly or by its batch."""
        ids = {reading.payout for reading in readings if isinstance(reading, NamesPayout)}
        batches = {reading.batch for reading in readings if isinstance(reading, NamesBatch)}
        if not ids and not batches:
            return {}
        async with tx(self._engine) as connection:
            found = await payout_store.load_all(connection, self._vault, self._ledger.book, ids)
            of = await payout_store.members(connection, self._vault, self._ledger.book, batches)
        return found | {payout.id: payout for payout in of}

    # What becomes of them

    async def _submit(self, place: Place, moving: Sequence[Decided], kind: Kind) -> Counter[str]:
        """Book the lines. What a user's account can't take, and what lost a race for good, goes to suspense.

        What another process has booked since they were looked up is known, whatever it took the line for.
        """
        tally: Counter[str] = Counter()
        told_meanwhile: list[tuple[str, StatementLine]] = []
        waiting = list(moving)
        for attempt in range(1, TRIES + 1):
            if not waiting:
                break
            if attempt == TRIES:
                waiting = [_in_suspense(one) for one in waiting]
            outcomes = await self._ledger.submit(*self._groups(place, waiting, attempt))
            again: list[Decided] = []
            for one, told in zip(waiting, outcomes, strict=True):
                refusal = refusal_of(told)
                if refusal is None:
                    tally += _count(one.match, told)
                    if told[0].replayed:
                        told_meanwhile.append((one.line_id, one.line))
                elif refusal.code in _BOOKED_MEANWHILE and one.line_id in await self._known(place, [one.line_id]):
                    tally[KNOWN] += 1
                    told_meanwhile.append((one.line_id, one.line))
                elif refusal.code in _CREDIT_REFUSALS and isinstance(one.match, Matched | CameBack):
                    again.append(_refused(one))
                elif refusal.code is Refused.STALE_STATE and isinstance(one.match, PaidOut | CameBack):
                    again.append(one)
                else:
                    require_accepted(told)
            waiting = await self._anew(place, again)
        if told_meanwhile:
            async with tx(self._engine) as connection:
                known = await store.known_lines(connection, place.book, [line_id for line_id, _ in told_meanwhile])
                await _adopt(connection, place, told_meanwhile, known, kind)
        return tally

    async def _known(self, place: Place, ids: Sequence[str]) -> Mapping[str, Kind]:
        async with tx(self._engine) as connection:
            return await store.known_lines(connection, place.book, ids)

    async def _anew(self, place: Place, again: Sequence[Decided]) -> list[Decided]:
        """Decide once more what raced with another move of the same payout."""
        racing = [one for one in again if isinstance(one.match, PaidOut | CameBack)]
        if not racing:
            return list(again)
        readings = {one.line_id: _named_by(one.match) for one in racing}
        payouts = await self._payouts(list(readings.values()))
        return [
            replace(one, match=_match(place, one.line, readings[one.line_id], payouts))
            if one.line_id in readings
            else one
            for one in again
        ]

    def _groups(self, place: Place, decided: Sequence[Decided], attempt: int) -> list[Group]:
        credits = sum(isinstance(one.match, Matched) for one in decided)
        top_ups = iter(new_ids("top", credits, self._clock, self._entropy))
        groups = []
        for one in decided:
            match one.match:
                case Matched():
                    group = credit(place, one.line_id, one.line, one.match, top_up=next(top_ups), attempt=attempt)
                case PaidOut():
                    group = pay_out(place, one.line_id, one.line, one.match, attempt=attempt)
                case CameBack():
                    group = come_back(place, one.line_id, one.line, one.match, attempt=attempt)
                case Unmatched():
                    group = suspend(place, one.line_id, one.line, one.match, owner=one.owner, attempt=attempt)
            groups.append(group)
        return groups

    async def _note(self, place: Place, noted: Sequence[Decided]) -> Counter[str]:
        rows: list[dict[str, object]] = [
            {
                "id": one.line_id,
                **line_values(place, one.line_id, one.line, LineState.NOTED, reason=_reason_of(one)),
            }
            for one in noted
        ]
        async with tx(self._engine) as connection:
            added = await store.add_lines(connection, place.book, rows)
        tally: Counter[str] = Counter({LineState.NOTED: len(added), KNOWN: len(rows) - len(added)})
        tally.update(_reason_of(one).value for one in noted if one.line_id in added)
        return tally


def _reason_of(one: Decided) -> Reason:
    assert isinstance(one.match, Unmatched)
    return one.match.reason


async def _adopt(
    connection: AsyncConnection,
    place: Place,
    lines: Sequence[tuple[str, StatementLine]],
    known: Mapping[str, Kind],
    kind: Kind,
) -> None:
    """Those of these lines that a notification told ahead are the statement's from here on."""
    if kind is not Kind.STATEMENT:
        return
    numbers = {line_id: line.number for line_id, line in lines if known.get(line_id) is Kind.NOTIFICATION}
    await store.adopt_lines(connection, place.book, place.statement, numbers)


def in_batches(lines: Iterator[tuple[str, StatementLine]], size: int) -> Iterator[list[tuple[str, StatementLine]]]:
    """Lines in lists of at most `size`."""
    while batch := list(islice(lines, size)):
        yield batch


def _match(place: Place, line: StatementLine, reading: Reading, payouts: dict[str, Payout]) -> Match:
    """What the line does to payouts. Each is taken as the lines before this one leave it."""
    match reading:
        case NamesPayout(id):
            found = match_payout(line, payouts.get(id), account=place.account, asset=place.asset)
        case NamesBatch(batch):
            of = [payout for payout in payouts.values() if payout.batch == batch]
            found = match_batch(line, batch, of, account=place.account, asset=place.asset)
        case Named() | Unmatched():
            raise AssertionError("what names no payout is matched elsewhere")
    if isinstance(found, PaidOut):
        for payout in found.payouts:
            payouts[payout.id] = replace(payout, state=PayoutState.PAID)
    elif isinstance(found, CameBack):
        payouts[found.payout.id] = replace(found.payout, state=PayoutState.RETURNED)
    return found


def _named_by(match: Match) -> Reading:
    match match:
        case PaidOut(payouts, name):
            return NamesPayout(name) if name == payouts[0].id else NamesBatch(name)
        case CameBack(payout):
            return NamesPayout(payout.id)
        case Matched() | Unmatched():
            raise AssertionError("names no payout")


def _refused(one: Decided) -> Decided:
    owner = one.match.owner if isinstance(one.match, Matched) else None
    if isinstance(one.match, CameBack):
        owner = one.match.payout.owner
    return replace(one, match=Unmatched(Reason.ACCOUNT_REFUSED), owner=owner)


def _in_suspense(one: Decided) -> Decided:
    if isinstance(one.match, PaidOut | CameBack):
        return replace(one, match=Unmatched(Reason.PAYOUT_ENDED))
    return one


def _users(decided: Sequence[Decided], asset: str) -> list[str]:
    owners = {one.match.owner for one in decided if isinstance(one.match, Matched)}
    owners |= {one.match.payout.owner for one in decided if isinstance(one.match, CameBack)}
    return [user_account(owner, asset) for owner in sorted(owners)]


_BECAME: Mapping[type[Match], LineState] = {
    Matched: LineState.CREDITED,
    PaidOut: LineState.PAID,
    CameBack: LineState.RETURNED,
}


def _count(match: Match, outcomes: tuple[Outcome, ...]) -> Counter[str]:
    if outcomes[0].replayed:
        return Counter({KNOWN: 1})
    if isinstance(match, Unmatched):
        return Counter({LineState.SUSPENDED: 1, match.reason: 1})
    return Counter({_BECAME[type(match)]: 1})
