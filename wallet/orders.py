"""Orders: convert and send, withdraw or pay out in one request; top up and convert. States: `wallet.order_states`.

Where both ends are in the book, conversion and what follows are one group of the book: all of it, or nothing. Where the
one end is a payment provider, the order waits by name, and its step goes on from where it stands.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound, OnebookError, Rejected, Unavailable
from base.ids import new_id
from db.engine import tx
from exchange.errors import InvalidRates
from fiat.payout_desk import PayoutDesk
from fiat.payouts import PAYPAL, Payout
from fiat.rails.protocol import Capturing
from fiat.rails.top_up_states import TopUpState
from fiat.rails.top_ups import TopUps
from fiat.top_ups import TopUp
from ledger.asking import Before, decided_before
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.requests import RequestKey, content_hash, worker_id
from ledger.riders import Advance, Insert
from tariff.schedule import Operation
from wallet import order_store
from wallet.conversions import Conversions, conversion_of, explained, require_open
from wallet.errors import OrderNotOpen, QuoteMismatch
from wallet.fee_previews import FeePreviews
from wallet.order_states import OPEN, Order, OrderKind, OrderState, advance
from wallet.quotes import Quotes
from wallet.resources import Conversion, Quote, Withdrawal
from wallet.tables import orders
from wallet.transfers import Transfer, Transfers
from wallet.withdrawals import Withdrawals

_S = OrderState
LEASE = timedelta(seconds=60)
"""How long an order that was taken up is nobody else's."""

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=5)
"""Between looks, doubled each time."""

BATCH = 50
"""Orders that one step takes up."""

GIVEN_BACK = "given_back"
"""What an order says whose payment was refunded or disputed away before it could be converted."""

