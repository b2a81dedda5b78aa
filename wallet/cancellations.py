"""A treasurer cancels a withdrawal, however far its payment has come before it's mined.

Before a nonce is reserved it ends at once. After that its wish is written down, and the broadcaster carries it out:
what was never signed is given back, what was is outbid by a transaction that uses up the nonce and pays nothing, at the
house's cost. Whether that one or the payment is mined the chain decides, and only its final evidence ends the
withdrawal: cancelled, or paid. Who asks twice with the same key gets the same answer.
"""

from dataclasses import replace
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import NotFound
from chain import transactions
from chain.transaction_states import State
from db.engine import tx
from ledger.asking import work
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.errors import RequestConflict
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from wallet import withdrawal_entries as entries
from wallet import withdrawal_store
from wallet.errors import AlreadyCancelling, CancelReasonMissing, NotCancellable
from wallet.resources import Withdrawal
from wallet.tables import cancellations, withdrawals
from wallet.withdrawal_moves import BY_THE_HOUSE
from wallet.withdrawal_states import WithdrawalState

_TRIES = 3
"""So often it may have been moved on between reading it and cancelling it."""

_S = WithdrawalState
_PREPARED = frozenset({_S.NONCE_RESERVED, _S.SIGNED, _S.BROADCAST})
_OUTBIDDABLE = frozenset({State.RESERVED, State.SIGNED, State.BROADCAST})


class Cancellations:
    """Takes what treasurers want given up."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock

    async def ask(self, *, key: RequestKey, treasurer: str, withdrawal: str, reason: str) -> Withdrawal:
        """Have it given up; the withdrawal as it stands now, which may be before its end.

        Raises NotFound, CancelReasonMissing, NotCancellable (mined, or ended), AlreadyCancelling, RequestConflict.
        """
        if not reason.strip():
            raise CancelReasonMissing("say why somebody's withdrawal is cancelled", param="reason")
        if await self._asked_before(key, withdrawal):
            return replace(await self.get(withdrawal), replayed=True)
        for _ in range(_TRIES):
            found = await self.get(withdrawal)
            if found.cancellable:
                done = await self._end_now(found, key, treasurer, reason)
            elif found.state in _PREPARED:
                done = await self._want_given_up(found, key, treasurer, reason)
            else:
                raise _too_late(found)
            if done:
                return await self.get(withdrawal)
        raise _too_late(await self.get(withdrawal))

    async def get(self, withdrawal: str) -> Withdrawal:
        """Anybody's withdrawal. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await withdrawal_store.load_withdrawal(connection, self._ledger.book, withdrawal)
        if found is None:
            raise NotFound(f"there is no withdrawal {withdrawal[:40]!r}", param="withdrawal")
        return found

    async def _asked_before(self, key: RequestKey, withdrawal: str) -> bool:
        async with tx(self._engine) as connection:
            same = await withdrawal_store.load_cancellation(connection, self._ledger.book, key=key.id)
            other = await withdrawal_store.cancellation_of(connection, self._ledger.book, withdrawal)
        if same is not None and bytes(same.content) != key.content:
            raise RequestConflict(
                "this idempotency key was used for another request",
                first=same.withdrawal,
                first_booked_at=same.asked_at.isoformat(),
            )
        if same is None and other is not None:
            raise AlreadyCancelling(
                f"{other.asked_by} asked for that at {other.asked_at.isoformat()}: its state tells what becomes of it",
                param="withdrawal",
                asked_by=other.asked_by,
                asked_at=other.asked_at.isoformat(),
            )
        return same is not None

    async def _end_now(self, found: Withdrawal, key: RequestKey, treasurer: str, reason: str) -> bool:
        """No nonce is reserved: the hold is released in the same tx. False if one was reserved meanwhile."""
        (refusal,) = await work(self._ledger, partial(self._ended, found, self._request(key, treasurer, reason)))
        if refusal is not None and refusal.code is Refused.DUPLICATE_ROW:
            return not await self._asked_before(key, found.id)
        return refusal is None

    def _ended(self, found: Withdrawal, request: dict[str, object], attempt: int) -> Group:
        key = {"book": self._ledger.book, "id": found.id}
        change = {
            "state": _S.CANCELLED.value,
            "cancellable": False,
            "waiting_for": None,
            "reason": BY_THE_HOUSE,
            "updated_at": self._clock.now(),
        }
        row = Advance(withdrawals.name, key, {"cancellable": True}, change)
        noted = Insert(cancellations.name, {"book": self._ledger.book, "withdrawal": found.id}, request)
        return Group((entries.cancel(found, attempt),), (row, noted))

    async def _want_given_up(self, found: Withdrawal, key: RequestKey, treasurer: str, reason: str) -> bool:
        """Its payment is prepared: write down that it's unwanted. False if it has moved on meanwhile."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            now = await withdrawal_store.lock_withdrawal(connection, book, found.id)
            own = await transactions.find(connection, book=book, subject=found.id)
            if now is None or now.state not in _PREPARED:
                return False
            if own is not None and own.state not in _OUTBIDDABLE:
                raise _too_late(replace(now, state=_S.MINED))
            if now.cancelling is not None:
                return False
            if own is None and await withdrawal_store.is_in_a_batch(connection, book, found.id):
                raise NotCancellable(
                    "the withdrawal shares its transaction with others (docs/batches.md), and isn't cancelled alone",
                    param="withdrawal",
                    state=now.state.value,
                )
            await withdrawal_store.want_given_up(
                connection,
                book,
                found.id,
                reason=reason,
                now=self._clock.now(),
                request=self._request(key, treasurer, reason),
            )
            if own is not None and not await transactions.cancel(
                connection, book=book, subject=found.id, reason=reason
            ):
                raise _too_late(replace(now, state=_S.MINED))
        return True

    def _request(self, key: RequestKey, treasurer: str, reason: str) -> dict[str, object]:
        now = self._clock.now()
        return {"key": key.id, "content": key.content, "asked_by": treasurer, "reason": reason, "asked_at": now}


def _too_late(withdrawal: Withdrawal) -> NotCancellable:
    return NotCancellable(
        f"the withdrawal is {withdrawal.state}; the house can cancel one until its payment is mined",
        param="withdrawal",
        state=withdrawal.state.value,
    )
