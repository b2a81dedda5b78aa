"""Saved payment methods: the provider keeps the card, we keep its token and what its owner knows it by, sealed."""

from dataclasses import replace

from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from fiat.rails import store
from fiat.rails.booking import RAIL_FEES
from fiat.rails.desk import Desk
from fiat.rails.protocol import Capability, MethodOrder, SavedMethod
from fiat.rails.records import PaymentMethod
from fiat.rails.sealed import METHOD_FIELDS
from fiat.rails.tables import payment_methods
from ledger.accounts import house_account
from ledger.asking import decide, decided_before
from ledger.commands import Group, OpenAccount
from ledger.requests import RequestKey
from ledger.riders import Insert


class PaymentMethods:
    """Saves, lists and forgets users' payment methods."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def save(self, *, key: RequestKey, owner: str, rail: str, token: str) -> PaymentMethod:
        """Keep what the provider's client library gave for a method.

        The provider is asked first, under an id that the request's key makes, so that a repeat saves nothing twice.
        Raises UnknownRail, NotCapable, Declined, Unavailable, RequestConflict; PersonalKeyMissing before anybody is
        asked, where nothing could be sealed.
        """
        desk = self._desk
        if (first := await decided_before(desk.ledger, key)) is not None:
            return replace(await self.get(owner, first.subject or ""), replayed=True)
        chosen = desk.rails.able(rail, Capability.SAVED_METHOD)
        _ = desk.vault.newest  # raises where there is no key
        id = new_id("pm", desk.clock, desk.entropy)
        async with tx(desk.engine) as connection:
            customer = await store.customer_of(connection, desk.vault, desk.book, owner, rail)
        order = MethodOrder(reference=f"pm-{key.id[-40:]}", owner=owner, token=token, customer=customer)
        saved = await chosen.save_method(order)
        method = PaymentMethod(
            id=id,
            owner=owner,
            rail=rail,
            token=saved.token,
            customer=saved.customer,
            brand=saved.brand[:40],
            last4=saved.last4,
            expires_year=saved.expires_year,
            expires_month=saved.expires_month,
            created_at=desk.clock.now(),
        )
        told = {name: getattr(method, name) or "" for name in METHOD_FIELDS}
        sealed = desk.vault.seal(told, book=desk.book, table=payment_methods.name, row=id)
        names = ("owner", "rail", "brand", "expires_year", "expires_month", "created_at")
        values = {name: getattr(method, name) for name in names} | {"personal": sealed}
        row = Insert(payment_methods.name, {"book": desk.book, "id": id}, values)
        # Nothing is booked: the command that opens an account of the house's keeps the request; the row rides along.
        account = house_account(RAIL_FEES, min(await desk.ledger.assets()))
        command = OpenAccount(id=key.id, subject=id, account=account)
        (outcome,) = await decide(desk.ledger, Group((command,), (row,), content=key.content))
        return replace(await self.get(owner, outcome.subject or id), replayed=outcome.replayed)

    async def get(self, owner: str, method: str) -> PaymentMethod:
        """The owner's saved method with this id. Raises NotFound."""
        async with tx(self._desk.engine) as connection:
            found = await store.load_method(connection, self._desk.vault, self._desk.book, owner, method)
        if found is None:
            raise NotFound(f"there is no payment method {method[:40]!r}", param="method")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[PaymentMethod]:
        """The owner's saved methods, newest first."""
        async with tx(self._desk.engine) as connection:
            return await store.list_methods(
                connection, self._desk.vault, self._desk.book, owner, before=before, after=after, limit=limit
            )

    async def forget(self, owner: str, method: str) -> PaymentMethod:
        """Have the provider forget it, then forget it here. Raises NotFound, Unavailable."""
        found = await self.get(owner, method)
        saved = SavedMethod(token=found.token, customer=found.customer, brand=found.brand, last4=found.last4)
        await self._desk.rails.able(found.rail, Capability.SAVED_METHOD).forget_method(saved)
        async with tx(self._desk.engine) as connection:
            await store.remove_method(connection, self._desk.book, found.id)
        return found
