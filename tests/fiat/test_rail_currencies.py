"""Amounts as card providers count them, and how long an order's key lives."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.clock import ManualClock
from base.entropy import SeededEntropy
from base.ids import new_id
from fiat.rails import keys
from fiat.rails.currencies import Currencies
from fiat.rails.errors import AmountNotPayable, RailCorrupt, RailMisconfigured
from fiat.rails.square import statuses as square
from fiat.rails.stripe import statuses as stripe
from ledger.money import Asset, AssetKind

CODES = ["USD", "EUR", "JPY", "KRW", "ISK", "UGX", "BHD", "KWD", "HUF"]
SCALES = st.integers(0, 8)


def at_stripe(*assets: Asset) -> Currencies:
    return Currencies("stripe", assets, usual=stripe.USUAL, others=stripe.CURRENCIES)


def fiat(code: str, scale: int) -> Asset:
    return Asset(code, AssetKind.FIAT, scale)


@pytest.mark.parametrize(
    ("code", "scale", "amount", "units"),
    [
        ("USD", 2, 1_234, 1_234),
        ("EUR", 4, 123_400, 1_234),
        ("USD", 0, 12, 1_200),
        ("JPY", 0, 1_200, 1_200),
        ("JPY", 2, 120_000, 1_200),
        ("ISK", 0, 50, 5_000),
        ("UGX", 2, 5_000, 5_000),
        ("BHD", 3, 1_230, 1_230),
        ("KWD", 2, 123, 1_230),
    ],
)
def test_an_amount_is_said_in_the_units_of_its_currency(code: str, scale: int, amount: int, units: int):
    currencies = at_stripe(fiat(code, scale))
    assert currencies.units(amount, code) == units
    assert currencies.amount(units, code.lower()) == amount
    assert currencies.amount(-units, code) == -amount


@pytest.mark.parametrize(
    ("code", "scale", "amount"),
    [("EUR", 4, 123_456), ("JPY", 2, 120_050), ("ISK", 2, 5_050), ("UGX", 2, 1), ("BHD", 3, 1_235)],
)
def test_what_can_not_be_said_exactly_is_refused(code: str, scale: int, amount: int):
    with pytest.raises(AmountNotPayable):
        at_stripe(fiat(code, scale)).units(amount, code)


def test_only_currencies_that_are_assets_are_carried():
    currencies = at_stripe(fiat("USD", 2), Asset("USDC", AssetKind.STABLECOIN, 6), Asset("ETH", AssetKind.CRYPTO, 18))
    for code in ("USDC", "ETH", "SEK"):
        with pytest.raises(AmountNotPayable):
            currencies.units(100, code)
    with pytest.raises(RailMisconfigured):
        currencies.amount(100, "sek")
    with pytest.raises(RailCorrupt):
        at_stripe(fiat("USD", 0)).amount(1_250, "usd")


@given(code=st.sampled_from(CODES), scale=SCALES, amount=st.integers(0, 1 << 100))
def test_what_is_said_comes_back_as_it_was(code: str, scale: int, amount: int):
    for rail, words in (("stripe", stripe), ("square", square)):
        currencies = Currencies(rail, [fiat(code, scale)], usual=words.USUAL, others=words.CURRENCIES)
        bounds = currencies.bounds(code)
        try:
            units = currencies.units(amount, code)
        except AmountNotPayable:
            with pytest.raises(AmountNotPayable):
                bounds.require_exact(amount)
            continue
        bounds.require_exact(amount)
        assert currencies.amount(units, code) == amount


@given(scale=SCALES, minimum=st.integers(1, 10_000), more=st.integers(0, 10_000), amount=st.integers(1, 1 << 40))
def test_what_is_within_the_bounds_is_within_those_of_the_provider(scale: int, minimum: int, more: int, amount: int):
    maximum = minimum + more
    for code in CODES:
        currencies = at_stripe(fiat(code, scale))
        bounds = currencies.bounds(code, minimum=minimum, maximum=maximum)
        try:
            units = currencies.units(amount, code)
        except AmountNotPayable:
            units = 0
        if minimum <= units <= maximum:
            bounds.require(amount)
        else:
            with pytest.raises(AmountNotPayable) as refused:
                bounds.require(amount)
            assert refused.value.facts["minimum"] == bounds.minimum


def test_a_key_is_as_old_as_our_id(entropy: SeededEntropy):
    now = datetime(2030, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC)
    made = new_id("top", ManualClock(now), entropy)
    assert keys.not_before(made) == now - keys.LEEWAY
    assert keys.lives(made, now=now + timedelta(seconds=59), seconds=60)
    assert not keys.lives(made, now=now + timedelta(seconds=60), seconds=60)
    for other in ("top_", "top_0", "", "topx01jd3v0000000000000000000", f"{made}0", f"{made[:-1]}u"):
        with pytest.raises(ValueError, match="isn't an id of ours"):
            keys.not_before(other)
