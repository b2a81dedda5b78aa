"""What the wallet's tables hold, as values: quotes, conversions, deposits, withdrawals. Pure.

Amounts are smallest units of their asset unless a name says otherwise; `chain_amount` is in the chain's own units.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ledger.commands import ChainEvidence
from wallet.rates import Price, Ratio
from wallet.withdrawal_states import WaitingFor, WithdrawalState


class QuoteState(StrEnum):
    OPEN = "open"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Quote:
    """`sold` of `sell`, of which `spread` is the house's, buys `bought` of `buy`, once, until `expires_at`.

    Amounts are smallest units; `price` is in smallest units too and before the spread.
    """

    id: str
    owner: str
    state: QuoteState
    sell: str
    buy: str
    sold: int
    spread: int
    bought: int
    price: Price
    rates_as_of: datetime
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Conversion:
    """A quote that was taken. Amounts are smallest units; `spread` is part of `sold`."""

    id: str
    owner: str
    quote: str
    sell: str
    buy: str
    sold: int
    spread: int
    bought: int
    created_at: datetime
    replayed: bool = False


class DepositState(StrEnum):
    """Where a deposit stands. `below_minimum` and `unknown_token` are not credited; the treasurer can."""

    PENDING = "pending"
    CREDITED = "credited"
    FINAL = "final"
    ORPHANED = "orphaned"
    REVERSED = "reversed"
    BELOW_MINIMUM = "below_minimum"
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - not a password


@dataclass(frozen=True, slots=True)
class DepositAddress:
    """An own address (lower-case hex) given to a user, and the networks on which it may be paid."""

    address: str
    owner: str
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deposit:
    """A transfer to a user's address. `amount` is in the asset's smallest units, `chain_amount` in the chain's."""

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

    @property
    def evidence(self) -> ChainEvidence:
        """The block that it was seen in, and where; still its name when that block has left the chain."""
        return ChainEvidence(self.network, self.block_number, self.block_hash, self.tx_hash, self.place)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a withdrawal costs at most: `fee_highest` in the asset's smallest units, on top of `amount`.

    `total` is both. The fee really taken is the gas paid at `price` (asset units per wei), at most `fee_highest`.
    """

    asset: str
    network: str
    amount: int
    fee_highest: int
    total: int
    price: Ratio
    gas_limit: int
    fee_wei_max: int


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A request to pay `amount` of `asset` to `address` on `network`, and where it stands.

    `fee` is unset until it's final. `waiting_for` says what a stalled one lacks. Amounts are smallest units.
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
    replayed: bool = False
