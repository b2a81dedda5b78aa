"""Quotes and conversions: once, in time, from the exchange's own stock; one entry for both assets."""

import asyncio
from datetime import timedelta
from fractions import Fraction

import pytest

from base.errors import NotFound, Rejected
from ledger.accounts import house_account, user_account
from ledger.errors import RefusedByBook, RequestConflict
from tests.wallet.conftest import ALICE, BOB, fund, key
from wallet.errors import ExchangeShort, QuoteExpired, QuoteUsed

pytestmark = pytest.mark.slow


@pytest.fixture
async def market(house):
    """Alice has 100 USD, the exchange 80 USDC."""
    await fund(house.ledger, user_account(ALICE, "USD"), 100_00, name="alice")
    await fund(house.ledger, house_account("fx", "USDC"), 80_000_000, name="stock")
    await fund(house.ledger, house_account("fx", "EUR"), 20_00, name="euros")
    return house


async def test_both_assets_move_in_one_entry_and_the_spread_is_income(market):
    quote = await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=50_00)
    assert (quote.sold, quote.spread, quote.bought) == (50_00, 0, 50_000_000)
    euro = await market.quotes.create(ALICE, sell="USD", buy="EUR", buy_amount=10_00)
    assert (euro.sold, euro.spread, euro.bought) == (10_90, 5, 10_00)
    assert 10_00 * Fraction(10842, 10000) / Fraction(9950, 10000) == euro.sold - euro.lost.fraction
    done = await market.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)
    assert (done.sold, done.bought, done.quote) == (50_00, 50_000_000, quote.id)
    assert await market.balance(user_account(ALICE, "USD")) == 50_00
    assert await market.balance(user_account(ALICE, "USDC")) == 50_000_000
    assert await market.balance(house_account("fx", "USD")) == 50_00
    assert await market.balance(house_account("fx", "USDC")) == 30_000_000
    assert {movement.command for movement in await market.ledger.history(subject=done.id)} == {key("c").id}
    assert await market.conversions.list_for(ALICE) == [await market.conversions.get(ALICE, done.id)]
    await market.assert_sums_to_zero()


async def test_a_quote_is_used_once_and_a_repeat_gets_the_first_answer_even_after_it_expired(market, clock):
    quote = await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=10_00)
    first = await market.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)
    clock.advance(timedelta(hours=1))
    again = await market.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)
    assert again.replayed
    assert again.id == first.id
    with pytest.raises(QuoteUsed):
        await market.conversions.convert(key=key("d"), owner=ALICE, quote=quote.id)
    with pytest.raises(RequestConflict):
        await market.conversions.convert(key=key("c", "other"), owner=ALICE, quote=quote.id)
    assert await market.balance(user_account(ALICE, "USDC")) == 10_000_000


async def test_of_many_who_take_one_quote_at_once_one_gets_it(market):
    quote = await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=10_00)
    takes = (market.conversions.convert(key=key(f"c{n}"), owner=ALICE, quote=quote.id) for n in range(20))
    answers = await asyncio.gather(*takes, return_exceptions=True)
    assert [type(answer) for answer in answers].count(QuoteUsed) == 19
    assert await market.balance(user_account(ALICE, "USDC")) == 10_000_000


async def test_an_expired_quote_is_refused(market, clock):
    quote = await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=10_00)
    clock.advance(timedelta(seconds=30))
    with pytest.raises(QuoteExpired):
        await market.conversions.convert(key=key("c"), owner=ALICE, quote=quote.id)


async def test_another_users_quote_doesnt_exist(market):
    quote = await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=10_00)
    with pytest.raises(NotFound):
        await market.conversions.convert(key=key("c", owner=BOB), owner=BOB, quote=quote.id)


async def test_the_exchange_sells_no_more_than_it_has(market):
    """It's quoted while the stock lasts; what was sold meanwhile is found under the book's lock."""
    short = {"asset": "USDC", "required": 90_000_000, "available": 80_000_000}
    with pytest.raises(ExchangeShort) as refused:
        await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=90_00)
    assert refused.value.facts == short
    quotes = [await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=45_00) for _ in range(2)]
    await market.conversions.convert(key=key("c0"), owner=ALICE, quote=quotes[0].id)
    with pytest.raises(ExchangeShort) as refused:
        await market.conversions.convert(key=key("c1"), owner=ALICE, quote=quotes[1].id)
    assert refused.value.facts == short | {"required": 45_000_000, "available": 35_000_000}
    assert await market.balance(user_account(ALICE, "USD")) == 55_00
    assert (await market.quotes.get(ALICE, quotes[1].id)).state == "open"


async def test_who_has_too_little_is_told_by_the_book(market):
    quote = await market.quotes.create(BOB, sell="USD", buy="USDC", sell_amount=10_00)
    with pytest.raises(RefusedByBook) as refused:
        await market.conversions.convert(key=key("c", owner=BOB), owner=BOB, quote=quote.id)
    assert refused.value.code == "insufficient_funds"


async def test_exactly_one_amount_is_given(market):
    with pytest.raises(Rejected):
        await market.quotes.create(ALICE, sell="USD", buy="USDC")
    with pytest.raises(Rejected):
        await market.quotes.create(ALICE, sell="USD", buy="USDC", sell_amount=1, buy_amount=1)
