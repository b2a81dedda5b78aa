"""Withdrawals: value leaves over a chain, once. Between asking and final evidence the money stays held."""

from dataclasses import dataclass
from datetime import datetime

from ledger.requests import RequestKey
from wallet.rates import Ratio
from wallet.withdrawal_states import WaitingFor, WithdrawalState


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


class Withdrawals:
    """Takes requests for withdrawals and brings them to their end."""

    async def estimate(self, owner: str, *, asset: str, network: str, amount: int, to: str | None = None) -> Estimate:
        """The highest cost of withdrawing `amount` now.

        Raises NotOnNetwork, NotAWholeUnit, BelowMinimum, NoRate, RatesTooOld, FeesUnknown.
        """
        raise NotImplementedError

    async def request(
        self, *, key: RequestKey, owner: str, asset: str, network: str, to: str, amount: int
    ) -> Withdrawal:
        """Hold `amount` and the highest fee, and queue the payment to `to`.

        Raises what `estimate` does, chain.errors.InvalidAddress (form, checksum, zero address), OwnAddress,
        ReceivableOpen, RequestConflict, and RefusedByBook (`insufficient_funds`, `frozen`).
        """
        raise NotImplementedError

    async def cancel(self, *, key: RequestKey, owner: str, withdrawal: str) -> Withdrawal:
        """Give it up before a nonce is reserved for it, and release the hold. Raises NotFound, NotCancellable."""
        raise NotImplementedError

    async def get(self, owner: str, withdrawal: str) -> Withdrawal:
        """The owner's withdrawal with this id. Raises NotFound, also for somebody else's."""
        raise NotImplementedError

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Withdrawal]:
        """The owner's withdrawals, newest first (oldest first with `after`); `before` and `after` are ids."""
        raise NotImplementedError

    async def step(self) -> int:
        """Take every open withdrawal one step further, as far as the outside allows; returns how many moved."""
        raise NotImplementedError
