"""Quotes and conversions: exchanging one asset for another at a price that stands for half a minute."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode, accepted_fee
from api.answers import Assets, answer, instant, money
from api.auth import owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from base.errors import Rejected
from exchange.ratios import Ratio, ratio
from identity.scopes import Scope
from ledger.money import parse_amount
from wallet.resources import Conversion, Quote

router = resource("exchange")


class QuoteView(TypedDict):
    """`rate`: one whole `sell` in whole `buy`, a decimal or a fraction `num/den`; both are exact.

    `sell_amount` times `rate`, less `spread_basis_points` of it, is `buy_amount` but for one rounding. `rounding` tells
    it, as a part of one smallest unit: of `buy` where `exact` is `sell`, of `sell` where it's `buy`. `fee` is the most
    that it costs, and part of `total`; `fee_now` what it would cost if it were taken now: nothing where an allowance
    covers it.
    """

    id: str
    state: str
    sell: str
    sell_amount: str
    spread: str
    fee: str
    fee_now: str
    total: str
    buy: str
    buy_amount: str
    exact: str
    rate: str
    spread_basis_points: int
    rounding: str
    rates: str
    rates_as_of: str
    created_at: str
    expires_at: str


class ConversionView(TypedDict):
    id: str
    quote: str
    sell: str
    sell_amount: str
    spread: str
    fee: str
    total: str
    buy: str
    buy_amount: str
    rates: str
    created_at: str


class ConversionList(TypedDict):
    items: list[ConversionView]
    has_more: bool


class NewQuote(Asked):
    """A price to ask for: exactly one of the two amounts."""

    sell: AssetCode
    buy: AssetCode
    sell_amount: AmountText | None = Field(default=None, description="What to give, all included.")
    buy_amount: AmountText | None = Field(default=None, description="What to get, exactly.")


class NewConversion(Asked):
    """A quote to take, whole; or, without one, what to exchange at the price of now, within what you accept."""

    quote: str | None = Field(default=None, max_length=64, examples=["quo_01jd3v00000000000000000000"])
    sell: AssetCode | None = None
    buy: AssetCode | None = None
    sell_amount: AmountText | None = Field(default=None, description="What to give, all but the fee included.")
    buy_amount: AmountText | None = Field(default=None, description="What to get, exactly.")
    buy_at_least: AmountText | None = Field(default=None, description="With sell_amount: refused if it buys less.")
    sell_at_most: AmountText | None = Field(default=None, description="With buy_amount: refused if all costs more.")
    fee_accepted: AmountText | None = Field(
        default=None, description="The highest fee that you accept, else the quote's: 0 converts for nothing only."
    )


def whole_rate(quote: Quote, assets: Assets) -> Ratio:
    """What one whole sold is worth in whole bought, before the spread."""
    units = ratio(10 ** assets[quote.sell].scale, 10 ** assets[quote.buy].scale)
    return quote.price.ratio.times(units)


def quote_view(quote: Quote, assets: Assets, *, free: bool) -> QuoteView:
    """`free`: whether an allowance covers it now."""
    return {
        "id": quote.id,
        "state": quote.state.value,
        "sell": quote.sell,
        "sell_amount": money(quote.sold, quote.sell, assets),
        "spread": money(quote.spread, quote.sell, assets),
        "fee": money(quote.fee, quote.sell, assets),
        "fee_now": money(0 if free else quote.fee, quote.sell, assets),
        "total": money(quote.total, quote.sell, assets),
        "buy": quote.buy,
        "buy_amount": money(quote.bought, quote.buy, assets),
        "exact": quote.exact.value,
        "rate": str(whole_rate(quote, assets)),
        "spread_basis_points": quote.price.spread_basis_points,
        "rounding": str(quote.lost),
        "rates": quote.rates,
        "rates_as_of": instant(quote.rates_as_of),
        "created_at": instant(quote.created_at),
        "expires_at": instant(quote.expires_at),
    }


def conversion_view(conversion: Conversion, assets: Assets) -> ConversionView:
    return {
        "id": conversion.id,
        "quote": conversion.quote,
        "sell": conversion.sell,
        "sell_amount": money(conversion.sold, conversion.sell, assets),
        "spread": money(conversion.spread, conversion.sell, assets),
        "fee": money(conversion.fee, conversion.sell, assets),
        "total": money(conversion.total, conversion.sell, assets),
        "buy": conversion.buy,
        "buy_amount": money(conversion.bought, conversion.buy, assets),
        "rates": conversion.rates,
        "created_at": instant(conversion.created_at),
    }


@router.post("/quotes", response_model=QuoteView, status_code=201, summary="Ask for a price")
async def create_quote(parts: Parts, asked: NewQuote, user: Annotated[str, owner(Scope.CONVERSIONS_WRITE)]) -> Response:
    assets = await assets_of(parts, asked.sell, asked.buy)
    sold, bought = asked.sell_amount, asked.buy_amount
    quote = await parts.quotes.create(
        user,
        sell=asked.sell,
        buy=asked.buy,
        sell_amount=None if sold is None else parse_amount(sold, assets[asked.sell], param="sell_amount"),
        buy_amount=None if bought is None else parse_amount(bought, assets[asked.buy], param="buy_amount"),
    )
    return answer(quote_view(quote, assets, free=await parts.quotes.is_free(quote)), status=201)


@router.get("/quotes/{quote}", response_model=QuoteView, summary="Read a quote")
async def read_quote(parts: Parts, quote: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await parts.quotes.get(user, quote)
    return answer(quote_view(found, await assets_of(parts), free=await parts.quotes.is_free(found)))


@router.post(
    "/conversions",
    response_model=ConversionView,
    status_code=201,
    summary="Take a quote, or convert at the price of now",
)
async def create_conversion(
    parts: Parts, key: IdempotencyKey, asked: NewConversion, user: Annotated[str, owner(Scope.CONVERSIONS_WRITE)]
) -> Response:
    if asked.quote is not None:
        _require_absent(asked, "sell", "buy", "sell_amount", "buy_amount", "buy_at_least", "sell_at_most")
        fee = await _fee_accepted(parts, asked, user)
        done = await parts.conversions.convert(key=key, owner=user, quote=asked.quote, fee_accepted=fee)
    else:
        done = await _convert_now(parts, key, asked, user)
    return answer(conversion_view(done, await assets_of(parts)), status=201, replayed=done.replayed)


async def _fee_accepted(parts: Parts, asked: NewConversion, user: str) -> int | None:
    """In what the quote sells. Nothing is looked up where nothing is told."""
    if asked.fee_accepted is None or asked.quote is None:
        return None
    quote = await parts.quotes.get(user, asked.quote)
    return accepted_fee(asked.fee_accepted, (await assets_of(parts))[quote.sell])


async def _convert_now(parts: Parts, key: IdempotencyKey, asked: NewConversion, user: str) -> Conversion:
    if asked.sell is None or asked.buy is None:
        raise Rejected("give a quote, or what to sell and what to buy", code="one_amount", param="quote")
    _require_absent(asked, "sell_at_most" if asked.sell_amount is not None else "buy_at_least")
    assets = await assets_of(parts, asked.sell, asked.buy)

    def units(text: str | None, code: str, param: str) -> int | None:
        return None if text is None else parse_amount(text, assets[code], param=param)

    least, most = (
        units(asked.buy_at_least, asked.buy, "buy_at_least"),
        units(asked.sell_at_most, asked.sell, "sell_at_most"),
    )
    return await parts.conversions.convert_now(
        key=key,
        owner=user,
        sell=asked.sell,
        buy=asked.buy,
        sell_amount=units(asked.sell_amount, asked.sell, "sell_amount"),
        buy_amount=units(asked.buy_amount, asked.buy, "buy_amount"),
        limit=least if most is None else most,
        fee_accepted=accepted_fee(asked.fee_accepted, assets[asked.sell]),
    )


def _require_absent(asked: NewConversion, *names: str) -> None:
    for name in names:
        if getattr(asked, name) is not None:
            raise Rejected(f"{name} doesn't go together with what else is asked", code="one_amount", param=name)


@router.get("/conversions", response_model=ConversionList, summary="List your conversions")
async def list_conversions(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.conversions.list_for, user))
    return answer(listing(*found, partial(conversion_view, assets=await assets_of(parts))))


@router.get("/conversions/{conversion}", response_model=ConversionView, summary="Read a conversion")
async def read_conversion(parts: Parts, conversion: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(conversion_view(await parts.conversions.get(user, conversion), await assets_of(parts)))
