"""The book's two times: balances, histories and statements at any instant, on both engines, against plain sums."""

import asyncio
import random
from datetime import timedelta

import pytest
from msgspec.structs import replace

from base.clock import ManualClock
from ledger.commands import BankEvidence, ClosePeriod, Expire, Hold, Post, Posting, Reverse, Settle, Void, alone
from ledger.errors import InvalidCommand, StatementTooLong
from ledger.expiry import HoldExpiry
from ledger.memory import MemoryLedger
from ledger.outcomes import LineKind
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.service import PostgresLedger
from ledger.state import HoldState
from ledger.statements import TimeKind
from tests.ledger.histories import ACCOUNTS, ASSETS, OPENING, START

pytestmark = pytest.mark.slow

A, B, _eth, _fx, BANK, *_ = ACCOUNTS
SECOND = timedelta(seconds=1)


def usd(debit, credit, amount):
    return Posting(debit=debit, credit=credit, asset="USD", amount=amount)


def post(name, amount=1, *, debit=BANK, credit=A, **more):
    return Post(id=name, postings=(usd(debit, credit, amount),), **more)


@pytest.fixture(params=["memory", "postgres"])
async def book(request, database):
    """A ledger and its clock."""
    clock = ManualClock(START)
    ledger: MemoryLedger | PostgresLedger = MemoryLedger(clock)
    if request.param == "postgres":
        ledger = PostgresLedger(database.engine(), clock=clock)
        await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    await ledger.submit(OPENING)
    return ledger, clock


async def accept(ledger, *commands):
    [outcomes] = zip(*await ledger.submit(*map(alone, commands)), strict=True)
    assert [outcome.refusal for outcome in outcomes] == [None] * len(commands)
    return outcomes


async def write_history(ledger, clock, chance, *, steps):
    """Entries of which a third are dated back, holds and their settlements, reversals, and closed periods."""
    entries: list[str] = []
    for number in range(steps):
        clock.advance(SECOND * chance.choice([0, 1, 1, 5]))
        back = clock.now() - SECOND * chance.randint(1, 30) if chance.random() < 0.35 else None
        debit, credit = chance.sample([A, B, BANK], 2)
        entry = post(f"e{number}", chance.randint(1, 9), debit=debit, credit=credit, metadata={"n": str(number % 3)})
        entry = replace(entry, effective_at=back, evidence=BankEvidence("main", "S", number))
        hold = Hold(id=f"h{number}", postings=(usd(BANK, A, 5),), effective_at=back)
        settle = Settle(id=f"s{number}", hold=hold.id, amounts=((0, chance.randint(1, 5)),), effective_at=back)
        commands = [entry, hold, settle] if number % 4 == 0 else [entry]
        if number % 5 == 4 and entries:
            commands.append(
                Reverse(id=f"r{number}", entry=chance.choice(entries), amounts=((0, 1),), effective_at=back)
            )
        if number % 17 == 16:
            commands.append(ClosePeriod(id=f"p{number}", until=clock.now() - SECOND * 10))
        decided = await ledger.submit(*map(alone, commands))
        entries += [outcome.id for [outcome] in decided if outcome.kind == "post" and outcome.accepted]


async def all_lines(ledger, account):
    return await ledger.history(account=account, limit=100_000)


def balance(lines, account, at, time, known=None):
    """The sum of the posted steps that count."""
    counted = [
        line.amount if line.credit == account else -line.amount
        for line in lines
        if line.kind is LineKind.POSTED and getattr(line, time) <= at and (known is None or line.booked_at <= known)
    ]
    return sum(counted)


@pytest.mark.parametrize("seed", [1, 2])
async def test_balances_and_statements_at_any_instant_are_sums_of_the_lines(book, seed):
    ledger, clock = book
    chance = random.Random(seed)
    await write_history(ledger, clock, chance, steps=60)
    span = clock.now() - START
    for account in (A, B, BANK):
        lines = await all_lines(ledger, account)
        assert lines
        for _ in range(25):
            at, known = (START + span * chance.uniform(-0.1, 1.1) for _ in range(2))
            assert await ledger.balance_at(account, at) == balance(lines, account, at, "booked_at")
            for sure in (None, known):
                asked = await ledger.balance_at(account, at, by=TimeKind.EFFECTIVE, known_at=sure)
                assert asked == balance(lines, account, at, "effective_at", sure)
        for by in TimeKind:
            since, until = sorted(START + span * chance.uniform(-0.1, 1.1) for _ in range(2))
            statement = await ledger.statement(account, since=since, until=until, by=by)
            time = f"{by}_at"
            tick = timedelta(microseconds=1)
            assert statement.opening == balance(lines, account, since - tick, time)
            assert statement.closing == balance(lines, account, until - tick, time)
            expected = [line for line in lines if line.kind is LineKind.POSTED and since <= getattr(line, time) < until]
            expected.sort(key=lambda line: (getattr(line, time), line.seq, line.line))
            assert [line.movement for line in statement.lines] == expected