log = structlog.get_logger()


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
    """One book's orders."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        quotes: Quotes,
        conversions: Conversions,
        transfers: Transfers,
        withdrawals: Withdrawals,
        payouts: PayoutDesk,
        top_ups: TopUps,
        previews: FeePreviews,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._quotes = quotes
        self._conversions = conversions
        self._transfers = transfers
        self._withdrawals = withdrawals
        self._payouts = payouts
        self._top_ups = top_ups
        self._previews = previews
        self._clock = clock
        self._entropy = entropy

    # Convert and deliver

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
            return replace(await self._of_request(key.id), following=done.id, replayed=True), done
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
        drawn = await self._conversions.drawn(f"{key.id}:convert", conversion)
        row = Insert(orders.name, {"book": self._ledger.book, "id": order.id}, order_store.values_of(order))
        try:
            following = await request(found.buy, amount, Before(drawn.commands, (*drawn.riders, row)))
        except RefusedByBook as refusal:
            raise explained(refusal) from refusal
        if following.replayed:
            order = replace(await self._of_request(key.id), replayed=True)
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

    # Top up and convert

    async def top_up(
        self,
        *,
        key: RequestKey,
        owner: str,
        rail: str,
        asset: str,
        amount: int,
        buy: str,
        buy_at_least: int | None = None,
        method: str | None = None,
        return_url: str | None = None,
    ) -> tuple[Order, TopUp]:
        """Ask a provider for a payment, and convert what it brings into `buy` as soon as it's there.

        `buy_at_least`: the least that the whole amount may bring; with less the order waits for its owner. Raises what
        `TopUps.request` does, and before that UnknownAsset, NoRate where these two are never exchanged.
        """
        first = await decided_before(self._ledger, key)
        if first is not None:
            top_up = await self._top_ups.get(owner, first.subject or "")
            return replace(await self._of_request(key.id), replayed=True), top_up
        await self._quotes.draw(owner, sell=asset, buy=buy, sell_amount=amount)  # what can't be now is said at once
        now = self._clock.now()
        order = Order(
            id=new_id("ord", self._clock, self._entropy),
            owner=owner,
            kind=OrderKind.TOP_UP,
            state=_S.AWAITING_TOP_UP,
            request=key.id,
            sell=asset,
            buy=buy,
            amount=amount,
            buy_at_least=buy_at_least,
            conversion=None,
            top_up=None,
            waiting_for="top_up",
            attempts=0,
            due_at=now,
            revision=0,
            created_at=now,
            updated_at=now,
        )

        def before(top_up: str) -> Before:
            values = order_store.values_of(order) | {"top_up": top_up}
            return Before(riders=(Insert(orders.name, {"book": self._ledger.book, "id": order.id}, values),))

        made = await self._top_ups.request(
            key=key,
            owner=owner,
            rail=rail,
            asset=asset,
            amount=amount,
            method=method,
            capturing=Capturing.AUTOMATIC,
            return_url=return_url,
            before=before,
        )
        return await self._of_request(key.id), made

    async def accept(self, *, owner: str, order: str, buy_at_least: int | None) -> Order:
        """Take another least, or any price (None). Raises NotFound, OrderNotOpen."""
        return await self._change_open(owner, order, {"buy_at_least": buy_at_least, "attempts": 0})

    async def cancel(self, *, owner: str, order: str) -> Order:
        """Give the conversion up: what is paid in stays on its owner's account. Raises NotFound, OrderNotOpen."""
        values: dict[str, object] = {"state": _S.CANCELLED.value, "waiting_for": None, "due_at": None}
        return await self._change_open(owner, order, values, keep_due=True)

    async def _change_open(self, owner: str, order: str, values: dict[str, object], *, keep_due: bool = False) -> Order:
        found = await self.get(owner, order)
        now = self._clock.now()
        more = {"updated_at": now} if keep_due else {"updated_at": now, "due_at": now}
        async with tx(self._engine) as connection:
            done = found.state in OPEN and await order_store.change(connection, self._ledger.book, found, values | more)
        found = await self.get(owner, order)
        if not done:
            raise OrderNotOpen(
                f"order {order} is {found.state}, or changed just now: look at it again", state=found.state.value
            )
        return found

    # Reading

    async def get(self, owner: str, order: str) -> Order:
        """The owner's order with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await order_store.load(connection, self._ledger.book, order)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no order {order[:40]!r}", param="order")
        return await self._with_following(found)

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Order]:
        """The owner's orders, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            found = await order_store.page(
                connection, self._ledger.book, owner, before=before, after=after, limit=limit
            )
        return [await self._with_following(order) for order in found]

    async def _of_request(self, request: str) -> Order:
        async with tx(self._engine) as connection:
            found = await order_store.by_request(connection, self._ledger.book, request)
        if found is None:
            raise NotFound("this request made no order", param="order")
        return found

    async def _with_following(self, order: Order) -> Order:
        if order.kind is OrderKind.TOP_UP:
            return order
        outcomes = await self._ledger.outcomes(order.request)
        return replace(order, following=outcomes[0].subject if outcomes else None)

    # The worker's step

    async def step(self) -> int:
        """Move on orders whose top-up may have come, or whose price may be right now; how many were looked at."""
        now = self._clock.now()
        async with tx(self._engine) as connection:
            due = await order_store.claim(connection, self._ledger.book, now=now, until=now + LEASE, limit=BATCH)
        for order in due:
            try:
                await self._look(order)
            except OnebookError as error:  # its lease puts it off, and no other one with it
                log.error("order not followed", order=order.id, code=error.code, reason=error.message)
        return len(due)

    async def _look(self, order: Order) -> None:
        assert order.top_up is not None
        top_up = await self._top_ups.get(order.owner, order.top_up)
        if top_up.state in (TopUpState.FAILED, TopUpState.CANCELLED):
            await self._note(order, advance(order, _S.FAILED), waiting_for=top_up.code or top_up.state.value, due=False)
        elif top_up.state is not TopUpState.FINAL:
            await self._note(order, order.state, waiting_for="top_up")
        elif order.state is _S.AWAITING_TOP_UP:
            await self._note(order, advance(order, _S.CONVERTING), waiting_for=None, at_once=True)
        elif not (came := await self._top_ups.kept(top_up)):
            await self._note(order, advance(order, _S.CANCELLED), waiting_for=top_up.code or GIVEN_BACK, due=False)
        else:
            await self._convert(order, came)

    async def _convert(self, order: Order, came: int) -> None:
        """Convert what came, its fee included, in one group with the order's end; less may buy in proportion."""
        least = order.buy_at_least
        if least is not None:
            least = -(-least * came // order.amount)
        attempt = order.attempts + 1
        name = f"order:{order.id}:{order.revision}"
        key = RequestKey(worker_id(name, 1), content_hash(name))
        now = self._clock.now()

        def ended(conversion: Conversion) -> Advance:
            return Advance(
                orders.name,
                {"book": self._ledger.book, "id": order.id},
                {"revision": order.revision},
                {
                    "state": advance(order, _S.DONE).value,
                    "conversion": conversion.id,
                    "waiting_for": None,
                    "due_at": None,
                    "revision": order.revision + 1,
                    "updated_at": now,
                },
            )

        try:
            await self._conversions.convert_now(
                key=key,
                owner=order.owner,
                sell=order.sell,
                buy=order.buy,
                sell_amount=await self._quotes.sellable(order.owner, order.sell, came),
                limit=least,
                riding=ended,
            )
        except (Rejected, Unavailable, InvalidRates) as error:
            await self._note(order, order.state, waiting_for=error.code, attempts=attempt)

    async def _note(
        self,
        order: Order,
        state: OrderState,
        *,
        waiting_for: str | None,
        due: bool = True,
        at_once: bool = False,
        attempts: int | None = None,
    ) -> None:
        now = self._clock.now()
        attempts = order.attempts + 1 if attempts is None else attempts
        wait = min(FIRST_WAIT * 2 ** min(attempts, 20), LONGEST_WAIT)
        values: dict[str, object] = {
            "state": state.value,
            "waiting_for": waiting_for,
            "attempts": 0 if at_once else attempts,
            "due_at": (now if at_once else now + wait) if due else None,
            "updated_at": now,
        }
        async with tx(self._engine) as connection:
            await order_store.change(connection, self._ledger.book, order, values)
