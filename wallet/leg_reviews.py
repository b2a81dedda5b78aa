"""How a leg under review ends by its batch's own final transaction: by the contract's event, and by the token's logs.

What the whole batch moved is in the book by then: its gas, and of the coin all that left. So a leg books no gas, and of
the coin only where its amount is now.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from chain.evm.node import Node
from chain.payments import Mined, OwnTransaction
from chain.transaction_states import State
from db.engine import tx
from ledger.accounts import house_account
from ledger.commands import Command
from ledger.riders import Advance
from wallet import batch_entries, batch_store, review_store
from wallet import resolutions as rules
from wallet import withdrawal_entries as entries
from wallet.batch_evidence import BatchEvidence, proof, signed_legs
from wallet.batch_results import JudgedLeg, LegResult, LegSeen, judge, seen
from wallet.batch_rules import shares
from wallet.errors import WalletCorrupt
from wallet.resolutions import InBatch, OnChainFindings
from wallet.resources import Batch, Withdrawal
from wallet.tables import batch_legs


@dataclass(frozen=True, slots=True)
class LegEnd:
    """What ends a leg: commands, the row of the leg (none where there is no such row), and what it's ended by.

    `share` is the batch's transaction with this leg's part of its cost, `fee` what its owner bears of that.
    """

    commands: tuple[Command, ...]
    rows: tuple[Advance, ...]
    place: str
    share: Mined
    fee: int


@dataclass(frozen=True, slots=True)
class _Leg:
    batch: Batch
    seen: LegSeen
    judged: JudgedLeg
    share: Mined
    claimed: set[str]
    has_refund: bool


class LegReviews:
    """Ends legs. `nodes`: by network, who is asked for the blocks that batches were mined in."""

    def __init__(self, engine: AsyncEngine, *, book: str, nodes: Mapping[str, Node]) -> None:
        self._engine = engine
        self._book = book
        self._evidence = BatchEvidence(engine, nodes=nodes)

    async def paid(
        self,
        withdrawal: Withdrawal,
        found: OnChainFindings,
        own: OwnTransaction,
        *,
        request: str,
        said: Mapping[str, str],
    ) -> LegEnd:
        """By the batch's own transaction. Raises ResolutionRefused, NodeUnavailable, NodeMisbehaved."""
        leg, about = await self._load(found, own), _in_batch(found)
        place = rules.check_paid_in_batch(withdrawal, found, leg.seen, claimed=leg.claimed)
        commands = batch_entries.resolved_as_paid(
            withdrawal, leg.share, place=place, left_by=_left_by(withdrawal, leg, about), request=request, said=said
        )
        fee = entries.fee_of(withdrawal, leg.share)
        return LegEnd(commands, self._rows(about, LegResult.PAID), place, leg.share, fee)

    async def returned(
        self,
        withdrawal: Withdrawal,
        found: OnChainFindings,
        own: OwnTransaction,
        *,
        request: str,
        said: Mapping[str, str],
    ) -> LegEnd:
        """The batch's own transaction paid it nothing. Raises what `paid` does."""
        rules.check_returnable(withdrawal, found)
        leg, about = await self._load(found, own), _in_batch(found)
        rules.check_unpaid_in_batch(withdrawal, leg.seen, claimed=leg.claimed)
        told = leg.seen.told
        place = f"nonce:{withdrawal.id}" if told is None else f"log:{told.position}"
        commands = batch_entries.resolved_as_unpaid(
            withdrawal, leg.share, place=place, back_to=_back_to(withdrawal, leg, about), request=request, said=said
        )
        return LegEnd(commands, self._rows(about, LegResult.FAILED), f"nonce:{withdrawal.id}", leg.share, 0)

    async def _load(self, found: OnChainFindings, own: OwnTransaction) -> _Leg:
        about, mined, legs = _in_batch(found), proof(own), signed_legs(own)
        async with tx(self._engine) as connection:
            batch = await batch_store.load_batch(connection, self._book, about.batch)
            claimed = await review_store.claimed_places(connection, self._book, own.payment.network, mined.tx_hash)
        if batch is None:
            raise WalletCorrupt(f"{about.batch} has a transaction and no row")
        costs = shares(batch.cost_wei or 0, len(legs))
        share = replace(mined, fee_wei=costs[about.position])
        shown, judged = LegSeen(batch.contract is None), JudgedLeg(LegResult.RELEASED, "gas")
        if own.state is State.FINAL:
            mined_as = await self._evidence.transaction(batch, mined)
            shown = seen(legs, about.position, mined_as, via=batch.via, contract=batch.contract)
            judged = judge(legs, mined_as, via=batch.via, contract=batch.contract)[about.position]
        has_refund = False
        if shown.is_coin and shown.told is not None and not shown.told.paid:
            has_refund = f"log:{shown.told.position}" in await self._evidence.given_back(batch, mined)
        return _Leg(batch, shown, judged, share, claimed, has_refund)

    def _rows(self, about: InBatch, result: LegResult) -> tuple[Advance, ...]:
        if not about.has_row:
            return ()
        key = {"book": self._book, "batch": about.batch, "position": about.position}
        change = {"result": result.value}
        return (Advance(batch_legs.name, key, {"result": LegResult.UNCLEAR.value}, change),)


def _left_by(withdrawal: Withdrawal, leg: _Leg, about: InBatch) -> str | None:
    """From where what was paid is to be taken. Of the coin it has left with the batch; of nobody's leg it's in suspense
    already, as far as the batch's end could tell."""
    if not about.has_row and (leg.seen.is_coin or leg.judged.result is LegResult.PAID):
        return house_account(entries.SUSPENSE, withdrawal.asset)
    if leg.seen.is_coin:
        return None
    return entries.left(withdrawal.network, withdrawal.asset, withdrawal.amount).credit


def _back_to(withdrawal: Withdrawal, leg: _Leg, about: InBatch) -> str | None:
    """Where the coin is that left with the batch for this leg: back, if the record has it so; else nobody knows."""
    if not leg.seen.is_coin or not about.has_row or leg.judged.result is LegResult.RELEASED:
        return None
    if leg.has_refund:
        return entries.left(withdrawal.network, withdrawal.asset, withdrawal.amount).credit
    return house_account(entries.SUSPENSE, withdrawal.asset)


def _in_batch(found: OnChainFindings) -> InBatch:
    if found.leg is None:
        raise WalletCorrupt("a leg is one of a batch")
    return found.leg
