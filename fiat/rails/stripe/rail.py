"""The Stripe rail: `fiat.rails.protocol.Rail` by Stripe's API.

Payments are PaymentIntents of type card (wallets ride on cards): confirmed here where a method is given, else by the
payer with Stripe.js. A declined one is cancelled before Declined is raised, so that nobody can pay it later.

Stripe keeps what a key's first request was told, a 500 too, for at least 24 hours
(docs.stripe.com/api/idempotent_requests). So a replayed answer may be old, and the object is read again; where a 500 is
replayed, lists tell what became of it. Lists, other than searches, show at once what was made.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from base.clock import Clock
from fiat.rails import keys
from fiat.rails.amounts import Bounds
from fiat.rails.cards import CardRail
from fiat.rails.currencies import Currencies
from fiat.rails.errors import Declined, EffectUnknown, RateLimited
from fiat.rails.protocol import (
    Balance,
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
from fiat.rails.stripe import reading, webhooks
from fiat.rails.stripe.client import CardDeclined, Client, Missing, MovedOn, Refusal
from fiat.rails.stripe.declines import REASONS
from fiat.rails.stripe.lists import PAGE, List, walk
from fiat.rails.stripe.statuses import CURRENCIES, MORE_DIGITS, UNITS_MAX, UNITS_MIN, USUAL, Body
from ledger.money import Asset

if TYPE_CHECKING:
    from stripe import RequestOptions

Item = TypeVar("Item")

KEY_SECONDS = 23 * 3600
"""Stripe promises 24 hours."""

SEARCH_PAGES_MAX = 50
"""Pages of a list that are looked through for one order of ours."""

NOT_LISTED_SECONDS = 3600
"""When to ask again for what is in a payout that Stripe hasn't reconciled yet."""

WITH_FEE = ["latest_charge.balance_transaction"]
WITH_FEES = ["balance_transaction", "failure_balance_transaction"]


