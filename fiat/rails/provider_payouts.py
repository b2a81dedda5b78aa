"""Payouts over payment providers: each is asked for once, under our id, and then followed to the provider's last word.

`ProviderPayouts` is the way out that `fiat.payout_steps` drives, one payment a batch. `PayoutFollowing` books what the
provider says became of each: it's told by webhooks, and asks by itself. Which states there are: `fiat.payouts`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from base.clock import Clock
from base.errors import BrokenInvariant, OnebookError
from db.engine import tx
from fiat import payout_entries as entries
from fiat import payout_store as store
from fiat.errors import PayoutNotCancellable
from fiat.payout_steps import Submission
from fiat.payouts import OUTSIDE, RELEASED, BatchState, Payout, PayoutBatch, PayoutState, ProviderRecipient
from fiat.rails.booking import RAIL_FEES, payout_fee, provider_account
from fiat.rails.desk import BATCH, Desk
from fiat.rails.errors import AmountNotPayable, Declined, EffectUnknown, OrderForgotten, RailCorrupt
from fiat.rails.protocol import Capability, PayoutOrder, PayoutStatus, PayoutTruth, Rail
from ledger.accounts import house_account
from ledger.asking import work
from ledger.commands import Command, Group, RailEvidence

SOONEST, LATEST = timedelta(seconds=30), timedelta(hours=6)
"""Between two looks at a payout that hasn't ended: an eighth of its age, within these."""

WATCHED, WATCHED_EVERY = timedelta(days=90), timedelta(days=1)
"""How long a paid one is looked at, since it may come back and the webhook be lost; and how often."""

NEVER_ARRIVED = "never_arrived"
"""The reason of a payout of which the provider surely never heard."""

Commands = Callable[[int], tuple[Command, ...]]
"""What is booked, by attempt."""

_S = PayoutState

log = structlog.get_logger()


class ProviderPayouts:
    """The way out over one provider's rail."""

    def __init__(self, rail: Rail, *, clock: Clock) -> None:
        self._rail = rail
        self._clock = clock

    @property
    def rail(self) -> str:
        return self._rail.name

    def paying(self, account: str, asset: str) -> str:
        return provider_account(self._rail.name, asset)

    @property
    def memory(self) -> None:
        """None: a provider is asked by our ids, and refuses one that it knows."""
        return None

    async def submit(self, batch: PayoutBatch, payouts: Sequence[Payout]) -> Submission:
        """Ask for the one payment of the batch, under the payout's id.

        Raises RateLimited, if it surely had no effect, and RefusedByProvider (a key, a permission): it stays prepared.
        """
        if len(payouts) != 1:
            raise BrokenInvariant(f"batch {batch.id} has {len(payouts)} payouts; over a provider it's one")
        (payout,) = payouts
        if payout.state is not _S.SUBMITTING:  # a webhook was faster than our own note
            return Submission(BatchState.SUBMITTED)
        try:
            truth = await self._ask(payout)
        except EffectUnknown:
            return Submission(BatchState.UNKNOWN)
        except Declined as declined:
            return Submission(BatchState.REJECTED, declined.reason_code)
        except AmountNotPayable as unfit:
            return Submission(BatchState.REJECTED, unfit.code)
        if truth.status is PayoutStatus.FAILED:
            return Submission(BatchState.REJECTED, truth.code)
        return Submission(BatchState.SUBMITTED)

    async def _ask(self, payout: Payout) -> PayoutTruth:
        """Within the life of the provider's keys the same order again is harmless; later it must look first."""
        order = ordered(payout)
        if self._clock.now() - payout.created_at >= timedelta(seconds=self._rail.key_seconds):
            known = await self._rail.recover_payout(order)
            if known is not None:
                return known
        return await self._rail.pay_out(order)


