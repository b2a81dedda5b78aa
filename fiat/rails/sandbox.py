"""The sandbox: a payment provider of our own for tests and demonstrations, honest through the same protocol. No money.

It keeps its own record (`fiat_sandbox_*`), apart from what the rest of Onebook keeps of the same payments, so that the
two can be compared. Everything it does follows from what it's told and from the clock; nothing is random. Only for a
test book: the wiring refuses it elsewhere.

Methods that a payment may be made with, and what follows:

    tok_visa            captured at once (authorised, for a manual capture)
    tok_declined        declined: insufficient_funds
    tok_delayed         processing; captured DELAY later
    tok_delayed_failed  processing; failed DELAY later
    tok_late_fee        captured at once, its fee told DELAY later
    tok_disputed        captured, and disputed at once
    tok_refund_slow     captured; a refund of it is pending for DELAY
    tok_refund_fails    captured; a refund of it is completed, and fails DELAY later
    none                the payer does something: with a return_url on a page of the provider's, which they approve,
                        else with a client secret

What people do at a provider's own pages are the methods of `fiat.rails.sandbox_acts`.
"""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from base.clock import Clock
from fiat.rails.amounts import Bounds
from fiat.rails.errors import (
    Declined,
    RefusalReason,
    RefusedByProvider,
    WebhookRefused,
)
from fiat.rails.protocol import (
    CLOCK_SKEW_SECONDS,
    WEBHOOK_AGE_SECONDS,
    Action,
    ActionKind,
    Balance,
    Capability,
    Capturing,
    DisputeStatus,
    DisputeTruth,
    EntryKind,
    Listed,
    MethodOrder,
    ObjectKind,
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
    SettlementStatus,
    SettlementTruth,
    WebhookEvent,
)
from fiat.rails.sandbox_record import Document, Record, Session
from ledger.money import Asset

DELAY = timedelta(seconds=60)
"""How long what isn't done at once takes."""

DISPUTE_FEE = 1500
PAGE = 50
SIGNATURE_HEADER = "sandbox-signature"

METHODS = frozenset(
    {
        *("tok_visa", "tok_declined", "tok_delayed", "tok_delayed_failed", "tok_late_fee", "tok_disputed"),
        *("tok_refund_slow", "tok_refund_fails"),
    }
)


