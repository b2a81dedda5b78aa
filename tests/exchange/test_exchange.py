"""The exchange on a real book: sources that fail, quotes that stand, exposures that hold under many at once."""

import asyncio
from datetime import timedelta
from fractions import Fraction

import pytest
from sqlalchemy import delete

from base.errors import Unavailable
from db.engine import tx
from exchange import positions, tables
from exchange.errors import ExposureReached, OutsideSizes, RatesTooOld, RateUnavailable, ReferenceChanged
from exchange.position import FINE, Position
from exchange.terms import Agreement, Exposure
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, Reverse, alone
from tests.wallet.conftest import ALICE, BOB, fund, key
from wallet import quotes as wallet_quotes
from wallet.errors import ExchangeShort, PriceMoved, QuoteExpired, QuoteUsed
from wallet.resources import Conversion

pytestmark = pytest.mark.slow

ETHER = 10**18


async def test_a_source_that_dies_between_quote_and_conversion_changes_nothing(exchange):
    quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=2500_00)
    exchange.source.prices = exchange.other.prices = None
    exchange.clock.advance(timedelta(seconds=20))
    await exchange.board.step()
    done = await exchange.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)
    assert done.bought == quote.bought == ETHER * 995 // 1000
    exchange.clock.advance(timedelta(seconds=60))
    with pytest.raises(RateUnavailable) as refused:
        await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=2500_00)
    assert refused.value.facts["doubt"] == "stale"
    snapshot = await exchange.rates.snapshot()
    assert snapshot.failed == {"a": "it's down", "b": "it's down"}


async def test_one_source_that_dies_leaves_the_other(exchange):
    exchange.other.prices = None
    exchange.clock.advance(timedelta(seconds=70))
    await exchange.board.step()
    assert await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=2500_00)


async def test_sources_that_disagree_stop_the_pair_and_say_by_how_much(exchange):
    exchange.source.prices = {"ETH": "2500", "EUR": "1.1"}
    exchange.other.prices = {"ETH": "2600", "EUR": "1.1"}
    exchange.clock.advance(timedelta(seconds=10))
    await exchange.board.step()
    with pytest.raises(RateUnavailable) as refused:
        await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=2500_00)
    assert refused.value.facts["rates"] == {"a": "2500", "b": "2600"}
    assert refused.value.facts["off_basis_points"] == {"a": 197, "b": 197}


async def test_a_clock_that_was_an_hour_ahead_stops_no_rates_once_it_is_right_again(exchange):
    exchange.clock.advance(timedelta(hours=1))
    assert await exchange.board.step() == 1
    exchange.clock.advance(timedelta(seconds=10, hours=-1))
    assert await exchange.board.step() == 1
    assert await exchange.board.step() == 0
    assert await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=2500_00)


async def test_a_worker_whose_clock_is_behind_another_ones_asks_no_source_in_vain(exchange):
    exchange.clock.advance(timedelta(seconds=-8))
    assert await exchange.board.step() == 0


async def test_rates_that_nobody_ever_told_are_told_to_be_missing(database, clock, entropy, exchange):
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(delete(tables.snapshots))
    with pytest.raises(RatesTooOld):
        await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=2500_00)


async def test_a_quote_that_expires_while_it_is_taken_is_taken_or_refused_and_never_half(exchange):
    before = await exchange.balance(user_account(ALICE, "USD"))
    taken = 0
    for number in range(10):
        quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=10_00)
        exchange.clock.advance(timedelta(seconds=29))

        async def pass_time() -> None:
            exchange.clock.advance(timedelta(seconds=2))

        convert = exchange.conversions.convert(key=key(f"e{number}"), owner=ALICE, quote=quote.id)
        answers = await asyncio.gather(convert, pass_time(), return_exceptions=True)
        assert isinstance(answers[0], QuoteExpired | Conversion)
        taken += isinstance(answers[0], Conversion)
        await exchange.tell(ETH="2500", EUR="1.1")
    assert await exchange.balance(user_account(ALICE, "USD")) == before - taken * 10_00


