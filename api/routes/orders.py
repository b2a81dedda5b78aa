"""Orders: convert and send, withdraw or pay out in one request; top up and convert."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode, accepted_fee
from api.answers import Assets, answer, instant, money
from api.auth import any_caller, owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.routes.exchange import QuoteView, quote_view
from api.schemas import Asked
from base.errors import Rejected
from identity.scopes import Scope
from ledger.money import parse_amount
from wallet.order_states import Order
from wallet.orders import Delivery, ToAddress, ToBank, ToUser

router = resource("exchange")

_SCOPES = {
    "transfer": Scope.TRANSFERS_WRITE,
    "withdrawal": Scope.WITHDRAWALS_WRITE,
    "payout": Scope.WITHDRAWALS_WRITE,
    "top_up": Scope.DEPOSITS_WRITE,
}
"""What a key needs besides, for what an order holds."""


class OrderQuoteView(TypedDict):
    """`quote` buys `amount` and the fees: `fee` is the house's, `network_fee` the network's highest, in `asset`."""

    quote: QuoteView
    asset: str
    amount: str
    fee: str
    network_fee: str


class OrderView(TypedDict):
    """`amount` is delivered, of `buy`; of a top-up it's paid in, of `sell`.

    `following` is the id of the transfer, withdrawal or payout, which has a state of its own.
    """

    id: str
    kind: str
    state: str
    sell: str
    buy: str
    amount: str
    buy_at_least: str | None
    conversion: str | None
    following: str | None
    top_up: str | None
    waiting_for: str | None
    created_at: str
    updated_at: str


class OrderList(TypedDict):
    items: list[OrderView]
    has_more: bool


class Transferred(Asked):
    """To a user here."""

    recipient: str = Field(max_length=64, examples=["@bob"])
    memo: str | None = Field(default=None, max_length=200)


class Withdrawn(Asked):
    """To an address of a network."""

    network: str = Field(max_length=31)
    address: str = Field(max_length=100)
    accept: list[str] = Field(default_factory=list, max_length=20, description="Warnings that you saw.")


class PaidOut(Asked):
    """To a bank account (`name`, `iban`) or a `paypal` account."""

    rail: str = Field(max_length=31, examples=["bank"])
    name: str | None = Field(default=None, max_length=140)
    iban: str | None = Field(default=None, max_length=42)
    paypal: str | None = Field(default=None, max_length=254)


class ToppedUp(Asked):
    """A payment to be asked for at a payment provider."""

    rail: str = Field(max_length=31, examples=["stripe"])
    asset: AssetCode
    amount: AmountText
    method: str | None = Field(default=None, max_length=255)
    return_url: str | None = Field(default=None, max_length=2000)


class _To(Asked):
    transfer: Transferred | None = None
    withdrawal: Withdrawn | None = None
    payout: PaidOut | None = None


class NewOrderQuote(_To):
    """What to deliver, in which asset it's paid, and one of `transfer`, `withdrawal` and `payout`."""

    pay_with: AssetCode
    asset: AssetCode
    amount: AmountText


class NewOrder(_To):
    """A quote to take and what to deliver of what it buys; or a `top_up`, and what to `buy` with it."""

    quote: str | None = Field(default=None, max_length=64)
    amount: AmountText | None = None
    fee_accepted: AmountText | None = Field(default=None, description="Of what follows, or of the top_up.")
    network_fee_accepted: AmountText | None = None
    top_up: ToppedUp | None = None
    buy: AssetCode | None = None
    buy_at_least: AmountText | None = Field(default=None, description="With less the order waits for you.")


class NewLeast(Asked):
    """The least that you accept now; without one, any price."""

    buy_at_least: AmountText | None = None


def order_view(order: Order, assets: Assets) -> OrderView:
    delivered = order.sell if order.top_up is not None else order.buy
    return {
        "id": order.id,
        "kind": order.kind.value,
        "state": order.state.value,
        "sell": order.sell,
        "buy": order.buy,
        "amount": money(order.amount, delivered, assets),
        "buy_at_least": None if order.buy_at_least is None else money(order.buy_at_least, order.buy, assets),
        "conversion": order.conversion,
        "following": order.following,
        "top_up": order.top_up,
        "waiting_for": order.waiting_for,
        "created_at": instant(order.created_at),
        "updated_at": instant(order.updated_at),
    }


@router.post("/order-quotes", response_model=OrderQuoteView, status_code=201, summary="Ask what an order costs")
async def create_order_quote(
    parts: Parts, asked: NewOrderQuote, user: Annotated[str, owner(Scope.CONVERSIONS_WRITE)]
) -> Response:
    assets = await assets_of(parts, asked.pay_with, asked.asset)
    made = await parts.orders.quote(
        user,
        pay_with=asked.pay_with,
        asset=asked.asset,
        amount=parse_amount(asked.amount, assets[asked.asset], param="amount"),
        to=_delivery(asked),
    )
    view: OrderQuoteView = {
        "quote": quote_view(made.quote, assets, free=await parts.quotes.is_free(made.quote)),
        "asset": made.asset,
        "amount": money(made.amount, made.asset, assets),
        "fee": money(made.fee, made.asset, assets),
        "network_fee": money(made.network_fee, made.asset, assets),
    }
    return answer(view, status=201)


