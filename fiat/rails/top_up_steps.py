"""Top-ups on their way: asked for at the provider, looked at again until they end, and credited once.

Every look has the same shape: read our row, ask the provider, and write what follows only if the row is still as it was
(its `revision`). So looks may overlap, come late or twice. What is written: `fiat.rails.top_up_rows`.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from base.errors import OnebookError, Unavailable
from db.engine import tx
from fiat.rails import store
from fiat.rails.desk import Desk
from fiat.rails.errors import (
    AmountNotPayable,
    Declined,
    EffectUnknown,
    NotCapable,
    RailCorrupt,
    RateLimited,
    RefusedByProvider,
    UnknownRail,
)
from fiat.rails.looking import look_at_due
from fiat.rails.protocol import Capturing, Payment, PaymentStatus
from fiat.rails.top_up_rows import NOT_YET_KNOWN, TopUpRows, seen_by
from fiat.rails.top_up_states import TopUpState, follow
from fiat.tables import top_ups
from fiat.top_ups import TopUp

ABANDONED_AFTER = timedelta(hours=24)
"""After so long without the payer's doing, the payment is cancelled at its provider."""

FEE_LOOKS_MAX = 30
"""Looks for a fee that the provider hasn't told; then a settlement's difference tells it."""

_S = TopUpState

log = structlog.get_logger()