def fee_of(amount: int) -> int:
    """What the sandbox charges for a payment: 1.4% and 25 units, at most all of it."""
    return min(amount, amount * 14 // 1000 + 25)


class Sandbox:
    """The rail."""

    def __init__(self, record: Record, *, clock: Clock, secret: str, name: str = "sandbox") -> None:
        self._record = record
        self._clock = clock
        self._secret = secret.encode()
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability)

    @property
    def key_seconds(self) -> int:
        return 24 * 3600

    def bounds(self, asset: Asset) -> Bounds:
        return Bounds(asset=asset)

    # Paying in

    async def create_payment(self, order: PaymentOrder) -> Payment:
        if order.method is not None and order.method.removeprefix("saved_") not in METHODS:
            raise RefusedByProvider(f"the sandbox knows no method {order.method[:40]!r}")
        async with self._record.session() as session:
            known = await session.by_reference("payment", order.reference)
            if known is None:
                known = await self._new_payment(session, order)
            elif (known["asset"], known["amount"]) != (order.asset, order.amount):
                raise RefusedByProvider(f"the key {order.reference} was used for another payment")
            payment = self._payment(known)
        if payment.status is PaymentStatus.FAILED and payment.code == "insufficient_funds":
            raise Declined("the card has too little on it", reason_code="insufficient_funds")
        return payment

    async def proceed(self, order: PaymentOrder, payment: str) -> Payment:
        async with self._record.session() as session:
            found = await self._must(session, "payment", payment)
            if found["status"] == PaymentStatus.APPROVED:
                self.charge(found, found["approved_with"])
                await self.save_payment(session, found)
            return self._payment(found)

    async def capture(self, order: PaymentOrder, payment: str, amount: int) -> Payment:
        async with self._record.session() as session:
            found = await self._must(session, "payment", payment)
            if found["status"] == PaymentStatus.AUTHORISED:
                if not 0 < amount <= found["amount"]:
                    raise RefusedByProvider("more is to be captured than was authorised")
                self._captured(found, amount)
                await self.save_payment(session, found)
            return self._payment(found)

    async def cancel(self, order: PaymentOrder, payment: str) -> Payment:
        async with self._record.session() as session:
            found = await self._must(session, "payment", payment)
            if found["status"] in (PaymentStatus.REQUIRES_ACTION, PaymentStatus.APPROVED, PaymentStatus.AUTHORISED):
                found |= {"status": PaymentStatus.CANCELLED, "code": "cancelled"}
                await self.save_payment(session, found)
            return self._payment(found)

    async def fetch_payment(self, payment: str) -> Payment | None:
        async with self._record.session() as session:
            found = await self._seen(session, await session.load("payment", payment.removesuffix("_c")))
            return None if found is None else self._payment(found)

    async def find_payment(self, order: PaymentOrder) -> Payment | None:
        return await self.recover_payment(order)

    async def recover_payment(self, order: PaymentOrder) -> Payment | None:
        async with self._record.session() as session:
            found = await self._seen(session, await session.by_reference("payment", order.reference))
            return None if found is None else self._payment(found)

    # Giving back

    async def refund(self, order: RefundOrder) -> RefundTruth:
        async with self._record.session() as session:
            known = await session.by_reference("refund", order.reference)
            if known is None:
                paid = await self._must(session, "payment", order.payment)
                known = await self.new_refund(session, paid, order.amount, reference=order.reference)
            elif known["amount"] != order.amount:
                raise RefusedByProvider(f"the key {order.reference} was used for another refund")
            return _refund(known)

    async def fetch_refund(self, refund: str) -> RefundTruth | None:
        async with self._record.session() as session:
            found = await self._seen(session, await session.load("refund", refund))
            return None if found is None else _refund(found)

    async def recover_refund(self, order: RefundOrder) -> RefundTruth | None:
        async with self._record.session() as session:
            found = await self._seen(session, await session.by_reference("refund", order.reference))
            return None if found is None else _refund(found)

    async def list_refunds(self, cursor: str | None) -> Listed[RefundTruth]:
        async with self._record.session() as session:
            found = await session.all("refund", after=int(cursor or "0"), limit=PAGE)
            last = str(found[-1]["seq"]) if found else cursor or "0"
            return Listed(tuple(_refund(one) for one in found), last, len(found) == PAGE)

    async def new_refund(
        self, session: Session, paid: Document, amount: int, *, reference: str | None = None
    ) -> Document:
        """A refund of a payment; by somebody at the pages of the sandbox where `reference` is None."""
        if paid["status"] != PaymentStatus.CAPTURED or amount > paid["captured"] - paid["refunded"]:
            raise Declined("more is to be refunded than is left of the payment", reason_code="amount_too_large")
        slow, fails = paid["method"] == "tok_refund_slow", paid["method"] == "tok_refund_fails"
        made = await session.add(
            "refund",
            {
                "reference": reference,
                "payment": paid["id"],
                "asset": paid["asset"],
                "amount": amount,
                "status": RefundStatus.PENDING if slow else RefundStatus.COMPLETED,
                "ripens_at": _stamp(self._clock.now() + DELAY) if slow or fails else None,
                "ripens_to": RefundStatus.FAILED if fails else RefundStatus.COMPLETED,
                "code": None,
            },
        )
        paid["refunded"] += amount
        await session.save("payment", paid)
        await session.tell(f"refund.{made['status']}", ObjectKind.REFUND, made["id"], reference)
        return made

    # Paying out

    async def pay_out(self, order: PayoutOrder) -> PayoutTruth:
        async with self._record.session() as session:
            known = await session.by_reference("payout", order.reference)
            if known is None:
                if order.destination == "nobody":
                    raise Declined("there is no such receiver", reason_code="receiver_unknown")
                known = await session.add(
                    "payout",
                    {
                        "reference": order.reference,
                        "asset": order.asset,
                        "amount": order.amount,
                        "status": PayoutStatus.PENDING,
                        "ripens_at": _stamp(self._clock.now() + DELAY),
                        "ripens_to": PayoutStatus.RETURNED if order.destination == "closed" else PayoutStatus.PAID,
                    },
                )
            return _payout(known)

    async def fetch_payout(self, payout: str) -> PayoutTruth | None:
        async with self._record.session() as session:
            found = await self._seen(session, await session.load("payout", payout))
            return None if found is None else _payout(found)

    async def recover_payout(self, order: PayoutOrder) -> PayoutTruth | None:
        async with self._record.session() as session:
            found = await self._seen(session, await session.by_reference("payout", order.reference))
            return None if found is None else _payout(found)

    # Disputes and settlements

    async def fetch_dispute(self, dispute: str) -> DisputeTruth | None:
        async with self._record.session() as session:
            found = await session.load("dispute", dispute)
            return None if found is None else _dispute(found)

    async def list_disputes(self, cursor: str | None) -> Listed[DisputeTruth]:
        async with self._record.session() as session:
            found = await session.all("dispute", after=int(cursor or "0"), limit=PAGE)
            last = str(found[-1]["seq"]) if found else cursor or "0"
            return Listed(tuple(_dispute(one) for one in found), last, len(found) == PAGE)

    async def fetch_settlement(self, settlement: str) -> SettlementTruth | None:
        async with self._record.session() as session:
            found = await session.load("settlement", settlement)
            return None if found is None else _settlement(found)

    async def list_settlements(self, cursor: str | None) -> Listed[SettlementTruth]:
        async with self._record.session() as session:
            found = await session.all("settlement", after=int(cursor or "0"), limit=PAGE)
            last = str(found[-1]["seq"]) if found else cursor or "0"
            return Listed(tuple(_settlement(one) for one in found), last, len(found) == PAGE)

    async def settlement_entries(self, settlement: str, cursor: str | None) -> Listed[SettlementEntry]:
        async with self._record.session() as session:
            found = await self._must(session, "settlement", settlement)
        start = int(cursor or "0")
        told = found["entries"][start : start + PAGE]
        entries = tuple(
            SettlementEntry(**entry | {"kind": EntryKind(entry["kind"]), "at": _instant(entry["at"])}) for entry in told
        )
        return Listed(entries, str(start + len(told)), start + len(told) < len(found["entries"]))

    async def balances(self) -> tuple[Balance, ...]:
        """By all that it has on record."""
        async with self._record.session() as session:
            sums: Counter[str] = Counter()
            for paid in await session.all("payment"):
                sums[paid["asset"]] += paid["captured"] - (paid["fee"] if paid["captured"] else 0)
            for refund in await session.all("refund"):
                if refund["status"] != RefundStatus.FAILED:
                    sums[refund["asset"]] -= refund["amount"]
            for dispute in await session.all("dispute"):
                sums[dispute["asset"]] -= dispute["withdrawn"] + dispute["fee"]
            for settlement in await session.all("settlement"):
                if settlement["status"] != SettlementStatus.FAILED:
                    sums[settlement["asset"]] -= settlement["amount"]
            for payout in await session.all("payout"):
                if payout["status"] in (PayoutStatus.PENDING, PayoutStatus.PAID):
                    sums[payout["asset"]] -= payout["amount"]
        return tuple(Balance(asset=asset, amount=sum) for asset, sum in sums.items())

    # Saved methods

    async def save_method(self, order: MethodOrder) -> SavedMethod:
        if order.token not in METHODS:
            raise RefusedByProvider(f"the sandbox knows no method {order.token[:40]!r}")
        if order.token == "tok_declined":  # noqa: S105 - a name, not a secret
            raise Declined("the card was declined", reason_code="generic_decline")
        return SavedMethod(
            token=f"saved_{order.token}",
            customer=order.customer or f"cus_{order.owner}",
            brand="visa",
            last4="4242",
            expires_year=2030,
            expires_month=12,
        )

    async def forget_method(self, method: SavedMethod) -> None:
        return None

    # Webhooks

    async def verify(self, webhook: RawWebhook, *, now: datetime) -> WebhookEvent:
        signed = webhook.headers.get(SIGNATURE_HEADER)
        if signed is None:
            raise WebhookRefused(f"no header {SIGNATURE_HEADER}", reason=RefusalReason.UNSIGNED)
        parts = dict(part.partition("=")[::2] for part in signed.split(","))
        stamp = parts.get("t", "")
        if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
            raise WebhookRefused("the signature has no time", reason=RefusalReason.WRONG_SIGNATURE)
        if not hmac.compare_digest(self._signature(stamp, webhook.body), parts.get("v1", "").encode()):
            raise WebhookRefused("the signature doesn't fit the body", reason=RefusalReason.WRONG_SIGNATURE)
        age = int(now.timestamp()) - int(stamp)
        if age > WEBHOOK_AGE_SECONDS:
            raise WebhookRefused(f"it was signed {age} seconds ago", reason=RefusalReason.TOO_OLD)
        if age < -CLOCK_SKEW_SECONDS:
            raise WebhookRefused(f"it was signed {-age} seconds from now", reason=RefusalReason.TOO_NEW)
        try:
            told = json.loads(webhook.body)
            return WebhookEvent(
                id=str(told["id"]),
                kind=str(told["kind"]),
                object_kind=ObjectKind(told["object_kind"]),
                object=str(told["object"]),
                occurred_at=_instant(told["at"]),
                reference=told["reference"],
            )
        except (ValueError, KeyError, TypeError):
            raise WebhookRefused("the body isn't an event of the sandbox", reason=RefusalReason.MALFORMED) from None

    def sign(self, event: Mapping[str, object]) -> RawWebhook:
        """An event as the sandbox sends it, signed now."""
        body = json.dumps(event).encode()
        stamp = str(int(self._clock.now().timestamp()))
        signed = f"t={stamp},v1={self._signature(stamp, body).decode()}"
        return RawWebhook(body=body, headers={SIGNATURE_HEADER: signed, "content-type": "application/json"})

    async def aclose(self) -> None:
        return None

    # Inside

    def _signature(self, stamp: str, body: bytes) -> bytes:
        return hmac.new(self._secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest().encode()

    async def _new_payment(self, session: Session, order: PaymentOrder) -> Document:
        made = await session.add(
            "payment",
            {
                "reference": order.reference,
                "asset": order.asset,
                "amount": order.amount,
                "capturing": order.capturing,
                "status": PaymentStatus.REQUIRES_ACTION,
                "captured": 0,
                "refunded": 0,
                "fee": 0,
                "fee_known": True,
                "method": None,
                "return_url": order.return_url,
                "approved_with": None,
                "ripens_at": None,
                "ripens_to": None,
                "code": None,
                "settled": False,
            },
        )
        if order.method is not None:
            self.charge(made, order.method.removeprefix("saved_"))
        await self.save_payment(session, made)
        return made

    def charge(self, paid: Document, method: str) -> None:
        """Try the payment with a method."""
        paid["method"] = method
        later = _stamp(self._clock.now() + DELAY)
        if method == "tok_declined":
            paid |= {"status": PaymentStatus.FAILED, "code": "insufficient_funds"}
        elif method.startswith("tok_delayed"):
            to = PaymentStatus.FAILED if method == "tok_delayed_failed" else PaymentStatus.CAPTURED
            paid |= {"status": PaymentStatus.PROCESSING, "ripens_at": later, "ripens_to": to}
        elif paid["capturing"] == Capturing.MANUAL:
            paid["status"] = PaymentStatus.AUTHORISED
        else:
            self._captured(paid, paid["amount"])

    def _captured(self, paid: Document, amount: int) -> None:
        paid |= {"status": PaymentStatus.CAPTURED, "captured": amount, "fee": fee_of(amount)}
        if paid["method"] == "tok_late_fee":
            paid |= {"fee_known": False, "ripens_at": _stamp(self._clock.now() + DELAY)}

    async def save_payment(self, session: Session, paid: Document) -> None:
        """Keep it and tell of it; what is disputed by its method is disputed now."""
        await session.save("payment", paid)
        await session.tell(f"payment.{paid['status']}", ObjectKind.PAYMENT, paid["id"], paid["reference"])
        if paid["status"] == PaymentStatus.CAPTURED and paid["method"] == "tok_disputed":
            await self.new_dispute(session, paid)

    async def new_dispute(self, session: Session, paid: Document) -> Document:
        """The payer's bank takes the whole payment back, for now."""
        made = await session.add(
            "dispute",
            {
                "reference": None,
                "payment": paid["id"],
                "asset": paid["asset"],
                "amount": paid["captured"],
                "withdrawn": paid["captured"],
                "fee": DISPUTE_FEE,
                "status": DisputeStatus.OPEN,
                "opened_at": _stamp(self._clock.now()),
            },
        )
        await session.tell("dispute.opened", ObjectKind.DISPUTE, made["id"], None)
        return made

    async def _must(self, session: Session, kind: str, id: str) -> Document:
        found = await self._seen(session, await session.load(kind, id))
        if found is None:
            raise RefusedByProvider(f"the sandbox has no {kind} {id[:60]}")
        return found

    async def _seen(self, session: Session, found: Document | None) -> Document | None:
        """The object as of now: what was to happen by now has happened."""
        if found is None or found.get("ripens_at") is None or _instant(found["ripens_at"]) > self._clock.now():
            return found
        await self.ripen(session, found)
        return found

    async def ripen(self, session: Session, found: Document) -> None:
        """Do what was to happen later."""
        kind, found["ripens_at"] = session.kind_of(found), None
        if kind == "payment":
            if not found["fee_known"]:
                found["fee_known"] = True
            elif found["ripens_to"] == PaymentStatus.CAPTURED:
                self._captured(found, found["amount"])
            else:
                found |= {"status": found["ripens_to"], "code": "processing_error"}
            await self.save_payment(session, found)
            return
        found["status"] = found["ripens_to"]
        if kind == "refund" and found["status"] == RefundStatus.FAILED:
            found["code"] = "account_closed"
            paid = await session.load("payment", found["payment"])
            assert paid is not None
            paid["refunded"] -= found["amount"]
            await session.save("payment", paid)
        await session.save(kind, found)
        await session.tell(f"{kind}.{found['status']}", ObjectKind(kind), found["id"], found["reference"])

    def _payment(self, found: Document) -> Payment:
        status = PaymentStatus(found["status"])
        action = None
        if status is PaymentStatus.REQUIRES_ACTION:
            page = found["return_url"] is not None
            kind = ActionKind.REDIRECT if page else ActionKind.CLIENT_SECRET
            action = Action(kind, f"https://sandbox.invalid/approve/{found['id']}" if page else f"{found['id']}_secret")
        captured = status is PaymentStatus.CAPTURED
        failed = status is PaymentStatus.FAILED
        return Payment(
            id=found["id"],
            reference=found["reference"],
            status=status,
            asset=found["asset"],
            amount=found["amount"],
            captured=found["captured"],
            fee=found["fee"] if found["fee_known"] and captured else None,
            capture_id=f"{found['id']}_c" if captured else None,
            action=action,
            code=found["code"],
            reason="the payment failed" if failed else None,
        )


def _refund(found: Document) -> RefundTruth:
    return RefundTruth(
        id=found["id"],
        reference=found["reference"],
        payment=found["payment"],
        status=RefundStatus(found["status"]),
        asset=found["asset"],
        amount=found["amount"],
        code=found["code"],
        reason=None if found["code"] is None else "the payer's account is closed",
    )


def _payout(found: Document) -> PayoutTruth:
    names = ("id", "reference", "asset", "amount")
    return PayoutTruth(**{name: found[name] for name in names}, status=PayoutStatus(found["status"]))


def _dispute(found: Document) -> DisputeTruth:
    names = ("id", "payment", "asset", "amount", "withdrawn", "fee")
    return DisputeTruth(
        **{name: found[name] for name in names},
        status=DisputeStatus(found["status"]),
        reason="fraudulent",
        opened_at=_instant(found["opened_at"]),
        respond_by=_instant(found["opened_at"]) + timedelta(days=7),
    )


def _settlement(found: Document) -> SettlementTruth:
    created = _instant(found["created_at"])
    return SettlementTruth(
        id=found["id"],
        status=SettlementStatus(found["status"]),
        asset=found["asset"],
        amount=found["amount"],
        created_at=created,
        arrives_on=(created + timedelta(days=2)).date(),
        descriptor=f"SANDBOX {found['id']}",
    )


def _stamp(at: datetime) -> str:
    return at.isoformat()


def _instant(told: Any) -> datetime:
    return datetime.fromisoformat(told)
