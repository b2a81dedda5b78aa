"""Deposits: what arrives at users' addresses becomes theirs, once, and is taken back if its block leaves the chain."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from chain.networks import Registry
from chain.signing import AddressSource
from ledger.engine import Ledger


class DepositState(StrEnum):
    """Where a deposit stands. `below_minimum` and `unknown_token` are not credited; the treasurer can."""

    PENDING = "pending"
    CREDITED = "credited"
    FINAL = "final"
    ORPHANED = "orphaned"
    REVERSED = "reversed"
    BELOW_MINIMUM = "below_minimum"
    UNKNOWN_TOKEN = "unknown_token"


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
    hold: str | None
    seen_at: datetime
    updated_at: datetime


class DepositAddresses:
    """Gives users their addresses."""

    def __init__(
        self, engine: AsyncEngine, *, book: str, registry: Registry, source: AddressSource, clock: Clock
    ) -> None: ...

    async def issue(self, owner: str, network: str) -> DepositAddress:
        """The user's address on `network`; a first call makes it. Raises NotOnNetwork (no such network)."""
        raise NotImplementedError

    async def list_for(self, owner: str) -> list[DepositAddress]:
        """The user's addresses, oldest first."""
        raise NotImplementedError


class Deposits:
    """Turns observations into entries."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, clock: Clock, entropy: Entropy
    ) -> None: ...

    async def step(self) -> int:
        """Do what the chain's record asks for now, a bounded piece; returns how many deposits moved."""
        raise NotImplementedError

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Deposit]:
        """The user's deposits, newest first (oldest first with `after`); `before` and `after` are ids."""
        raise NotImplementedError

    async def get(self, owner: str, deposit: str) -> Deposit:
        """The user's deposit with this id. Raises NotFound, also for somebody else's."""
        raise NotImplementedError
