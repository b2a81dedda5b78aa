"""Carries sweeps out on one network: begins them, follows their transactions, and books what came of them.

Each move is one commit. Own transactions are signed, sent and watched by the chain's broadcaster. An authorised
sweep is judged by what the token itself told (`AuthorizationUsed` and the transfer beside it), whoever carried it
there: a relay of ours that failed means only that one has to look.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from chain import addresses, token_store, transactions
from chain import store as blocks
from chain.authorisations import Authorisations
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.errors import (
    LogsLimited,
    NodeRefused,
    NodeUnavailable,
    PaymentRefused,
    RateLimited,
    SignerConflict,
    SignerRefused,
    SignerUnavailable,
)
from chain.evm.authorisations import using
from chain.networks import Network, Registry, to_ledger_units
from chain.orders import authorisation_nonce
from chain.signing import OwnKey, Role
from chain.status import NetworkStatus, status_if_followed
from chain.tokens import Quirk
from chain.transaction_states import State
from chain.transactions import Mined, OwnTransaction
from db.engine import tx
from db.errors import translate
from ledger.asking import work
from ledger.commands import ChainEvidence, Group, Post, Posting
from ledger.engine import Ledger
from ledger.requests import worker_id
from ledger.riders import Advance
from treasury import sweep_entries as entries
from treasury import sweep_store
from treasury.holdings import Holdings, SweepNode
from treasury.sweep_beginning import Fees, House, SweepBeginning
from treasury.sweep_moves import GAS, SweepMoves, proof
from treasury.sweep_planning import SweepPlanner
from treasury.sweep_policy import SweepTerms
from treasury.sweep_records import Move, Sweep
from treasury.sweep_rows import SweepRows
from treasury.sweep_states import OPEN, Method, MoveKind, MoveState, SweepState
from treasury.sweep_store import Seen

BATCH = 100
"""Unfinished sweeps that one step looks at; the next step takes the next ones."""

HOT, GAS_KEY = OwnKey(Role.HOT, 0), OwnKey(Role.GAS, 0)
"""Where sweeps go, and who pays for their gas."""

_S = SweepState
_MIRRORED = {
    State.RESERVED: _S.RESERVED,
    State.SIGNED: _S.SIGNED,
    State.BROADCAST: _S.BROADCAST,
    State.MINED: _S.MINED,
    State.NEEDS_REVIEW: _S.NEEDS_REVIEW,
}


class Sweeping:
    """Sweeps one network's deposit addresses. Several processes may run one each: one at a time works."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        network: Network,
        registry: Registry,
        node: SweepNode,
        fees: Fees,
        holdings: Holdings,
        authorisations: Authorisations,
        planner: SweepPlanner,
        terms: SweepTerms,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`checkpoint` is told before and after each move: `sweep.planned.before`, ..."""
        self._engine = engine
        self._ledger = ledger
        self._network = network
        self._registry = registry
        self._native = registry.by_asset(network.name, network.native_asset)
        self._node = node
        self._planner = planner
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()
        self._moves = SweepMoves(engine, ledger=ledger, network=network, registry=registry, clock=clock)
        self._rows = SweepRows(engine, ledger=ledger, registry=registry, tries=terms.tries, clock=clock)
        self._beginning = SweepBeginning(
            engine,
            ledger=ledger,
            network=network,
            registry=registry,
            node=node,
            fees=fees,
            holdings=holdings,
            authorisations=authorisations,
            rows=self._rows,
            terms=terms,
            clock=clock,
            entropy=entropy,
            checkpoint=self._checkpoint,
        )
        self._after: str | None = None

    async def step(self) -> int:
        """Book what ended, take up to a hundred sweeps further, plan the next; returns how many things moved.

        Does nothing while the network is halted or another process is at it. Raises what the node does, and what
        `db.errors` says of the database.
        """
        try:
            async with self._turn() as mine:
                return await self._work() if mine else 0
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) or error from error

    async def _work(self) -> int:
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._network)
            hot, gas = [await addresses.house(connection, key=key) for key in (HOT, GAS_KEY)]
        if at is None or at.halted or hot is None or gas is None:
            return 0
        house = House(hot, gas)
        moved = await self._moves.step(at, gas=gas)
        moved += await self._advance(at, house)
        return moved + await self._planner.step(at)

    async def _advance(self, at: NetworkStatus, house: House) -> int:
        async with tx(self._engine) as connection:
            found = await sweep_store.load_unfinished(
                connection,
                self._ledger.book,
                networks=[self._network.name],
                after=self._after,
                now=self._clock.now(),
                limit=BATCH,
            )
        self._after = found[-1].id if len(found) == BATCH else None
        moved = 0
        for sweep in found:
            self._checkpoint.reached(f"sweep.{sweep.state}.before")
            moved += await self._tried(sweep, at, house)
            self._checkpoint.reached(f"sweep.{sweep.state}.after")
        return moved

    async def _tried(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool:
        """One sweep's trouble is its own, as long as the node answers at all."""
        try:
            return await self._move(sweep, at, house)
        except PaymentRefused as refused:
            cause = refused.__cause__
            words = cause.message if isinstance(cause, NodeRefused) else refused.message
            return await self._rows.refused(sweep, f"the token refuses: {words}")
        except SignerRefused as refused:  # so nothing was signed that could still be used
            return await self._rows.refused(sweep, f"the signer refused: {refused.message}", valid_before=None)
        except (SignerConflict, SignerUnavailable) as problem:
            return await self._rows.wait(sweep, "signer", problem.message)
        except (RateLimited, LogsLimited):
            raise
        except NodeRefused as refused:
            return await self._rows.wait(sweep, "node", refused.message)

    async def _move(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool:
        match sweep.state:
            case _S.PLANNED:
                return await self._beginning.begin(sweep, at, house)
            case _S.AUTHORISING:
                return await self._look(sweep, at, house) or await self._beginning.carry(sweep, house)
            case _S.TOPPING_UP:
                return await self._beginning.topped_up(sweep, at, house)
            case _S.RESERVED | _S.SIGNED | _S.BROADCAST | _S.MINED | _S.NEEDS_REVIEW:
                return await self._follow(sweep, at, house)
            case _S.UNSWEEPABLE:
                return await self._again(sweep, at, house)
            case _S.FINAL | _S.DROPPED:
                return False

    # Following

    async def _follow(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool:
        """Bring the sweep to where its transaction stands, or to its end where the chain tells of that."""
        is_authorised = sweep.method is Method.AUTHORISATION
        subject = sweep.relay if is_authorised else sweep.subject
        async with tx(self._engine) as connection:
            own = await transactions.find(connection, book=self._ledger.book, subject=subject)
            refusal = await sweep_store.load_refusal(connection, self._ledger.book, subject)
            move = await sweep_store.load_move(connection, self._ledger.book, subject)
            sent = await sweep_store.load_sent(connection, self._ledger.book, subject)
        if is_authorised and (booked := await self._look(sweep, at, house)) is not False:
            return bool(booked)
        if own is None:
            if move is not None and move.kind is MoveKind.SWEEP and move.state is MoveState.UNDER_WAY:
                await self._moves.set(move, MoveState.REFUSED)
            return await self._rows.refused(sweep, f"it wasn't signed: {refusal}")
        if (to := _MIRRORED.get(own.state)) is not None:
            return await self._mirror(sweep, own, to, sent)
        if is_authorised:
            why = "the relay went through, but moved nothing" if own.state is State.FINAL else "the relay failed"
            return await self._rows.refused(sweep, f"{why}: {proof(own).tx_hash}")
        assert move is not None, "a sweep's transaction is reserved with its move"
        seen = await self._transfers(sweep, at, house, own=proof(own)) if own.state is State.FINAL else []
        if not seen:
            why = "the transaction went through, but moved nothing" if own.state is State.FINAL else "it failed"
            return await self._failed(sweep, move, own, f"{why}: {proof(own).tx_hash}")
        gas = await self._moves.gas_postings(proof(own), payer="deposit")
        return await self._end(sweep, seen[0], gas, (self._moves.row(move, MoveState.BOOKED),))

    async def _look(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool | None:
        """Whether the token told that the authorisation was used, and so the sweep is booked, whoever carried it.

        None: it was used, but isn't booked, since nobody has measured yet what arrived.
        """
        assert sweep.contract is not None
        nonce = authorisation_nonce(self._network.chain_id, sweep.subject)
        for seen in await self._transfers(sweep, at, house):
            block = await self._node.block(seen.block)
            if block is None:
                raise NodeUnavailable(f"no node of {sweep.network} has block {seen.block.block_hash} any more")
            used = using(block, contract=sweep.contract, owner=sweep.address.address, nonce=nonce)
            if seen.tx_hash in used:
                return True if await self._end(sweep, seen, (), ()) else None
        return False

    async def _transfers(
        self, sweep: Sweep, at: NetworkStatus, house: House, *, own: Mined | None = None
    ) -> list[Seen]:
        """Final transfers that may be what was begun last; of `own`, a final transaction of ours, where it's given.

        Its block may be final only since `at` was read.
        """
        if sweep.chain_amount is None:
            return []
        async with tx(self._engine) as connection:
            return await sweep_store.load_transfers(
                connection,
                sweep.network,
                contract=sweep.contract,
                sender=sweep.address.address,
                recipient=house.hot.address,
                amount=sweep.chain_amount,
                through=at.final_height if own is None else max(at.final_height, own.block_number),
                tx_hash=None if own is None else own.tx_hash,
                since=sweep.created_at,
                is_lossy=own is not None and self._is_lossy(sweep),
            )

    def _is_lossy(self, sweep: Sweep) -> bool:
        """Whether its token keeps a part of each transfer."""
        deployment = self._registry.by_contract(sweep.network, sweep.contract)
        return deployment is not None and Quirk.FEE_ON_TRANSFER in deployment.quirks

    async def _again(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool:
        """Plan an unsweepable one anew when it's time, but not while what was authorised before may still be used."""
        if sweep.valid_before is not None:
            if (booked := await self._look(sweep, at, house)) is not False:
                return bool(booked)
            async with tx(self._engine) as connection:
                reached = await sweep_store.load_block_time(connection, sweep.network, at.final_height)
                if reached is None or reached.timestamp() < sweep.valid_before:
                    return False
                return await self._rows.change(connection, sweep, _S.UNSWEEPABLE, valid_before=None)
        async with tx(self._engine) as connection:
            there = await sweep_store.unfinished_at(
                connection, self._ledger.book, sweep.network, [sweep.address.address]
            )
            if any(one.state in OPEN for one in there):
                return False
            return await self._rows.change(connection, sweep, _S.PLANNED, next_try_at=None)

    # Ends

    async def _end(self, sweep: Sweep, seen: Seen, gas: tuple[Posting, ...], rows: tuple[Advance, ...]) -> bool:
        """Book what left and what arrived, by the transfer that shows both; False while nobody has measured it."""
        deployment = self._registry.by_contract(sweep.network, sweep.contract)
        if seen.arrived is None or deployment is None:
            return await self._rows.wait(sweep, "node", "what arrived isn't measured yet")
        scale = (await self._ledger.asset(sweep.asset)).scale
        kept: list[tuple[str, int]] = []
        whole = seen.amount
        if self._is_lossy(sweep) and sweep.chain_amount is not None:
            whole, kept = sweep.chain_amount, await self._kept(sweep, seen)
        units = [whole - sum(amount for _, amount in kept), seen.arrived, *(amount for _, amount in kept)]
        left, arrived, *parts = [to_ledger_units(one, deployment, scale=scale) for one in units]
        postings = entries.swept(sweep.network, sweep.asset, left=left, arrived=arrived) + gas
        others = tuple(
            (_evidence(sweep, seen, place), entries.swept(sweep.network, sweep.asset, left=part, arrived=0))
            for (place, _), part in zip(kept, parts, strict=True)
        )
        change = {
            "tx_hash": seen.tx_hash,
            "block_number": seen.block.number,
            "block_hash": seen.block.block_hash,
            "place": seen.place,
            "reason": None,
            "next_try_at": None,
            "valid_before": None,
        }
        evidence = _evidence(sweep, seen, seen.place)
        ended = (*rows, self._rows.row(sweep, _S.FINAL, **change))
        return await self._book(sweep, "swept", evidence, postings, ended, others)

    async def _kept(self, sweep: Sweep, seen: Seen) -> list[tuple[str, int]]:
        """What a token that keeps a part of each transfer told of that part."""
        async with tx(self._engine) as connection:
            return await token_store.load_kept(
                connection,
                sweep.network,
                block_hash=seen.block.block_hash,
                tx_hash=seen.tx_hash,
                contract=sweep.contract,
                sender=sweep.address.address,
                besides=seen.place,
            )

    async def _failed(self, sweep: Sweep, move: Move, own: OwnTransaction, why: str) -> bool:
        """Its own transaction moved nothing: the gas is booked, and it's tried again later."""
        mined = proof(own)
        gas = await self._moves.gas_postings(mined, payer="deposit")
        if not gas:
            return await self._moves.set(move, MoveState.BOOKED) and await self._rows.refused(sweep, why)
        rows = (
            self._moves.row(move, MoveState.BOOKED),
            self._rows.row(sweep, _S.UNSWEEPABLE, **self._rows.refusal(sweep, why)),
        )
        return await self._book(sweep, "failed", entries.evidence(sweep.network, mined, GAS), gas, rows)

    async def _book(
        self,
        sweep: Sweep,
        act: str,
        evidence: ChainEvidence,
        postings: tuple[Posting, ...],
        rows: tuple[Advance, ...],
        others: tuple[tuple[ChainEvidence, tuple[Posting, ...]], ...] = (),
    ) -> bool:
        """`others`: what else the same transaction moved, each with its own evidence."""

        def booked(attempt: int) -> Group:
            parts = [(act, evidence, postings), *((f"{act}-{n}", *other) for n, other in enumerate(others))]
            return Group(
                tuple(
                    Post(
                        id=worker_id(f"sweep:{sweep.subject}:{name}", attempt),
                        subject=sweep.id,
                        evidence=shown,
                        postings=moved,
                    )
                    for name, shown, moved in parts
                ),
                rows,
            )

        await self._ledger.ensure_open(*entries.accounts(sweep.network, sweep.asset, self._native.asset))
        self._checkpoint.reached("sweep.booking.before")
        (refusal,) = await work(self._ledger, booked)
        self._checkpoint.reached("sweep.booking.after")
        return refusal is None

    async def _mirror(self, sweep: Sweep, own: OwnTransaction, to: SweepState, sent: str | None) -> bool:
        """Copy what the chain says of its transaction, if that's something new."""
        mined = own.mined
        columns = {
            "waiting_for": None if own.waiting_for is None else own.waiting_for.value,
            "reason": own.refusal,
            "tx_hash": mined.tx_hash if mined else sent,
            "block_number": mined.block_number if mined else None,
            "block_hash": mined.block_hash if mined else None,
        }
        if to is sweep.state and all(getattr(sweep, name) == value for name, value in columns.items()):
            return False
        state = sweep.state if to is _S.RESERVED else to
        return await self._rows.set(sweep, state, **columns)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Whether it's ours to work now: no other process does."""
        name = f"sweep {self._ledger.book} {self._network.name}"
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            mine = await blocks.try_lock(connection, name)
            try:
                yield mine
            finally:
                if mine:
                    await blocks.unlock(connection, name)


def _evidence(sweep: Sweep, seen: Seen, place: str) -> ChainEvidence:
    return ChainEvidence(sweep.network, seen.block.number, seen.block.block_hash, seen.tx_hash, place)