async def test_of_many_at_the_exposures_edge_exactly_as_many_convert_as_fit(exchange):
    """The stock has 10 ETH and may come to 11: two and a half ether fit in, in pieces of a half; each clean."""
    exchange.change(exposures={"ETH": Exposure(most=11 * ETHER)})
    quotes = [
        await exchange.quotes.create(owner, sell="ETH", buy="USD", sell_amount=ETHER // 4)
        for owner in (ALICE, BOB)
        for _ in range(6)
    ]
    takes = (exchange.conversions.convert(key=key(q.id, owner=q.owner), owner=q.owner, quote=q.id) for q in quotes)
    answers = await asyncio.gather(*takes, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, ExposureReached)]
    kept = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert (len(kept), len(refused)) == (4, 8)
    assert refused[-1].facts["asset"] == "ETH"
    stock = await exchange.balance(house_account("fx", "ETH"))
    assert stock <= 11 * ETHER < stock + kept[0].sold - kept[0].spread
    with pytest.raises(ExposureReached):
        await exchange.quotes.create(ALICE, sell="ETH", buy="USD", sell_amount=ETHER // 4)
    assert await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=100_00)


async def test_of_many_at_the_stocks_floor_exactly_as_many_convert_as_fit(exchange):
    exchange.change(exposures={"ETH": Exposure(least=9 * ETHER)})
    quotes = [
        await exchange.quotes.create(owner, sell="USD", buy="ETH", buy_amount=ETHER // 4)
        for owner in (ALICE, BOB)
        for _ in range(6)
    ]
    takes = (exchange.conversions.convert(key=key(q.id, owner=q.owner), owner=q.owner, quote=q.id) for q in quotes)
    answers = await asyncio.gather(*takes, return_exceptions=True)
    assert [type(answer) for answer in answers].count(ExchangeShort) == 8
    assert await exchange.balance(house_account("fx", "ETH")) == 9 * ETHER
    with pytest.raises(ExchangeShort) as refused:
        await exchange.quotes.create(ALICE, sell="USD", buy="ETH", buy_amount=1)
    assert refused.value.facts == {"asset": "ETH", "required": 1, "available": 0}


async def test_two_who_take_one_quote_at_once_get_one_conversion(exchange):
    quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=10_00)
    takes = (exchange.conversions.convert(key=key(f"c{n}"), owner=ALICE, quote=quote.id) for n in range(2))
    answers = await asyncio.gather(*takes, return_exceptions=True)
    assert sorted(isinstance(answer, QuoteUsed) for answer in answers) == [False, True]


async def test_sizes_are_refused_with_their_numbers(exchange):
    exchange.change(value_min=10_00, value_max=5_000_00)
    for amount, told in ((9_99, "9.99"), (5_000_01, "5000.01")):
        with pytest.raises(OutsideSizes) as refused:
            await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=amount)
        assert refused.value.facts == {
            "value": told,
            "reference": "USD",
            "value_min": "10.00",
            "value_max": "5000.00",
        }
    assert await exchange.quotes.create(ALICE, sell="ETH", buy="USD", sell_amount=2 * ETHER)


async def test_the_position_is_the_books_balance_and_recomputes_from_its_moves(exchange):
    """Bought at 2,500 and sold at 3,000: the gain is realised, what is left is worth more than it cost."""
    assert await exchange.positions.step() > 0
    for number, (sell, buy, amount) in enumerate((("ETH", "USD", 2 * ETHER), ("USD", "ETH", 100_00))):
        quote = await exchange.quotes.create(ALICE, sell=sell, buy=buy, sell_amount=amount)
        await exchange.conversions.convert(key=key(f"first {number}"), owner=ALICE, quote=quote.id)
    exchange.change(agreement=Agreement(jump_basis_points=100_000))
    await exchange.tell(ETH="3000", EUR="1.1")
    quote = await exchange.quotes.create(BOB, sell="USD", buy="ETH", buy_amount=3 * ETHER)
    await exchange.conversions.convert(key=key("second", owner=BOB), owner=BOB, quote=quote.id)
    await fund(exchange.ledger, house_account("fx", "ETH"), ETHER, name="more")
    while await exchange.positions.step():
        pass
    found = {one.asset: one for one in await exchange.positions.all()}
    for code in ("ETH", "USD"):
        held = await exchange.balance(house_account("fx", code)) + await exchange.balance(
            house_account("fx-result", code)
        )
        assert found[code].position.quantity == held
    async with tx(exchange.engine) as connection:
        again = await positions.recompute(connection, exchange.ledger.book)
    assert again == {code: one.position for code, one in found.items()}
    ether = found["ETH"].position
    sold_value = round(3 * ETHER * Fraction(3000_00, ETHER)) * FINE
    assert abs(ether.realised - (sold_value - 3 * 2500_00 * FINE)) <= 2500_00 * FINE * 3 // 1000
    assert found["ETH"].value == round(Fraction(ether.quantity * 3000_00 * FINE, ETHER))
    assert found["ETH"].unrealised == found["ETH"].value - ether.cost
    assert found["USD"].position.realised == 0
    assert found["USD"].unrealised == 0


