"""Sweeps, their transactions and refill requests, as values. Pure. Amounts are smallest units unless they say chain."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chain.signing import OwnAddress
from treasury.sweep_states import Method, MoveKind, MoveState, SweepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What lies on a deposit address, on its way to the hot address.

    `number` counts what was begun for it, `tries` the refusals since it was planned or a treasurer asked again.
    `amount` is None until it begins, `tx_hash` and the block until it's mined; `gas_limit`, `fee_wei_max` and
    `valid_before` (Unix seconds, of its authorisation) belong to what was begun last.
    """

    id: str
    state: SweepState
    method: Method
    network: str
    asset: str
    contract: str | None
    address: OwnAddress
    chain_amount: int | None
    amount: int | None
    number: int
    tries: int
    next_try_at: datetime | None
    waiting_for: str | None
    reason: str | None
    gas_limit: int | None
    fee_wei_max: int | None
    valid_before: int | None
    tx_hash: str | None
    block_number: int | None
    block_hash: str | None
    place: str | None
    asked_by: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def subject(self) -> str:
        """What the signer knows the latest beginning by: each has its own, since a subject is signed once."""
        return self.id if self.number <= 1 else f"{self.id}-{self.number}"

    @property
    def relay(self) -> str:
        """The subject of the transaction that carries its authorisation."""
        return f"rly_{self.subject.partition('_')[2]}"

    @property
    def top_up(self) -> str:
        """The subject of the transaction that brings its gas."""
        return f"gtu_{self.subject.partition('_')[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One of our own transactions for a sweep, until it's booked. `chain_amount`: what it moves, beside gas."""

    id: str
    kind: MoveKind
    state: MoveState
    sweep: str
    network: str
    address: str
    chain_amount: int
    created_at: datetime


class RefillState(StrEnum):
    OPEN = "open"
    ARRIVED = "arrived"
    """As much has come from somebody; the treasurer says what it was."""
    CLOSED = "closed"
    LAPSED = "lapsed"
    """The need passed before anything came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """What the hot address is short of, asked from cold. `inflow` is what closed it, or may."""

    id: str
    state: RefillState
    network: str
    asset: str
    amount: int
    reason: str
    inflow: str | None
    created_at: datetime
    updated_at: datetime
