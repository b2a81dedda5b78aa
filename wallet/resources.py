"""What the wallet's tables hold, as values: quotes, conversions, deposits, withdrawals. Pure.

Amounts are smallest units of their asset unless a name says otherwise; `chain_amount` is in the chain's own units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from exchange.pricing import Exact, Price
from exchange.ratios import Ratio
from ledger.commands import ChainEvidence
from wallet.recipients import Recipient, WarningCode
from wallet.withdrawal_states import WaitingFor, WithdrawalState


class QuoteState(StrEnum):
    OPEN = "open"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Quote:
    """`sold` of `sell`, of which `spread` is the house's, buys `bought` of `buy`, once, until `expires_at`.

    Amounts are smallest units; `price` is in smallest units too and before the spread. `fee` comes on top of `sold`, in
    the same asset. `exact`: the amount that was asked for; `lost`: what rounding the other one took, below one unit of
    it. `rates`: the snapshot or file. `value` and `spread_value`: what was exchanged and the spread are worth, in
    thousandths of the smallest unit of `reference`, where the exchange has one.
    """

    id: str
    owner: str
    state: QuoteState
    sell: str
    buy: str
    sold: int
    spread: int
    fee: int
    bought: int
    price: Price
    exact: Exact
    lost: Ratio
    rates: str
    rates_as_of: datetime
    reference: str | None
    value: int | None
    spread_value: int | None
    created_at: datetime
    expires_at: datetime

    @property
    def total(self) -> int:
        """All that leaves the user, in smallest units of `sell`."""
        return self.sold + self.fee


@dataclass(frozen=True, slots=True)
class Conversion:
    """A quote that was taken. Amounts and values are the quote's; `spread` is part of `sold`, `fee` is on top."""

    id: str
    owner: str
    quote: str
    sell: str
    buy: str
    sold: int
    spread: int
    fee: int
    bought: int
    rates: str
    reference: str | None
    value: int | None
    spread_value: int | None
    created_at: datetime
    replayed: bool = False

    @property
    def total(self) -> int:
        """All that left the user, in smallest units of `sell`."""
        return self.sold + self.fee


class DepositState(StrEnum):
    """Where a deposit stands. What isn't credited by itself (`DOUBTFUL`), the treasurer can credit.

    `under_review`: of a token that is stopped, or of which isn't known yet what arrived or who sent it. `quarantined`:
    something else arrived than was told, or of a token whose balances change by themselves. `not_received`: nothing
    arrived. `surplus`: of the native coin is more there than anything tells of; no deposit before its evidence is
    named. `sender_listed`: screening objects to its sender; its user is told `under_review`, like of any doubt.
    """

    PENDING = "pending"
    CREDITED = "credited"
    FINAL = "final"
    ORPHANED = "orphaned"
    REVERSED = "reversed"
    BELOW_MINIMUM = "below_minimum"
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - not a password
    UNDER_REVIEW = "under_review"
    QUARANTINED = "quarantined"
    NOT_RECEIVED = "not_received"
    SURPLUS = "surplus"
    SENDER_LISTED = "sender_listed"

    @property
    def shown(self) -> "DepositState":
        """What its user is told: whom the house must not warn isn't told more than that somebody looks at it."""
        return DepositState.UNDER_REVIEW if self is DepositState.SENDER_LISTED else self


SET_ASIDE: Mapping[DepositState, str] = {
    DepositState.BELOW_MINIMUM: "suspense",
    DepositState.QUARANTINED: "suspense",
    DepositState.SURPLUS: "suspense",
    DepositState.SENDER_LISTED: "quarantine",
}
"""What is booked to an account of the house's once it's final, and to which."""

DOUBTFUL = frozenset({*SET_ASIDE, DepositState.UNKNOWN_TOKEN, DepositState.UNDER_REVIEW, DepositState.NOT_RECEIVED})
"""What isn't credited by itself, or not yet."""

KEPT_BACK = frozenset({DepositState.UNDER_REVIEW, DepositState.SENDER_LISTED})
"""What stays at its deposit address: nobody knows yet whose it is, or it must not be mixed with what is the house's."""