async def test_entries_of_more_lines_than_a_step_reads_are_taken_in_whole(exchange, monkeypatch):
    """In the stock one that alone is more than a step's; in the result one that a full page cuts off."""
    monkeypatch.setattr(positions, "LINES", 150)
    for purpose, counts in (("fx", (320, 1)), ("fx-result", (20, 140, 1))):
        account = house_account(purpose, "USD")
        await fund(exchange.ledger, account, 1, name=f"opens {purpose}")
        for number, count in enumerate(counts):
            parts = tuple(Posting(house_account("capital", "USD"), account, "USD", 1) for _ in range(count))
            (outcomes,) = await exchange.ledger.submit(alone(Post(id=f"test:{purpose}:{number}", postings=parts)))
            assert outcomes[0].accepted, outcomes
    await fund(exchange.ledger, house_account("fx", "USD"), 1, name="the last")
    while await exchange.positions.step():
        pass
    held = [await exchange.balance(house_account(purpose, "USD")) for purpose in ("fx", "fx-result")]
    found = {one.asset: one.position.quantity for one in await exchange.positions.all()}
    assert found["USD"] == sum(held)


async def test_two_workers_take_each_line_in_once(exchange):
    for number in range(6):
        quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=100_00)
        await exchange.conversions.convert(key=key(f"c{number}"), owner=ALICE, quote=quote.id)
    both = [exchange.positions, exchange.positions]
    while sum(await asyncio.gather(*(one.step() for one in both))):
        pass
    async with tx(exchange.engine) as connection:
        again = await positions.recompute(connection, exchange.ledger.book)
    kept = {one.asset: one.position for one in await exchange.positions.all()}
    assert kept == again
    assert kept["ETH"].quantity == await exchange.balance(house_account("fx", "ETH"))


async def test_what_is_moved_between_stock_and_result_changes_no_position(exchange):
    quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=1000_00)
    await exchange.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)
    while await exchange.positions.step():
        pass
    before = {one.asset: one.position for one in await exchange.positions.all()}
    assert before["USD"].earned == 5_00 * FINE
    move = Posting(house_account("fx-result", "USD"), house_account("fx", "USD"), "USD", 5_00)
    await exchange.ledger.submit(alone(Post(id="test:move", postings=(move,))))
    assert await exchange.positions.step() == 0
    assert {one.asset: one.position for one in await exchange.positions.all()} == before


async def test_an_asset_whose_rate_nobody_knows_waits_and_no_other_with_it(exchange):
    await fund(exchange.ledger, house_account("fx", "DAI"), 10**18, name="dai")
    assert await exchange.positions.step() > 0
    with pytest.raises((Unavailable, Exception), match="DAI"):
        await exchange.positions.step()
    assert {one.asset for one in await exchange.positions.all()} == {"ETH", "USD"}
    await exchange.tell(ETH="2500", EUR="1.1", DAI="1")
    assert await exchange.positions.step() == 1
    dai = {one.asset: one.position for one in await exchange.positions.all()}["DAI"]
    assert dai == Position(quantity=10**18, cost=100 * FINE)


@pytest.mark.parametrize("seen_between", [True, False])
async def test_a_spread_whose_conversion_is_taken_back_isnt_earned(exchange, seen_between):
    while await exchange.positions.step():
        pass
    quote = await exchange.quotes.create(ALICE, sell="ETH", buy="USD", sell_amount=2 * ETHER)
    await exchange.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)
    if seen_between:
        while await exchange.positions.step():
            pass
        earned = {one.asset: one.position.earned for one in await exchange.positions.all()}
        assert earned["ETH"] == 2 * 2500_00 * FINE // 200
    await exchange.ledger.submit(alone(Reverse(id="test:back", subject="adj_1", entry=key("c").id)))
    while await exchange.positions.step():
        pass
    found = {one.asset: one.position for one in await exchange.positions.all()}
    assert found["ETH"] == Position(quantity=10 * ETHER, cost=25_000_00 * FINE)
    assert found["USD"] == Position(quantity=20_000_00, cost=20_000_00 * FINE)
    async with tx(exchange.engine) as connection:
        assert await positions.recompute(connection, exchange.ledger.book) == found


