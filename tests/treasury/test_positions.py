"""Positions at any moment are what the journal's lines add up to, and every figure is where it belongs."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from db.engine import tx
from exchange.errors import RatesTooOld
from exchange.rates_file import parse_rates
from ledger.accounts import house_account, user_account
from ledger.commands import ChainEvidence, Command, Hold, Post, Posting, Settle, Void, alone
from ledger.outcomes import require_accepted
from tests.treasury.conftest import Treasury
from tests.treasury.test_reconciliation import journey, withdraw
from tests.wallet.conftest import ALICE, BOB, RATES, fund
from tests.wallet.scripted_chain import digest
from treasury.errors import MomentUnfit
from treasury.position import FIGURES, GasSpent, Hot, Runway, Share, positions_of
from treasury.positions import Positions, Through
from treasury.refills import Floor

pytestmark = pytest.mark.slow

USERS = [user_account(who, "USDC") for who in (ALICE, BOB, "usr_carol")]
HOUSE = [
    house_account(purpose, "USDC")
    for purpose in (
        "custody:local:hot",
        "custody:local:deposit",
        "custody:other:cold",
        "bank:main",
        "provider:stripe",
        f"receivable:{ALICE}",
        f"receivable:{BOB}",
        "in-transit:local:out",
        "in-transit:stripe:in",
        "suspense",
        "quarantine",
        "capital",
        "fees",
        "network-fees",
    )
]
MEANS = {
    "custody": ("held", -1),
    "bank": ("held", -1),
    "provider": ("held", -1),
    "receivable": ("receivable", -1),
    "in-transit": ("in_transit", 1),
    "suspense": ("unassigned", 1),
    "quarantine": ("unassigned", 1),
    "fx": ("stock", 1),
}
"""The chart of accounts, written down a second time: kind of a house account, figure and sign."""


class KeptRates:
    """The rates of `RATES`, good for a day from their instant on."""

    async def at(self, when: datetime):
        rates = parse_rates(RATES)
        if not rates.fresh_at(when):
            raise RatesTooOld("none are kept of then")
        return rates


def positions_in(treasury: Treasury, engine, clock) -> Positions:
    return Positions(
        engine,
        ledger=treasury.house.ledger,
        registry=treasury.house.registry,
        rates=KeptRates(),
        floors={("local", "USDC"): Floor(100, 1_000_000_000)},
        reference="USD",
        clock=clock,
    )


@pytest.fixture
def positions(treasury, database, clock):
    return positions_in(treasury, database.engine(), clock)


async def lines_of(engine):
    """(seq, booked_at, debit, credit, amount, network, block) of every posted line."""
    query = """
        SELECT l.seq, c.booked_at, d.name AS debit, k.name AS credit, l.amount::text AS amount,
               e.network, e.block_number
          FROM ledger_lines l JOIN ledger_commands c USING (book, seq)
          JOIN ledger_accounts d ON d.book = l.book AND d.account = l.debit
          JOIN ledger_accounts k ON k.book = l.book AND k.account = l.credit
          LEFT JOIN ledger_evidence e ON e.book = l.book AND e.seq = l.seq
         WHERE l.kind = 'posted'
    """
    async with tx(engine) as connection:
        return (await connection.execute(text(query))).all()


def figures_of(lines) -> dict[str, int]:
    """What these lines come to, one after the other."""
    found = dict.fromkeys(FIGURES, 0)
    for line in lines:
        for account, sign in ((line.debit, -1), (line.credit, 1)):
            owner, purpose, _ = account.split("/")
            figure, usual = ("owed", 1) if owner != "house" else MEANS.get(purpose.split(":")[0], ("equity", 1))
            found[figure] += usual * sign * int(line.amount)
    return found


async def play(house, chance: random.Random, clock, *, entries: int) -> None:
    """Entries between any accounts, some of them of blocks, some held and settled in part; users only pay each other
    what they have."""
    ledger = house.ledger
    await ledger.ensure_open(*USERS, *HOUSE)
    have = {account: (await ledger.account(account)).available for account in USERS}
    for _ in range(entries):
        clock.advance(timedelta(milliseconds=chance.choice((0, 1, 700, 4_000))))
        debit, credit = chance.sample(USERS + HOUSE, 2)
        amount = chance.choice((2, 7, 1_000, 2**70))
        if have.get(debit, amount) < amount:
            debit = HOUSE[0] if credit in USERS else chance.choice([one for one in HOUSE if one != credit])
        posting, id = Posting(debit, credit, "USDC", amount), f"test:{len(house.chain.hashes)}:{chance.random()}"
        block = chance.randint(0, house.chain.height + 2)  # a clock that went back books before its block's time
        of_block = ChainEvidence("local", block, digest("block", block), digest(id), "value")
        commands: list[Command] = [Post(id=id, postings=(posting,), evidence=chance.choice((of_block, None)))]
        if chance.random() < 0.3:
            ended = chance.choice(
                (Settle(id=f"{id}:end", hold=id, amounts=((0, amount - 1),), close=True), Void(id=f"{id}:end", hold=id))
            )
            commands = [Hold(id=id, postings=(posting,)), ended]
            amount = amount - 1 if isinstance(ended, Settle) else 0
        for command in commands:
            require_accepted((await ledger.submit(alone(command)))[0])
        for account, change in ((debit, -amount), (credit, amount)):
            if account in have:
                have[account] += change


@pytest.mark.parametrize("seed", range(3))
async def test_positions_at_any_moment_are_the_sums_of_the_lines_up_to_it(treasury, positions, database, clock, seed):
    chance, house, engine = random.Random(seed), treasury.house, database.engine()
    for _ in range(4):
        await play(house, chance, clock, entries=25)
        await house.chain.mine_empty(3)
    lines = await lines_of(engine)
    assert {line.network for line in lines} == {"local", None}
    clock.advance(timedelta(seconds=1))
    began = min(line.booked_at for line in lines)

    async def must_be(counted, **moment) -> None:
        (told,) = [one for one in (await positions.read(**moment)).positions if one.asset == "USDC"]
        assert {name: getattr(told, name) for name in FIGURES} == figures_of(counted)
        assert told.balanced
        assert told.held == sum(one.amount for one in (*told.custody, *told.banks, *told.providers))
        ways = {"out": 1, "in": -1}
        assert told.in_transit == sum(ways[one.direction] * one.amount for one in told.transits)

    await must_be(lines)
    for _ in range(8):
        at = began + (clock.now() - began) * chance.random()
        await must_be([line for line in lines if line.booked_at <= at], at=at)
    for block in range(house.chain.height - 3):
        async with tx(engine) as connection:
            query = text("SELECT mined_at FROM chain_blocks WHERE number = :number")
            then = await connection.scalar(query, {"number": block})
        counted = [
            line
            for line in lines
            if (line.block_number <= block if line.network == "local" else line.booked_at <= then)
        ]
        await must_be(counted, through=Through("local", block))


async def test_positions_of_a_journey_say_where_all_of_it_is(treasury, positions, clock):
    await journey(treasury)
    before = clock.now()
    withdrawal = await withdraw(treasury, final_blocks=4)
    await treasury.house.chain.set_transaction(withdrawal.id, state="final")
    await treasury.work()
    await fund(treasury.house.ledger, house_account("fx", "USDC"), 3, name="stock")
    told = await positions.read()
    usdc = next(one for one in told.positions if one.asset == "USDC")
    assert (usdc.on("local"), usdc.unassigned, usdc.stock) == (
        {"hot": 875_000_000, "deposit": 50_000_000},
        900_000_000,
        3,
    )
    assert usdc.covered
    assert all(one.balanced for one in told.positions)
    (hot, *_) = told.hot
    assert (hot.share, hot.short) == (Share(875_000_000, 925_000_000), 125_000_000)
    then = next(one for one in (await positions.read(at=before)).positions if one.asset == "USDC")
    assert (then.owed, then.on("local")) == (50_000_000, {"hot": 900_000_000, "deposit": 50_000_000})


async def test_a_moment_that_nobody_knows_is_refused(treasury, positions, clock):
    await treasury.house.chain.mine_empty(4)
    began = clock.now()
    with pytest.raises(MomentUnfit, match="before the book: nothing is in it yet"):
        await positions.read(at=began)
    await fund(treasury.house.ledger, USERS[0], 5, name="first")
    final = treasury.house.chain.height - 3
    for moment, words in (
        ({"at": clock.now() + timedelta(microseconds=1)}, "nobody knows what comes"),
        ({"at": began - timedelta(microseconds=1)}, "before the book: its first entry is of"),
        ({"through": Through("local", final + 1)}, f"isn't final: {final} is the last"),
        ({"through": Through("local", final), "at": began}, "not both"),
    ):
        with pytest.raises(MomentUnfit, match=words):
            await positions.read(**moment)
    assert (await positions.read(through=Through("local", final))).block.number == final


async def test_an_asset_without_a_rate_is_unvalued_and_never_nothing(treasury, positions, clock):
    ledger = treasury.house.ledger
    await fund(ledger, user_account(ALICE, "EUR"), 1_01, name="euros")
    await fund(ledger, user_account(ALICE, "DAI"), 10**18, name="dai")
    told = (await positions.read()).valuation
    assert (told.reference.code, told.age) == ("USD", clock.now() - datetime(2026, 1, 1, tzinfo=UTC))
    assert (told.values["EUR"]["owed"], told.totals["owed"], told.values["EUR"]["equity"]) == (109, 109, -110)
    assert told.unvalued == {"DAI": "there is no rate from DAI to USD"}
    assert "DAI" not in told.values
    in_ether = (await positions.read(reference="ETH")).valuation
    assert in_ether.values["EUR"]["owed"] == 101 * 10842 * 10**18 // (100 * 10**4 * 2500_50 // 100) // 1
    clock.advance(timedelta(days=2))
    late = (await positions.read()).valuation
    assert (late.rates, set(late.values)) == (None, {"USD"})
    assert late.unvalued["EUR"] == "none are kept of then"


async def test_gas_runway_goes_by_what_a_network_cost_and_is_unknown_at_first(treasury, positions, clock):
    ledger = treasury.house.ledger
    hot, gas, fees = (
        house_account(f"{name}", "ETH") for name in ("custody:local:hot", "custody:local:gas", "network-fees")
    )
    elsewhere = house_account("custody:other:hot", "ETH")
    await ledger.ensure_open(hot, gas, fees, elsewhere, house_account("capital", "ETH"))

    async def book(debit: str, credit: str, amount: int) -> None:
        posting = Posting(debit, credit, "ETH", amount)
        require_accepted(
            (await ledger.submit(alone(Post(id=f"g{clock.now()}{debit}{credit}", postings=(posting,)))))[0]
        )

    async def runway() -> Runway:
        found: list[Runway] = list((await positions.read()).runways)
        assert len(found) == 1
        return found[0]

    await book(hot, house_account("capital", "ETH"), 800)
    await book(gas, house_account("capital", "ETH"), 250)
    assert (await runway()).unknown == "nothing was spent in 7 days"
    await book(fees, hot, 50)
    clock.advance(timedelta(hours=23))
    assert (await runway()).unknown == "less than 24 hours of payments are in the book"
    clock.advance(timedelta(days=3, hours=1))
    await book(fees, gas, 60)
    await book(gas, fees, 10)  # taken back
    await book(fees, elsewhere, 999)
    one = await runway()
    assert (one.coins, one.spent) == (950, GasSpent(100, timedelta(days=4)))
    assert one.days == "38.0"
    clock.advance(timedelta(days=5))
    assert ((await runway()).spent, (await runway()).days) == (GasSpent(50, timedelta(days=7)), "133.0")


def test_ratios_are_rounded_down_and_of_nothing_there_is_none():
    assert Share(2, 3).text == "0.666666"
    assert Share(-1, 3).text == "-0.333334"
    assert Share(10**80 - 1, 10**80).text == "0.999999"
    assert Share(5, 0).text is None
    assert Hot("local", "USDC", 5, 10, None, None).short is None


def test_a_book_that_does_not_add_up_is_told():
    (told,) = positions_of(["USD"], {("USD", ""): 100, ("USD", "bank:main"): -99})
    assert (told.balanced, told.covered) == (False, False)