@router.post("/orders", response_model=OrderView, status_code=201, summary="Convert and deliver, or top up and convert")
async def create_order(
    request: Request,
    parts: Parts,
    key: IdempotencyKey,
    asked: NewOrder,
    user: Annotated[str, owner(Scope.CONVERSIONS_WRITE)],
) -> Response:
    for name, scope in _SCOPES.items():  # an order may do no more than its parts could by themselves
        if getattr(asked, name) is not None:
            (await any_caller(request)).require(scope)
    if asked.top_up is not None:
        order = await _top_up(parts, key, asked, asked.top_up, user)
    else:
        order = await _deliver(parts, key, asked, user)
    return answer(order_view(order, await assets_of(parts)), status=201, replayed=order.replayed)


async def _deliver(parts: Parts, key: IdempotencyKey, asked: NewOrder, user: str) -> Order:
    if asked.quote is None or asked.amount is None or asked.buy is not None or asked.buy_at_least is not None:
        raise Rejected("give a quote with the amount to deliver, or a top_up with what to buy", param="quote")
    quote = await parts.quotes.get(user, asked.quote)
    asset = (await assets_of(parts, quote.buy))[quote.buy]

    def units(text: str | None, param: str) -> int | None:
        return None if text is None else parse_amount(text, asset, param=param, least=0)

    order, _ = await parts.orders.place(
        key=key,
        owner=user,
        quote=quote.id,
        amount=parse_amount(asked.amount, asset, param="amount"),
        to=_delivery(asked),
        fee_accepted=units(asked.fee_accepted, "fee_accepted"),
        network_fee_accepted=units(asked.network_fee_accepted, "network_fee_accepted"),
    )
    return order


async def _top_up(parts: Parts, key: IdempotencyKey, asked: NewOrder, top_up: ToppedUp, user: str) -> Order:
    if asked.buy is None or asked.quote is not None or asked.amount is not None or _named(asked):
        raise Rejected("a top_up goes with what to buy, and with nothing else", param="buy")
    assets = await assets_of(parts, top_up.asset, asked.buy)
    least = asked.buy_at_least
    order, _ = await parts.top_up_orders.place(
        key=key,
        owner=user,
        rail=top_up.rail,
        asset=top_up.asset,
        amount=parse_amount(top_up.amount, assets[top_up.asset], param="top_up.amount"),
        buy=asked.buy,
        buy_at_least=None if least is None else parse_amount(least, assets[asked.buy], param="buy_at_least"),
        method=top_up.method,
        return_url=top_up.return_url,
        fee_accepted=accepted_fee(asked.fee_accepted, assets[top_up.asset]),
    )
    return order


@router.get("/orders", response_model=OrderList, summary="List your orders")
async def list_orders(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.order_reading.list_for, user))
    return answer(listing(*found, partial(order_view, assets=await assets_of(parts))))


@router.get("/orders/{order}", response_model=OrderView, summary="Read an order")
async def read_order(parts: Parts, order: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(order_view(await parts.order_reading.get(user, order), await assets_of(parts)))


@router.post("/orders/{order}/accept", response_model=OrderView, summary="Accept another price for a waiting order")
async def accept_order(
    parts: Parts, order: str, asked: NewLeast, user: Annotated[str, owner(Scope.CONVERSIONS_WRITE)]
) -> Response:
    found, assets = await parts.order_reading.get(user, order), await assets_of(parts)
    least = asked.buy_at_least
    units = None if least is None else parse_amount(least, assets[found.buy], param="buy_at_least")
    return answer(order_view(await parts.top_up_orders.accept(owner=user, order=order, buy_at_least=units), assets))


@router.post("/orders/{order}/cancel", response_model=OrderView, summary="Give a waiting order's conversion up")
async def cancel_order(parts: Parts, order: str, user: Annotated[str, owner(Scope.CONVERSIONS_WRITE)]) -> Response:
    return answer(order_view(await parts.top_up_orders.cancel(owner=user, order=order), await assets_of(parts)))


def _named(asked: _To) -> list[str]:
    return [name for name in ("transfer", "withdrawal", "payout") if getattr(asked, name) is not None]


def _delivery(asked: _To) -> Delivery:
    """Where it goes. Raises Rejected unless exactly one way is named."""
    if len(_named(asked)) != 1:
        raise Rejected("name exactly one of transfer, withdrawal and payout", param="transfer")
    if asked.transfer is not None:
        return ToUser(asked.transfer.recipient, asked.transfer.memo)
    if asked.withdrawal is not None:
        return ToAddress(asked.withdrawal.network, asked.withdrawal.address, tuple(asked.withdrawal.accept))
    assert asked.payout is not None
    return ToBank(asked.payout.rail, asked.payout.name, asked.payout.iban, asked.payout.paypal)
