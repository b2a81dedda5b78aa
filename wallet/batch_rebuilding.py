"""Batches as the signer's journal has them, put back into a database that has forgotten them.

The batch's row comes first; then each leg, with its withdrawal: one of which nothing is known is held again in one
group with both rows (`wallet.rebuilding`), one that waited moves on in one tx with its leg. A leg that contradicts what
is known here gets no row: what it takes is nobody's (`wallet.batch_ends`). The batch's transactions are put back by
`chain.rebuilding` before; what becomes of them the chain tells. Done again it does what is still to be done.
"""

from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import transactions
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.networks import Registry
from chain.rebuilding import JournalPayment
from chain.signing import Batch as BatchOrder
from chain.signing import Leg
from chain.transaction_states import Kind, State
from db.engine import tx
from ledger.engine import Ledger
from ledger.riders import Insert
from wallet import batch_store, withdrawal_store
from wallet.batch_results import LegResult
from wallet.errors import CannotRebuild
from wallet.rebuilding import Fate, Outlook, Rebuilding
from wallet.resources import Batch, BatchState, Withdrawal
from wallet.tables import batch_legs
from wallet.withdrawal_states import ENDED, WithdrawalState

_ALONE = (WithdrawalState.SIGNED, WithdrawalState.BROADCAST, WithdrawalState.MINED)


@dataclass(frozen=True, slots=True)
class LegOutlook:
    """What would be done about a leg that no row stands for. `outlook` None: a person must see to it, and `why`."""

    position: int
    payment: JournalPayment
    outlook: Outlook | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class BatchOutlook:
    """What would be done about a batch: its row, whether that is here, and the legs that no row stands for."""

    batch: Batch
    is_known: bool
    legs: tuple[LegOutlook, ...]

    @property
    def is_needed(self) -> bool:
        """Whether anything can be done."""
        return not self.is_known or any(leg.outlook is not None for leg in self.legs)


class BatchRebuilding:
    """Puts batches back. Only while nothing else moves money: see `chain.restores`."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        withdrawals: Rebuilding,
        clock: Clock,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`checkpoint` is told `recover.batch`, and `recover.leg` after each leg."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._withdrawals = withdrawals
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()

    async def look(self, signed: JournalPayment) -> BatchOutlook:
        """What would be done about it; nothing changes. Raises CannotRebuild where nothing can be."""
        batch = self._batch(signed)
        async with tx(self._engine) as connection:
            here = await batch_store.leg_positions(connection, self._ledger.book, [batch.id])
        known = here.get(batch.id)
        legs = [
            await self._look_at(batch, place, _paid_alone(signed, leg))
            for place, leg in enumerate(_legs(signed))
            if place not in (known or ())
        ]
        return BatchOutlook(batch, known is not None, tuple(legs))

    async def rebuild(self, signed: JournalPayment) -> tuple[int, list[LegOutlook]]:
        """Do it: how many withdrawals were put back or moved on, and the legs that the book refused after all."""
        outlook = await self.look(signed)
        if not outlook.is_known:
            async with tx(self._engine) as connection:
                await batch_store.insert_batch(connection, self._ledger.book, outlook.batch, ())
        self._checkpoint.reached("recover.batch")
        done, refused = 0, []
        for leg in outlook.legs:
            if leg.outlook is None:
                continue
            try:
                await self._rebuild_leg(outlook.batch, leg, leg.outlook)
                done += 1
            except CannotRebuild as problem:
                refused.append(replace(leg, outlook=None, why=problem.message))
            self._checkpoint.reached("recover.leg")
        return done, refused

    async def _look_at(self, batch: Batch, position: int, payment: JournalPayment) -> LegOutlook:
        try:
            outlook = await self._withdrawals.look(payment)
            if outlook.fate is not Fate.REBUILD:
                await self._check_known(batch, outlook.withdrawal)
                outlook = replace(outlook, fate=Fate.MOVE_ON)
            return LegOutlook(position, payment, outlook)
        except CannotRebuild as problem:
            return LegOutlook(position, payment, None, problem.message)

    async def _check_known(self, batch: Batch, known: Withdrawal) -> None:
        """Raises CannotRebuild if something else than this batch has paid or ended it, or may have."""
        if known.asset != batch.asset:
            raise CannotRebuild(f"{known.id} stands here with another asset than was signed for it")
        if known.state in ENDED:
            raise CannotRebuild(f"{known.id} is {known.state} here already, but {batch.id} was signed for it as well")
        async with tx(self._engine) as connection:
            alone = await transactions.find(connection, book=self._ledger.book, subject=known.id)
            other = await batch_store.load_batch_of(connection, self._ledger.book, known.id)
        if known.state in _ALONE or (alone is not None and alone.state is not State.RESERVED):
            raise CannotRebuild(f"{known.id} is paid alone here, but {batch.id} was signed for it as well")
        if other is not None:
            raise CannotRebuild(f"{known.id} is paid by {other} here, but {batch.id} was signed for it as well")

    async def _rebuild_leg(self, batch: Batch, leg: LegOutlook, outlook: Outlook) -> None:
        withdrawal, book = outlook.withdrawal, self._ledger.book
        key: dict[str, object] = {"book": book, "batch": batch.id, "position": leg.position}
        values: dict[str, object] = {"withdrawal": withdrawal.id, "result": LegResult.OPEN.value}
        if outlook.fate is Fate.REBUILD:
            await self._withdrawals.put_back(leg.payment, withdrawal, leg=Insert(batch_legs.name, key, values))
            return
        change = self._withdrawals.moved_on(withdrawal)
        async with tx(self._engine) as connection:
            moved = await withdrawal_store.change_withdrawals(
                connection, book, [withdrawal.id], expect=withdrawal.state, change=change
            )
            if not moved:
                raise CannotRebuild(f"{withdrawal.id} isn't {withdrawal.state} here any more: run it again")
            await batch_store.insert_leg(connection, key | values)

    def _batch(self, signed: JournalPayment) -> Batch:
        """The row as it was when it was made."""
        payment = signed.payment
        deployment = self._registry.by_contract(payment.network, payment.contract)
        if deployment is None:
            raise CannotRebuild(
                f"{signed.subject} paid {payment.contract} on {payment.network}, which isn't configured: put it under"
                " [[deployments]] and run it again"
            )
        return Batch(
            id=signed.subject,
            network=payment.network,
            asset=deployment.asset,
            contract=payment.contract,
            via=payment.recipient,
            state=BatchState.OPEN,
            outcome=None,
            amount=payment.amount,
            cost_wei=None,
            created_at=signed.attempts[0].at,
            updated_at=self._clock.now(),
        )


def _legs(signed: JournalPayment) -> tuple[Leg, ...]:
    if not isinstance(signed.payment.order, BatchOrder):
        raise CannotRebuild(f"the journal doesn't say what {signed.subject} pays")
    return signed.payment.order.legs


def _paid_alone(signed: JournalPayment, leg: Leg) -> JournalPayment:
    """A leg as if it had been paid by itself, with its part of the gas."""
    payment, count = signed.payment, len(_legs(signed))
    told = None if leg.claims is None else leg.claims.fee_wei_max
    alone = replace(
        payment,
        kind=Kind.WITHDRAWAL,
        subject=leg.subject,
        to=leg.to,
        amount=leg.amount,
        gas_limit=payment.gas_limit // count,
        fee_wei_max=payment.fee_wei_max // count if told is None else told,
        order=None,
        claims=leg.claims,
    )
    return replace(signed, payment=alone)
