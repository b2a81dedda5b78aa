"""Two ends of one hold in one batch, every pair in both orders around its expiry; and spends against a dispute."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from base.clock import ManualClock
from db.server import Running
from ledger.audit import audit
from ledger.commands import BankEvidence, Command, Expire, Group, Hold, OpenAccount, Post, Posting, Settle, Void, alone
from ledger.engine import Ledger
from ledger.memory import MemoryLedger
from ledger.outcomes import Outcome
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.service import PostgresLedger
from tests.ledger.histories import ACCOUNTS, OPENING, START
from tests.ledger.test_postgres import new_ledger
from tests.support.postgres import fresh_database

A, B, A_ETH, FX, BANK, RECEIVABLE, HOT = ACCOUNTS


def usd(debit: str, credit: str, amount: int, rest: str | None = None) -> Posting:
    return Posting(debit=debit, credit=credit, asset="USD", amount=amount, debit_rest=rest)


# Pairs

SOON = START + timedelta(seconds=5)
MOMENT = timedelta(microseconds=1)
OK, OVER, CLOSED, NOT_YET = None, R.HOLD_EXPIRED, R.HOLD_CLOSED, R.NOT_YET

PAIRS = [
    # 8 are held; a part settles 3 of them, a close 3 and lets the rest go.
    # first     second     before: codes     moved held   at expiry and after: codes, held
    ("part", "part", (OK, OK), 6, 2, (OVER, OVER), 8),
    ("part", "close", (OK, OK), 6, 0, (OVER, OVER), 8),
    ("part", "void", (OK, OK), 3, 0, (OVER, OVER), 8),
    ("part", "expire", (OK, NOT_YET), 3, 5, (OVER, OK), 0),
    ("close", "part", (OK, CLOSED), 3, 0, (OVER, OVER), 8),
    ("close", "close", (OK, CLOSED), 3, 0, (OVER, OVER), 8),
    ("close", "void", (OK, CLOSED), 3, 0, (OVER, OVER), 8),
    ("close", "expire", (OK, CLOSED), 3, 0, (OVER, OK), 0),
    ("void", "part", (OK, CLOSED), 0, 0, (OVER, OVER), 8),
    ("void", "close", (OK, CLOSED), 0, 0, (OVER, OVER), 8),
    ("void", "void", (OK, CLOSED), 0, 0, (OVER, OVER), 8),
    ("void", "expire", (OK, CLOSED), 0, 0, (OVER, OK), 0),
    ("expire", "part", (NOT_YET, OK), 3, 5, (OK, CLOSED), 0),
    ("expire", "close", (NOT_YET, OK), 3, 0, (OK, CLOSED), 0),
    ("expire", "void", (NOT_YET, OK), 0, 0, (OK, CLOSED), 0),
    ("expire", "expire", (NOT_YET, NOT_YET), 0, 8, (OK, CLOSED), 0),
]
NAMES = [f"{first} {second}" for first, second, *_ in PAIRS]
BEFORE = {name: (codes, moved, held) for name, (_, _, codes, moved, held, _, _) in zip(NAMES, PAIRS, strict=True)}
AFTER = {name: (codes, 0, held) for name, (_, _, _, _, _, codes, held) in zip(NAMES, PAIRS, strict=True)}

INSTANTS = [("just before", SOON - MOMENT, BEFORE), ("at", SOON, AFTER), ("after", SOON + MOMENT, AFTER)]


def payer(pair: str) -> str:
    return f"usr_{pair.replace(' ', '.')}/wallet/USD"


def payee(pair: str) -> str:
    return f"usr_{pair.replace(' ', '.')}.shop/wallet/USD"


def hold(pair: str) -> Group:
    return alone(Hold(id=pair, postings=(usd(payer(pair), payee(pair), 8),), expires_at=SOON))


def ends(pair: str) -> tuple[Group, Group]:
    first, second = pair.split()
    return alone(end(first, pair, "first")), alone(end(second, pair, "second"))


def end(kind: str, pair: str, place: str) -> Command:
    name = f"{pair}: {place}"
    kinds: dict[str, Command] = {
        "part": Settle(id=name, hold=pair, amounts=((0, 3),)),
        "close": Settle(id=name, hold=pair, amounts=((0, 3),), close=True),
        "void": Void(id=name, hold=pair),
        "expire": Expire(id=name, hold=pair),
    }
    return kinds[kind]


def codes(*outcomes: Outcome) -> tuple[R | None, ...]:
    return tuple(None if outcome.refusal is None else outcome.refusal.code for outcome in outcomes)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Running | None:
    """None for the engine in memory."""
    return None if request.param == "memory" else request.getfixturevalue("postgres")


@pytest.fixture
async def ledger(server: Running | None, clock: ManualClock) -> AsyncIterator[Ledger]:
    """Each engine with a payer and a payee for every pair, the payer with 10."""
    if server is None:
        memory = MemoryLedger(clock)
        await open_all(memory)
        yield memory
        return
    async with fresh_database(server) as database:
        stored = await new_ledger(database.engine(), clock=clock)
        await open_all(stored)
        yield stored
        assert stored.batches["apart"] == 0
        assert (await audit(database.engine(), "main")).disagreements == []


async def open_all(ledger: Ledger) -> None:
    named = [name for pair in NAMES for name in (payer(pair), payee(pair))]
    await ledger.submit(OPENING, Group(tuple(OpenAccount(id=f"open {name}", account=name) for name in named)))
    await ledger.submit(alone(Post(id="funding", postings=tuple(usd(BANK, payer(pair), 10) for pair in NAMES))))


async def found(ledger: Ledger, answers: dict[str, tuple[R | None, ...]]) -> dict[str, object]:
    """Codes, what moved to the payee and what is still held, by pair."""
    accounts = {account.id: account for account in await ledger.accounts()}
    return {
        pair: (said, accounts[payee(pair)].balance, accounts[payer(pair)].debits_pending)
        for pair, said in answers.items()
    }


@pytest.mark.parametrize(("at", "expected"), [row[1:] for row in INSTANTS], ids=[row[0] for row in INSTANTS])
async def test_two_ends_of_a_hold_in_one_batch_have_the_outcomes_of_the_table(ledger, clock, at, expected):
    await ledger.submit(*(hold(pair) for pair in NAMES))
    clock.instant = at
    answers = {}
    for pair in NAMES:
        [first], [second] = await ledger.submit(*ends(pair))
        answers[pair] = codes(first, second)
    assert await found(ledger, answers) == expected


@pytest.mark.parametrize(("at", "expected"), [row[1:] for row in INSTANTS], ids=[row[0] for row in INSTANTS])
async def test_all_pairs_in_one_batch_have_the_outcomes_of_the_table(ledger, clock, at, expected):
    await ledger.submit(*(hold(pair) for pair in NAMES))
    clock.instant = at
    said = [codes(*group) for group in await ledger.submit(*(group for pair in NAMES for group in ends(pair)))]
    answers = {pair: (*said[2 * n], *said[2 * n + 1]) for n, pair in enumerate(NAMES)}
    assert await found(ledger, answers) == expected


async def test_the_hold_may_be_made_in_the_same_batch(ledger, clock):
    clock.instant = SOON - MOMENT
    answers = {}
    for pair in NAMES:
        [held], [first], [second] = await ledger.submit(hold(pair), *ends(pair))
        assert held.accepted
        answers[pair] = codes(first, second)
    assert await found(ledger, answers) == BEFORE


@pytest.mark.parametrize(("at", "expected"), [row[1:] for row in INSTANTS], ids=[row[0] for row in INSTANTS])
async def test_in_one_group_both_ends_hold_or_neither(ledger, clock, at, expected):
    """The group is accepted exactly where the table accepts both, and what it refuses changes nothing."""
    await ledger.submit(*(hold(pair) for pair in NAMES))
    clock.instant = at
    answers = {}
    for pair in NAMES:
        [outcomes] = await ledger.submit(Group(tuple(group.commands[0] for group in ends(pair))))
        answers[pair] = codes(*outcomes)
    wanted: dict[str, object] = {}
    for pair, (alone_codes, moved, held) in expected.items():
        if alone_codes == (OK, OK):
            wanted[pair] = ((OK, OK), moved, held)
        elif alone_codes[0] is OK:
            wanted[pair] = ((R.GROUP_REFUSED, alone_codes[1]), 0, 8)
        else:
            wanted[pair] = ((alone_codes[0], R.GROUP_REFUSED), 0, 8)
    assert await found(ledger, answers) == wanted


async def test_a_hold_of_a_refused_group_was_never_made(ledger):
    pair = NAMES[0]
    too_much = Post(id="too much", postings=(usd(payer(pair), payee(pair), 11),))
    [outcomes] = await ledger.submit(Group((*hold(pair).commands, too_much)))
    assert codes(*outcomes) == (R.GROUP_REFUSED, R.INSUFFICIENT_FUNDS)
    for kind in ("part", "close", "void", "expire"):
        [(outcome,)] = await ledger.submit(alone(end(kind, pair, kind)))
        assert codes(outcome) == (R.UNKNOWN_HOLD,)
    assert await found(ledger, {pair: ()}) == {pair: ((), 0, 0)}


@pytest.mark.slow
@pytest.mark.parametrize(("at", "expected"), [row[1:] for row in INSTANTS], ids=[row[0] for row in INSTANTS])
async def test_two_callers_of_a_process_that_has_to_read_the_hold_hear_what_the_table_says(
    database, clock, at, expected
):
    first = await new_ledger(database.engine(), clock=clock)
    await open_all(first)
    await first.submit(*(hold(pair) for pair in NAMES))
    clock.instant = at
    answers = {}
    for pair in NAMES:
        fresh = PostgresLedger(database.engine(pool_size=2), clock=clock)
        told = await asyncio.gather(*(fresh.submit(group) for group in ends(pair)))
        answers[pair] = tuple(code for [group] in told for code in codes(*group))
        await fresh.aclose()
    assert await found(first, answers) == expected
    assert (await audit(database.engine(), "main")).disagreements == []


# Spends against a dispute


@pytest.mark.slow
@pytest.mark.parametrize("taken", [40, 100, 130])
async def test_fifty_spends_against_one_dispute_leave_each_cent_in_the_account_or_the_receivable(database, taken):
    """Fifty callers of two services spend what the bank takes back: the account gives what it has and owes the rest."""
    seed = secrets.randbits(32)
    print("seed", seed)
    chance = random.Random(seed)
    services = [await new_ledger(database.engine(), clock=ManualClock(START)) for _ in range(2)]
    ledger = services[0]
    funding = alone(Post(id="funding", postings=(usd(BANK, A, 100),)))
    await ledger.submit(OPENING, funding)
    spends = {f"spend {n}": chance.randint(1, 5) for n in range(50)}
    calls = [alone(Post(id=name, postings=(usd(A, B, amount),))) for name, amount in spends.items()]
    dispute = Post(id="dispute", postings=(usd(A, BANK, taken, RECEIVABLE),), evidence=BankEvidence("main", "S2", 1))
    calls.insert(chance.randrange(len(calls)), alone(dispute))
    answers = await asyncio.gather(*(services[n % 2].submit(call) for n, call in enumerate(calls)))
    told = {outcome.id: outcome for [(outcome,)] in answers}

    spent = sum(amount for name, amount in spends.items() if told[name].accepted)
    earlier = sum(a for n, a in spends.items() if told[n].accepted and told[n].seq < told["dispute"].seq)
    given = min(taken, 100 - earlier)
    accounts = {account.id: account for account in await ledger.accounts()}
    assert told["dispute"].accepted
    assert {(line.debit, line.amount) for line in told["dispute"].lines} == {
        (account, amount) for account, amount in ((A, given), (RECEIVABLE, taken - given)) if amount
    }
    assert accounts[A].balance == 100 - spent - given >= 0
    assert accounts[RECEIVABLE].balance == given - taken
    assert accounts[A].balance + accounts[RECEIVABLE].balance == 100 - spent - taken
    assert accounts[B].balance == spent

    core = MemoryLedger(ManualClock(START))
    await core.submit(OPENING, funding)
    by_id = {call.commands[0].id: call for call in calls}
    for outcome in sorted(told.values(), key=lambda one: one.seq):
        assert await core.submit(by_id[outcome.id]) == [(outcome,)]
    assert (await audit(database.engine(), "main")).disagreements == []
