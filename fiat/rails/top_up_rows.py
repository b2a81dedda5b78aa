"""What a look at a top-up writes: its row, and with it what the book is to know, both or neither.

Whatever the provider says that it took is credited by one command per top-up, whose id the book knows for ever. What
was held for it since it was asked for is settled then, or voided where nothing came.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from base.errors import OnebookError
from db.engine import tx
from fiat.rails import booking, store
from fiat.rails.booking import FeeBearer
from fiat.rails.desk import Desk
from fiat.rails.errors import RailCorrupt
from fiat.rails.protocol import APPEARS_SECONDS, Payment, PaymentStatus
from fiat.rails.top_up_states import TopUpState, advance
from fiat.tables import top_ups
from fiat.top_ups import TopUp
from ledger.asking import work
from ledger.commands import Command, Group
from ledger.outcomes import Refused
from ledger.requests import content_hash
from ledger.riders import Advance

ACCOUNT_REFUSED = "account_refused"
"""Code of a top-up whose user's account the book doesn't credit: its money is in suspense."""

NOT_YET_KNOWN = "not_yet_known"
"""Code of a top-up that is to be cancelled, and of which nobody knows yet whether the provider has it."""

_S = TopUpState
_CREDIT_REFUSALS = (Refused.ACCOUNT_CLOSED, Refused.AMOUNT_OVERFLOW)
_FORGOTTEN: dict[str, object] = {"method": None, "customer": None}
"""The provider's tokens, which only an order needs: once it's answered or given up, none is sent again."""


class TopUpRows:
    """Writes top-ups by compare-and-set on their revision."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def set(self, top_up: TopUp, to: TopUpState, **columns: object) -> bool:
        """Change the state; False if somebody else changed the row meanwhile. Where nothing was taken, so is the hold
        let go in the same commit."""
        ended = to in (_S.FAILED, _S.CANCELLED)
        cleared: dict[str, object] = {"due_at": None, "action_kind": None, "action_value": None} if ended else {}
        if to not in (_S.SUBMITTED, _S.UNKNOWN):
            cleared |= _FORGOTTEN
        change = {"state": advance(top_up.state, to).value, **columns, **cleared}
        if not (ended and top_up.held):
            return await self.write(top_up, change)
        (refusal,) = await work(
            self._desk.ledger,
            lambda attempt: self._group((booking.release_top_up(top_up, attempt=attempt),), top_up, change),
        )
        return refusal is None

    async def write(self, top_up: TopUp, columns: dict[str, object]) -> bool:
        """Change the row alone; False if somebody else did meanwhile."""
        values = columns | {"updated_at": self._desk.clock.now()}
        async with tx(self._desk.engine) as connection:
            return await store.change(connection, top_ups, self._desk.book, top_up.id, top_up.revision, values)

    async def put_off(self, top_up: TopUp, error: OnebookError) -> None:
        """Look at it later, for what stood in the way."""
        due_at = self._desk.later(top_up.attempts, error)
        if error.code == NOT_YET_KNOWN:
            due_at = min(due_at, seen_by(top_up))
        async with tx(self._desk.engine) as connection:
            await store.put_off(connection, top_ups, self._desk.book, top_up.id, due_at)

    async def again(self, top_up: TopUp) -> TopUp:
        """As it is now."""
        async with tx(self._desk.engine) as connection:
            found = await store.load_top_up(connection, self._desk.book, top_up.id)
        assert found is not None
        return found

    async def credit(self, top_up: TopUp, payment: Payment) -> None:
        """What the provider took is its user's, less the house's fee. Raises RailCorrupt where it's more than asked."""
        desk = self._desk
        advance(top_up.state, _S.FINAL)
        if not 0 < payment.captured <= top_up.amount:
            raise RailCorrupt(f"{top_up.rail} captured {payment.captured} of {top_up.amount} ordered by {top_up.id}")
        await desk.ledger.ensure_open(*booking.accounts(top_up.rail, top_up.owner, top_up.asset))
        fee, service_fee = payment.fee or 0, top_up.service_fee_of(payment.captured)
        columns = self.columns(top_up, payment) | {
            "captured": payment.captured,
            "fee": payment.fee,
            "service_fee": service_fee,
            "due_at": desk.later(0) if payment.fee is None else None,
            "attempts": 0,
        }

        def credit(attempt: int) -> Group:
            commands = booking.credit(
                top_up, payment, fee=fee, service_fee=service_fee, bearer=desk.bearer, attempt=attempt
            )
            return self._final(commands, top_up, columns)

        def suspend(attempt: int) -> Group:
            aside = columns | {"code": ACCOUNT_REFUSED, "service_fee": 0}
            return self._final((booking.suspend(top_up, payment, fee=fee, attempt=attempt),), top_up, aside)

        (refusal,) = await work(desk.ledger, credit)
        if refusal is not None and refusal.code in _CREDIT_REFUSALS:
            await work(desk.ledger, suspend)

    async def late_fee(self, top_up: TopUp, fee: int) -> None:
        """The provider told its fee after the payment was credited."""
        columns: dict[str, object] = {"fee": fee, "due_at": None}
        if not fee:
            await self.write(top_up, columns)
            return

        def borne_by(bearer: FeeBearer) -> Callable[[int], Group]:
            return lambda attempt: self._final(
                (booking.late_fee(top_up, fee=fee, bearer=bearer, attempt=attempt),), top_up, columns
            )

        bearer = self._desk.bearer if await self._is_kept(top_up) else FeeBearer.HOUSE
        (refusal,) = await work(self._desk.ledger, borne_by(bearer))
        if refusal is not None and refusal.code in _CREDIT_REFUSALS and bearer is FeeBearer.USER:
            await work(self._desk.ledger, borne_by(FeeBearer.HOUSE))

    def columns(self, top_up: TopUp, payment: Payment) -> dict[str, object]:
        """What the provider's word changes besides the state."""
        told = payment.code is not None or payment.status is not PaymentStatus.AUTHORISED  # else: why no capture came
        action = payment.action if payment.status is PaymentStatus.REQUIRES_ACTION else None
        return {
            "source": payment.id,
            "capture_source": payment.capture_id,
            "action_kind": None if action is None else action.kind.value,
            "action_value": None if action is None else action.value,
            "code": payment.code if told else top_up.code,
            "reason": payment.reason if told else top_up.reason,
            "due_at": self._desk.later(top_up.attempts),
            "attempts": top_up.attempts + 1,
        }

    async def _is_kept(self, top_up: TopUp) -> bool:
        """Whether its user has something of it: it isn't set aside, and not wholly given back or disputed away."""
        if top_up.code == ACCOUNT_REFUSED:
            return False
        async with tx(self._desk.engine) as connection:
            withdrawn = await store.withdrawn_of(connection, self._desk.book, top_up.id)
        return top_up.refunded + withdrawn < top_up.captured

    def _final(self, commands: tuple[Command, ...], top_up: TopUp, columns: dict[str, object]) -> Group:
        return self._group(commands, top_up, {"state": _S.FINAL.value} | columns | _FORGOTTEN)

    def _group(self, commands: tuple[Command, ...], top_up: TopUp, columns: dict[str, object]) -> Group:
        """The commands, and the row if it's still as it was read."""
        change = columns | {"revision": top_up.revision + 1, "updated_at": self._desk.clock.now()}
        row = Advance(top_ups.name, {"book": self._desk.book, "id": top_up.id}, {"revision": top_up.revision}, change)
        return Group(commands, (row,), content=content_hash(commands[0].id.rpartition(":")[0]))


def seen_by(top_up: TopUp) -> datetime:
    """Until when an order that was sent may come to be seen: nobody sends one that's to be cancelled, once that's
    written down, and a look that began before ends soon."""
    return top_up.updated_at + timedelta(seconds=APPEARS_SECONDS)