async def test_a_statement_made_again_is_the_same_whatever_was_booked_since_with_an_earlier_date(book):
    ledger, clock = book
    await accept(ledger, post("first", 10))
    clock.advance(SECOND * 10)
    await accept(ledger, post("second", 5, effective_at=START + SECOND))
    since, until = START, START + SECOND * 60
    first = await ledger.statement(A, since=since, until=until, by=TimeKind.EFFECTIVE)
    await accept(ledger, post("late", 7, effective_at=START + SECOND * 2))
    again = await ledger.statement(A, since=since, until=until, by=TimeKind.EFFECTIVE, known=first.known_seq)
    assert again == first
    assert (first.opening, first.closing) == (0, 15)
    now = await ledger.statement(A, since=since, until=until, by=TimeKind.EFFECTIVE)
    assert [line.balance for line in now.lines] == [10, 15, 22]
    by_instant = await ledger.statement(A, since=since, until=until, by=TimeKind.EFFECTIVE, known=START)
    assert by_instant.closing == 10


async def test_a_statement_that_is_too_long_says_where_to_end_it(book):
    ledger, clock = book
    for number in range(5):
        clock.advance(SECOND)
        await accept(ledger, post(f"p{number}"))
    with pytest.raises(StatementTooLong) as refused:
        await ledger.statement(A, since=START, until=START + SECOND * 60, limit=3)
    fits = START + SECOND * 4
    assert refused.value.facts["until"] == fits.isoformat()
    assert len((await ledger.statement(A, since=START, until=fits, limit=3)).lines) == 3


async def test_history_by_effective_time_has_what_took_effect_then(book):
    ledger, clock = book
    chance = random.Random(3)
    await write_history(ledger, clock, chance, steps=40)
    since, until = START + SECOND * 5, START + SECOND * 30
    lines = await all_lines(ledger, A)
    found = await ledger.history(account=A, since=since, until=until, by=TimeKind.EFFECTIVE, limit=1000)
    assert found == [line for line in lines if line.kind is LineKind.POSTED and since <= line.effective_at < until]
    assert any(line.booked_at >= until for line in found)
    pages, before = [], None
    while page := await ledger.history(
        account=A, since=since, until=until, by=TimeKind.EFFECTIVE, before=before, limit=3
    ):
        pages += page
        before = page[-1].seq, page[-1].line
    assert pages == found
    with pytest.raises(InvalidCommand, match="name one"):
        await ledger.history(by=TimeKind.EFFECTIVE)


async def test_history_finds_entries_by_their_metadata(book):
    ledger, _ = book
    await accept(
        ledger,
        post("plain"),
        post("one", metadata={"order": "17", "shop": "berlin"}),
        post("two", metadata={"order": "18", "shop": "berlin"}),
    )
    assert [m.command for m in await ledger.history(metadata={"order": "17"})] == ["one"]
    assert [m.command for m in await ledger.history(account=A, metadata={"shop": "berlin"})] == ["two", "one"]
    assert await ledger.history(account=A, metadata={"shop": "berlin", "order": "19"}) == []


async def test_an_entry_and_its_reversals_are_linked_both_ways(book):
    ledger, _ = book
    [entry] = await accept(ledger, post("entry", 9))
    await accept(ledger, Reverse(id="some", entry="entry", amounts=((0, 4),)), Reverse(id="rest", entry="entry"))
    rest, some, first = await all_lines(ledger, A)
    assert (first.reversed, first.reverses) == (9, None)
    assert [(m.amount, m.reverses, m.debit) for m in (some, rest)] == [(4, entry.seq, A), (5, entry.seq, A)]
    [[outcome]] = await ledger.submit(alone(Reverse(id="more", entry="entry")))
    assert outcome.refusal.code in (R.NOT_REVERSIBLE, R.EXCEEDS_REMAINDER)