class StripeRail(CardRail[Client]):
    """One Stripe account."""

    def __init__(
        self, name: str, client: Client, *, webhook_secret: str, live: bool, assets: Iterable[Asset], clock: Clock
    ) -> None:
        """`live`: the mode of the client's key. `clock`: real time, where Stripe's own is."""
        currencies = Currencies(name, assets, usual=USUAL, others=CURRENCIES)
        super().__init__(name, client, key_seconds=KEY_SECONDS, currencies=currencies, clock=clock)
        self._sdk = client.sdk.v1
        self._webhook_secret, self._live = webhook_secret, live

    def bounds(self, asset: Asset) -> Bounds:
        most = None if asset.code in MORE_DIGITS else UNITS_MAX
        return self._currencies.bounds(asset.code, minimum=UNITS_MIN.get(asset.code, 1), maximum=most)

    # Paying in

    async def create_payment(self, order: PaymentOrder) -> Payment:
        try:
            return await self._create(order)
        except CardDeclined as declined:
            if declined.intent is not None:
                await self._give_up(order.reference, declined.intent)
            raise

    async def proceed(self, order: PaymentOrder, payment: str) -> Payment:
        """Stripe needs no going on: the payment as it is."""
        return await self._payment(payment)

    async def capture(self, order: PaymentOrder, payment: str, amount: int) -> Payment:
        params: dict[str, Any] = {
            "amount_to_capture": self._currencies.units(amount, order.asset),
            "expand": WITH_FEE,
        }
        options = _keyed(f"{order.reference}-capture-{amount}")
        try:
            answer = await self._client.ask(self._sdk.payment_intents.capture_async(payment, params, options))  # type: ignore[arg-type]
        except MovedOn:
            return await self._payment(payment)
        return self._read(reading.payment, answer.body)

    async def cancel(self, order: PaymentOrder, payment: str) -> Payment:
        params: dict[str, Any] = {"cancellation_reason": "abandoned", "expand": WITH_FEE}
        options = _keyed(f"{order.reference}-cancel")
        try:
            answer = await self._client.ask(self._sdk.payment_intents.cancel_async(payment, params, options))  # type: ignore[arg-type]
        except MovedOn:
            return await self._payment(payment)
        return self._read(reading.payment, answer.body)

    async def fetch_payment(self, payment: str) -> Payment | None:
        if payment.startswith(("ch_", "py_")):
            charge = await self._client.find(self._sdk.charges.retrieve_async(payment))
            intent = None if charge is None else charge.get("payment_intent")
            if not isinstance(intent, str):
                return None
            payment = intent
        told = await self._client.find(self._sdk.payment_intents.retrieve_async(payment, {"expand": WITH_FEE}))
        return None if told is None else self._read(reading.payment, told)

    async def _sent_again(self, order: PaymentOrder) -> Payment | None:
        try:
            return await self._create(order)
        except CardDeclined as declined:
            return None if declined.intent is None else await self._declined(order, declined)
        except Declined:
            return None
        except EffectUnknown:
            found = await self._search(order.reference)  # the key may give a 500 again for as long as it lives
            if found is None:
                raise
            return found

    # Giving back

    async def refund(self, order: RefundOrder) -> RefundTruth:
        source = {"charge": order.capture} if order.capture is not None else {"payment_intent": order.payment}
        params: dict[str, Any] = {
            **source,
            "amount": self._currencies.units(order.amount, order.asset),
            "metadata": {reading.REFERENCE: order.reference},
            "expand": WITH_FEES,
        }
        options = _keyed(order.reference)
        try:
            answer = await self._client.ask(self._sdk.refunds.create_async(params, options))  # type: ignore[arg-type]
        except Refusal as refusal:
            if refusal.wrong == "amount" and refusal.reason is None:  # Stripe's only word for more than is left
                raise Declined(REASONS["refund_too_large"], reason_code="refund_too_large") from None
            raise
        made = self._read(reading.refund, answer.body)
        return (await self.fetch_refund(made.id) or made) if answer.replayed else made

    async def fetch_refund(self, refund: str) -> RefundTruth | None:
        told = await self._client.find(self._sdk.refunds.retrieve_async(refund, {"expand": WITH_FEES}))
        return None if told is None else self._read(reading.refund, told)

    async def recover_refund(self, order: RefundOrder) -> RefundTruth | None:
        """By the list of the payment's refunds, which is complete at once."""
        after: dict[str, Any] = {}
        for _ in range(SEARCH_PAGES_MAX):
            params: Any = {"payment_intent": order.payment, "limit": PAGE, "expand": _in_list(WITH_FEES)} | after
            page = (await self._client.ask(self._sdk.refunds.list_async(params))).body
            with self._client.reading():
                for told in page["data"]:
                    if told["metadata"].get(reading.REFERENCE) == order.reference:
                        return reading.refund(told, self._currencies)
                if not page["has_more"]:
                    return None
                after = {"starting_after": page["data"][-1]["id"]}
        raise EffectUnknown(f"{self._name} has too many refunds of one payment to look through")

    async def list_refunds(self, cursor: str | None) -> Listed[RefundTruth]:
        """Those that are new: Stripe doesn't list by change."""
        return await self._listed(self._refunds, reading.refund, cursor)

    # Disputes and settlements

    async def fetch_dispute(self, dispute: str) -> DisputeTruth | None:
        told = await self._client.find(self._sdk.disputes.retrieve_async(dispute))
        return None if told is None else self._read(reading.dispute, told)

    async def list_disputes(self, cursor: str | None) -> Listed[DisputeTruth]:
        """Those that are new: Stripe doesn't list by change."""
        return await self._listed(self._disputes, reading.dispute, cursor)

    async def fetch_settlement(self, settlement: str) -> SettlementTruth | None:
        told = await self._client.find(self._sdk.payouts.retrieve_async(settlement))
        return None if told is None else self._read(reading.settlement, told)

    async def list_settlements(self, cursor: str | None) -> Listed[SettlementTruth]:
        """Those that are new: Stripe doesn't list by change."""
        return await self._listed(self._payouts, reading.settlement, cursor)

    async def settlement_entries(self, settlement: str, cursor: str | None) -> Listed[SettlementEntry]:
        """The balance transactions of an automatic payout, newest first, without its own."""
        if cursor is None:
            await self._require_listed(settlement)
        params: Any = {"payout": settlement, "limit": PAGE} | ({"starting_after": cursor} if cursor else {})
        page = (await self._client.ask(self._sdk.balance_transactions.list_async(params))).body
        with self._client.reading():
            found = page["data"]
            entries = tuple(reading.entry(one, self._currencies) for one in found if one.get("source") != settlement)
            return Listed(entries, found[-1]["id"] if found else cursor or "", page["has_more"])

    async def balances(self) -> tuple[Balance, ...]:
        told = (await self._client.ask(self._sdk.balance.retrieve_async())).body
        with self._client.reading():
            return reading.balances(told, self._currencies)

    # Saved methods

    async def save_method(self, order: MethodOrder) -> SavedMethod:
        customer = order.customer or await self._customer(order)
        params: dict[str, Any] = {
            "customer": customer,
            "payment_method": order.token,
            "payment_method_types": ["card"],
            "confirm": True,
            "usage": "on_session",
            "metadata": {reading.REFERENCE: order.reference},
            "expand": ["payment_method"],
        }
        options = _keyed(order.reference)
        told = (await self._client.ask(self._sdk.setup_intents.create_async(params, options))).body  # type: ignore[arg-type]
        with self._client.reading():
            if told["status"] != "succeeded":
                await self._drop_setup(told["id"], order.reference)
                reason = "authentication_required"
                raise Declined(REASONS[reason], reason_code=reason)
            return reading.method(told["payment_method"], customer)

    async def forget_method(self, method: SavedMethod) -> None:
        told = await self._client.find(self._sdk.payment_methods.retrieve_async(method.token))
        if told is not None and told.get("customer") is not None:
            await self._client.ask(self._sdk.payment_methods.detach_async(method.token))

    # Webhooks

    async def verify(self, webhook: RawWebhook, *, now: datetime) -> WebhookEvent:
        return webhooks.verify(webhook, secret=self._webhook_secret, live=self._live, now=now)

    # Inside

    async def _create(self, order: PaymentOrder) -> Payment:
        params: dict[str, Any] = {
            "amount": self._currencies.units(order.amount, order.asset),
            "currency": order.asset.lower(),
            "capture_method": order.capturing.value,
            "payment_method_types": ["card"],
            "metadata": {reading.REFERENCE: order.reference},
            "expand": WITH_FEE,
        }
        if order.customer is not None:
            params["customer"] = order.customer
        if order.method is not None:
            params |= {"payment_method": order.method, "confirm": True}
            if order.return_url is not None:
                params["return_url"] = order.return_url
        answer = await self._client.ask(self._sdk.payment_intents.create_async(params, _keyed(order.reference)))  # type: ignore[arg-type]
        made = self._read(reading.payment, answer.body)
        return await self._payment(made.id) if answer.replayed else made

    async def _payment(self, payment: str) -> Payment:
        found = await self.fetch_payment(payment)
        if found is None:
            raise Missing(f"{self._name} has no payment {payment[:40]}")
        return found

    async def _give_up(self, reference: str, intent: str) -> None:
        """Cancel what declined. Raises EffectUnknown where that isn't certain, then all is asked again."""
        options = _keyed(f"{reference}-declined")
        try:
            await self._client.ask(self._sdk.payment_intents.cancel_async(intent, None, options))
        except MovedOn:
            found = await self._payment(intent)
            if found.status not in (PaymentStatus.FAILED, PaymentStatus.CANCELLED):
                raise EffectUnknown(f"payment {intent} of {self._name} declined, and is {found.status}") from None

    async def _declined(self, order: PaymentOrder, declined: CardDeclined) -> Payment:
        assert declined.intent is not None
        await self._give_up(order.reference, declined.intent)
        return Payment(
            id=declined.intent,
            reference=order.reference,
            status=PaymentStatus.FAILED,
            asset=order.asset,
            amount=order.amount,
            code=declined.reason_code,
            reason=declined.message,
        )

    async def _search(self, reference: str) -> Payment | None:
        """The payment with our id among all since it was made. Raises EffectUnknown if there are too many."""
        since = int(keys.not_before(reference).timestamp())
        after: dict[str, Any] = {}
        for _ in range(SEARCH_PAGES_MAX):
            params: Any = {"created": {"gte": since}, "limit": PAGE} | after
            page = (await self._client.ask(self._sdk.payment_intents.list_async(params))).body
            with self._client.reading():
                for told in page["data"]:
                    if told["metadata"].get(reading.REFERENCE) == reference:
                        return await self._as_ordered(told, reference)
                if not page["has_more"]:
                    return None
                after = {"starting_after": page["data"][-1]["id"]}
        raise EffectUnknown(f"{self._name} has too many payments to look through for {reference}")

    async def _as_ordered(self, told: Body, reference: str) -> Payment:
        """A found payment; where its card declined, it's given up first, as `create_payment` does."""
        if told["status"] == "requires_payment_method" and told.get("last_payment_error"):
            await self._give_up(reference, told["id"])
        return await self._payment(told["id"])

    async def _customer(self, order: MethodOrder) -> str:
        params: Any = {"metadata": {"owner": order.owner}}
        options = _keyed(f"{order.reference}-customer")
        told = (await self._client.ask(self._sdk.customers.create_async(params, options))).body
        with self._client.reading():
            return str(told["id"])

    async def _drop_setup(self, setup: str, reference: str) -> None:
        options = _keyed(f"{reference}-cancel")
        await self._client.ask(self._sdk.setup_intents.cancel_async(setup, None, options))

    async def _require_listed(self, settlement: str) -> None:
        told = (await self._client.ask(self._sdk.payouts.retrieve_async(settlement))).body
        if told.get("reconciliation_status") == "in_progress":
            raise RateLimited(
                f"{self._name} hasn't listed yet what is in payout {settlement[:40]}", retry_after=NOT_LISTED_SECONDS
            )

    async def _listed(self, page: List, read: Callable[[Body, Currencies], Item], cursor: str | None) -> Listed[Item]:
        with self._client.reading():
            found, cursor, more = await walk(page, cursor)
        return Listed(self._items(read, found, named=lambda one: one.get("id")), cursor, more)

    async def _refunds(self, params: Any) -> Body:
        given: Any = {**params, "expand": _in_list(WITH_FEES)}
        return (await self._client.ask(self._sdk.refunds.list_async(given))).body

    async def _disputes(self, params: Any) -> Body:
        return (await self._client.ask(self._sdk.disputes.list_async(params))).body

    async def _payouts(self, params: Any) -> Body:
        return (await self._client.ask(self._sdk.payouts.list_async(params))).body


def _keyed(key: str) -> "RequestOptions":
    return {"idempotency_key": key}


def _in_list(paths: list[str]) -> list[str]:
    return [f"data.{path}" for path in paths]
