"""Follows batches to their end: each leg's withdrawal goes along with the transaction, and is ended by its own result.

What the contract and the token said is read out of the whole block (`wallet.batch_evidence`). The gas is booked once
per batch, by one group that also says so in its row; then each leg by a group of its own. Killed anywhere, the next
step goes on with the legs still open. Legs that were signed and have no row are nobody's: a recovery has left them to
a person, and what they took stands in suspense.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.errors import Unavailable
from chain import transactions
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.evm.node import Node
from chain.networks import Deployment, Registry, to_ledger_units
from chain.transaction_states import OPEN, State
from chain.transactions import Mined, OwnTransaction
from db.engine import tx
from ledger.asking import work
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.riders import Advance
from wallet import batch_entries, batch_store, withdrawal_store
from wallet import withdrawal_entries as entries
from wallet.batch_entries import NobodysLeg
from wallet.batch_evidence import BatchEvidence, proof, signed_legs
from wallet.batch_results import JudgedLeg, LegResult
from wallet.batch_rules import shares
from wallet.batch_store import BatchLeg
from wallet.batches import allowance_subjects
from wallet.errors import WalletCorrupt
from wallet.resources import Batch, BatchOutcome, BatchState, Withdrawal
from wallet.tables import batch_legs, batches, withdrawals
from wallet.withdrawal_states import CANCELLABLE, ENDED, WaitingFor, WithdrawalState, advance, catch_up

AT_ONCE = 20
"""Batches that one step looks at; the next step takes the next ones."""

_S = WithdrawalState

_MIRRORED = {
    State.RESERVED: _S.NONCE_RESERVED,
    State.SIGNED: _S.SIGNED,
    State.BROADCAST: _S.BROADCAST,
    State.MINED: _S.MINED,
    State.NEEDS_REVIEW: _S.NEEDS_REVIEW,
}

_OUTCOMES = {
    State.FINAL: BatchOutcome.FINAL,
    State.REVERTED: BatchOutcome.REVERTED,
    State.CANCELLED: BatchOutcome.CANCELLED,
}

WHOLE = {
    BatchOutcome.REVERTED: "the transaction that was to pay it and others failed as a whole",
    BatchOutcome.CANCELLED: "the transaction that was to pay it and others was cancelled",
}
"""Why a leg is released with all the others, in the words that its user is told."""


class BatchEnds:
    """Brings batches to their end. `nodes`: by network, who is asked for the blocks that they were mined in."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        nodes: Mapping[str, Node],
        clock: Clock,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`checkpoint` is told `batch.final.seen`, `batch.booked` and `batch.legs.booked`."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._evidence = BatchEvidence(engine, nodes=nodes)
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()
        self._looked_at: str | None = None

    async def step(self) -> int:
        """Look at some batches that haven't ended; returns how many withdrawals moved.

        Raises NodeUnavailable, NodeMisbehaved while no node has the block in which one was mined, but only once the
        others were looked at.
        """
        async with tx(self._engine) as connection:
            found = await batch_store.load_unended(
                connection, self._ledger.book, self._registry.networks, after=self._looked_at, limit=AT_ONCE
            )
        self._looked_at = found[-1].id if len(found) == AT_ONCE else None
        moved, problems = 0, []
        for batch in found:
            try:
                moved += await self._follow(batch)
            except _Overtaken:  # by another worker: nothing of that tx was kept, and the next step looks anew
                continue
            except (Unavailable, WalletCorrupt) as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
        return moved

    async def _follow(self, batch: Batch) -> int:
        book = self._ledger.book
        async with tx(self._engine) as connection:
            own = await transactions.find(connection, book=book, subject=batch.id)
            past = {} if own else await withdrawal_store.load_past(connection, book, [batch.id])
            sent = (await withdrawal_store.load_sent(connection, book, [batch.id])).get(batch.id)
            legs = await batch_store.load_legs(connection, book, batch.id)
        waiting = [leg for leg in legs if leg.result is LegResult.OPEN]
        if lost := [leg for leg in waiting if leg.withdrawal.state in ENDED]:
            return await self._lose(batch, lost, whole=len(lost) == len(waiting))
        if own is None:
            return 0 if batch.id not in past else await self._give_back(batch, waiting, past[batch.id][1])
        if own.state in _MIRRORED:
            return await self._mirror(waiting, own, sent)
        if own.state in _OUTCOMES:
            return await self._end(batch, own, legs)
        raise WalletCorrupt(f"{own.id} carries {batch.id} and is {own.state}")

    # While its transaction is under way

    async def _mirror(self, legs: Sequence[BatchLeg], own: OwnTransaction, sent: str | None) -> int:
        """Copy what the chain says of the transaction to each leg's withdrawal, where it says something new."""
        to, mined = _MIRRORED[own.state], own.mined
        columns = {
            "waiting_for": None if own.waiting_for is None else WaitingFor(own.waiting_for.value),
            "reason": own.refusal if own.state is State.NEEDS_REVIEW else None,
            "tx_hash": mined.tx_hash if mined else sent,
            "block_number": mined.block_number if mined else None,
            "block_hash": mined.block_hash if mined else None,
        }
        behind: dict[WithdrawalState, list[str]] = {}
        for leg in legs:
            told = leg.withdrawal
            if told.state is not to or any(getattr(told, name) != value for name, value in columns.items()):
                behind.setdefault(told.state, []).append(told.id)
        moved = 0
        async with tx(self._engine) as connection:
            for state, ids in behind.items():
                change = self._change(state if state is to else catch_up(state, to), **columns)
                moved += len(
                    await withdrawal_store.change_withdrawals(
                        connection, self._ledger.book, ids, expect=state, change=change
                    )
                )
        return moved

    async def _give_back(self, batch: Batch, legs: Sequence[BatchLeg], refusal: str) -> int:
        """The signer wouldn't sign it, so nothing was paid: each of its withdrawals is paid alone, or refused alone."""
        reason = f"the batch was never signed: {refusal}"
        ids = [leg.withdrawal.id for leg in legs]
        async with tx(self._engine) as connection:  # a recovery may know already that some are paid alone
            alone = await transactions.find_all(connection, book=self._ledger.book, subjects=ids)
        if alone:
            return await self._lose(batch, [leg for leg in legs if leg.withdrawal.id in alone], whole=False)
        change = self._change(advance(_S.NONCE_RESERVED, _S.APPROVED), reason=None, tx_hash=None)
        async with tx(self._engine) as connection:
            await batch_store.set_results(
                connection, self._ledger.book, batch.id, [leg.position for leg in legs], LegResult.GIVEN_BACK
            )
            await batch_store.pay_alone(
                connection, self._ledger.book, dict.fromkeys(ids, reason), now=self._clock.now()
            )
            moved = await withdrawal_store.change_withdrawals(
                connection, self._ledger.book, ids, expect=_S.NONCE_RESERVED, change=change
            )
            if len(moved) != len(ids):
                raise WalletCorrupt(f"{batch.id} was never signed, but not all of its withdrawals wait for that")
            await self._set(connection, batch, BatchState.ENDED, BatchOutcome.REFUSED)
        return len(moved)

    async def _lose(self, batch: Batch, legs: Sequence[BatchLeg], *, whole: bool) -> int:
        """Something else has ended these withdrawals."""
        async with tx(self._engine) as connection:
            await batch_store.set_results(
                connection, self._ledger.book, batch.id, [leg.position for leg in legs], LegResult.LOST
            )
            if whole:
                await self._set(connection, batch, BatchState.ENDED, batch.outcome or BatchOutcome.LOST)
        return len(legs)

    # Its end

    async def _end(self, batch: Batch, own: OwnTransaction, legs: Sequence[BatchLeg]) -> int:
        """What it cost, once; then each leg by itself."""
        mined, outcome = proof(own), _OUTCOMES[own.state]
        cost_wei = await self._cost(batch, mined)
        if cost_wei is None:
            return 0
        self._checkpoint.reached("batch.final.seen")
        if batch.state is BatchState.OPEN:
            nobodys = await self._nobodys(batch, own, legs)
            if not await self._book(batch, mined, outcome, cost_wei, nobodys):
                return 0
        self._checkpoint.reached("batch.booked")
        waiting = [leg for leg in legs if leg.result is LegResult.OPEN]
        moved = await self._end_legs(batch, own, outcome, legs, cost_wei) if waiting else 0
        self._checkpoint.reached("batch.legs.booked")
        if moved == len(waiting):
            async with tx(self._engine) as connection:
                await self._set(connection, batch, BatchState.ENDED, outcome, expect=BatchState.BOOKED)
        return moved

    async def _cost(self, batch: Batch, mined: Mined) -> int | None:
        """Wei for the batch and its allowances; None while one of them, mined before it, isn't recorded as final."""
        if batch.cost_wei is not None:
            return batch.cost_wei
        cost_wei = mined.fee_wei
        async with tx(self._engine) as connection:
            for subject in allowance_subjects(batch.id):
                allowance = await transactions.find(connection, book=self._ledger.book, subject=subject)
                if allowance is None:
                    continue
                if allowance.state in OPEN:
                    return None
                cost_wei += allowance.mined.fee_wei if allowance.mined is not None else 0
        return cost_wei

    async def _nobodys(self, batch: Batch, own: OwnTransaction, legs: Sequence[BatchLeg]) -> Sequence[NobodysLeg]:
        """What became of the legs that were signed and that a recovery has left to a person."""
        signed, here = signed_legs(own), {leg.position for leg in legs}
        if len(here) == len(signed):
            return ()
        await self._ledger.ensure_open(*batch_entries.accounts(batch, native=self._native(batch.network).asset))
        deployment = self._registry.by_asset(batch.network, batch.asset)
        scale = (await self._ledger.asset(batch.asset)).scale
        return [
            NobodysLeg(place, to_ledger_units(leg.amount, deployment, scale=scale), result)
            for place, (leg, result) in enumerate(zip(signed, await self._judged(batch, own), strict=True))
            if place not in here
        ]

    async def _book(
        self, batch: Batch, mined: Mined, outcome: BatchOutcome, cost_wei: int, nobodys: Sequence[NobodysLeg]
    ) -> bool:
        """Gas, of the coin all that left, and `nobodys` legs: once per batch, together with its row."""
        native = self._native(batch.network)
        gas = to_ledger_units(mined.fee_wei, native, scale=(await self._ledger.asset(native.asset)).scale)
        postings, place = entries.gas_postings(batch.network, native.asset, gas), batch_entries.GAS
        if batch.contract is None and outcome is BatchOutcome.FINAL:
            scale = (await self._ledger.asset(batch.asset)).scale
            amount = to_ledger_units(batch.amount, native, scale=scale)
            postings = (entries.left(batch.network, batch.asset, amount), *postings)
            place = batch_entries.VALUE
        change = {
            "state": BatchState.BOOKED.value,
            "outcome": outcome.value,
            "cost_wei": cost_wei,
            "updated_at": self._clock.now(),
        }
        key = {"book": self._ledger.book, "id": batch.id}
        row = Advance(batches.name, key, {"state": BatchState.OPEN.value}, change)
        group = partial(batch_entries.booked, batch, mined, postings, place, nobodys, row)
        if not group(1).commands:
            async with tx(self._engine) as connection:
                return await batch_store.change_batch(
                    connection, self._ledger.book, batch, expect=BatchState.OPEN, change=change
                )
        (refusal,) = await work(self._ledger, group)
        return refusal is None

    async def _end_legs(
        self,
        batch: Batch,
        own: OwnTransaction,
        outcome: BatchOutcome,
        legs: Sequence[BatchLeg],
        cost_wei: int,
    ) -> int:
        mined = proof(own)
        judged = await self._judged(batch, own)
        if not all(one.on_record for one in judged):
            await self._ledger.ensure_open(*batch_entries.accounts(batch, native=self._native(batch.network).asset))
        costs = shares(cost_wei, len(judged))
        makers: list[Callable[[int], Group]] = []
        unclear: list[tuple[BatchLeg, JudgedLeg]] = []
        for leg in legs:
            result = judged[leg.position]
            if leg.result is not LegResult.OPEN:
                continue
            if result.result is LegResult.UNCLEAR:
                unclear.append((leg, result))
            else:
                share = replace(mined, fee_wei=costs[leg.position])
                makers.append(partial(self._leg_group, batch, outcome, leg, result, share))
        ended = (await work(self._ledger, *makers)).count(None) if makers else 0
        return ended + await self._leave_to_a_person(batch, mined, unclear)

    async def _judged(self, batch: Batch, own: OwnTransaction) -> Sequence[JudgedLeg]:
        """What became of each leg that was signed, in order."""
        outcome = _OUTCOMES[own.state]
        if outcome is not BatchOutcome.FINAL:
            return [JudgedLeg(LegResult.RELEASED, "gas", WHOLE[outcome]) for _ in signed_legs(own)]
        return await self._evidence.judged(batch, own)

    def _leg_group(
        self, batch: Batch, outcome: BatchOutcome, leg: BatchLeg, judged: JudgedLeg, share: Mined, attempt: int
    ) -> Group:
        """What ends one leg; `share` is the transaction with this leg's part of the cost."""
        withdrawal = leg.withdrawal
        match judged.result:
            case LegResult.PAID:
                to, fee = _S.FINAL, entries.fee_of(withdrawal, share)
            case LegResult.FAILED:
                to, fee = _S.REVERTED, entries.fee_of_reverted(withdrawal, share)
            case LegResult.RELEASED:
                to, fee = _S.REVERTED if outcome is BatchOutcome.REVERTED else _S.CANCELLED, 0
            case _:
                raise WalletCorrupt(f"a leg that is {judged.result} isn't booked")
        commands = batch_entries.leg(
            withdrawal, share, judged, fee=fee, is_coin=batch.contract is None, attempt=attempt
        )
        change = self._change(catch_up(withdrawal.state, to), fee=fee, reason=judged.reason, **_place(share))
        rows = (
            Advance(withdrawals.name, self._key(withdrawal), {"state": withdrawal.state.value}, change),
            Advance(
                batch_legs.name,
                {"book": self._ledger.book, "batch": batch.id, "position": leg.position},
                {"result": LegResult.OPEN.value},
                {"result": judged.result.value},
            ),
        )
        return Group(commands, rows)

    async def _leave_to_a_person(
        self, batch: Batch, mined: Mined, unclear: Sequence[tuple[BatchLeg, JudgedLeg]]
    ) -> int:
        """Evidence that contradicts itself releases nothing and pays nothing."""
        moved = 0
        for leg, judged in unclear:
            state = leg.withdrawal.state
            change = self._change(catch_up(state, _S.NEEDS_REVIEW), reason=judged.reason, **_place(mined))
            async with tx(self._engine) as connection:
                await batch_store.set_results(
                    connection, self._ledger.book, batch.id, [leg.position], LegResult.UNCLEAR
                )
                moved += len(
                    await withdrawal_store.change_withdrawals(
                        connection, self._ledger.book, [leg.withdrawal.id], expect=state, change=change
                    )
                )
        return moved

    # Rows

    async def _set(
        self,
        connection: AsyncConnection,
        batch: Batch,
        state: BatchState,
        outcome: BatchOutcome,
        *,
        expect: BatchState | None = None,
    ) -> None:
        """Raises _Overtaken if another worker moved it on: then nothing of the tx may be kept."""
        change = {"state": state, "outcome": outcome, "updated_at": self._clock.now()}
        moved = await batch_store.change_batch(
            connection, self._ledger.book, batch, expect=expect or batch.state, change=change
        )
        if not moved:
            raise _Overtaken(batch.id)

    def _change(self, to: WithdrawalState, **columns: object) -> dict[str, object]:
        fresh = {"waiting_for": None, "updated_at": self._clock.now()}
        return {"state": to.value, "cancellable": to in CANCELLABLE, **fresh, **columns}

    def _key(self, withdrawal: Withdrawal) -> dict[str, object]:
        return {"book": self._ledger.book, "id": withdrawal.id}

    def _native(self, network: str) -> Deployment:
        return self._registry.by_asset(network, self._registry.network(network).native_asset)


class _Overtaken(Exception):
    """Another worker has moved this batch on."""


def _place(mined: Mined) -> dict[str, object]:
    return {
        "tx_hash": mined.tx_hash,
        "block_number": mined.block_number,
        "block_hash": mined.block_hash,
        "fee_wei": mined.fee_wei,
    }