async def test_due_holds_end_by_an_entry_and_what_is_held_stays_held_until_then(book):
    ledger, clock = book
    await accept(ledger, post("funding", 10))
    until = clock.now() + SECOND * 5
    early, late = (
        Hold(id=name, postings=(usd(A, B, 4),), expires_at=at)
        for name, at in (("early", until), ("late", until + SECOND * 60))
    )
    await accept(ledger, early, late)
    expiry = HoldExpiry(ledger)
    assert await expiry.step() == 0
    clock.advance(SECOND * 5)
    assert await ledger.due_holds() == ["early"]
    assert (await ledger.account(A)).available == 2
    [[settle]] = await ledger.submit(alone(Settle(id="too late", hold="early")))
    assert settle.refusal.code == R.HOLD_EXPIRED
    assert await expiry.step() == 1
    assert await expiry.step() == 0
    assert (await ledger.account(A)).available == 6
    newest = (await ledger.history(account=A, limit=1))[0]
    assert (newest.command, newest.kind, newest.amount) == ("wrk:expire:early:1", LineKind.RELEASED, 4)


async def test_a_settlement_booked_before_the_expiry_wins_and_two_workers_end_a_hold_once(book):
    ledger, clock = book
    await accept(ledger, post("funding", 10), Hold(id="h1", postings=(usd(A, B, 4),), expires_at=START + SECOND))
    await accept(ledger, Hold(id="h2", postings=(usd(A, B, 4),), expires_at=START + SECOND))
    await accept(ledger, Settle(id="in time", hold="h1"))
    clock.advance(SECOND)
    await asyncio.gather(HoldExpiry(ledger).step(), HoldExpiry(ledger).step())
    assert [m.hold for m in await ledger.history(account=A, kinds=[LineKind.RELEASED])] == ["h2"]
    [[outcome]] = await ledger.submit(alone(Expire(id="again", hold="h2")))
    assert outcome.refusal.code == R.HOLD_CLOSED
    account = await ledger.account(A)
    assert (account.balance, account.debits_pending) == (6, 0)


async def test_a_hold_is_known_whatever_became_of_it(book):
    ledger, clock = book
    await accept(ledger, post("funding", 100))
    until = START + SECOND * 60
    names = ["open", "part", "settled", "voided", "expired"]
    await accept(
        ledger,
        *(
            Hold(id=name, subject=f"hld_{name}", postings=(usd(A, B, 4), usd(A, BANK, 1)), expires_at=until)
            for name in names
        ),
    )
    held = await ledger.hold("open")
    assert (held.id, held.subject, held.expires_at, held.state) == ("open", "hld_open", until, HoldState.OPEN)
    assert [(p.debit, p.credit, p.amount, p.remaining) for p in held.postings] == [(A, B, 4, 4), (A, BANK, 1, 1)]
    await accept(
        ledger,
        Settle(id="s1", hold="part", amounts=((0, 3),)),
        Settle(id="s2", hold="settled", amounts=((0, 3),), close=True),
        Void(id="v", hold="voided"),
    )
    clock.advance(SECOND * 60)
    await accept(ledger, Expire(id="x", hold="expired"))
    found = {name: await ledger.hold(name) for name in names}
    assert {name: (hold.state.value, [p.remaining for p in hold.postings]) for name, hold in found.items()} == {
        "open": ("open", [4, 1]),
        "part": ("open", [1, 1]),
        "settled": ("settled", [0, 0]),
        "voided": ("voided", [0, 0]),
        "expired": ("expired", [0, 0]),
    }
    assert await ledger.hold("funding") is None
    assert await ledger.hold("nothing") is None


async def test_the_end_of_the_last_closed_period_is_known(book):
    ledger, clock = book
    assert await ledger.closed_until() is None
    clock.advance(SECOND * 10)
    await accept(ledger, ClosePeriod(id="p1", until=START + SECOND * 3))
    await ledger.submit(alone(ClosePeriod(id="p2", until=START + SECOND * 2)))
    assert await ledger.closed_until() == START + SECOND * 3
