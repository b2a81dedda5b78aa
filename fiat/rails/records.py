"""What we keep of refunds, disputes, settlements, saved methods and webhooks. Pure values, as rows are read."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fiat.rails.dispute_states import DisputeState
from fiat.rails.protocol import EntryKind, ObjectKind, RefundOrder
from fiat.rails.refund_states import RefundOrigin, RefundState
from fiat.rails.settlement_states import Difference, SettlementState


class Ending(StrEnum):
    """What people say became of a refund that the provider doesn't tell of any more."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """`amount` of a top-up, back to the payer. `source`: the provider's id; `hold`: its hold on the user's account.

    `fee` is the provider's for it, negative where it gives back a part of its first one. `ending*`: what a treasurer
    says became of it, `agreed_*`: another one, with whom it ended so.
    """

    id: str
    top_up: str
    owner: str
    rail: str
    asset: str
    amount: int
    state: RefundState
    origin: RefundOrigin
    source: str | None
    hold: str | None
    payment: str
    capture: str | None
    created_at: datetime
    updated_at: datetime
    fee: int = 0
    code: str | None = None
    reason: str | None = None
    attempts: int = 0
    submitted_at: datetime | None = None
    ending: Ending | None = None
    ending_evidence: str | None = None
    ending_reason: str | None = None
    ending_by: str | None = None
    ending_at: datetime | None = None
    agreed_by: str | None = None
    agreed_reason: str | None = None
    revision: int = 0
    replayed: bool = False

    @property
    def order(self) -> RefundOrder:
        """What its rail is asked for: the same each time."""
        return RefundOrder(
            reference=self.id, payment=self.payment, capture=self.capture, asset=self.asset, amount=self.amount
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A dispute over a top-up. `withdrawn` and `fee` are what the book has taken for it as of now."""

    id: str
    rail: str
    source: str
    top_up: str
    owner: str
    asset: str
    amount: int
    state: DisputeState
    withdrawn: int
    fee: int
    reason: str | None
    opened_at: datetime
    respond_by: datetime | None
    created_at: datetime
    updated_at: datetime
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A provider's payout to our bank account. `arrives_on`: ISO 8601 date.

    `bank_line`: the line of our bank statement that is its money. `entries`: how many it has, None until they were
    read. `differences`: how many of them need a person. `unexplained`: what they don't make up. `accepted_*`: who took
    that as it is, and why.
    """

    id: str
    rail: str
    source: str
    asset: str
    amount: int
    state: SettlementState
    arrives_on: str | None
    descriptor: str | None
    bank_line: str | None
    entries: int | None
    differences: int
    unexplained: int
    created_at: datetime
    updated_at: datetime
    accepted_at: datetime | None = None
    accepted_by: str | None = None
    accepted_reason: str | None = None
    revision: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """One entry of a settlement; `subject`: the top-up, refund or dispute of ours, `difference`: what doesn't fit."""

    id: str
    kind: EntryKind
    object: str | None
    gross: int
    fee: int
    net: int
    at: datetime
    subject: str | None
    difference: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    """A saved method: the provider's token and what its owner knows it by. Never a number."""

    id: str
    owner: str
    rail: str
    token: str = field(repr=False)
    customer: str | None = field(repr=False)
    brand: str
    last4: str | None
    expires_year: int | None
    expires_month: int | None
    created_at: datetime
    replayed: bool = False


class WebhookState(StrEnum):
    """WAITING: its effect is to come. DONE: it came, or there was none. DEAD: it failed too often; a person retries."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A verified webhook as it's kept. `event`: the provider's id of it; `code`: why its last try failed."""

    id: str
    rail: str
    event: str
    kind: str
    object_kind: ObjectKind
    object: str
    reference: str | None
    state: WebhookState
    attempts: int
    code: str | None
    occurred_at: datetime
    received_at: datetime
    done_at: datetime | None
