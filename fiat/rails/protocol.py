"""The one protocol of all payment providers: what is asked of a rail, and the shapes of what it answers. Pure.

An adapter (Stripe, PayPal, Square, `fiat.rails.sandbox`) turns these calls into its provider's. It keeps nothing, books
nothing and decides nothing: everything it learns is an answer here, and what follows from it is decided by the state
machines beside this file.

**Ids.** `reference` is always our own id (`top_...`, `ref_...`, `pay_...`): it was stored before the call, it's the
provider's idempotency key, and it goes into whatever field the provider gives back (Stripe `metadata`, PayPal
`custom_id` and `sender_item_id`, Square `reference_id`), so that an object can be known by it before the answer to the
call has come. `id` is always the provider's.

**Amounts** are ints in the smallest units of the *asset*, beside its code. What the provider counts in may differ (JPY
and KRW have no decimals at Stripe, HUF and TWD have limits of their own): adapters convert by `fiat.rails.amounts`, and
raise AmountNotPayable for what can't be said exactly. They never round.

**Errors** of every call, from `fiat.rails.errors`:

    Declined           final; the object, if one came into being, is made unusable by the adapter before it raises
    RefusedByProvider  our fault (HTTP 400, 401, 403, 404 of an object that must exist, a changed body under a used key)
    RateLimited        HTTP 429; nothing happened
    EffectUnknown      time-out, connection lost, HTTP 5xx, an answer that can't be read; the effect is unknown

A read (`fetch_*`, `list_*`, `recover_*`) raises EffectUnknown where it couldn't ask, and None or an empty page where
the provider said that there's nothing. SDKs' own retries are switched off (`max_network_retries=0`, `max_retries=0`):
who calls decides when to ask again. Each call has a time-out of at most CALL_SECONDS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from fiat.rails.amounts import Bounds
from ledger.money import Asset

Item = TypeVar("Item")

CALL_SECONDS = 20
"""The longest that an adapter waits for an answer."""

APPEARS_SECONDS = 600
"""How long after it was sent an order may still come to be seen: its own way, and lists that show it later (Square)."""

WEBHOOK_AGE_SECONDS = 300
"""How old a webhook's *signature* may be where the provider signs a time (Stripe's own tolerance).

Where none is signed (Square), the event's own time takes its place, with a window of EVENT_AGE_SECONDS.
"""

EVENT_AGE_SECONDS = 72 * 3600
"""How old an event may be that a provider sends again: Stripe and PayPal try for three days, Square for one."""

CLOCK_SKEW_SECONDS = 300
"""How far ahead of our clock a provider's may be."""


class Capability(StrEnum):
    """What a rail can do. What isn't declared is never asked of it: callers get NotCapable."""

    TOP_UP = "top_up"
    AUTHORISE = "authorise"
    """Authorise first, capture (the whole or a part) later."""
    REFUND = "refund"
    PAYOUT = "payout"
    DISPUTE = "dispute"
    SAVED_METHOD = "saved_method"
    SETTLEMENT = "settlement"
    BALANCE = "balance"
    """Tells what it owes us, so that reconciliation can compare."""


# Paying in


