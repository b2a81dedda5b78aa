"""The own transactions that sweeps are made of: their gas, and what top-ups move, booked once they're final.

What a sweep itself moves is booked with it (`treasury.sweeping`): by the transfer that shows it, be it
ours or not.
"""

from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import transactions
from chain.networks import Network, Registry, to_ledger_units
from chain.signing import OwnAddress
from chain.status import NetworkStatus
from chain.transaction_states import State
from chain.transactions import Mined, OwnTransaction
from db.engine import tx
from ledger.asking import work
from ledger.commands import Group, Post, Posting
from ledger.engine import Ledger
from ledger.requests import worker_id
from ledger.riders import Advance
from treasury import sweep_entries as entries
from treasury import sweep_store
from treasury.errors import TreasuryCorrupt
from treasury.sweep_records import Move
from treasury.sweep_states import MoveKind, MoveState
from treasury.tables import moves

BATCH = 100
"""Transactions that one step looks at; the next step takes the next ones."""

GAS = "gas"
"""The place, in a transaction, of what it cost."""


class SweepMoves:
    """Follows one network's moves to their entries."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, network: Network, registry: Registry, clock: Clock
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._network = network
        self._native = registry.by_asset(network.name, network.native_asset)
        self._clock = clock
        self._after: str | None = None

    async def step(self, at: NetworkStatus, *, gas: OwnAddress) -> int:
        """Book the top-ups and relays that ended; returns how many moved on."""
        async with tx(self._engine) as connection:
            found = await sweep_store.load_unbooked_moves(
                connection, self._ledger.book, networks=[self._network.name], after=self._after, limit=BATCH
            )
        self._after = found[-1].id if len(found) == BATCH else None
        return sum([await self._follow(move, at, gas) for move in found if move.kind is not MoveKind.SWEEP])

    async def gas_postings(self, mined: Mined, *, payer: str) -> tuple[Posting, ...]:
        """What a transaction cost an address of this role."""
        return entries.gas(self._network.name, self._native.asset, payer=payer, amount=await self._wei(mined.fee_wei))

    def row(self, move: Move, state: MoveState) -> Advance:
        """The change of a move's row that rides with its entry."""
        change = {"state": state.value, "updated_at": self._clock.now()}
        return Advance(moves.name, {"book": self._ledger.book, "id": move.id}, {"state": move.state.value}, change)

    async def set(self, move: Move, state: MoveState) -> bool:
        """Change a move that books nothing."""
        async with tx(self._engine) as connection:
            return await sweep_store.change_move(connection, self._ledger.book, move, state, now=self._clock.now())

    async def _follow(self, move: Move, at: NetworkStatus, gas: OwnAddress) -> bool:
        async with tx(self._engine) as connection:
            own = await transactions.find(connection, book=self._ledger.book, subject=move.id)
        if own is None:
            return await self.set(move, MoveState.REFUSED)
        match own.state:
            case State.NEEDS_REVIEW if move.state is not MoveState.NEEDS_REVIEW:
                return await self.set(move, MoveState.NEEDS_REVIEW)
            case State.FINAL | State.REVERTED | State.CANCELLED:
                return await self._end(move, own, at, gas)
            case _:
                return False

    async def _end(self, move: Move, own: OwnTransaction, at: NetworkStatus, gas: OwnAddress) -> bool:
        mined, postings, place = proof(own), await self.gas_postings(proof(own), payer="gas"), GAS
        if move.kind is MoveKind.TOP_UP and own.state is State.FINAL:
            async with tx(self._engine) as connection:
                seen = await sweep_store.load_transfers(
                    connection,
                    move.network,
                    contract=None,
                    sender=gas.address,
                    recipient=move.address,
                    amount=move.chain_amount,
                    through=max(at.final_height, mined.block_number),  # it may be final only since `at` was read
                    tx_hash=mined.tx_hash,
                )
            if not seen:
                raise TreasuryCorrupt(f"{mined.tx_hash} succeeded, but its own value isn't on record")
            amount = await self._wei(move.chain_amount)
            postings = entries.topped_up(move.network, self._native.asset, amount) + postings
            place = seen[0].place
        if not postings:
            return await self.set(move, MoveState.BOOKED)
        await self._ledger.ensure_open(*entries.accounts(move.network, self._native.asset, self._native.asset))
        (refusal,) = await work(self._ledger, partial(self._booked, move, mined, place, postings))
        return refusal is None

    def _booked(self, move: Move, mined: Mined, place: str, postings: tuple[Posting, ...], attempt: int) -> Group:
        post = Post(
            id=worker_id(f"move:{move.id}", attempt),
            subject=move.id,
            evidence=entries.evidence(move.network, mined, place),
            postings=postings,
            metadata={"sweep": move.sweep},
        )
        return Group((post,), (self.row(move, MoveState.BOOKED),))

    async def _wei(self, amount: int) -> int:
        scale = (await self._ledger.asset(self._native.asset)).scale
        return to_ledger_units(amount, self._native, scale=scale)


def proof(own: OwnTransaction) -> Mined:
    """Where an ended transaction stands. Raises TreasuryCorrupt for one that stands nowhere."""
    if own.mined is None:
        raise TreasuryCorrupt(f"{own.id} is {own.state}, but in no block")
    return own.mined
