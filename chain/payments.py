"""A payment on chain, the transaction that carries it out, its attempts, and what the chain shows of it. Pure."""

from dataclasses import dataclass
from datetime import datetime

from chain.fees import Bid
from chain.signing import Claims, OwnAddress
from chain.transaction_states import Kind, State, WaitingFor


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What is to be paid on chain. `amount` is in chain units of `contract` (None: the native coin), above zero.

    `to` is anybody's address (lower-case hex) or one of ours, which the signer then derives itself. `subject` is what
    the payment carries out (`wdr_...`), unique in its book. `fee_wei_max`: gas limit x fee of no attempt is above it.
    `claims` say whose it is.
    """

    network: str
    kind: Kind
    book: str
    subject: str
    sender: OwnAddress
    contract: str | None
    to: str | OwnAddress
    amount: int
    gas_limit: int
    fee_wei_max: int
    claims: Claims | None = None

    @property
    def recipient(self) -> str:
        """The recipient's address."""
        return self.to.address if isinstance(self.to, OwnAddress) else self.to


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """A transaction in a live block, and what it cost its sender. Prices are wei per gas."""

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    effective_gas_price: int
    fee_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined(OnChain):
    """The attempt of ours that is in a live block."""

    attempt: int


@dataclass(frozen=True, slots=True)
class OwnTransaction:
    """An own transaction as it stands. `nonce` is None once the signer refused it."""

    id: str
    payment: Payment
    nonce: int | None
    state: State
    waiting_for: WaitingFor | None
    refusal: str | None
    mined: Mined | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing the signer was asked to sign; `raw` and `tx_hash` are there once it did, `refused` if it wouldn't."""

    transaction: str
    attempt: int
    kind: str
    nonce: int
    gas_limit: int
    bid: Bid
    tx_hash: str | None
    raw: bytes | None
    sent_at: datetime | None
    last_sent_at: datetime | None
    refused: bool = False
