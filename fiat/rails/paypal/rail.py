"""PayPal's account as a rail (`fiat.rails.protocol.Rail`).

What differs from the protocol's general picture, and why it's safe:

- An order can't be called off at PayPal. It takes no money unless we capture it, so `cancel` of one that isn't
  authorised says CANCELLED, and it lapses there. A payment that PayPal declines in `proceed` is told as FAILED too.
- Orders can't be found by our id. One whose answer was lost is sent again under its key (kept for 6 hours). Later
  `recover_payment` says None: its approval page was never shown to anybody, so it can't have taken money, nor will it.
- A payout's `id` is that of its batch, which holds this payout alone: the answer to creating one names no other.
- PayPal keeps a balance, and sends it to the bank when told to at its pages; so there are no settlements.
- Saved methods need its vault, which isn't used here.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar
from urllib.parse import quote

import httpx

from base.clock import Clock
from fiat.rails.amounts import Bounds
from fiat.rails.errors import Declined, EffectUnknown, NotCapable, OrderForgotten, RefusedByProvider
from fiat.rails.lists import readable_items
from fiat.rails.paypal import payouts
from fiat.rails.paypal.account import PayPalAccount
from fiat.rails.paypal.certificates import Certificates
from fiat.rails.paypal.client import Client
from fiat.rails.paypal.keys import ORDER_KEY, PAYMENT_KEY, PAYOUT_KEY, still_known
from fiat.rails.paypal.listing import next_token, read_cursor, stamp
from fiat.rails.paypal.reading import (
    Json,
    Reader,
    authorization_of,
    bounds,
    cancelled,
    declined,
    last_part,
    order_of,
    readable,
    refunds_of,
    with_capture,
)
from fiat.rails.paypal.refusals import ALREADY, DECLINES, Refusal
from fiat.rails.paypal.webhooks import Webhooks
from fiat.rails.protocol import (
    Balance,
    Capability,
    Capturing,
    DisputeTruth,
    Listed,
    MethodOrder,
    Payment,
    PaymentOrder,
    PaymentStatus,
    PayoutOrder,
    PayoutStatus,
    PayoutTruth,
    RawWebhook,
    RefundOrder,
    RefundStatus,
    RefundTruth,
    SavedMethod,
    SettlementEntry,
    SettlementTruth,
    WebhookEvent,
)
from ledger.money import Asset

ORDERS, PAYMENTS, DISPUTES = "/v2/checkout/orders", "/v2/payments", "/v1/customer/disputes"
BALANCES = "/v1/reporting/balances"

DISPUTES_PER_PAGE = 10
"""Each needs a call of its own for its details."""

P = ParamSpec("P")
T = TypeVar("T")


def _one_call(
    method: Callable[Concatenate["PayPal", P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["PayPal", P], Coroutine[Any, Any, T]]:
    """A call of the protocol: it ends in time, and what PayPal refuses becomes one of the protocol's errors."""

    @functools.wraps(method)
    async def call(self: "PayPal", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with asyncio.timeout(self.account.call_seconds):
                return await method(self, *args, **kwargs)
        except TimeoutError:
            raise EffectUnknown(f"PayPal took longer than {self.account.call_seconds:g} s") from None
        except Refusal as refusal:
            raise refusal.as_error() from None

    return call


class PayPal:
    """One account. See the protocol for what each call means and raises."""

    def __init__(
        self,
        account: PayPalAccount,
        *,
        assets: Mapping[str, Asset],
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`assets` of the book by code. Raises RailMisconfigured."""
        self.account = account
        self._clock = clock
        self._client = Client(account, clock=clock, transport=transport)
        self._read = Reader(assets, merchant=account.merchant_id)
        certificates = Certificates(account, self._client)
        certificates.require_roots()
        self._webhooks = Webhooks(account, certificates)

    @property
    def name(self) -> str:
        return self.account.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(
            {
                *(Capability.TOP_UP, Capability.AUTHORISE, Capability.REFUND, Capability.PAYOUT, Capability.DISPUTE),
                Capability.BALANCE,
            }
        )

    @property
    def key_seconds(self) -> int:
        return int(ORDER_KEY.total_seconds())

    def bounds(self, asset: Asset) -> Bounds:
        return bounds(asset)

    # Paying in

    @_one_call
    async def create_payment(self, order: PaymentOrder) -> Payment:
        return await self._create(order)

    @_one_call
    async def proceed(self, order: PaymentOrder, payment: str) -> Payment:
        act = "capture" if order.capturing is Capturing.AUTOMATIC else "authorize"
        try:
            told = await self._client.post(f"{ORDERS}/{_part(payment)}/{act}", {}, key=f"{order.reference}-proceed")
        except Refusal as refusal:
            if refusal.decline is not None:
                return declined(order, payment, refusal.decline)
            if refusal.issues & ALREADY:
                return self._read.payment(await self._order(payment))
            raise
        return self._read.payment(told)

    @_one_call
    async def capture(self, order: PaymentOrder, payment: str, amount: int) -> Payment:
        found = await self._order(payment)
        now = self._read.payment(found)
        if now.status is not PaymentStatus.AUTHORISED:
            return now
        if not 0 < amount <= now.amount:
            raise RefusedByProvider(f"{order.reference}: {amount} isn't between 1 and the {now.amount} authorised")
        id = self._authorization(found)
        body = {"amount": self._read.write(amount, now.asset), "final_capture": True}
        try:
            taken = await self._client.post(
                f"{PAYMENTS}/authorizations/{_part(id)}/capture", body, key=f"{order.reference}-capture-{amount}"
            )
        except Refusal as refusal:
            if refusal.issues & ALREADY:
                return self._read.payment(await self._order(payment))
            if (code := refusal.decline) is None:
                raise
            await self._void(order, id)
            raise Declined(DECLINES[code], reason_code=code.lower()) from None
        after = self._read.payment(with_capture(found, taken))
        if after.status is PaymentStatus.FAILED:
            await self._void(order, id)
        return after

    @_one_call
    async def cancel(self, order: PaymentOrder, payment: str) -> Payment:
        found = await self._order(payment)
        now = self._read.payment(found)
        if now.status in (PaymentStatus.REQUIRES_ACTION, PaymentStatus.APPROVED):
            return cancelled(now)
        if now.status is not PaymentStatus.AUTHORISED:
            return now
        if await self._void(order, self._authorization(found)):
            return cancelled(now)
        return self._read.payment(await self._order(payment))

    @_one_call
    async def fetch_payment(self, payment: str) -> Payment | None:
        found = await self._find(f"{ORDERS}/{_part(payment)}")
        for kind in ("captures", "authorizations"):
            if found is not None:
                break
            inside = await self._find(f"{PAYMENTS}/{kind}/{_part(payment)}")
            if inside is not None:
                with readable("payment"):
                    order = order_of(inside)
                found = None if order is None else await self._find(f"{ORDERS}/{_part(order)}")
        return None if found is None else self._read.payment(found)

    async def find_payment(self, order: PaymentOrder) -> Payment | None:
        """None: PayPal finds no order by our id. One whose answer was lost has no payer, so it can't take money."""
        return None

    @_one_call
    async def recover_payment(self, order: PaymentOrder) -> Payment | None:
        if order.method is not None or not still_known(order.reference, ORDER_KEY, self._clock.now()):
            return None  # with a method, nothing was ever sent
        try:
            return await self._create(order)
        except Refusal as refusal:
            if refusal.decline is None:
                raise
            return declined(order, order.reference, refusal.decline)

    async def _create(self, order: PaymentOrder) -> Payment:
        if order.method is not None:
            raise NotCapable("PayPal's payers approve at PayPal: leave the payment method out", param="method")
        context = {"shipping_preference": "NO_SHIPPING", "user_action": "PAY_NOW"}
        if order.return_url is not None:
            context |= {"return_url": order.return_url, "cancel_url": self.account.cancel_url or order.return_url}
        if self.account.brand_name is not None:
            context["brand_name"] = self.account.brand_name
        unit = {"custom_id": order.reference, "invoice_id": order.reference}
        body = {
            "intent": "CAPTURE" if order.capturing is Capturing.AUTOMATIC else "AUTHORIZE",
            "purchase_units": [unit | {"amount": self._read.write(order.amount, order.asset)}],
            "payment_source": {"paypal": {"experience_context": context}},
        }
        return self._read.payment(await self._client.post(ORDERS, body, key=order.reference))

    async def _order(self, order: str) -> Json:
        """An order that must be there."""
        return await self._client.get(f"{ORDERS}/{_part(order)}")

    async def _void(self, order: PaymentOrder, authorization: str) -> bool:
        """Let an authorization go; False where it isn't one any more that can be."""
        try:
            await self._client.post(
                f"{PAYMENTS}/authorizations/{_part(authorization)}/void", {}, key=f"{order.reference}-cancel"
            )
        except Refusal as refusal:
            if refusal.issues & ALREADY or refusal.decline is not None:
                return False
            raise
        return True

    def _authorization(self, order: Json) -> str:
        with readable("order"):
            found = authorization_of(order)
            return str((found or {})["id"])

    # Giving back

    @_one_call
    async def refund(self, order: RefundOrder) -> RefundTruth:
        return await self._refund(order)

    @_one_call
    async def fetch_refund(self, refund: str) -> RefundTruth | None:
        found = await self._find(f"{PAYMENTS}/refunds/{_part(refund)}")
        return None if found is None else self._read.refund(found)

    @_one_call
    async def recover_refund(self, order: RefundOrder) -> RefundTruth | None:
        with readable("order"):
            made = refunds_of(await self._order(order.payment))
        for one in made:
            found = self._read.refund(one, capture=order.capture)
            if found.reference == order.reference:
                return found
        if not still_known(order.reference, PAYMENT_KEY, self._clock.now()):
            raise OrderForgotten(f"PayPal forgot the key of refund {order.reference}; look for it at its pages")
        try:
            return await self._refund(order)
        except Refusal as refusal:
            if (code := refusal.decline) is None:
                raise
        return RefundTruth(
            id=order.reference,
            reference=order.reference,
            payment=order.capture or order.payment,
            status=RefundStatus.FAILED,
            asset=order.asset,
            amount=order.amount,
            code=code.lower(),
            reason=DECLINES[code],
        )

    async def _refund(self, order: RefundOrder) -> RefundTruth:
        capture = order.capture or self._read.payment(await self._order(order.payment)).capture_id
        if capture is None:
            raise RefusedByProvider(f"{order.reference}: PayPal's order {order.payment} has no capture to give back")
        body = {
            "amount": self._read.write(order.amount, order.asset),
            "custom_id": order.reference,
            "invoice_id": order.reference,
        }
        told = await self._client.post(f"{PAYMENTS}/captures/{_part(capture)}/refund", body, key=order.reference)
        return self._read.refund(told, capture=capture)

    async def list_refunds(self, cursor: str | None) -> Listed[RefundTruth]:
        return Listed((), cursor or "", more=False)  # PayPal has no such list

    # Paying out

    @_one_call
    async def pay_out(self, order: PayoutOrder) -> PayoutTruth:
        return await self._pay_out(order)

    @_one_call
    async def fetch_payout(self, payout: str) -> PayoutTruth | None:
        found = await self._find(f"{payouts.PATH}/{_part(payout)}")
        return None if found is None else self._read.payout(found)

    @_one_call
    async def recover_payout(self, order: PayoutOrder) -> PayoutTruth | None:
        if not still_known(order.reference, PAYOUT_KEY, self._clock.now()):
            raise OrderForgotten(f"PayPal forgot the batch of payout {order.reference}; look for it at its pages")
        try:
            made = await self._pay_out(order)
        except Refusal as refusal:
            if (code := refusal.decline) is None:
                raise
            return payouts.begun(order, order.reference, status=PayoutStatus.FAILED, code=code)
        found = await self._find(f"{payouts.PATH}/{_part(made.id)}")
        return made if found is None else self._read.payout(found)

    async def _pay_out(self, order: PayoutOrder) -> PayoutTruth:
        body = payouts.request(order, self._read.write(order.amount, order.asset, currency="currency"))
        try:
            told = await self._client.post(payouts.PATH, body, key=order.reference)
        except Refusal as refusal:
            if "DUPLICATE_SENDER_BATCH_ID" not in refusal.issues or "self" not in refusal.links:
                raise
            first = last_part(refusal.links["self"])  # only its id: the host is ours
            return self._read.payout(await self._client.get(f"{payouts.PATH}/{_part(first)}"))
        with readable("payout"):
            return payouts.begun(order, told["batch_header"]["payout_batch_id"])

    # Disputes and settlements

    @_one_call
    async def fetch_dispute(self, dispute: str) -> DisputeTruth | None:
        found = await self._find(f"{DISPUTES}/{_part(dispute)}")
        return None if found is None else self._read.dispute(found)

    @_one_call
    async def list_disputes(self, cursor: str | None) -> Listed[DisputeTruth]:
        sweep = read_cursor(cursor, self._clock.now())
        query = {"update_time_after": stamp(sweep.since), "page_size": str(DISPUTES_PER_PAGE)}
        if sweep.token is not None:
            query["next_page_token"] = sweep.token
        page = await self._client.get(DISPUTES, query)
        with readable("list of disputes"):
            listed, token = list(page.get("items", [])), next_token(page)
        ids = readable_items(self.name, reversed(listed), lambda one: str(one["dispute_id"]), named=lambda _: "")
        told = [one for id in ids if (one := await self._find(f"{DISPUTES}/{_part(id)}")) is not None]
        items = readable_items(self.name, told, self._read.dispute, named=lambda one: one.get("dispute_id"))
        return Listed(items, sweep.after_page(token).written(), more=token is not None)

    async def fetch_settlement(self, settlement: str) -> SettlementTruth | None:
        self._no_settlements()

    async def list_settlements(self, cursor: str | None) -> Listed[SettlementTruth]:
        self._no_settlements()

    async def settlement_entries(self, settlement: str, cursor: str | None) -> Listed[SettlementEntry]:
        self._no_settlements()

    def _no_settlements(self) -> NoReturn:
        raise NotCapable("PayPal lists no settlements: its balance is sent to the bank at its pages")

    @_one_call
    async def balances(self) -> tuple[Balance, ...]:
        """Up to three hours old; the app needs the feature "Transaction search"."""
        return self._read.balances(await self._client.get(BALANCES))

    # Saved methods

    async def save_method(self, order: MethodOrder) -> SavedMethod:
        raise NotCapable("PayPal keeps no payment methods here: its payers approve each payment")

    async def forget_method(self, method: SavedMethod) -> None:
        raise NotCapable("PayPal keeps no payment methods here: there is none to forget")

    # Webhooks

    @_one_call
    async def verify(self, webhook: RawWebhook, *, now: datetime) -> WebhookEvent:
        return await self._webhooks.verify(webhook, now=now)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _find(self, path: str) -> Json | None:
        """The object at `path`; None where PayPal has none."""
        try:
            return await self._client.get(path)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise


def _part(id: str) -> str:
    """An id as a part of a path: nothing in it leads elsewhere."""
    return quote(id, safe="")