class TopUpSteps:
    """Moves top-ups on."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rows = TopUpRows(desk)

    async def step(self, *, rails: Collection[str] = (), but: Collection[str] = ()) -> int:
        """Look at those that are due, of `rails` (all if none is named) but these; how many were looked at."""
        return await look_at_due(
            self._desk, top_ups, lambda row: self.look(store.read_top_up(row)), rails=rails, but=but
        )

    async def look(self, top_up: TopUp) -> None:
        """Take it one look further; what its provider can't say now is asked later. Never raises for the provider."""
        try:
            await self.follow(top_up)
        except Unavailable as error:
            await self._rows.put_off(top_up, error)
        except OnebookError as error:
            log.error("top-up not followed", top_up=top_up.id, rail=top_up.rail, code=error.code, reason=error.message)
            await self._rows.put_off(top_up, error)

    async def hear(self, rail: str, source: str, reference: str | None) -> None:
        """The provider told of a payment: read it there, and take it. Raises what the rail does.

        It may be known by our id alone, when its webhook overtook the answer to the call.
        """
        desk = self._desk
        async with tx(desk.engine) as connection:
            found = await store.find_top_up(connection, desk.book, rail, source)
            if found is None and reference is not None:
                found = await store.load_top_up(connection, desk.book, reference)
        if found is None:
            payment = await desk.rails.get(rail).fetch_payment(source)
            if payment is None or payment.reference is None:
                return  # not of our making
            async with tx(desk.engine) as connection:
                found = await store.load_top_up(connection, desk.book, payment.reference)
        if found is None or found.rail != rail or found.state is _S.REQUESTED:
            return
        if found.state is _S.FAILED and found.source is None:
            await self._require_nothing_taken(found, source)
            return
        await self.follow(found, source=source)

    async def _require_nothing_taken(self, top_up: TopUp, source: str) -> None:
        """Our id alone doesn't bind a payment to a top-up that failed without one: others may write it too.

        Raises RailCorrupt where the provider took money for it all the same: a person must look.
        """
        payment = await self._desk.rails.get(top_up.rail).fetch_payment(source)
        if payment is not None and payment.status is PaymentStatus.CAPTURED:
            raise RailCorrupt(
                f"{top_up.rail} captured {source} under the id of {top_up.id}, which failed without a payment: find out"
                " at its pages who made it, and give it back there"
            )

    async def submit(self, top_up: TopUp) -> None:
        """Ask the provider for it, once: the row says so before the provider hears of it."""
        desk = self._desk
        desk.rails.get(top_up.rail)
        if not await self._rows.set(top_up, _S.SUBMITTED, submitted_at=desk.clock.now(), due_at=desk.leased()):
            return  # somebody else does
        await self._order(await self._rows.again(top_up))

    async def follow(self, top_up: TopUp, *, source: str | None = None) -> None:
        """What the provider says of it now, and what follows from that. Raises what the rail does.

        `source`: the payment that a webhook named, for one that ended before we knew its name.
        """
        if top_up.state is _S.REQUESTED:
            await self._begin(top_up)
            return
        rail = self._desk.rails.get(top_up.rail)
        match top_up.state:
            case _S.SUBMITTED | _S.UNKNOWN:
                payment = await self._recover(top_up, source)
                if payment is None:
                    await self._never_arrived(top_up)
                    return
            case _:
                named = top_up.source or source
                assert named is not None
                payment = await rail.fetch_payment(named)
                if payment is None:
                    raise RailCorrupt(f"{top_up.rail} doesn't know payment {named} of {top_up.id} any more")
        await self.take(top_up, payment)

    async def take(self, top_up: TopUp, payment: Payment) -> None:
        """Write down what the provider said of the payment after `top_up` was read."""
        _require_same(top_up, payment)
        payment = await self._act(top_up, payment)
        if payment.status is PaymentStatus.CAPTURED:
            await self._take_captured(top_up, payment)
            return
        to = follow(top_up.state, payment.status)
        columns = self._rows.columns(top_up, payment)
        if to is not None:
            await self._rows.set(top_up, to, **columns)
        elif not top_up.ended:
            await self._rows.write(top_up, columns)

    # What we do at the provider

    async def _begin(self, top_up: TopUp) -> None:
        """Nobody was asked yet, so it can still end here."""
        if top_up.cancelling:
            await self._rows.set(top_up, _S.CANCELLED)
        elif top_up.rail not in self._desk.rails.all:
            await self._rows.set(
                top_up, _S.FAILED, code=UnknownRail.default_code, reason="this rail is no longer offered"
            )
        else:
            await self.submit(top_up)

    async def _order(self, top_up: TopUp) -> None:
        rail = self._desk.rails.get(top_up.rail)
        self._desk.reached("submitted")
        try:
            payment = await rail.create_payment(top_up.order)
        except (Declined, AmountNotPayable, NotCapable) as refusal:
            code = refusal.reason_code if isinstance(refusal, Declined) else refusal.code
            await self._rows.set(top_up, _S.FAILED, code=code, reason=refusal.message)
        except RefusedByProvider as fault:
            log.error("refused by provider", rail=top_up.rail, top_up=top_up.id, reason=fault.message)
            await self._rows.set(
                top_up, _S.FAILED, code=fault.code, reason="the provider refused it; the operator was told"
            )
        except EffectUnknown:
            await self._rows.set(top_up, _S.UNKNOWN, due_at=self._desk.later(top_up.attempts))
        except RateLimited as limit:
            await self._rows.put_off(top_up, limit)
        else:
            self._desk.reached("answered")
            await self.take(await self._rows.again(top_up), payment)  # its owner may want it cancelled by now

    async def _recover(self, top_up: TopUp, source: str | None) -> Payment | None:
        """What became of an order whose answer is awaited; None where the provider is certain that it never got it.

        Recovering may send the order again, which mustn't charge anybody who wants it cancelled. So then it's only
        looked for, by the name that a webhook told (`source`) or by our own id; EffectUnknown for as long as what was
        sent may still come to be seen.
        """
        rail = self._desk.rails.get(top_up.rail)
        if not top_up.cancelling:
            return await rail.recover_payment(top_up.order)
        if source is not None:
            payment = await rail.fetch_payment(source)
            if payment is None:
                raise EffectUnknown(f"{top_up.rail} doesn't know payment {source} yet", code=NOT_YET_KNOWN)
            return payment
        payment = await rail.find_payment(top_up.order)
        if payment is None and self._desk.clock.now() < seen_by(top_up):
            raise EffectUnknown(f"the cancelling of {top_up.id} waits for what became of it", code=NOT_YET_KNOWN)
        return payment

    def _key_ends(self, top_up: TopUp) -> datetime:
        """From when on the provider isn't sent this order any more."""
        assert top_up.submitted_at is not None
        return top_up.submitted_at + timedelta(seconds=self._desk.rails.get(top_up.rail).key_seconds)

    async def _never_arrived(self, top_up: TopUp) -> None:
        """The provider is certain that it never got the order."""
        desk = self._desk
        if top_up.cancelling:
            await self._rows.set(top_up, _S.CANCELLED, code="cancelled", reason=None)
        elif desk.clock.now() >= self._key_ends(top_up):
            await self._rows.set(top_up, _S.FAILED, code="never_arrived", reason="the provider never got it; try anew")
        elif top_up.state is _S.SUBMITTED:
            await self._order(top_up)
        elif await self._rows.set(top_up, _S.SUBMITTED, due_at=desk.leased()):
            await self._order(await self._rows.again(top_up))

    async def _act(self, top_up: TopUp, payment: Payment) -> Payment:
        """Do at the provider what is ours to do now, and return what the payment is then."""
        rail, order = self._desk.rails.get(top_up.rail), top_up.order
        status, since = payment.status, top_up.submitted_at or top_up.created_at
        abandoned = (
            status in (PaymentStatus.REQUIRES_ACTION, PaymentStatus.APPROVED)
            and self._desk.clock.now() - since >= ABANDONED_AFTER
        )
        try:
            if status is PaymentStatus.APPROVED and not top_up.cancelling and not abandoned:
                payment = await rail.proceed(order, payment.id)
                status = payment.status
            if (top_up.cancelling or abandoned) and status in _CANCELLABLE:
                return await rail.cancel(order, payment.id)
            if status is PaymentStatus.AUTHORISED:
                amount = top_up.capture_amount
                if amount is None and top_up.capturing is Capturing.AUTOMATIC:
                    amount = top_up.amount
                if amount is not None:
                    return await rail.capture(order, payment.id, amount)
        except (Declined, AmountNotPayable, RefusedByProvider) as refusal:
            asked = status is PaymentStatus.AUTHORISED and top_up.capture_amount is not None and not top_up.cancelling
            if not asked and not isinstance(refusal, Declined):
                raise
            code = refusal.reason_code if isinstance(refusal, Declined) else refusal.code
            log.info("declined", rail=top_up.rail, top_up=top_up.id, code=code, reason=refusal.message)
            payment = await rail.fetch_payment(payment.id) or payment
            if asked and payment.status is PaymentStatus.AUTHORISED:
                await self._give_capture_up(top_up, code, refusal)
        return payment

    async def _give_capture_up(self, top_up: TopUp, code: str, refusal: OnebookError) -> None:
        """It's still only authorised: another amount may be captured, or it may be cancelled."""
        ours = isinstance(refusal, RefusedByProvider)
        if ours:
            log.error("refused by provider", rail=top_up.rail, top_up=top_up.id, reason=refusal.message)
        columns: dict[str, object] = {
            "capture_amount": None,
            "code": code,
            "reason": "the provider refused to capture it; the operator was told" if ours else refusal.message,
            "due_at": self._desk.later(top_up.attempts),
        }
        await self._rows.write(top_up, columns)

    async def _take_captured(self, top_up: TopUp, payment: Payment) -> None:
        if top_up.state is not _S.FINAL:
            await self._rows.credit(top_up, payment)
        elif top_up.fee is None and payment.fee is not None:
            await self._rows.late_fee(top_up, payment.fee)
        elif top_up.fee is None:
            more = top_up.attempts < FEE_LOOKS_MAX
            due_at = self._desk.later(top_up.attempts) if more else None
            await self._rows.write(top_up, {"due_at": due_at, "attempts": top_up.attempts + 1})


_CANCELLABLE = (PaymentStatus.REQUIRES_ACTION, PaymentStatus.APPROVED, PaymentStatus.AUTHORISED)


def _require_same(top_up: TopUp, payment: Payment) -> None:
    """Raises RailCorrupt where the provider's payment isn't the one that was ordered."""
    ordered = (top_up.id, top_up.asset, top_up.amount)
    told = (payment.reference or top_up.id, payment.asset, payment.amount)
    lowered = (top_up.id, top_up.asset, top_up.capture_amount)  # Square captures a part by lowering the amount first
    if told not in (ordered, lowered):
        raise RailCorrupt(
            f"{top_up.rail} has payment {payment.id} of {told[2]} {told[1]} for {told[0]}, not {ordered[2]}"
        )