@dataclass(frozen=True, slots=True)
class DepositAddress:
    """An own address (lower-case hex) given to a user, and the networks on which it may be paid."""

    address: str
    owner: str
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deposit:
    """A transfer to a user's address.

    `amount` is what arrived, in the asset's smallest units (None: not known yet); `chain_amount` what the transaction
    or the token's event told, in the chain's. `objection` is what screening has against its sender, where that was
    asked for: for the house alone.
    """

    id: str
    owner: str
    state: DepositState
    asset: str | None
    amount: int | None
    network: str
    contract: str | None
    chain_amount: int
    sender: str
    address: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    version: int
    entry: str | None
    seen_at: datetime
    updated_at: datetime
    objection: str | None = None

    @property
    def evidence(self) -> ChainEvidence:
        """The block that it was seen in, and where; still its name when that block has left the chain."""
        return ChainEvidence(self.network, self.block_number, self.block_hash, self.tx_hash, self.place)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a withdrawal costs at most: `fee_highest` in the asset's smallest units, on top of `amount`.

    `service_fee` is the house's by the tariff, taken whole once it's paid. `total` is all of it, and is what is held.
    The network's fee really taken is the gas paid at `price` (asset units per wei), at most `fee_highest`;
    `fee_expected` is what it would be now. `recipient`: who is paid, where that was told.
    """

    asset: str
    network: str
    amount: int
    fee_highest: int
    fee_expected: int
    total: int
    price: Ratio
    gas_limit: int
    fee_wei_max: int
    recipient: Recipient | None = None
    service_fee: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A request to pay `amount` of `asset` to `address` on `network`, and where it stands.

    `fee` is the network's, unset until it's final; `service_fee` the house's by the tariff, taken whole when it's paid
    and else given back. `waiting_for` says what a stalled one lacks. `cancelling`: why a treasurer wants it given up,
    though its payment was prepared. Amounts are smallest units.
    `recipient`: the user here whose deposit address it is; then it was settled in the book. `accepted`: the warnings
    that there were when it was asked for.
    """

    id: str
    owner: str
    state: WithdrawalState
    cancellable: bool
    waiting_for: WaitingFor | None
    reason: str | None
    asset: str
    network: str
    address: str
    amount: int
    chain_amount: int
    fee_highest: int
    fee: int | None
    fee_price: Ratio
    gas_limit: int
    fee_wei_max: int
    hold: str
    tx_hash: str | None
    block_number: int | None
    block_hash: str | None
    fee_wei: int | None
    created_at: datetime
    updated_at: datetime
    cancelling: str | None = None
    recipient: str | None = None
    accepted: tuple[WarningCode, ...] = ()
    service_fee: int = 0
    replayed: bool = False

    @property
    def held(self) -> int:
        """What it sets aside: the amount and the most that both fees may come to."""
        return self.amount + self.fee_highest + self.service_fee

    @property
    def internal(self) -> bool:
        """Whether it was settled in the book, without a transaction on the chain."""
        return self.recipient is not None


class BatchState(StrEnum):
    OPEN = "open"
    """Its transaction isn't decided."""
    BOOKED = "booked"
    """It is, and what it cost is in the book; of its legs perhaps not all."""
    ENDED = "ended"


class BatchOutcome(StrEnum):
    """How the transaction of a batch ended."""

    FINAL = "final"
    """It succeeded; each leg has a result of its own."""
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """The signer wouldn't sign it: its legs are paid alone."""
    NEEDS_REVIEW = "needs_review"
    LOST = "lost"
    """Its chain is gone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Withdrawals of one asset that one transaction pays through the payout contract `via`.

    `contract` is the token, None the coin. `amount` is the legs' sum in chain units; `cost_wei` the gas of the
    transaction and of its allowances, once it's booked.
    """

    id: str
    network: str
    asset: str
    contract: str | None
    via: str
    state: BatchState
    outcome: BatchOutcome | None
    amount: int
    cost_wei: int | None
    created_at: datetime
    updated_at: datetime