async def test_positions_in_one_reference_are_never_gone_on_with_in_another(exchange):
    while await exchange.positions.step():
        pass
    before = await exchange.positions.all()
    exchange.change(reference="EUR")
    await fund(exchange.ledger, house_account("fx", "ETH"), ETHER, name="more")
    with pytest.raises(ReferenceChanged, match="write USD back"):
        await exchange.positions.step()
    after = await exchange.positions.all()
    assert [one.position for one in after] == [one.position for one in before]
    assert {one.reference.code for one in after} == {"USD"}
    assert [one.value for one in after] == [one.value for one in before]


async def test_quotes_that_nobody_took_and_rates_that_nobody_used_are_dropped_after_a_day(exchange):
    open_one = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=10_00)
    await exchange.tell(ETH="2501", EUR="1.1")
    taken = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=10_00)
    await exchange.conversions.convert(key=key("c"), owner=ALICE, quote=taken.id)
    exchange.clock.advance(timedelta(days=1, minutes=1))
    while await exchange.quotes.step():
        pass
    assert (await exchange.quotes.get(ALICE, taken.id)).rates == taken.rates
    assert await exchange.rates.snapshot(taken.rates) is not None
    assert await exchange.rates.snapshot(open_one.rates) is None
    with pytest.raises(Exception, match="no quote"):
        await exchange.quotes.get(ALICE, open_one.id)


async def test_rates_and_quotes_that_stay_keep_no_later_ones_from_being_dropped(exchange, monkeypatch):
    """More of them than one step looks at; a step looks at no quote twice."""
    monkeypatch.setattr(wallet_quotes, "_PRUNED", 2)
    for number in range(3):
        quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=10_00)
        await exchange.conversions.convert(key=key(f"kept {number}"), owner=ALICE, quote=quote.id)
        await exchange.tell(ETH=f"250{number}", EUR="1.1")
    unused = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=10_00)
    await exchange.tell(ETH="2504", EUR="1.1")
    last = (await exchange.rates.snapshot()).id
    exchange.clock.advance(timedelta(days=1, minutes=1))
    pruning = exchange.quotes
    for _ in range(6):
        await pruning.step()
    assert await exchange.rates.snapshot(unused.rates) is None
    assert await exchange.rates.snapshot(last) is not None  # the last one of its hour values what stood then
    assert await exchange.rates.snapshot(quote.rates) is not None
    with pytest.raises(Exception, match="no quote"):
        await exchange.quotes.get(ALICE, unused.id)


async def test_a_tiers_users_pay_its_spread(exchange):
    from exchange.terms import PairTerms

    class Gold:
        async def tier(self, owner):
            return "gold" if owner == BOB else None

        async def fee(self, owner, asset, amount):
            return 7

    exchange.change(pairs={("ETH", "USD"): PairTerms(50, {"gold": 10})})
    quotes = exchange.quotes
    quotes._charging = Gold()
    alice = await quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=1000_00)
    bob = await quotes.create(BOB, sell="USD", buy="ETH", sell_amount=1000_00)
    assert (alice.spread, bob.spread) == (5_00, 1_00)
    assert bob.total == 1000_07
    done = await exchange.conversions.convert(key=key("c", owner=BOB), owner=BOB, quote=bob.id)
    assert done.fee == 7
    assert await exchange.balance(house_account("fees", "USD")) == 7
    assert await exchange.balance(user_account(BOB, "USD")) == 10_000_00 - 1000_07


async def test_converting_at_the_price_of_now_is_bounded_by_what_its_owner_accepts(exchange):
    convert = exchange.conversions.convert_now
    asked = {"owner": ALICE, "sell": "USD", "buy": "ETH"}
    worth = ETHER * 995 // 1000
    with pytest.raises(PriceMoved) as refused:
        await convert(key=key("a"), sell_amount=2500_00, limit=worth + 1, **asked)
    assert refused.value.facts == {"asset": "ETH", "required": worth + 1, "available": worth}
    done = await convert(key=key("b"), sell_amount=2500_00, limit=worth, **asked)
    assert (done.sold, done.bought) == (2500_00, worth)
    with pytest.raises(PriceMoved) as refused:
        await convert(key=key("c"), buy_amount=worth, limit=2499_99, **asked)
    assert refused.value.facts == {"asset": "USD", "required": 2500_00, "available": 2499_99}
    assert (await convert(key=key("d"), buy_amount=worth, limit=2500_00, **asked)).sold == 2500_00
    again = await convert(key=key("b"), sell_amount=2500_00, limit=worth, **asked)
    assert (again.id, again.replayed) == (done.id, True)
    assert (await exchange.quotes.get(ALICE, done.quote)).state == "used"