class PayoutFollowing:
    """Takes what providers say of payouts, and books it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def hear(self, rail: str, source: str, reference: str | None) -> None:
        """The provider told of a payout. Raises what the rail does; what isn't one of ours has no effect."""
        truth = await self._desk.rails.able(rail, Capability.PAYOUT).fetch_payout(source)
        if truth is None:
            raise EffectUnknown(f"{rail} doesn't know payout {source} yet")
        async with tx(self._desk.engine) as connection:
            payout = await store.load(connection, self._desk.vault, self._desk.book, truth.reference or "")
        if payout is None or payout.rail != rail:
            log.warning("a payout that isn't ours", rail=rail, object=source)
            return
        await self._take(payout, truth)

    async def step(self, *, rails: Collection[str] = ()) -> int:
        """Ask the providers (`rails`, all if none is named) of what is due; how many payouts were looked at."""
        desk = self._desk
        able = [rail.name for rail in desk.rails.named(rails) if Capability.PAYOUT in rail.capabilities]
        if not able:
            return 0
        looked, now, until = 0, desk.clock.now(), desk.leased()
        async with tx(desk.engine) as connection:
            due = await store.begin_looks(connection, desk.vault, desk.book, able, now=now, until=until, limit=BATCH)
        for payout in due:
            if desk.clock.now() >= until:
                break  # a silent provider: what is left is due again
            looked += 1
            try:
                await self._look(payout)
            except OnebookError as error:  # one that can't be told of keeps nobody from the others
                log.warning("payout not followed", payout=payout.id, rail=payout.rail, code=error.code)
            await self._plan(payout.id)
        return looked

    async def ask(self, payout: Payout) -> None:
        """Ask its provider now, and book what it says. Raises what the rail does."""
        await self._look(payout)
        await self._plan(payout.id)

    async def _look(self, payout: Payout) -> None:
        rail = self._desk.rails.get(payout.rail)
        if payout.source is None and payout.state not in OUTSIDE:
            return  # to ask for one by our id can be to order it (PayPal): not what was ended by hand
        if payout.source is not None:
            truth = await rail.fetch_payout(payout.source)
            if truth is None:
                raise RailCorrupt(f"{payout.rail} told of payout {payout.id} and doesn't know it any more")
        else:
            truth = await rail.recover_payout(ordered(payout))
        if truth is None:
            await self._release(payout, reason=NEVER_ARRIVED)
        else:
            await self._take(payout, truth)

    async def _plan(self, id: str) -> None:
        """When it's looked at next, by what it is now."""
        desk = self._desk
        async with tx(desk.engine) as connection:
            payout = await store.load(connection, desk.vault, desk.book, id)
            if payout is not None:
                await store.look_again(
                    connection, desk.book, id, _next_look(payout.state, payout.created_at, desk.clock.now())
                )

    async def _take(self, payout: Payout, truth: PayoutTruth) -> None:
        """Book what the provider says, if that is news."""
        _require_the_same(payout, truth)
        match truth.status:
            case PayoutStatus.PENDING | PayoutStatus.UNCLAIMED:
                await self._waits(payout, truth)
            case PayoutStatus.PAID:
                await self._paid(payout, truth)
            case PayoutStatus.FAILED:
                if payout.state in OUTSIDE:
                    await self._release(payout, truth=truth, reason=truth.code)
                elif payout.state not in RELEASED:
                    raise _contradiction(payout, truth)
            case PayoutStatus.RETURNED:
                await self._returned(payout, truth)

    async def _waits(self, payout: Payout, truth: PayoutTruth) -> None:
        if payout.state not in OUTSIDE:
            raise _contradiction(payout, truth)
        waits = truth.status is PayoutStatus.UNCLAIMED
        reason, detail = ("unclaimed", truth.code) if waits else (None, None)
        known = (payout.state, payout.source, payout.reason, payout.detail)
        if known == (_S.SUBMITTED, truth.id, reason, detail):
            return
        async with tx(self._desk.engine) as connection:
            await store.waits_outside(
                connection,
                self._desk.book,
                payout,
                source=truth.id,
                reason=reason,
                detail=detail,
                now=self._desk.clock.now(),
            )

    async def _paid(self, payout: Payout, truth: PayoutTruth) -> None:
        if payout.state is _S.PAID:
            return
        if payout.state not in OUTSIDE:
            raise _contradiction(payout, truth)
        evidence = RailEvidence(payout.rail, truth.id)
        paying = provider_account(payout.rail, payout.asset)

        def commands(attempt: int) -> tuple[Command, ...]:
            act = f"{payout.rail}:{attempt}"
            return entries.settled(payout, paying, act=act, evidence=evidence)

        await self._book(payout, truth, commands, _S.PAID, reason=None, detail=None)

    async def _returned(self, payout: Payout, truth: PayoutTruth) -> None:
        """It's in our balance there again: given back if it never was paid, else credited again."""
        if payout.state in OUTSIDE:
            await self._release(payout, truth=truth, reason=truth.code)
            return
        if payout.state is _S.RETURNED or payout.state in RELEASED:
            return
        if payout.state is not _S.PAID:
            raise _contradiction(payout, truth)
        evidence = RailEvidence(payout.rail, truth.id)
        receiving = provider_account(payout.rail, payout.asset)

        def commands(attempt: int) -> tuple[Command, ...]:
            act = f"{payout.rail}:{attempt}"
            return (entries.returned(payout, receiving, act=act, evidence=evidence),)

        await self._book(payout, truth, commands, _S.RETURNED, reason=truth.code, detail=truth.reason)

    async def _release(self, payout: Payout, *, reason: str | None, truth: PayoutTruth | None = None) -> None:
        evidence = RailEvidence(payout.rail, truth.id) if truth is not None else None

        def commands(attempt: int) -> tuple[Command, ...]:
            act, said = f"{payout.rail}:{attempt}", {"reason": reason or "failed"}
            return (entries.released(payout, act=act, evidence=evidence, said=said),)

        detail = truth.reason if truth is not None else None
        await self._book(payout, truth, commands, _S.FAILED, reason=reason, detail=detail)

    async def _book(
        self,
        payout: Payout,
        truth: PayoutTruth | None,
        commands: Commands,
        to: PayoutState,
        *,
        reason: str | None,
        detail: str | None,
    ) -> None:
        """One group: what it books, the provider's fee as far as it isn't booked, and the row that was as it was read.

        Who finds it moved on meanwhile leaves it: the next look sees what it became.
        """
        desk = self._desk
        source, fee = (truth.id, truth.fee) if truth is not None else (payout.source, payout.rail_fee)
        paying = provider_account(payout.rail, payout.asset)
        await desk.ledger.ensure_open(*entries.accounts(payout, paying), house_account(RAIL_FEES, payout.asset))
        now = desk.clock.now()

        def maker(attempt: int) -> Group:
            more = fee - payout.rail_fee
            charged = payout_fee(payout, source=source or payout.id, more=more, act=f"{to.value}:{attempt}")
            row = entries.moved(
                desk.book, payout, to, now=now, source=source, rail_fee=fee, reason=reason, detail=detail,
                due_at=_next_look(to, payout.created_at, now),
            )  # fmt: skip
            return Group((*commands(attempt), *charged), (row,))

        (refusal,) = await work(desk.ledger, maker)
        if refusal is not None:
            log.warning("payout not booked yet", payout=payout.id, to=to.value, code=refusal.code.value)
            raise EffectUnknown(f"payout {payout.id} moved on meanwhile; it's looked at again")


