"""Orders that begin with a payment: top up and convert. Which states: `wallet.order_states`.

The one end is a payment provider, so the order waits by name, and the step goes on from where it stands.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError, Rejected, Unavailable
from base.ids import new_id
from db.engine import tx
from exchange.errors import InvalidRates
from fiat.rails.protocol import Capturing
from fiat.rails.top_up_states import TopUpState
from fiat.rails.top_ups import TopUps
from fiat.top_ups import TopUp
from ledger.asking import Before
from ledger.engine import Ledger
from ledger.requests import RequestKey, content_hash, worker_id
from ledger.riders import Advance, Insert
from tariff.errors import FeeAboveAccepted
from wallet import order_store
from wallet.conversions import Conversions
from wallet.errors import OrderNotOpen
from wallet.order_reading import OrderReading
from wallet.order_states import OPEN, Order, OrderKind, OrderState, advance
from wallet.quotes import Quotes
from wallet.resources import Conversion
from wallet.tables import orders

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


class TopUpOrders:
    """Takes one book's orders for payments to be converted, and moves them on."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        reading: OrderReading,
        quotes: Quotes,
        conversions: Conversions,
        top_ups: TopUps,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._reading = reading
        self._quotes = quotes
        self._conversions = conversions
        self._top_ups = top_ups
        self._clock = clock
        self._entropy = entropy

    async def place(
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
        fee_accepted: int | None = None,
    ) -> tuple[Order, TopUp]:
        """Ask a provider for a payment, and convert what it brings into `buy` as soon as it's there.

        `buy_at_least`: the least that the whole amount may bring; with less the order waits for its owner.
        `fee_accepted`: the highest fee of the top-up that its owner agreed to. Raises what `TopUps.request` does, and
        before that UnknownAsset, NoRate where these two are never exchanged.
        """
        if (first := await self._top_ups.first(owner, key)) is not None:
            return replace(await self._reading.of_request(key.id), replayed=True), first
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
            fee_accepted=fee_accepted,
            before=before,
        )
        return await self._reading.of_request(key.id), made

    async def accept(self, *, owner: str, order: str, buy_at_least: int | None) -> Order:
        """Take another least, or any price (None). Raises NotFound, OrderNotOpen."""
        return await self._change_open(owner, order, {"buy_at_least": buy_at_least, "attempts": 0})

    async def cancel(self, *, owner: str, order: str) -> Order:
        """Give the conversion up: what is paid in stays on its owner's account. Raises NotFound, OrderNotOpen."""
        values: dict[str, object] = {"state": _S.CANCELLED.value, "waiting_for": None, "due_at": None}
        return await self._change_open(owner, order, values, keep_due=True)

    async def _change_open(self, owner: str, order: str, values: dict[str, object], *, keep_due: bool = False) -> Order:
        found = await self._reading.get(owner, order)
        now = self._clock.now()
        more = {"updated_at": now} if keep_due else {"updated_at": now, "due_at": now}
        async with tx(self._engine) as connection:
            done = found.state in OPEN and await order_store.change(connection, self._ledger.book, found, values | more)
        found = await self._reading.get(owner, order)
        if not done:
            raise OrderNotOpen(
                f"order {order} is {found.state}, or changed just now: look at it again", state=found.state.value
            )
        return found

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
            await self._convert(order, came, paid=came + top_up.service_fee)

    async def _convert(self, order: Order, came: int, *, paid: int) -> None:
        """Convert what came, its fee included, in one group with the order's end; less `paid` may buy in proportion.

        The house's fees don't lower what its owner asked for: what they accept is told for all that they pay.
        """
        least = order.buy_at_least
        if least is not None:
            least = -(-least * paid // order.amount)
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

        async def convert(sold: int, fee_accepted: int | None) -> None:
            await self._conversions.convert_now(
                key=key,
                owner=order.owner,
                sell=order.sell,
                buy=order.buy,
                sell_amount=sold,
                limit=least,
                fee_accepted=fee_accepted,
                riding=ended,
            )

        try:
            if await self._quotes.sells_free(order.owner, order.sell, came):
                with suppress(FeeAboveAccepted):  # others were faster to use the allowance up
                    await convert(came, 0)
                    return
            await convert(await self._quotes.sellable(order.owner, order.sell, came), None)
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
