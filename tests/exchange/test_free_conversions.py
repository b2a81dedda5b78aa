"""Allowances of conversions: the quote fixes the most, and exactly the allowance is free, whoever asks at once."""

import asyncio

import pytest

from ledger.accounts import house_account, user_account
from ledger.requests import RequestKey, request_key
from tariff.errors import FeeAboveAccepted
from tariff.tariff_file import parse_tariff
from tests.wallet.conftest import ALICE, ASSETS
from wallet.errors import PriceMoved
from wallet.resources import Conversion, Quote

pytestmark = pytest.mark.slow

ONE_PERCENT = '[[fees]]\noperation = "conversion"\npercent = "1"\n'


def tariff(free: str):
    text = (
        f'default_tier = "standard"\nreference = "USD"\n[tiers.standard]\nfree.conversion = {{ {free} }}\n{ONE_PERCENT}'
    )
    return parse_tariff(text, assets={asset.code: asset for asset in ASSETS})


TWO, THOUSAND = tariff("operations = 2"), tariff('value = "1000.00"')


def key(name: str) -> RequestKey:
    return request_key(owner=ALICE, route="POST /test", key=name, body={"name": name})


async def quoted(exchange, sold: int = 100_00) -> Quote:
    made: Quote = await exchange.quotes.create(ALICE, sell="USD", buy="ETH", sell_amount=sold)
    return made


async def taken(exchange, name: str, *, sold: int = 100_00, accepted: int | None = None) -> Conversion:
    quote = await quoted(exchange, sold)
    converted: Conversion = await exchange.conversions.convert(
        key=key(name), owner=ALICE, quote=quote.id, fee_accepted=accepted
    )
    return converted


async def test_a_quote_tells_the_most_and_whether_it_would_be_free(exchange):
    exchange.tariff = TWO
    told = []
    for number in range(3):
        quote = await quoted(exchange)
        free = await exchange.quotes.is_free(quote)
        done = await exchange.conversions.convert(key=key(f"n{number}"), owner=ALICE, quote=quote.id)
        told.append((quote.fee, quote.total, free, done.fee, done.total))
        assert not await exchange.quotes.is_free(await exchange.quotes.get(ALICE, quote.id)), "it's taken"
    assert told == [(1_00, 101_00, True, 0, 100_00)] * 2 + [(1_00, 101_00, False, 1_00, 101_00)]
    assert await exchange.balance(house_account("fees", "USD")) == 1_00
    assert await exchange.balance(user_account(ALICE, "USD")) == 10_000_00 - 301_00
    again = [await exchange.conversions.get(ALICE, (await taken_again(exchange, n)).id) for n in range(3)]
    assert [one.fee for one in again] == [0, 0, 1_00]


async def taken_again(exchange, number: int) -> Conversion:
    """A repeat, by another process and whatever is left by now; its quote has been used."""
    (outcome,) = await exchange.ledger.outcomes(key(f"n{number}").id)
    quote = f"quo{outcome.subject[3:]}"
    done: Conversion = await exchange.conversions.convert(key=key(f"n{number}"), owner=ALICE, quote=quote)
    assert done.replayed
    return done


async def test_of_those_that_race_over_processes_exactly_the_allowance_is_free(exchange):
    exchange.tariff = TWO
    done = await asyncio.gather(*(taken(exchange, f"r{number}") for number in range(8)))
    assert sorted(one.fee for one in done) == [0] * 2 + [1_00] * 6
    assert await exchange.balance(house_account("fees", "USD")) == 6_00


async def test_a_value_is_free_as_long_as_a_whole_conversion_fits(exchange):
    exchange.tariff = THOUSAND
    sold = (600_00, 400_01, 400_00, 1_00)
    assert [(await taken(exchange, f"v{amount}", sold=amount)).fee for amount in sold] == [0, 4_01, 0, 1]


async def test_who_takes_only_what_is_free_keeps_the_quote(exchange):
    exchange.tariff = TWO
    for number in range(2):
        await taken(exchange, f"n{number}", accepted=0)
    quote = await quoted(exchange)
    with pytest.raises(FeeAboveAccepted) as dearer:
        await exchange.conversions.convert(key=key("third"), owner=ALICE, quote=quote.id, fee_accepted=99)
    assert (dearer.value.facts["fee"], dearer.value.facts["fee_accepted"]) == (1_00, 99)
    done = await exchange.conversions.convert(key=key("third"), owner=ALICE, quote=quote.id, fee_accepted=1_00)
    assert done.fee == 1_00


async def test_at_the_price_of_now_what_is_free_neednt_be_covered_by_the_limit(exchange):
    exchange.tariff = TWO
    asked = {"owner": ALICE, "sell": "USD", "buy": "ETH", "buy_amount": 10**16}
    price = (await exchange.quotes.draw(ALICE, sell="USD", buy="ETH", buy_amount=10**16)).sold
    for number in range(2):
        done = await exchange.conversions.convert_now(key=key(f"n{number}"), limit=price, **asked)
        assert (done.fee, done.total) == (0, price)
    with pytest.raises(PriceMoved) as refused:
        await exchange.conversions.convert_now(key=key("third"), limit=price, **asked)
    fee = -(-price // 100)
    assert (refused.value.facts["required"], refused.value.facts["available"]) == (price + fee, price)
    done = await exchange.conversions.convert_now(key=key("third"), limit=price + fee, **asked)
    assert done.fee == fee


async def test_what_costs_nothing_by_its_quote_uses_no_allowance_up(exchange):
    quote = await quoted(exchange)
    exchange.tariff = TWO
    assert (await exchange.conversions.convert(key=key("old"), owner=ALICE, quote=quote.id)).fee == 0
    assert [(await taken(exchange, f"n{number}")).fee for number in range(3)] == [0, 0, 1_00]