class ProviderEnding:
    """May a payout over a provider be given up, or ended by hand? The provider's own word comes first."""

    def __init__(self, desk: Desk, following: PayoutFollowing, *, here: Callable[[], Any]) -> None:
        """`here`: in a query, the name of this database, which is another one once it was put back from a backup."""
        self._desk = desk
        self._following = following
        self._here = here

    async def begin(self, rail: str) -> datetime | None:
        """Note which database this is; since when it is, if it was put back from a backup once."""
        desk = self._desk
        async with tx(desk.engine) as connection:
            return await store.note_database(connection, desk.book, rail, self._here(), now=desk.clock.now())

    @asynccontextmanager
    async def ending(self, payout: Payout) -> AsyncIterator[None]:
        """One in doubt: the provider is asked first, and what it says is booked.

        One not sent yet can't be asked for without ordering it, so it's given up only where this database surely
        knows whether it was. Raises PayoutNotCancellable, and what the rail does while it can still be asked.
        """
        if payout.state is _S.REQUESTED:
            since = await self.begin(payout.rail)
            if since is not None and payout.created_at < since:
                raise PayoutNotCancellable(
                    f"this database was put back from a backup since the payout was asked for, so {payout.rail} may"
                    " have been asked for it: it goes on under its own id, which pays it once",
                    param="payout",
                    state=payout.state.value,
                )
        else:
            with suppress(OrderForgotten):
                await self._following.ask(payout)
        yield


def ordered(payout: Payout) -> PayoutOrder:
    """The order, the same each time that it's made."""
    if not isinstance(payout.recipient, ProviderRecipient):
        raise BrokenInvariant(f"payout {payout.id} over {payout.rail} isn't to an account there")
    return PayoutOrder(
        reference=payout.id, asset=payout.asset, amount=payout.amount, destination=payout.recipient.address
    )


def _next_look(state: PayoutState, created_at: datetime, now: datetime) -> datetime | None:
    age = now - created_at
    if state in OUTSIDE:
        return now + min(max(age // 8, SOONEST), LATEST)
    if state is _S.PAID and age < WATCHED:
        return now + WATCHED_EVERY
    return None


def _require_the_same(payout: Payout, truth: PayoutTruth) -> None:
    """Raises RailCorrupt where the provider's object isn't what was asked for."""
    told = (truth.reference, truth.asset, truth.amount)
    if told != (payout.id, payout.asset, payout.amount) or payout.source not in (None, truth.id):
        raise RailCorrupt(f"{payout.rail} has another payment under payout {payout.id} than was asked for")


def _contradiction(payout: Payout, truth: PayoutTruth) -> RailCorrupt:
    return RailCorrupt(
        f"payout {payout.id} is {payout.state} here and {truth.status} at {payout.rail}: a person compares both",
        payout=payout.id,
        state=payout.state.value,
        status=truth.status.value,
    )
