"""Orders that deliver: convert and send, withdraw or pay out in one request.

Conversion and what follows are one group of the book: all of it, or nothing. Those that begin with a payment are
`wallet.top_up_orders`'.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Rejected
from base.ids import new_id
from fiat.payout_desk import PayoutDesk
from fiat.payouts import PAYPAL, Payout
from ledger.asking import Before
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Insert
from tariff.schedule import Operation
from wallet import order_store
from wallet.conversions import Conversions, conversion_of, explained, require_open
from wallet.errors import QuoteMismatch
from wallet.fee_previews import FeePreviews
from wallet.order_reading import OrderReading
from wallet.order_states import Order, OrderKind, OrderState
from wallet.quotes import Quotes
from wallet.resources import Quote, Withdrawal
from wallet.tables import orders
from wallet.transfers import Transfer, Transfers
from wallet.withdrawals import Withdrawals

_S = OrderState


@dataclass(frozen=True, slots=True)
class ToUser:
    """Send to a user here (`usr_...` or `@handle`)."""

    recipient: str
    memo: str | None = None


@dataclass(frozen=True, slots=True)
class ToAddress:
    """Withdraw to an address of a network. `accept`: names of warnings that were seen."""

    network: str
    address: str
    accept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToBank:
    """Pay out to a bank account (name and IBAN), or to a PayPal account. `rail`: over which."""

    rail: str
    name: str | None = None
    iban: str | None = None
    paypal: str | None = None


Delivery = ToUser | ToAddress | ToBank
Following = Transfer | Withdrawal | Payout


@dataclass(frozen=True, slots=True)
class OrderQuote:
    """What delivering `amount` of `asset` costs: the quote buys it and its fees. Smallest units.

    `network_fee` is the highest; what of it isn't needed stays with the owner.
    """

    quote: Quote
    asset: str
    amount: int
    fee: int
    network_fee: int


class Orders:
    """Places one book's orders that deliver."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        reading: OrderReading,
        quotes: Quotes,
        conversions: Conversions,
        transfers: Transfers,
        withdrawals: Withdrawals,
        payouts: PayoutDesk,
        previews: FeePreviews,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._ledger = ledger
        self._reading = reading
        self._quotes = quotes
        self._conversions = conversions
        self._transfers = transfers
        self._withdrawals = withdrawals
        self._payouts = payouts
        self._previews = previews
        self._clock = clock
        self._entropy = entropy

    async def quote(self, owner: str, *, pay_with: str, asset: str, amount: int, to: Delivery) -> OrderQuote:
        """What it costs in `pay_with` to deliver `amount` of `asset`: a quote that buys it and all its fees.

        Raises what previews of fees and `Quotes.create` do.
        """
        match to:
            case ToUser():
                preview = await self._previews.make(owner, Operation.TRANSFER, asset=asset, amount=amount)
            case ToAddress(network, address):
                preview = await self._previews.make(
                    owner, Operation.WITHDRAWAL, asset=asset, amount=amount, network=network, address=address
                )
            case ToBank(rail):
                preview = await self._previews.make(owner, Operation.PAYOUT, asset=asset, amount=amount, rail=rail)
        quote = await self._quotes.create(owner, sell=pay_with, buy=asset, buy_amount=preview.total)
        return OrderQuote(quote, asset, amount, preview.terms.price.fee, preview.network_fee)

    async def place(
        self,
        *,
        key: RequestKey,
        owner: str,
        quote: str,
        amount: int,
        to: Delivery,
        fee_accepted: int | None = None,
        network_fee_accepted: int | None = None,
    ) -> tuple[Order, Following]:
        """Take the quote and deliver `amount` of what it buys, in one group of the book.

        Raises what `Conversions.convert` and the request of what follows do, QuoteMismatch (it buys less), and Rejected
        for a recipient whom the rail doesn't reach.
        """
        kind, first, request = self._way(key, owner, to, fee_accepted, network_fee_accepted)
        try:
            done = await first()
        except RefusedByBook as refusal:
            raise explained(refusal) from refusal
        if done is not None:
            return replace(await self._reading.of_request(key.id), following=done.id, replayed=True), done
        found = await self._quotes.get(owner, quote)
        now = self._clock.now()
        require_open(found, now)
        if found.bought < amount:
            raise QuoteMismatch(
                "the quote buys less than is to be delivered",
                param="amount",
                asset=found.buy,
                required=amount,
                available=found.bought,
            )
        conversion = conversion_of(found, now)
        order = self._new(owner, kind, found, amount, key.id, conversion.id, now)
        row = Insert(orders.name, {"book": self._ledger.book, "id": order.id}, order_store.values_of(order))

        async def together(*, at_full: bool) -> Following:
            drawn = await self._conversions.drawn(f"{key.id}:convert", conversion, at_full=at_full)
            return await request(found.buy, amount, Before(drawn.commands, (*drawn.riders, row)))

        try:
            try:
                following = await together(at_full=False)
            except RefusedByBook as spent:  # the conversion's allowance: what follows has asked again for its own
                if spent.code != Refused.ALLOWANCE_SPENT:
                    raise
                following = await together(at_full=True)
        except RefusedByBook as refusal:
            raise explained(refusal) from refusal
        if following.replayed:
            order = replace(await self._reading.of_request(key.id), replayed=True)
        return replace(order, following=following.id), following

    def _way(
        self, key: RequestKey, owner: str, to: Delivery, fee: int | None, network_fee: int | None
    ) -> tuple[
        OrderKind,
        Callable[[], Awaitable[Following | None]],
        Callable[[str, int, Before], Awaitable[Following]],
    ]:
        """The kind, what the request came to before, and how it's made."""
        match to:
            case ToUser(recipient, memo):

                async def send(asset: str, amount: int, before: Before) -> Following:
                    return await self._transfers.send(
                        key=key,
                        sender=owner,
                        recipient=recipient,
                        asset=asset,
                        amount=amount,
                        memo=memo,
                        fee_accepted=fee,
                        before=before,
                    )

                return OrderKind.TRANSFER, lambda: self._transfers.first(owner, key), send
            case ToAddress(network, address, accept):

                async def withdraw(asset: str, amount: int, before: Before) -> Following:
                    return await self._withdrawals.request(
                        key=key,
                        owner=owner,
                        asset=asset,
                        network=network,
                        to=address,
                        amount=amount,
                        fee_accepted=network_fee,
                        service_fee_accepted=fee,
                        accept=accept,
                        before=before,
                    )

                return OrderKind.WITHDRAWAL, lambda: self._withdrawals.first(owner, key), withdraw
            case ToBank(rail, name, iban, paypal):
                if (rail == PAYPAL) != (paypal is not None):
                    raise Rejected(
                        "over rail paypal it goes to a paypal account, over any other to name and iban",
                        param="payout.rail",
                    )

                async def pay_out(asset: str, amount: int, before: Before) -> Following:
                    return await self._payouts.request(
                        key=key,
                        owner=owner,
                        asset=asset,
                        amount=amount,
                        name=name,
                        iban=iban,
                        paypal=paypal,
                        fee_accepted=fee,
                        before=before,
                    )

                return OrderKind.PAYOUT, lambda: self._payouts.first(owner, key), pay_out

    def _new(
        self, owner: str, kind: OrderKind, quote: Quote, amount: int, request: str, conversion: str, now: datetime
    ) -> Order:
        return Order(
            id=new_id("ord", self._clock, self._entropy),
            owner=owner,
            kind=kind,
            state=_S.DONE,  # the row is only there once all of it is booked
            request=request,
            sell=quote.sell,
            buy=quote.buy,
            amount=amount,
            buy_at_least=None,
            conversion=conversion,
            top_up=None,
            waiting_for=None,
            attempts=0,
            due_at=None,
            revision=0,
            created_at=now,
            updated_at=now,
        )
