"""The Square rail: `fiat.rails.protocol.Rail` by Square's API.

A payment needs the token of Square's own card form, or a card on file. A part is captured by lowering an approved
payment's amount and completing it. Square gives back our id as a payment's `reference_id` and as a refund's `reason`.

How long Square remembers an idempotency key isn't published, so an order is sent again within an hour only. Its lists
show what was made some seconds later ("eventually consistent"): after that hour they're certain.
"""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from base.clock import Clock
from fiat.rails import keys
from fiat.rails.amounts import Bounds
from fiat.rails.cards import CardRail
from fiat.rails.currencies import Currencies
from fiat.rails.errors import Declined, EffectUnknown, NotCapable, RefusedByProvider
from fiat.rails.protocol import (
    CALL_SECONDS,
    Balance,
    Capability,
    Capturing,
    DisputeTruth,
    Listed,
    MethodOrder,
    Payment,
    PaymentOrder,
    PaymentStatus,
    RawWebhook,
    RefundOrder,
    RefundTruth,
    SavedMethod,
    SettlementEntry,
    SettlementTruth,
    WebhookEvent,
)
from fiat.rails.square import reading, webhooks
from fiat.rails.square.client import ONCE, CardDeclined, Client, Missing, WrongCursor
from fiat.rails.square.declines import REASONS
from fiat.rails.square.lists import PAGE, by_time, search, stamp
from fiat.rails.square.statuses import CURRENCIES, USUAL
from ledger.money import Asset

if TYPE_CHECKING:
    from square.types.payment import Payment as SquarePayment

Item = TypeVar("Item")

KEY_SECONDS = 3600
"""Square publishes no time; it says that a retry within days is safe, and promises nothing."""

CARD_FORM = "cnon:"
"""With what the token of Square's card form begins (developer.squareup.com, payment sources)."""

FORMS = (CARD_FORM, "wnon:")
"""What a payer may hand in: a card or a wallet. `CASH` and `EXTERNAL` move no money; `ccof:` is a saved card."""

SAVED = (*FORMS, "ccof:")
"""What may be paid with for a customer: Square lets a saved card be used with its own customer only."""

NOT_FROM_FORM = "method_not_from_form"

OPEN = (PaymentStatus.AUTHORISED, PaymentStatus.PROCESSING)


