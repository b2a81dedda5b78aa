"""A payment on chain, its transaction and attempts, what the chain shows of it; and authorised payments. Pure."""

from dataclasses import dataclass
from datetime import datetime

from chain.fees import Bid
from chain.orders import authorisation_nonce
from chain.signing import AuthorisationIntent, Claims, Order, OwnAddress, spent
from chain.transaction_states import Kind, State, WaitingFor

PAY = "pay"
"""The kind of an attempt that carries the payment out."""

CANCEL = "cancel"
"""The kind of an attempt that uses up the nonce by paying nothing to the sender itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What is to be done on chain. `amount` is in chain units of `contract` (None: the native coin).

    `to` is anybody's address (lower-case hex) or one of ours, which the signer then derives itself. `subject` is what
    the payment carries out (`wdr_...`), unique in its book. `fee_wei_max`: gas limit x fee of no attempt is above it.
    `order` is what it does where that isn't a plain transfer; `claims` say whose it is.
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
    order: Order | None = None
    claims: Claims | None = None

    @property
    def recipient(self) -> str:
        """The recipient's address."""
        return self.to.address if isinstance(self.to, OwnAddress) else self.to

    @property
    def spends(self) -> int:
        """What leaves the sender, beside gas, in chain units of `contract`."""
        return spent(self.order, self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """What `owner` lets anybody do, once and before `valid_before` (Unix seconds): move `amount` chain units to `to`.

    `subject` is unique in its book. `signature` is None until the signer has answered.
    """

    network: str
    chain_id: int
    book: str
    subject: str
    owner: OwnAddress
    contract: str
    domain_name: str
    domain_version: str
    to: OwnAddress
    amount: int
    valid_before: int
    signature: bytes | None = None

    @property
    def nonce(self) -> bytes:
        """The 32 bytes by which the token knows it."""
        return authorisation_nonce(self.chain_id, self.subject)

    @property
    def intent(self) -> AuthorisationIntent:
        """What the signer is asked."""
        return AuthorisationIntent(
            subject=self.subject,
            chain_id=self.chain_id,
            owner=self.owner.key,
            contract=self.contract,
            domain_name=self.domain_name,
            domain_version=self.domain_version,
            to=self.to.key,
            amount=self.amount,
            valid_before=self.valid_before,
        )


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
    """An own transaction as it stands. `nonce` is None once it was refused or given back.

    `cancelling`: why somebody wants its nonce used up by a transaction that pays nothing; None: nobody does.
    `refusal_code`: the signer's, where its no ended it.
    """

    id: str
    payment: Payment
    nonce: int | None
    state: State
    waiting_for: WaitingFor | None
    refusal: str | None
    mined: Mined | None
    created_at: datetime
    updated_at: datetime
    cancelling: str | None = None
    refusal_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled:
    """Payments on a network that wait for the same thing: how many, for how long at least, and the words of one."""

    network: str
    waiting_for: WaitingFor
    count: int
    since: datetime
    words: str | None


@dataclass(frozen=True, slots=True)
class Lack:
    """What payments that no sender can make lack: `amount` smallest units of an asset, or wei for gas."""

    network: str
    asset: str
    amount: int
    gas_wei: int


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

    @property
    def cancels(self) -> bool:
        """Whether it uses up the nonce without paying."""
        return self.kind == CANCEL

    @property
    def is_asked(self) -> bool:
        """Whether the signer has yet to answer to it."""
        return self.raw is None and not self.refused
