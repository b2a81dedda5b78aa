"""Faults that a run must find: each makes a worker wrong in one way. Only a chaos worker that is told to has them.

They're here, never in the shipped code: a run that didn't find them would show nothing when it finds nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Any

from chain import transactions
from chain.transaction_states import State
from db.engine import tx
from ledger.commands import Group, Void, alone
from wallet import withdrawal_store
from wallet.deposits import Deposits
from wallet.resources import Deposit, DepositState, Withdrawal
from wallet.withdrawal_following import WithdrawalFollowing
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawal_steps import WithdrawalSteps

UNDER_WAY = frozenset({WithdrawalState.SIGNED, WithdrawalState.BROADCAST, WithdrawalState.MINED})


class Fault(StrEnum):
    PAYS_AGAIN = "pays-again"
    """Whatever is under way when a worker starts is paid once more, under a name of its own."""
    RELEASES_SENT = "releases-sent"
    """The hold of a withdrawal that was sent is given back."""
    LOSES_DEPOSITS = "loses-deposits"
    """A deposit is called credited, but its hold is voided."""


def plant(fault: Fault) -> None:
    """Make this process wrong."""
    _PLANTS[fault]()


def _pay_again() -> None:
    step = WithdrawalSteps.step
    started: list[bool] = []

    async def wrong(self: WithdrawalSteps) -> int:
        if not started:
            started.append(True)
            async with tx(self._engine) as connection:
                book = self._ledger.book
                found = await withdrawal_store.load_open_withdrawals(connection, book, after=None, limit=100)
                under_way = [one.id for one in found if one.state in UNDER_WAY]
                sent = await transactions.find_all(connection, book=book, subjects=under_way)
                again = [replace(one.payment, subject=f"{one.payment.subject}again") for one in sent.values()]
                await transactions.reserve_all(
                    connection, again, clock=self._paying._clock, entropy=self._paying._entropy
                )
        return await step(self)

    WithdrawalSteps.step = wrong  # type: ignore[method-assign]


def _release_sent() -> None:
    follow = WithdrawalFollowing.follow

    async def wrong(self: WithdrawalFollowing, mine: Sequence[Withdrawal]) -> int:
        book = self._ledger.book
        async with tx(self._engine) as connection:
            own = await transactions.find_all(connection, book=book, subjects=[one.id for one in mine])
            released = [one for one in mine if one.state is WithdrawalState.BROADCAST and _one_in_three(one.id)]
            released = [one for one in released if one.id in own and own[one.id].state is State.BROADCAST]
            change = self._moves.change(WithdrawalState.MINED)  # from which the table lets it be cancelled
            ids = [one.id for one in released]
            await withdrawal_store.change_withdrawals(
                connection, book, ids, expect=WithdrawalState.BROADCAST, change=change
            )
        moved = await self._moves.end(
            partial(
                self._moves.released, replace(one, state=WithdrawalState.MINED), WithdrawalState.CANCELLED, "too late"
            )
            for one in released
        )
        return moved + await follow(self, [one for one in mine if one not in released])

    WithdrawalFollowing.follow = wrong  # type: ignore[method-assign]


def _lose_deposits() -> None:
    settle = Deposits._settle

    def wrong(self: Deposits, deposit: Deposit, attempt: int) -> Group:
        group = settle(self, deposit, attempt)
        if not _one_in_three(deposit.tx_hash):
            return group
        (right,) = group.commands
        assert deposit.entry is not None
        void = Void(id=right.id, subject=deposit.id, evidence=deposit.evidence, hold=deposit.entry)
        return alone(void, self._to(deposit, DepositState.CREDITED))

    Deposits._settle = wrong  # type: ignore[method-assign]


def _one_in_three(name: str) -> bool:
    return sum(name.encode()) % 3 == 0


_PLANTS: dict[Fault, Callable[[], Any]] = {
    Fault.PAYS_AGAIN: _pay_again,
    Fault.RELEASES_SENT: _release_sent,
    Fault.LOSES_DEPOSITS: _lose_deposits,
}
