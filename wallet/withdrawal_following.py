"""Withdrawals that have a nonce: each is brought to where its transaction stands, and its end booked with the block.

What the signer refused goes to people who may approve it, or is given back.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.errors import Unavailable
from chain import token_store, transactions
from chain.networks import Deployment, Registry, to_ledger_units
from chain.tokens import Quirk
from chain.transaction_states import State
from chain.transaction_states import WaitingFor as OwnWaitingFor
from chain.transactions import Mined, OwnTransaction
from db.engine import tx
from ledger.commands import Group, Posting
from ledger.engine import Ledger
from wallet import batch_store, withdrawal_store
from wallet import withdrawal_entries as entries
from wallet.resources import Withdrawal
from wallet.withdrawal_approvals import ALONE, APPROVABLE, ASKED, Approving
from wallet.withdrawal_moves import BY_THE_HOUSE, NOT_ALLOWED, Maker, WithdrawalMoves, mined_columns, proof
from wallet.withdrawal_states import WaitingFor, WithdrawalState, advance, catch_up

_S = WithdrawalState
_MIRRORED = {
    State.SIGNED: _S.SIGNED,
    State.BROADCAST: _S.BROADCAST,
    State.MINED: _S.MINED,
    State.NEEDS_REVIEW: _S.NEEDS_REVIEW,
}
"""The states of a transaction that its withdrawal shows as its own."""


class WithdrawalFollowing:
    """Takes withdrawals from a reserved nonce to their end."""

    def __init__(
        self,
        engine: AsyncEngine,
        moves: WithdrawalMoves,
        *,
        ledger: Ledger,
        registry: Registry,
        approving: Approving | None,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._moves = moves
        self._ledger = ledger
        self._registry = registry
        self._lossy = frozenset(
            (one.network, one.contract) for one in registry.deployments if Quirk.FEE_ON_TRANSFER in one.quirks
        )
        self._approving = approving
        self._clock = clock

    async def follow(self, mine: Sequence[Withdrawal]) -> int:
        """Bring each withdrawal to where its transaction stands; its end is booked with the evidence."""
        book, ids = self._ledger.book, [withdrawal.id for withdrawal in mine]
        async with tx(self._engine) as connection:
            own = await transactions.find_all(connection, book=book, subjects=ids)
            past = await withdrawal_store.load_past(connection, book, [id for id in ids if id not in own])
            sent = await withdrawal_store.load_sent(connection, book, ids)
            refused = await withdrawal_store.load_refused(
                connection, book, [id for id, (state, _) in past.items() if state is State.REFUSED], codes=APPROVABLE
            )
            final = [(one, own[one.id]) for one in mine if one.id in own and own[one.id].state is State.FINAL]
            paid = [(one, found.payment.contract, proof(found)) for one, found in final]
            places = await withdrawal_store.load_places(connection, paid, lossy=self._lossy)
            kept = {
                one.id: await self._kept(connection, one, found, places[one.id])
                for one, found in final
                if one.id in places
            }
        changes: list[tuple[Withdrawal, dict[str, object]]] = []
        ends: list[Maker] = []
        people = await self._ask_people(mine, refused)
        for withdrawal in mine:
            found = own.get(withdrawal.id)
            if withdrawal.id in people:
                if people[withdrawal.id]:
                    asking = self._moves.change(advance(withdrawal.state, _S.AWAITING_APPROVAL), reason=ASKED)
                    changes.append((withdrawal, asking))
            elif found is None:
                self._unsigned(withdrawal, past.get(withdrawal.id), changes, ends)
            elif found.state is State.FINAL and (
                withdrawal.id not in kept or sum(units for _, units in kept[withdrawal.id]) >= withdrawal.amount
            ):
                why = "the transaction succeeded, but paid nothing"
                changes += self._shown(withdrawal, found, sent, _S.NEEDS_REVIEW, reason=why)
            elif found.state is State.FINAL:
                gas = await self._gas(withdrawal, proof(found))
                ends.append(
                    partial(self._paid, withdrawal, proof(found), places[withdrawal.id], gas, kept[withdrawal.id])
                )
            elif found.state in (State.REVERTED, State.CANCELLED):
                gas = await self._gas(withdrawal, proof(found))
                to = _S.REVERTED if found.state is State.REVERTED else _S.CANCELLED
                ends.append(partial(self._unpaid, withdrawal, proof(found), to, gas))
            else:
                to = _MIRRORED.get(found.state, withdrawal.state)
                tells = found.state is State.NEEDS_REVIEW or found.waiting_for is OwnWaitingFor.APPROVAL
                reason = found.refusal if tells else _meanwhile(withdrawal)
                changes += self._shown(withdrawal, found, sent, to, reason=reason)
        moved = await self._moves.save(changes)
        return moved + await self._moves.end(ends)

    async def _ask_people(self, mine: Sequence[Withdrawal], refused: Mapping[str, OwnTransaction]) -> dict[str, bool]:
        """By withdrawal: whether people are asked to approve what the signer refused; False: they can't be asked now.

        Not of those which nobody could approve, or nobody wants paid any more.
        """
        if self._approving is None:
            return {}
        asked: dict[str, bool] = {}
        for withdrawal in mine:
            own = refused.get(withdrawal.id)
            if own is None or withdrawal.state is not _S.NONCE_RESERVED or withdrawal.cancelling is not None:
                continue
            try:
                code, owner = own.refusal_code or "", withdrawal.owner
                if await self._approving.ask(own.payment, owner=owner, code=code, refused=own.id):
                    asked[withdrawal.id] = True
            except Unavailable:
                asked[withdrawal.id] = False
        # What people approve is this very payment: as the leg of a batch it would be refused, and the batch with it.
        alone = dict.fromkeys((id for id, is_asked in asked.items() if is_asked), ALONE)
        if alone:
            async with tx(self._engine) as connection:
                await batch_store.pay_alone(connection, self._ledger.book, alone, now=self._clock.now())
        return asked

    def _unsigned(
        self,
        withdrawal: Withdrawal,
        past: tuple[State, str] | None,
        changes: list[tuple[Withdrawal, dict[str, object]]],
        ends: list[Maker],
    ) -> None:
        """Its transaction ended without a signature: refused by the signer, or given back by the broadcaster.

        One under review may have been paid otherwise, as by a batch that a restore has forgotten: a person ends it.
        """
        if withdrawal.state is _S.NEEDS_REVIEW:
            return
        match past:
            case (State.REFUSED, _):
                # The signer's words tell of limits and of what others withdraw: they stay with the transaction.
                ends.append(partial(self._moves.released, withdrawal, _S.REJECTED, NOT_ALLOWED))
            case (State.GIVEN_BACK, _) if withdrawal.cancelling is not None:
                ends.append(partial(self._moves.released, withdrawal, _S.CANCELLED, BY_THE_HOUSE))
            case (State.GIVEN_BACK, words):
                back = self._moves.change(advance(withdrawal.state, _S.APPROVED), reason=words)
                changes.append((withdrawal, back))

    def _paid(
        self,
        withdrawal: Withdrawal,
        mined: Mined,
        place: str,
        gas: tuple[Posting, ...],
        kept: Sequence[tuple[str, int]],
        attempt: int,
    ) -> Group:
        row = self._moves.row(withdrawal, _S.FINAL, mined=mined, fee=entries.fee_of(withdrawal, mined))
        return Group(entries.paid(withdrawal, mined, place=place, gas=gas, kept=kept, attempt=attempt), (row,))

    async def _kept(
        self, connection: AsyncConnection, withdrawal: Withdrawal, own: OwnTransaction, place: str
    ) -> tuple[tuple[str, int], ...]:
        """What a token that keeps a part of each transfer told of that part."""
        if (withdrawal.network, own.payment.contract) not in self._lossy:
            return ()
        told = await token_store.load_kept(
            connection,
            withdrawal.network,
            block_hash=proof(own).block_hash,
            tx_hash=proof(own).tx_hash,
            contract=own.payment.contract,
            sender=own.payment.sender.address,
            besides=place,
        )
        deployment = self._registry.by_asset(withdrawal.network, withdrawal.asset)
        scale = (await self._ledger.asset(withdrawal.asset)).scale
        return tuple((place, to_ledger_units(units, deployment, scale=scale)) for place, units in told)

    def _unpaid(
        self, withdrawal: Withdrawal, mined: Mined, to: WithdrawalState, gas: tuple[Posting, ...], attempt: int
    ) -> Group:
        fee = entries.fee_of_reverted(withdrawal, mined) if to is _S.REVERTED else 0
        reason = BY_THE_HOUSE if to is _S.CANCELLED else None
        row = self._moves.row(withdrawal, to, mined=mined, fee=fee, reason=reason)
        return Group(entries.unpaid(withdrawal, mined, gas=gas, attempt=attempt, fee=fee), (row,))

    def _shown(
        self,
        withdrawal: Withdrawal,
        own: OwnTransaction,
        sent: Mapping[str, str],
        to: WithdrawalState,
        *,
        reason: str | None = None,
    ) -> list[tuple[Withdrawal, dict[str, object]]]:
        """What the chain says of the transaction, if it says something new. `sent`: the hashes last sent."""
        waiting = None if own.waiting_for is None else WaitingFor(own.waiting_for.value)
        columns = {
            "waiting_for": waiting,
            "reason": reason,
            **mined_columns(own.mined, sent.get(withdrawal.id)),
        }
        unchanged = all(getattr(withdrawal, name) == value for name, value in columns.items())
        if to is withdrawal.state and unchanged:
            return []
        state = to if to is withdrawal.state else catch_up(withdrawal.state, to)
        return [(withdrawal, self._moves.change(state, **columns))]

    async def _gas(self, withdrawal: Withdrawal, mined: Mined) -> tuple[Posting, ...]:
        native = self._native(withdrawal.network)
        scale = (await self._ledger.asset(native.asset)).scale
        amount = to_ledger_units(mined.fee_wei, native, scale=scale)
        return entries.gas_postings(withdrawal.network, native.asset, amount)

    def _native(self, network: str) -> Deployment:
        return self._registry.by_asset(network, self._registry.network(network).native_asset)


def _meanwhile(withdrawal: Withdrawal) -> str | None:
    return None if withdrawal.cancelling is None else "the house is cancelling it"
