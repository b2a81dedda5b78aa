"""How withdrawals move: rows in one tx, ends in one group commit, and what is said of those that wait.

A move that another worker was faster with changes nothing: each names the state that it starts from.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain.checkpoints import Checkpoint
from chain.networks import Registry
from chain.transactions import Mined, OwnTransaction
from db.engine import tx
from ledger.asking import work
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.riders import Advance
from wallet import withdrawal_entries as entries
from wallet import withdrawal_store
from wallet.errors import WalletCorrupt
from wallet.resources import Withdrawal
from wallet.tables import withdrawals
from wallet.withdrawal_states import CANCELLABLE, WaitingFor, WithdrawalState, advance, catch_up

LISTED = "the recipient can't be paid"
"""Why a withdrawal to a listed address is rejected, in the words that its user is told."""

NOT_ALLOWED = "the house's policy doesn't allow this payment"
"""What the user is told of one that the signer refused."""

BY_THE_HOUSE = "cancelled by the house"
"""What the user is told of one that a treasurer cancelled."""

Maker = Callable[[int], Group]
"""Makes the group that ends a withdrawal; the attempt's number is part of its ids."""


_S = WithdrawalState


@dataclass(frozen=True, slots=True)
class Waits:
    """What a withdrawal waits for, and why if that isn't plain."""

    lacking: WaitingFor | None
    reason: str | None = None


class WithdrawalMoves:
    """What all steps of withdrawals do with the book and the rows."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, clock: Clock, checkpoint: Checkpoint
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._checkpoint = checkpoint

    async def end(self, makers: Iterable[Maker]) -> int:
        """Book these ends, all in one group commit; returns how many were accepted."""
        ends = list(makers)
        if not ends:
            return 0
        self._checkpoint.reached("booking.before")
        refusals = await work(self._ledger, *ends)
        self._checkpoint.reached("booking.after")
        return sum(refusal is None for refusal in refusals)

    def released(self, withdrawal: Withdrawal, to: WithdrawalState, reason: str, attempt: int) -> Group:
        """Its hold is given back, and it ends as `to`, with the `reason` that its user is told."""
        return Group((entries.release(withdrawal, attempt),), (self.row(withdrawal, to, reason=reason),))

    def change(self, to: WithdrawalState, **columns: object) -> dict[str, object]:
        """What a row of state `to` has: waiting for nothing, and these columns."""
        fresh = {"waiting_for": None, "updated_at": self._clock.now()}
        return {"state": to.value, "cancellable": to in CANCELLABLE, **fresh, **columns}

    def row(
        self,
        withdrawal: Withdrawal,
        to: WithdrawalState,
        *,
        mined: Mined | None = None,
        fee: int | None = None,
        reason: str | None = None,
    ) -> Advance:
        """The write that commits with the withdrawal's end, unless another was faster."""
        change = self.change(catch_up(withdrawal.state, to), fee=fee, reason=reason, **mined_columns(mined))
        key = {"book": self._ledger.book, "id": withdrawal.id}
        return Advance(withdrawals.name, key, {"state": withdrawal.state.value}, change)

    async def set(self, mine: Sequence[Withdrawal], to: WithdrawalState) -> int:
        """All of them, in one state, move on to the next."""
        if not mine:
            return 0
        change = self.change(advance(mine[0].state, to), reason=None)
        ids = [withdrawal.id for withdrawal in mine]
        async with tx(self._engine) as connection:
            return len(
                await withdrawal_store.change_withdrawals(
                    connection, self._ledger.book, ids, expect=mine[0].state, change=change
                )
            )

    async def save(self, changes: Sequence[tuple[Withdrawal, Mapping[str, object]]]) -> int:
        """One tx for all of them; those that somebody else moved on meanwhile stay as they are."""
        if not changes:
            return 0
        async with tx(self._engine) as connection:
            return await withdrawal_store.save_withdrawals(connection, self._ledger.book, changes)

    async def wait(self, waits: Mapping[Withdrawal, Waits]) -> None:
        """Say what each waits for, where that's new; states stay. Not a move."""
        now = self._clock.now()
        await self.save(
            [
                (
                    withdrawal,
                    {
                        "state": withdrawal.state.value,
                        "cancellable": withdrawal.cancellable,
                        "waiting_for": waits_for.lacking,
                        "reason": waits_for.reason,
                        "updated_at": now,
                    },
                )
                for withdrawal, waits_for in waits.items()
                if (withdrawal.waiting_for, withdrawal.reason) != (waits_for.lacking, waits_for.reason)
            ]
        )

    def contract(self, network: str, asset: str) -> str | None:
        return self._registry.by_asset(network, asset).contract


def by_network(mine: Iterable[Withdrawal]) -> dict[str, list[Withdrawal]]:
    """Those of each network, in their order."""
    found: dict[str, list[Withdrawal]] = defaultdict(list)
    for withdrawal in mine:
        found[withdrawal.network].append(withdrawal)
    return found


def proof(own: OwnTransaction) -> Mined:
    """The block that ended it. Raises WalletCorrupt when there is none."""
    if own.mined is None:
        raise WalletCorrupt(f"{own.id} is {own.state}, but in no block")
    return own.mined


def mined_columns(mined: Mined | None, sent: str | None = None) -> dict[str, object]:
    """What a withdrawal's row shows of its transaction. `sent`: the hash that was last sent."""
    if mined is None:
        return {"tx_hash": sent, "block_number": None, "block_hash": None, "fee_wei": None}
    return {
        "tx_hash": mined.tx_hash,
        "block_number": mined.block_number,
        "block_hash": mined.block_hash,
        "fee_wei": mined.fee_wei,
    }