class Capturing(StrEnum):
    """When the payment is taken: as soon as the payer has agreed, or when we say so."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOrder:
    """A payment to be made, once, under `reference` (a top-up's id).

    `method`: the provider's token of a payment method (Stripe `pm_...`, Square nonce or card id), or None where the
    payer chooses it at the provider (a client secret, an approval page). `customer`: the provider's name of the payer
    that a saved method belongs to. `return_url`: where the payer's browser is sent afterwards.

    Stripe: PaymentIntent. PayPal: Order of one purchase unit. Square: Payment.
    """

    reference: str
    asset: str
    amount: int
    capturing: Capturing = Capturing.AUTOMATIC
    method: str | None = None
    customer: str | None = None
    return_url: str | None = None


class PaymentStatus(StrEnum):
    """Every outcome that a payment can have at any provider. Each adapter maps its provider's statuses wholly."""

    REQUIRES_ACTION = "requires_action"
    """The payer must do something (`Payment.action`). Stripe `requires_payment_method`, `requires_confirmation`,
    `requires_action`; PayPal `CREATED`, `PAYER_ACTION_REQUIRED`."""
    APPROVED = "approved"
    """The payer agreed, and the provider waits for us: `Rail.proceed` is called. PayPal `APPROVED`, `SAVED`."""
    PROCESSING = "processing"
    """Nobody can do anything but wait. Stripe `processing`; PayPal capture `PENDING`; Square `PENDING`."""
    AUTHORISED = "authorised"
    """Set aside, and not taken. Stripe `requires_capture`; PayPal authorization `CREATED`; Square `APPROVED`."""
    CAPTURED = "captured"
    """Taken: the provider owes it to us. Later refunds and disputes don't change it. Stripe `succeeded`; PayPal capture
    `COMPLETED`, `PARTIALLY_REFUNDED`, `REFUNDED`; Square `COMPLETED`."""
    FAILED = "failed"
    """Final: nothing was taken and nothing will be. PayPal capture `DECLINED`, `FAILED`; Square `FAILED`."""
    CANCELLED = "cancelled"
    """Final: given up before it was taken, by us or by time. Stripe `canceled`; PayPal `VOIDED`, an authorization's
    expiry; Square `CANCELED`."""


class ActionKind(StrEnum):
    """What the payer's client does with `Action.value`."""

    CLIENT_SECRET = "client_secret"  # noqa: S105 - a name, not a secret
    """Hand it to the provider's own client library (Stripe.js)."""
    REDIRECT = "redirect"
    """Open this https address (PayPal's approval page, a 3-D Secure page)."""


@dataclass(frozen=True, slots=True)
class Action:
    """What the payer needs in order to go on. Shown to the payer alone, never logged."""

    kind: ActionKind
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What the provider says of a payment now.

    `id` names it for `capture`, `cancel`, `fetch_payment` (Stripe `pi_`, PayPal order, Square payment). `capture_id` is
    the name under which money was taken where that is another (Stripe `ch_`, PayPal capture id): refunds, disputes and
    settlements name that one. `amount` is what was ordered, `captured` what was taken (0 until it was). `fee` is the
    provider's, at most `captured`; None while it isn't known yet (it may come minutes later), 0 where there is none.
    `code` and `reason` explain FAILED and CANCELLED; the reason is fit for the payer. `reference` is None where the
    payment isn't one of ours. `expires_at`: until when an authorisation can be captured.
    """

    id: str
    reference: str | None
    status: PaymentStatus
    asset: str
    amount: int
    captured: int = 0
    fee: int | None = None
    capture_id: str | None = None
    action: Action | None = None
    code: str | None = None
    reason: str | None = None
    expires_at: datetime | None = None


# Giving back


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """`amount` of a captured payment, or all of it, back to where it came from. `reference`: a refund's id (`ref_...`).

    `payment` and `capture` are the payment's `id` and `capture_id`.
    """

    reference: str
    payment: str
    capture: str | None
    asset: str
    amount: int


class RefundStatus(StrEnum):
    """Every outcome of a refund."""

    PENDING = "pending"
    """Stripe `pending`, `requires_action`; PayPal `PENDING`; Square `PENDING`, `APPROVED` of slow methods."""
    COMPLETED = "completed"
    """Stripe `succeeded`; PayPal, Square `COMPLETED`. It may still fail later, when a bank sends it back."""
    FAILED = "failed"
    """Stripe `failed`, `canceled`; PayPal `FAILED`, `CANCELLED`; Square `FAILED`, `REJECTED`. The provider has the
    money in our balance again, or never took it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundTruth:
    """What the provider says of a refund now. `payment`: the `id` or the `capture_id` of what it gives back.

    `reference` is None for one that was made at the provider's own pages. `fee`: what the provider charges for the
    refund, or gives back of its first fee as a negative number; 0 where it's neither.
    """

    id: str
    reference: str | None
    payment: str
    status: RefundStatus
    asset: str
    amount: int
    fee: int = 0
    code: str | None = None
    reason: str | None = None


# Paying out


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutOrder:
    """`amount` to somebody's account at the provider. `reference`: a payout's id.

    `destination` is what the provider knows the receiver by (PayPal: an e-mail address or payer id); personal data, so
    never logged. `note` is shown to the receiver.
    """

    reference: str
    asset: str
    amount: int
    destination: str = field(repr=False)
    note: str = ""


class PayoutStatus(StrEnum):
    """Every outcome of a payout."""

    PENDING = "pending"
    """On its way. PayPal `NEW`, `PENDING`, `ONHOLD`."""
    UNCLAIMED = "unclaimed"
    """Waits for its receiver to take it; comes back after the provider's time (PayPal: 30 days)."""
    PAID = "paid"
    """PayPal `SUCCESS`."""
    FAILED = "failed"
    """Nothing left. PayPal `FAILED`, `DENIED`, `BLOCKED`."""
    RETURNED = "returned"
    """It left, and came back. PayPal `RETURNED`, `REFUNDED`, `REVERSED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutTruth:
    """What the provider says of a payout now."""

    id: str
    reference: str | None
    status: PayoutStatus
    asset: str
    amount: int
    fee: int = 0
    code: str | None = None
    reason: str | None = None


# Disputes


class DisputeStatus(StrEnum):
    """Every stage of a dispute (chargeback, claim, inquiry)."""

    INQUIRY = "inquiry"
    """Asked about, no money moved. Stripe `warning_*`; PayPal stage `INQUIRY`; Square `INQUIRY_*`."""
    OPEN = "open"
    """The provider has taken the money, and we may answer. Stripe `needs_response`; PayPal
    `WAITING_FOR_SELLER_RESPONSE`; Square `EVIDENCE_REQUIRED`."""
    UNDER_REVIEW = "under_review"
    """Answered; somebody else decides. Stripe `under_review`; PayPal `UNDER_REVIEW`; Square `PROCESSING`."""
    WON = "won"
    """Decided for us. Stripe `won`; PayPal `RESOLVED` in the seller's favour; Square `WON`."""
    LOST = "lost"
    """Decided against us, or accepted. Stripe `lost`; PayPal `RESOLVED` for the buyer; Square `LOST`, `ACCEPTED`."""
    CLOSED = "closed"
    """Ended without a decision, money where it was. Stripe `warning_closed`, `prevented`; Square `INQUIRY_CLOSED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeTruth:
    """What the provider says of a dispute now.

    `withdrawn` is how much of the payment the provider has taken from our balance *as of now* (0 before, and again
    after it was put back), `fee` all dispute fees charged less those given back, as of now. Both by what moved in our
    balance, not by `status`, wherever the provider lists that (Stripe `balance_transactions`). `amount` is what's
    disputed. `payment`: the `id` or `capture_id` of the disputed payment. `respond_by`: last moment for an answer.

    `payments`: where several are disputed together, each of them, in an order that stays, with its weight: what it was
    of. The amounts are those of all together.
    """

    id: str
    payment: str
    status: DisputeStatus
    asset: str
    amount: int
    withdrawn: int
    fee: int = 0
    reason: str | None = None
    opened_at: datetime
    respond_by: datetime | None = None
    payments: tuple[tuple[str, int], ...] = ()


# Settlements


class SettlementStatus(StrEnum):
    """Every state of a provider's payout to our bank account."""

    SENT = "sent"
    """Out of our balance, and on its way. Stripe `pending`, `in_transit`; Square `SENT`."""
    PAID = "paid"
    """The provider says that it arrived. Stripe `paid`; Square `PAID`."""
    FAILED = "failed"
    """It came back into our balance. Stripe `failed`, `canceled`; Square `FAILED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementTruth:
    """A provider's payout of `amount` of our balance to our bank account. `arrives_on`: expected at the bank.

    Negative: the provider takes it from our bank account, since our balance there was negative.

    `descriptor`: what the bank's statement line will say, where the provider tells it.
    """

    id: str
    status: SettlementStatus
    asset: str
    amount: int
    created_at: datetime
    arrives_on: date | None = None
    descriptor: str | None = None


class EntryKind(StrEnum):
    """What a line of a settlement is about."""

    PAYMENT = "payment"
    REFUND = "refund"
    REFUND_FAILURE = "refund_failure"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    PAYOUT = "payout"
    PAYOUT_RETURN = "payout_return"
    FEE = "fee"
    ADJUSTMENT = "adjustment"
    """Anything else: reserves, corrections. Always a named difference, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementEntry:
    """One movement of our balance that a settlement pays out. `gross` and `net` are signed: positive is in our favour.

    `net == gross - fee`, and the nets of a settlement's entries make up its amount. `object`: the `id` or `capture_id`
    of the payment, refund, dispute or payout that it's about; None for what has none. Stripe: balance transactions of
    a payout. Square: payout entries. PayPal pays out on request and lists no entries: it doesn't declare SETTLEMENT.
    """

    id: str
    kind: EntryKind
    object: str | None
    gross: int
    fee: int
    net: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What the provider owes us in `asset`, negative where we owe it: with what is only available later.

    `as_of`: what was told is from then; None: from now.
    """

    asset: str
    amount: int
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listed(Generic[Item]):
    """A page of a provider's list, oldest first where the provider allows it.

    `cursor` is handed to the next call and kept by us: an opaque text with which the list goes on, also weeks later.
    It's never None: at the end of the list it tells where the list will go on. `more`: whether to ask again now.
    Items may come again after a cursor; who takes them in doesn't mind.
    """

    items: tuple[Item, ...]
    cursor: str
    more: bool


# Saved methods


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOrder:
    """Keep a payment method for later. `reference`: its id with us (`pm_...`).

    `token`: what the provider's own client library gave for it (Stripe payment method, Square nonce, PayPal setup
    token). `customer`: the provider's name of its owner if one was told before, else the adapter makes one, with
    `owner` (our user's id) in its metadata.
    """

    reference: str
    owner: str
    token: str = field(repr=False)
    customer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMethod:
    """A method as kept by the provider. `token` is what a PaymentOrder's `method` then takes. `brand` such as `visa` or
    `paypal`; `last4` four digits, None where there's no number. Never a card's number."""

    token: str = field(repr=False)
    customer: str | None
    brand: str
    last4: str | None
    expires_year: int | None = None
    expires_month: int | None = None


# Webhooks


class ObjectKind(StrEnum):
    """What a webhook is about: what is to be read again."""

    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    PAYOUT = "payout"
    SETTLEMENT = "settlement"
    METHOD = "method"
    OTHER = "other"
    """Nothing that we follow; kept and passed by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawWebhook:
    """A webhook as it came: the very bytes of its body, and its headers by lower-case name."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """What a verified webhook says. Nothing of it but this is believed, and of this only where to look.

    `id`: the provider's, the same each time the event is sent again. `kind`: the provider's own word
    (`payment_intent.succeeded`). `object`: the provider's id of what is to be read again; for OTHER it may be empty.
    `occurred_at`: the event's own time. `reference`: our id, where the body tells it.
    """

    id: str
    kind: str
    object_kind: ObjectKind
    object: str
    occurred_at: datetime
    reference: str | None = None


class Rail(Protocol):
    """One provider's account. `name` is its name in settings, paths and the book (`provider:<name>`).

    Safe to use by many tasks at once. All raise what this module's head lists.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def key_seconds(self) -> int:
        """How long the provider remembers an idempotency key, with a margin (Stripe 24 h: give less).

        Within it the same order may be sent again under its own reference; after it only reads may decide what became
        of an order.
        """
        ...

    def bounds(self, asset: Asset) -> Bounds:
        """What of `asset` one payment to us may be. Raises AmountNotPayable for an asset that it doesn't carry."""
        ...

    # Paying in

    async def create_payment(self, order: PaymentOrder) -> Payment:
        """Make the payment, under `order.reference` as the idempotency key; with a method given, also confirm it.

        The same order again gives the same payment. Raises Declined.
        """
        ...

    async def proceed(self, order: PaymentOrder, payment: str) -> Payment:
        """Go on with an APPROVED payment: authorise or capture it, as `order.capturing` says. PayPal alone needs it.

        Key: `<reference>-proceed`. Again gives the same. Raises Declined.
        """
        ...

    async def capture(self, order: PaymentOrder, payment: str, amount: int) -> Payment:
        """Take `amount` (0 < amount <= authorised) of an AUTHORISED payment; what isn't taken is released.

        Key: of the reference and what is asked, so that another amount, after a refused one, is another request. Again
        gives the same. Raises Declined.
        """
        ...

    async def cancel(self, order: PaymentOrder, payment: str) -> Payment:
        """Give up a payment that isn't captured, and return what it is now.

        Where it was captured meanwhile, the answer says CAPTURED: who cancels decides by the answer, not by hope.
        Key: `<reference>-cancel`.
        """
        ...

    async def fetch_payment(self, payment: str) -> Payment | None:
        """The payment by its `id` or its `capture_id`; None where the provider has none such."""
        ...

    async def find_payment(self, order: PaymentOrder) -> Payment | None:
        """The payment that was made under `order.reference`, by looking alone: it's never sent again, nor made.

        None: there's none to be seen now. What was sent within APPEARS_SECONDS may still come to be seen.
        """
        ...

    async def recover_payment(self, order: PaymentOrder) -> Payment | None:
        """The payment that was made under `order.reference`, when the answer was lost.

        None only where it's certain that the provider never got the order.

        Never makes a second one. Where the provider can't look up by our id, the order is sent again under its key
        within `key_seconds`, which gives the first payment, or makes the only one. Beyond that, where a search can't be
        certain, EffectUnknown. A decline comes as a payment with FAILED, not as Declined.
        """
        ...

    # Giving back

    async def refund(self, order: RefundOrder) -> RefundTruth:
        """Give back; `order.reference` is the key. Again gives the same.

        Raises Declined where the provider says that it can't be done for good (too late, disputed). Too little in our
        balance there isn't that: RateLimited, so that it's tried again.
        """
        ...

    async def fetch_refund(self, refund: str) -> RefundTruth | None:
        """The refund by its `id`."""
        ...

    async def recover_refund(self, order: RefundOrder) -> RefundTruth | None:
        """As `recover_payment`."""
        ...

    async def list_refunds(self, cursor: str | None) -> Listed[RefundTruth]:
        """Refunds from behind `cursor`, those made at the provider's own pages among them.

        It's for what no webhook told. A provider without such a list gives an empty page.
        """
        ...

    # Paying out

    async def pay_out(self, order: PayoutOrder) -> PayoutTruth:
        """Pay out; `order.reference` is the key. Again gives the same. Raises Declined."""
        ...

    async def fetch_payout(self, payout: str) -> PayoutTruth | None:
        """The payout by its `id`."""
        ...

    async def recover_payout(self, order: PayoutOrder) -> PayoutTruth | None:
        """As `recover_payment`."""
        ...

    # Disputes and settlements

    async def fetch_dispute(self, dispute: str) -> DisputeTruth | None: ...

    async def list_disputes(self, cursor: str | None) -> Listed[DisputeTruth]:
        """Disputes from behind `cursor` (from the account's beginning for None).

        Those that changed are among them where the provider lists by change, else only those that are new.
        """
        ...

    async def fetch_settlement(self, settlement: str) -> SettlementTruth | None: ...

    async def list_settlements(self, cursor: str | None) -> Listed[SettlementTruth]:
        """Settlements, as `list_disputes`."""
        ...

    async def settlement_entries(self, settlement: str, cursor: str | None) -> Listed[SettlementEntry]:
        """What a settlement pays out, page by page. `more` False: that was all."""
        ...

    async def balances(self) -> tuple[Balance, ...]:
        """All our balances there; a currency without one is nothing."""
        ...

    # Saved methods

    async def save_method(self, order: MethodOrder) -> SavedMethod:
        """Keep it at the provider. Again gives the same. Raises Declined."""
        ...

    async def forget_method(self, method: SavedMethod) -> None:
        """Have the provider forget it; one that it doesn't know is forgotten already."""
        ...

    # Webhooks

    async def verify(self, webhook: RawWebhook, *, now: datetime) -> WebhookEvent:
        """Check signature and age, then read id, kind, object and time: nothing is read before the signature holds.

        Compared in constant time. Raises WebhookRefused with its reason; EffectUnknown where it can't be checked now (a
        certificate that can't be fetched): the provider will send it again. `now` is our clock's.
        """
        ...

    async def aclose(self) -> None:
        """Let connections go."""
        ...
