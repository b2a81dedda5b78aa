"""What the chain asks of whoever holds the keys: addresses, and signatures over typed intents. Protocols only; pure.

Nothing here holds a key. The real signer is another process; wiring adapts its client to these protocols.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class Role(StrEnum):
    """What a key is for; each role has its own seed, and after each rotation another one."""

    DEPOSIT = "deposit"
    HOT = "hot"
    GAS = "gas"


class KeySet(NamedTuple):
    """All keys of one seed: of a role, and of the generation (from 1) that a rotation made."""

    role: Role
    generation: int = 1

    def __str__(self) -> str:
        return self.role.value if self.generation == 1 else f"{self.role.value}.{self.generation}"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """One of our keys, by role, index and generation, never by a claimed address."""

    role: Role
    index: int
    generation: int = 1

    @property
    def keys(self) -> KeySet:
        """The keys that it is one of."""
        return KeySet(self.role, self.generation)

    def __str__(self) -> str:
        return f"{self.keys}:{self.index}"


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An own address (lower-case hex) with its key."""

    key: OwnKey
    address: str


@dataclass(frozen=True, slots=True)
class Claims:
    """Whose payment it is, for the signer's journal: from it a book that was put back too far can be rebuilt.

    `amount` is in the book's smallest units of `asset`, `key_hash` the SHA-256 that stands for the request's key and
    `content` that of what it said. What its user was promised: at most `fee_highest` in the asset's smallest units, at
    `fee_price` of them per wei ("num/den"), of a fee of at most `fee_wei_max`, and `service_fee` beside that. None: not
    known, or nothing.
    """

    account: str
    asset: str
    amount: int
    key_hash: bytes | None
    content: bytes | None = None
    fee_highest: int | None = None
    fee_price: str | None = None
    fee_wei_max: int | None = None
    service_fee: int | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """One payment of a batch: `subject` is its withdrawal, `amount` in chain units; `claims` say whose it is."""

    subject: str
    to: str
    amount: int
    claims: Claims | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Pay 1 to 100 legs, in order, by the payout contract that the transaction calls; the amount is their sum."""

    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Allow:
    """Let `to`, our payout contract, take the amount of the token for the batch with this subject; 0 takes it back."""

    batch: str


@dataclass(frozen=True, slots=True)
class Deploy:
    """Create a contract from `code`, at `to`; no amount goes with it."""

    code: bytes


@dataclass(frozen=True, slots=True)
class Carry:
    """Carry the authorisation (EIP-3009) that `owner` gave under the subject `authorisation` to its token.

    What moves is the owner's: the amount of the token, to `to`; not after `valid_before` (Unix seconds).
    """

    authorisation: str
    owner: OwnAddress
    valid_before: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """Write `root` (32 bytes) on the chain: a call of `to` with nothing but it; no amount goes with it."""

    root: bytes


Order = Batch | Allow | Deploy | Carry | Anchor
"""What a transaction does that isn't a plain transfer to its recipient."""


def spent(order: Order | None, amount: int) -> int:
    """What leaves the sender of a transaction with this amount."""
    return amount if order is None or isinstance(order, Batch) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferIntent:
    """Pay `amount` chain units of `contract` (None: the native coin) to `to`. Fees are wei per gas (EIP-1559).

    `subject` and `attempt` name what is paid and which try this is: asked again, the signer gives the same bytes.
    With an `order` it's not a plain transfer, but what that says.
    """

    subject: str
    attempt: int
    chain_id: int
    sender: OwnKey
    nonce: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    contract: str | None
    to: str | OwnKey
    amount: int
    order: Order | None = None
    claims: Claims | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelIntent:
    """Use up the nonce of an earlier attempt by paying nothing to oneself, at higher fees."""

    subject: str
    attempt: int
    chain_id: int
    sender: OwnKey
    nonce: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


Intent = TransferIntent | CancelIntent


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorisationIntent:
    """Let anybody move `amount` chain units of `contract` from `owner` to `to`, before `valid_before` (EIP-3009).

    `valid_before` is in Unix seconds; the domain is the token's own (EIP-712). Its nonce is made of chain and subject.
    """

    subject: str
    chain_id: int
    owner: OwnKey
    contract: str
    domain_name: str
    domain_version: str
    to: str | OwnKey
    amount: int
    valid_before: int


@dataclass(frozen=True, slots=True)
class Signed:
    """The signer's answer: the raw transaction or the signature, and where its journal stands after it."""

    raw: bytes
    sequence: int
    head: bytes


class Signer(Protocol):
    """Signs what its policy allows."""

    async def sign(self, intent: Intent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The signed transaction; asked again, the same bytes.

        `highest` is the highest (sequence, head) that an answer carried: a signer whose journal is behind it refuses.
        Raises SignerRefused (its policy says no; journalled), SignerConflict (its journal knows otherwise) or
        SignerUnavailable (ask again).
        """
        ...

    async def authorise(self, intent: AuthorisationIntent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The owner's signature of 65 bytes (r, s, v); asked again, the same. Raises what `sign` does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIntent:
    """Sign that the owner controls its address, for one epoch and its root (32 bytes): EIP-191, never a transaction."""

    subject: str
    chain_id: int
    owner: OwnKey
    epoch: int
    root: bytes


class ControlSigner(Protocol):
    """Signs proofs of control, where its policy has rules for them."""

    async def prove(self, intent: ControlIntent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The owner's signature of 65 bytes (r, s, v), checked; asked again, the same.

        Raises SignerRefused, SignerConflict, SignerUnavailable, as `Signer.sign` does.
        """
        ...


class AddressSource(Protocol):
    """Derives own addresses from public keys; no private key is needed.

    Not every chain can: where keys have hardened children only (ed25519), `can_derive` is false and addresses come from
    the signer, ahead of need, through the pool.
    """

    @property
    def can_derive(self) -> bool:
        """Whether `address` answers at all."""
        ...

    def address(self, key: OwnKey) -> str:
        """The lower-case hex address of `key`.

        Raises NoKeyAtIndex (the next index has one), KeyNotRecorded (no public key of its generation).
        """
        ...


class KeyHolder(Protocol):
    """The signer's own word on the keys it holds, against which ours is compared."""

    async def fingerprints(self) -> Mapping[KeySet, bytes]:
        """SHA-256 of each extended public key that it holds, as the policy states them. Raises SignerUnavailable."""
        ...

    async def addresses(self, keys: KeySet, *, first: int, count: int) -> list[str]:
        """`count` lower-case hex addresses from index `first`, derived by the signer.

        Raises SignerRefused where it has no such keys or one is beyond the policy's highest index, SignerUnavailable.
        """
        ...


class Reserver(Protocol):
    """Gives out address indexes from the signer's journal, so that no two copies of a database ever share one."""

    async def reserve(self, keys: KeySet, *, count: int, highest: tuple[int, bytes] | None) -> int:
        """The first of `count` indexes of these keys in a row, given to nobody before and to nobody again.

        `highest` is the highest (sequence, head) that an answer carried: a signer whose journal is behind it refuses.

        Raises SignerRefused (no such keys, beyond the policy's highest index), SignerUnavailable: then nothing may be
        known of a block that the journal has, and it's never used.
        """
        ...
