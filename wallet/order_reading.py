"""Orders read, with what followed each. What they are: `wallet.order_states`."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.errors import NotFound
from db.engine import tx
from ledger.engine import Ledger
from wallet import order_store
from wallet.order_states import Order, OrderKind


class OrderReading:
    """Reads one book's orders."""

    def __init__(self, engine: AsyncEngine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger

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

    async def of_request(self, request: str) -> Order:
        """The order that this request made, by the id of its command. Raises NotFound."""
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
