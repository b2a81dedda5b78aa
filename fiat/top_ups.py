"""Top-ups: value that enters over a rail for a user, one resource for all rails. Pure.

A bank's is `final` as soon as it's known; a payment provider's goes through `fiat.rails.top_up_states`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from fiat.rails.protocol import Action, Capturing, PaymentOrder
from fiat.rails.top_up_states import ENDED, TopUpState

BANK = "bank"
"""The rail of bank transfers; no payment provider's rail may be called so."""

PROVIDERS = frozenset({"sandbox", "stripe", "square", "paypal"})
"""The rails of payment providers; no bank account of ours may be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """`amount` smallest units of `asset` for `owner`.

    `source` is its name on its rail: a bank line's id, a provider's payment; None until that is known. `captured` is
    what was credited (0 before), `refunded` how much of it was given back or is being, `fee` the provider's (None while
    unknown). `method`: the provider's token, or our id's of a saved one. `capture_amount`: what is to be captured of an
    authorisation, once somebody said so; `cancelling`: somebody wants it given up. `revision` counts its changes.

    `hold`: what waits in the book for the payment, since it was asked for; only its end settles or voids it. None of a
    bank's, and of those that an older version asked for. `service_fee`: the house's, off what arrives; until it's
    final, that of the whole amount.
    """

    id: str
    owner: str
    rail: str
    asset: str
    amount: int
    state: TopUpState
    source: str | None
    created_at: datetime
    updated_at: datetime
    captured: int = 0
    refunded: int = 0
    fee: int | None = None
    capture_source: str | None = None
    capturing: Capturing = Capturing.AUTOMATIC
    method: str | None = field(default=None, repr=False)
    customer: str | None = field(default=None, repr=False)
    return_url: str | None = None
    action: Action | None = None
    code: str | None = None
    reason: str | None = None
    capture_amount: int | None = None
    cancelling: bool = False
    attempts: int = 0
    submitted_at: datetime | None = None
    hold: str | None = None
    service_fee: int = 0
    revision: int = 0
    replayed: bool = False

    @property
    def order(self) -> PaymentOrder:
        """What its rail is asked for: the same each time."""
        return PaymentOrder(
            reference=self.id,
            asset=self.asset,
            amount=self.amount,
            capturing=self.capturing,
            method=self.method,
            customer=self.customer,
            return_url=self.return_url,
        )

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def held(self) -> bool:
        """Whether the book still holds it: its end settled or voided that."""
        return self.hold is not None and not self.ended

    def service_fee_of(self, captured: int) -> int:
        """What the house takes of so much of its amount: in proportion, rounded down. Below `captured` always."""
        return self.service_fee * captured // self.amount
