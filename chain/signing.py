"""What the chain asks of whoever holds the keys: addresses, and signatures over typed intents. Protocols only; pure.

Nothing here holds a key. The real signer is another process; wiring adapts its client to these protocols.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """What a key is for; each role has its own seed."""

    DEPOSIT = "deposit"
    HOT = "hot"
    GAS = "gas"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """One of our keys, by role and index, never by a claimed address."""

    role: Role
    index: int


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An own address (lower-case hex) with its key."""

    key: OwnKey
    address: str


@dataclass(frozen=True, slots=True)
class Claims:
    """Whose payment it is, for the signer's journal: from it a book that was put back too far can be rebuilt.

    `amount` is in the book's smallest units of `asset`, `key_hash` the SHA-256 that stands for the request's key.
    """

    account: str
    asset: str
    amount: int
    key_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferIntent:
    """Pay `amount` chain units of `contract` (None: the native coin) to `to`. Fees are wei per gas (EIP-1559).

    `subject` and `attempt` name what is paid and which try this is: asked again, the signer gives the same bytes.
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


@dataclass(frozen=True, slots=True)
class Signed:
    """The signer's answer: the raw transaction, and where its journal stands after it."""

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
        """The lower-case hex address of `key`. Raises NoKeyAtIndex: the next index has one."""
        ...


class KeyHolder(Protocol):
    """The signer's own word on the keys it holds, against which ours is compared."""

    async def fingerprints(self) -> Mapping[Role, bytes]:
        """SHA-256 of each role's extended public key; the same that the policy states. Raises SignerUnavailable."""
        ...

    async def addresses(self, role: Role, *, first: int, count: int) -> list[str]:
        """`count` lower-case hex addresses from index `first`, derived by the signer.

        Raises SignerRefused where one is beyond the policy's highest index, SignerUnavailable.
        """
        ...


class Reserver(Protocol):
    """Gives out address indexes from the signer's journal, so that no two copies of a database ever share one."""

    async def reserve(self, role: Role, *, count: int, highest: tuple[int, bytes] | None) -> int:
        """The first of `count` indexes in a row that nobody was given before and nobody will be given again.

        `highest` is the highest (sequence, head) that an answer carried: a signer whose journal is behind it refuses.

        Raises SignerRefused beyond the policy's highest index, SignerUnavailable: then nothing may be known of a block
        that the journal has, and it's never used.
        """
        ...