class SquareRail(CardRail[Client]):
    """One location of a Square account."""

    def __init__(
        self,
        name: str,
        client: Client,
        *,
        location: str,
        merchant: str | None,
        signature_key: str,
        notification_url: str,
        assets: Iterable[Asset],
        clock: Clock,
    ) -> None:
        currencies = Currencies(name, assets, usual=USUAL, others=CURRENCIES)
        super().__init__(name, client, key_seconds=KEY_SECONDS, currencies=currencies, clock=clock)
        self._sdk = client.sdk
        self._location = location
        self._merchant = merchant
        self._signature_key = signature_key
        self._notification_url = notification_url

    def bounds(self, asset: Asset) -> Bounds:
        """Square publishes none but decimals, and has one currency a location, which it alone knows."""
        return self._currencies.bounds(asset.code)

    # Paying in

    async def create_payment(self, order: PaymentOrder) -> Payment:
        made = await self._create(order)
        told = self._read(reading.payment, made)
        with self._client.reading():
            old = self._clock.now() - datetime.fromisoformat(str(made.created_at)) > timedelta(seconds=CALL_SECONDS)
        return await self._payment(told.id) if old else told

    async def proceed(self, order: PaymentOrder, payment: str) -> Payment:
        """Square needs no going on: the payment as it is."""
        return await self._payment(payment)

    async def capture(self, order: PaymentOrder, payment: str, amount: int) -> Payment:
        found = await self._square_payment(payment)
        told = self._read(reading.payment, found)
        if told.status is not PaymentStatus.AUTHORISED:
            return told
        money = self._money(amount, order.asset)
        with self._client.reading():
            is_part = money["amount"] != found.amount_money.amount  # type: ignore[union-attr]
        if is_part:
            call = self._sdk.payments.update(
                payment_id=payment,
                idempotency_key=_change_key(order.reference, amount, str(found.version_token)),
                payment={"amount_money": money, "version_token": found.version_token},
                request_options=ONCE,
            )
            found = self._inner((await self._client.ask(call)).payment)
        complete = self._sdk.payments.complete(
            payment_id=payment, version_token=found.version_token, request_options=ONCE
        )
        return await self._ended(payment, complete)

    async def cancel(self, order: PaymentOrder, payment: str) -> Payment:
        return await self._ended(payment, self._sdk.payments.cancel(payment_id=payment, request_options=ONCE))

    async def fetch_payment(self, payment: str) -> Payment | None:
        answer = await self._client.find(self._sdk.payments.get(payment_id=payment, request_options=ONCE))
        return None if answer is None else self._read(reading.payment, self._inner(answer.payment))

    async def _sent_again(self, order: PaymentOrder) -> Payment | None:
        try:
            return await self._payment(self._read(reading.payment, await self._create(order)).id)
        except CardDeclined as declined:
            return None if declined.payment is None else await self._payment(declined.payment)
        except Declined:
            return None

    # Giving back

    async def refund(self, order: RefundOrder) -> RefundTruth:
        call = self._sdk.refunds.refund_payment(
            idempotency_key=order.reference,
            amount_money=self._money(order.amount, order.asset),
            payment_id=order.payment,
            reason=order.reference,
            request_options=ONCE,
        )
        answer = await self._client.ask(call, later=frozenset({"INSUFFICIENT_FUNDS"}))
        with self._client.reading():
            made = reading.refund(self._inner(answer.refund), self._currencies)
            old = self._clock.now() - datetime.fromisoformat(str(answer.refund.created_at))
        if old <= timedelta(seconds=CALL_SECONDS):
            return made
        return await self.fetch_refund(made.id) or made

    async def fetch_refund(self, refund: str) -> RefundTruth | None:
        answer = await self._client.find(self._sdk.refunds.get(refund_id=refund, request_options=ONCE))
        return None if answer is None else self._read(reading.refund, self._inner(answer.refund))

    async def recover_refund(self, order: RefundOrder) -> RefundTruth | None:
        if not self._lives(order.reference):
            return await self._search_refund(order.reference)
        try:
            return await self.refund(order)
        except Declined:
            return None

    async def list_refunds(self, cursor: str | None) -> Listed[RefundTruth]:
        """By the time that they were made."""
        read = self._items_by(reading.refund)
        return await by_time(self._client, self._refunds, lambda one: one.refunds, read, cursor)

    # Disputes and settlements

    async def fetch_dispute(self, dispute: str) -> DisputeTruth | None:
        answer = await self._client.find(self._sdk.disputes.get(dispute_id=dispute, request_options=ONCE))
        return None if answer is None else self._read(reading.dispute, self._inner(answer.dispute))

    async def list_disputes(self, cursor: str | None) -> Listed[DisputeTruth]:
        """All, each time anew: Square lists neither by time nor by change, so those that changed are among them."""
        call = self._sdk.disputes.list(cursor=cursor or None, location_id=self._location, request_options=ONCE)
        try:
            page: Any = (await self._client.ask(call)).response
        except WrongCursor:
            return Listed((), "", False)
        with self._client.reading():
            told, theirs = tuple(page.disputes or ()), page.cursor
        return Listed(self._items_by(reading.dispute)(told), theirs or "", bool(theirs))

    async def fetch_settlement(self, settlement: str) -> SettlementTruth | None:
        answer = await self._client.find(self._sdk.payouts.get(payout_id=settlement, request_options=ONCE))
        return None if answer is None else self._read(reading.settlement, self._inner(answer.payout))

    async def list_settlements(self, cursor: str | None) -> Listed[SettlementTruth]:
        """By the time that they were made."""

        async def page(begin: str, theirs: str | None) -> Any:
            call = self._sdk.payouts.list(
                location_id=self._location, begin_time=begin, sort_order="ASC", cursor=theirs, limit=PAGE,
                request_options=ONCE,
            )  # fmt: skip
            return (await self._client.ask(call)).response

        read = self._items_by(reading.settlement)
        return await by_time(self._client, page, lambda one: one.payouts, read, cursor)

    async def settlement_entries(self, settlement: str, cursor: str | None) -> Listed[SettlementEntry]:
        call = self._sdk.payouts.list_entries(
            payout_id=settlement, sort_order="ASC", cursor=cursor or None, limit=PAGE, request_options=ONCE
        )
        page: Any = (await self._client.ask(call)).response
        with self._client.reading():
            found = tuple(reading.entry(one, self._currencies) for one in page.payout_entries or ())
            return Listed(found, page.cursor or cursor or "", bool(page.cursor))

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities - {Capability.BALANCE}

    async def balances(self) -> tuple[Balance, ...]:
        raise NotCapable("Square tells no balance: what it owes is in the payout that it makes next")

    # Saved methods

    async def save_method(self, order: MethodOrder) -> SavedMethod:
        if not order.token.startswith(CARD_FORM):
            raise Declined(REASONS[NOT_FROM_FORM], reason_code=NOT_FROM_FORM)  # Square takes payments' ids here too
        customer = order.customer or await self._customer(order)
        call = self._sdk.cards.create(
            idempotency_key=order.reference,
            source_id=order.token,
            card={"customer_id": customer, "reference_id": order.reference},
            request_options=ONCE,
        )
        answer = await self._client.ask(call)
        with self._client.reading():
            return reading.method(self._inner(answer.card))

    async def forget_method(self, method: SavedMethod) -> None:
        await self._client.find(self._sdk.cards.disable(card_id=method.token, request_options=ONCE))

    # Webhooks

    async def verify(self, webhook: RawWebhook, *, now: datetime) -> WebhookEvent:
        return webhooks.verify(
            webhook, key=self._signature_key, url=self._notification_url, merchant=self._merchant, now=now
        )

    # Inside

    async def _create(self, order: PaymentOrder) -> "SquarePayment":
        if order.method is None:
            raise Declined(REASONS["method_missing"], reason_code="method_missing")
        if not order.method.startswith(FORMS if order.customer is None else SAVED):
            raise Declined(REASONS[NOT_FROM_FORM], reason_code=NOT_FROM_FORM)
        more: dict[str, Any] = {} if order.customer is None else {"customer_id": order.customer}
        call = self._sdk.payments.create(
            source_id=order.method,
            idempotency_key=order.reference,
            amount_money=self._money(order.amount, order.asset),
            autocomplete=order.capturing is Capturing.AUTOMATIC,
            location_id=self._location,
            reference_id=order.reference,
            request_options=ONCE,
            **more,
        )
        made: SquarePayment = self._inner((await self._client.ask(call)).payment)
        return made

    async def _payment(self, payment: str) -> Payment:
        return self._read(reading.payment, await self._square_payment(payment))

    async def _square_payment(self, payment: str) -> "SquarePayment":
        answer = await self._client.ask(self._sdk.payments.get(payment_id=payment, request_options=ONCE))
        found: SquarePayment = self._inner(answer.payment)
        return found

    async def _ended(self, payment: str, call: Any) -> Payment:
        """What a payment is after an act that ends it; where that was refused, since it had ended, what it is."""
        try:
            return self._read(reading.payment, self._inner((await self._client.ask(call)).payment))
        except Missing:
            raise
        except (RefusedByProvider, Declined):
            found = await self._payment(payment)
            if found.status in OPEN:
                raise
            return found

    async def _search(self, reference: str) -> Payment | None:
        """The payment with our id among all since it was made."""

        async def page(cursor: str | None) -> Any:
            begin = stamp(keys.not_before(reference))
            call = self._sdk.payments.list(
                begin_time=begin, sort_order="ASC", cursor=cursor, location_id=self._location, limit=PAGE,
                request_options=ONCE,
            )  # fmt: skip
            return (await self._client.ask(call)).response

        found = await search(self._client, page, lambda one: one.payments, lambda one: one.reference_id == reference)
        return None if found is None else self._read(reading.payment, found)

    async def _search_refund(self, reference: str) -> RefundTruth | None:
        begin = stamp(keys.not_before(reference))
        found = await search(
            self._client,
            lambda cursor: self._refunds(begin, cursor),
            lambda one: one.refunds,
            lambda one: one.reason == reference,
        )
        return None if found is None else self._read(reading.refund, found)

    async def _refunds(self, begin: str, cursor: str | None) -> Any:
        call = self._sdk.refunds.list(
            begin_time=begin, sort_order="ASC", cursor=cursor, location_id=self._location, limit=PAGE,
            request_options=ONCE,
        )  # fmt: skip
        return (await self._client.ask(call)).response

    async def _customer(self, order: MethodOrder) -> str:
        """Square wants a name of a customer; ours is the user's id, so that nothing personal is told."""
        call = self._sdk.customers.create(
            idempotency_key=f"{order.reference}-customer",
            company_name=order.owner,
            reference_id=order.owner,
            request_options=ONCE,
        )
        answer = await self._client.ask(call)
        with self._client.reading():
            return str(self._inner(answer.customer).id)

    def _items_by(self, read: Callable[[Any, Currencies], Item]) -> Callable[[Iterable[Any]], tuple[Item, ...]]:
        """What of a page can be read so."""
        return lambda told: self._items(read, told, named=lambda one: getattr(one, "id", None))

    def _money(self, amount: int, asset: str) -> dict[str, Any]:
        return {"amount": self._currencies.units(amount, asset), "currency": asset}

    def _inner(self, told: Any) -> Any:
        """What an answer is about. Raises EffectUnknown for an answer without it."""
        if told is None:
            raise EffectUnknown(f"{self._name} gave an answer that can't be read")
        return told


def _change_key(reference: str, amount: int, version: str) -> str:
    """The key of lowering a payment of this version to `amount`: Square takes 45 characters, and one body for each."""
    return f"{reference}-{hashlib.sha256(f'{amount} {version}'.encode()).hexdigest()[:14]}"
