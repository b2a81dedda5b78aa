"""Refunds of top-ups: held on the user's account first, asked for at the provider, followed to their end.

One that somebody made at the provider's own pages is found by its webhook and booked all the same, from what the user
has and the rest from a receivable.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import structlog
from msgspec import structs

from base.errors import NotFound, OnebookError, Unavailable
from base.ids import new_id
from db.engine import tx
from fiat.rails import booking, store
from fiat.rails.desk import Desk
from fiat.rails.errors import (
    AmountNotPayable,
    Declined,
    EffectUnknown,
    NotRefundable,
    RailCorrupt,
    RateLimited,
    RefusedByProvider,
)
from fiat.rails.foreign import passed_by
from fiat.rails.looking import look_at_due
from fiat.rails.protocol import Capability, RefundStatus, RefundTruth
from fiat.rails.records import Ending, Refund
from fiat.rails.refund_states import RefundOrigin, RefundState, advance, follow
from fiat.rails.tables import refunds
from fiat.rails.top_up_rows import ACCOUNT_REFUSED
from fiat.rails.top_up_states import TopUpState
from fiat.rails.top_ups import TopUps
from fiat.tables import top_ups
from fiat.top_ups import BANK, TopUp
from ledger.asking import decide, decided_before, work
from ledger.commands import Command, Group, OpenAccount
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey, content_hash
from ledger.riders import Advance, Insert, Rider

_S = RefundState

LATE_LOOKS = (timedelta(hours=1), timedelta(days=1), timedelta(days=7), timedelta(days=30))
"""When a final refund is looked at again: a bank may have sent it back, and its webhook may be lost."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

log = structlog.get_logger()


class Refunds:
    """Takes requests for refunds and moves them on."""

    def __init__(self, desk: Desk, top_ups: TopUps) -> None:
        self._desk = desk
        self._top_ups = top_ups

    # What people ask

    async def request(self, *, key: RequestKey, owner: str, top_up: str, amount: int | None = None) -> Refund:
        """Give `amount`, or all that's left, of the user's own top-up back to where it came from.

        It's held on their account until the provider says what came of it. Raises NotFound, NotRefundable, NotCapable,
        AmountNotPayable, RequestConflict, RefusedByBook (`insufficient_funds`, `frozen`, `receivable_open`).
        """
        if (first := await decided_before(self._desk.ledger, key)) is not None:
            return replace(await self.get(owner, first.subject or ""), replayed=True)
        found = await self._top_ups.get(owner, top_up)
        refund = self._new(found, amount, RefundOrigin.USER, hold=key.id)
        await self._require_payable(refund)
        await self._desk.ledger.ensure_open(*booking.accounts(found.rail, owner, found.asset))
        owing_nothing = await receivable_accounts(self._desk.ledger, owner)
        hold = booking.hold_refund(refund, owing_nothing=owing_nothing)
        return await self._begin(key, found, refund, hold)

    async def by_the_house(self, *, key: RequestKey, top_up: str, amount: int | None = None) -> Refund:
        """The same by a treasurer, for a payment that mustn't stay: what its user has spent becomes a receivable.

        Raises NotFound, NotRefundable, NotCapable, AmountNotPayable, RequestConflict.
        """
        found = await self._any(top_up)
        if (first := await decided_before(self._desk.ledger, key)) is not None:
            return replace(await self.get(found.owner, first.subject or ""), replayed=True)
        refund = self._new(found, amount, RefundOrigin.HOUSE, hold=None)
        await self._require_payable(refund)
        await self._desk.ledger.ensure_open(*booking.accounts(found.rail, found.owner, found.asset))
        provider = booking.provider_account(found.rail, found.asset)
        return await self._begin(key, found, refund, OpenAccount(id=key.id, subject=refund.id, account=provider))

    async def get(self, owner: str, refund: str) -> Refund:
        """The owner's refund with this id. Raises NotFound."""
        async with tx(self._desk.engine) as connection:
            row = await store.load(connection, refunds, self._desk.book, refund)
        if row is None or row.owner != owner:
            raise NotFound(f"there is no refund {refund[:40]!r}", param="refund")
        return store.read_refund(row)

    async def end_by_hand(self, refund: Refund, *, agreed_by: str, agreed_reason: str) -> None:
        """Book what two treasurers say became of one in doubt. Raises EffectUnknown where it wasn't booked yet."""
        assert refund.ending is not None
        told = {name: str(getattr(refund, f"ending_{name}")) for name in ("evidence", "reason", "by")}
        columns: dict[str, object] = {"agreed_by": agreed_by, "agreed_reason": agreed_reason}
        said = told | {"agreed_by": agreed_by, "agreed_reason": agreed_reason}
        if refund.ending is Ending.SUCCEEDED:
            await self._finish(refund, source=told["evidence"], fee=0, said=said, columns=columns)
        else:
            await self._fail(refund, code="treasury", reason=None, said=said, columns=columns)

    async def asset_of(self, top_up: str) -> str:
        """The asset of any user's top-up. Raises NotFound."""
        return (await self._any(top_up)).asset

    async def list_for(
        self, owner: str, top_up: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Refund]:
        """The refunds of the owner's top-up, newest first. Raises NotFound."""
        found = await self._top_ups.get(owner, top_up)
        async with tx(self._desk.engine) as connection:
            return await store.list_refunds(
                connection, self._desk.book, found.id, before=before, after=after, limit=limit
            )

    # What the worker does

    async def step(self, *, rails: Collection[str] = (), but: Collection[str] = ()) -> int:
        """Look at those that are due, of `rails` (all if none is named) but these; how many were looked at."""
        return await look_at_due(
            self._desk, refunds, lambda row: self.look(store.read_refund(row)), rails=rails, but=but
        )

    async def look(self, refund: Refund) -> None:
        """Take it one look further; what its provider can't say now is asked later."""
        try:
            await self._follow(refund)
        except OnebookError as error:
            if not isinstance(error, Unavailable):
                log.error("refund not followed", refund=refund.id, code=error.code, reason=error.message)
            due_at = self._desk.later(refund.attempts, error)
            async with tx(self._desk.engine) as connection:
                await store.put_off(connection, refunds, self._desk.book, refund.id, due_at)

    async def hear(self, rail: str, source: str) -> None:
        """The provider told of a refund: read it there, and take it. Raises what the rail does."""
        desk = self._desk
        truth = await desk.rails.get(rail).fetch_refund(source)
        if truth is None:
            raise EffectUnknown(f"{rail} doesn't know refund {source} yet")
        async with tx(desk.engine) as connection:
            row = await store.load_by_source(connection, refunds, desk.book, rail, source)
            if row is None and truth.reference is not None:
                named = await store.load(connection, refunds, desk.book, truth.reference)
                row = named if named is not None and _is_of(store.read_refund(named), rail, truth) else None
            top_up = await store.find_top_up(connection, desk.book, rail, truth.payment)
        if row is not None:
            await self._follow(store.read_refund(row), source=source)
        elif top_up is None and await passed_by(desk, rail, truth.payment, of=source):
            return
        elif top_up is None or top_up.state is not TopUpState.FINAL:
            raise EffectUnknown(f"refund {source} is of a payment that isn't credited here yet")
        elif truth.status is not RefundStatus.FAILED:
            await self._adopt(top_up, truth)

    # Inside

    async def _any(self, top_up: str) -> TopUp:
        async with tx(self._desk.engine) as connection:
            found = await store.load_top_up(connection, self._desk.book, top_up)
        if found is None:
            raise NotFound(f"there is no top-up {top_up[:40]!r}", param="top_up")
        return found

    def _new(self, top_up: TopUp, amount: int | None, origin: RefundOrigin, *, hold: str | None) -> Refund:
        left = top_up.captured - top_up.refunded
        if top_up.rail == BANK:
            raise NotRefundable("a bank transfer is paid out, not refunded", param="top_up", rail=top_up.rail)
        self._desk.rails.able(top_up.rail, Capability.REFUND)
        amount = left if amount is None else amount
        if top_up.state is not TopUpState.FINAL or top_up.source is None:
            raise NotRefundable("only a top-up that was credited can be refunded", state=top_up.state.value)
        if top_up.code == ACCOUNT_REFUSED:
            raise NotRefundable("its money is in suspense; a treasurer decides", state=top_up.state.value)
        if not 0 < amount <= left:
            raise NotRefundable(
                "more than what is left of this top-up",
                param="amount",
                required=amount,
                available=left,
                asset=top_up.asset,
            )
        now = self._desk.clock.now()
        return Refund(
            id=new_id("ref", self._desk.clock, self._desk.entropy),
            top_up=top_up.id,
            owner=top_up.owner,
            rail=top_up.rail,
            asset=top_up.asset,
            amount=amount,
            state=_S.REQUESTED,
            origin=origin,
            source=None,
            hold=hold,
            payment=top_up.source,
            capture=top_up.capture_source,
            created_at=now,
            updated_at=now,
        )

    async def _require_payable(self, refund: Refund) -> None:
        """Raises AmountNotPayable for more decimals than the provider takes."""
        asset = await self._desk.ledger.asset(refund.asset)
        self._desk.rails.get(refund.rail).bounds(asset).require_exact(refund.amount)

    async def _begin(self, key: RequestKey, top_up: TopUp, refund: Refund, command: Command) -> Refund:
        riders = (self._insert(refund, due_at=self._desk.leased()), self._reserve(top_up, refund.amount))
        try:
            (outcome,) = await decide(self._desk.ledger, Group((command,), riders, content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise NotRefundable(
                    "another refund of this top-up was faster; send it anew", code="refund_overtaken"
                ) from refusal
            raise
        if outcome.replayed:
            return replace(await self.get(refund.owner, outcome.subject or ""), replayed=True)
        await self.look(refund)
        return await self.get(refund.owner, refund.id)

    async def _follow(self, refund: Refund, *, source: str | None = None) -> None:
        rail = self._desk.rails.get(refund.rail)
        match refund.state:
            case _S.REQUESTED:
                await self._submit(refund)
                return
            case _S.SUBMITTED | _S.UNKNOWN:
                truth = await rail.recover_refund(refund.order)
                if truth is None:
                    await self._never_arrived(refund)
                    return
            case _:
                asked = refund.source or source
                assert asked is not None
                truth = await rail.fetch_refund(asked)
                if truth is None:
                    raise RailCorrupt(f"{refund.rail} doesn't know refund {asked} of {refund.id} any more")
        await self._take(refund, truth)

    async def _submit(self, refund: Refund) -> None:
        desk = self._desk
        columns: dict[str, object] = {"state": advance(refund.state, _S.SUBMITTED).value, "due_at": desk.leased()}
        if await self._write(refund, columns | {"submitted_at": desk.clock.now()}):
            await self._order(await self.get(refund.owner, refund.id))

    async def _order(self, refund: Refund) -> None:
        try:
            truth = await self._desk.rails.get(refund.rail).refund(refund.order)
        except (Declined, AmountNotPayable) as refusal:
            code = refusal.reason_code if isinstance(refusal, Declined) else refusal.code
            await self._fail(refund, code=code, reason=refusal.message)
        except RefusedByProvider as fault:
            log.error("refused by provider", rail=refund.rail, refund=refund.id, reason=fault.message)
            await self._fail(refund, code=fault.code, reason="the provider refused it; the operator was told")
        except EffectUnknown:
            due_at = self._desk.later(refund.attempts)
            await self._write(refund, {"state": _S.UNKNOWN.value, "due_at": due_at})
        except RateLimited as limit:
            due_at = self._desk.later(refund.attempts, limit)
            await self._write(refund, {"due_at": due_at, "attempts": refund.attempts + 1})
        else:
            await self._take(refund, truth)

    async def _never_arrived(self, refund: Refund) -> None:
        """Sent again under its own id; a refund has no other end than the provider's word."""
        if refund.state is _S.SUBMITTED:
            await self._order(refund)
        elif await self._write(refund, {"state": _S.SUBMITTED.value, "due_at": self._desk.leased()}):
            await self._order(await self.get(refund.owner, refund.id))

    async def _take(self, refund: Refund, truth: RefundTruth) -> None:
        if (truth.asset, truth.amount) != (refund.asset, refund.amount):
            raise RailCorrupt(f"{refund.rail} has refund {truth.id} of {truth.amount} {truth.asset} for {refund.id}")
        to = follow(refund.state, truth.status)
        if to is _S.FINAL:
            await self._finish(refund, source=truth.id, fee=truth.fee)
        elif to is _S.FAILED:
            await self._fail(refund, source=truth.id, code=truth.code or "failed", reason=truth.reason)
        elif refund.state is _S.FINAL:
            await self._write(refund, {"due_at": self._late(refund, self._desk.clock.now())})
        elif refund.state is not _S.FAILED:
            columns: dict[str, object] = {"source": truth.id, "due_at": self._desk.later(refund.attempts)}
            state = {} if to is None else {"state": to.value}
            await self._write(refund, columns | state | {"attempts": refund.attempts + 1})

    async def _finish(
        self,
        refund: Refund,
        *,
        source: str,
        fee: int,
        said: Mapping[str, str] = _NOTHING,
        columns: Mapping[str, object] = _NOTHING,
    ) -> None:
        """The provider gave it back. `said` is kept with what is booked, `columns` with the row."""
        due_at = self._desk.clock.now() + LATE_LOOKS[0]
        change = self._change(refund, _S.FINAL, source=source, fee=fee, due_at=due_at, **columns)

        def make(attempt: int) -> Group:
            commands = booking.refunded(refund, source=source, fee=fee, attempt=attempt)
            return Group(_saying(commands, said), (change,), content=content_hash(f"{refund.id}:final"))

        await self._work(refund, make)

    async def _fail(
        self,
        refund: Refund,
        *,
        code: str,
        reason: str | None,
        source: str | None = None,
        said: Mapping[str, str] = _NOTHING,
        columns: Mapping[str, object] = _NOTHING,
    ) -> None:
        """Nothing was given back: the hold ends, or what was booked comes back; the top-up can be refunded again.

        `said` and `columns` as of `_finish`.
        """
        async with tx(self._desk.engine) as connection:
            top_up = await store.load_top_up(connection, self._desk.book, refund.top_up)
        assert top_up is not None
        change = self._change(refund, _S.FAILED, source=source or refund.source, code=code, reason=reason, **columns)
        freed = self._reserve(top_up, -refund.amount)

        def make(attempt: int) -> Group:
            command: Command
            if refund.state is _S.FINAL:
                command = booking.refund_came_back(refund, source=source or refund.id, attempt=attempt)
            elif refund.hold is not None:
                command = booking.release_refund(refund, attempt=attempt)
            else:
                provider = booking.provider_account(refund.rail, refund.asset)
                command = OpenAccount(id=f"wrk:refund:{refund.id}:none:{attempt}", subject=refund.id, account=provider)
            return Group(_saying((command,), said), (change, freed), content=content_hash(f"{refund.id}:failed"))

        await self._work(refund, make)

    async def _work(self, refund: Refund, make: Callable[[int], Group]) -> None:
        """Book it. What was refused, mostly since another refund of the top-up was faster, is to be tried again."""
        (refusal,) = await work(self._desk.ledger, make)
        if refusal is not None:
            raise EffectUnknown(f"refund {refund.id} wasn't booked yet: {refusal.code}")

    async def _adopt(self, top_up: TopUp, truth: RefundTruth) -> None:
        """A refund that somebody made at the provider's own pages."""
        made = replace(
            self._new(replace(top_up, refunded=0), truth.amount, RefundOrigin.PROVIDER, hold=None),
            state=_S.PENDING,
            source=truth.id,
        )
        provider = booking.provider_account(top_up.rail, top_up.asset)
        riders = (self._insert(made, due_at=self._desk.clock.now()), self._reserve(top_up, truth.amount))

        def make(attempt: int) -> Group:
            id = f"wrk:refund:{top_up.rail}:{truth.id}:adopt:{attempt}"
            command = OpenAccount(id=id, subject=made.id, account=provider)
            return Group((command,), riders, content=content_hash(f"{top_up.rail}:{truth.id}:adopt"))

        (refusal,) = await work(self._desk.ledger, make)
        if refusal is not None:
            raise EffectUnknown(f"refund {truth.id} wasn't taken over yet: {refusal.code}")
        async with tx(self._desk.engine) as connection:
            row = await store.load_by_source(connection, refunds, self._desk.book, top_up.rail, truth.id)
        if row is not None:
            await self.look(store.read_refund(row))

    def _late(self, refund: Refund, now: datetime) -> datetime | None:
        """The next late look, by its age; None after the last."""
        looks = (refund.created_at + after for after in LATE_LOOKS)
        return next((at for at in looks if at > now), None)

    def _reserve(self, top_up: TopUp, amount: int) -> Rider:
        """So much more of the top-up is given back, if nobody else changed that meanwhile."""
        key = {"book": self._desk.book, "id": top_up.id}
        return Advance(top_ups.name, key, {"refunded": top_up.refunded}, {"refunded": top_up.refunded + amount})

    def _insert(self, refund: Refund, *, due_at: object) -> Rider:
        names = ("top_up", "owner", "rail", "asset", "amount", "source", "hold", "payment", "capture", "created_at")
        values = {name: getattr(refund, name) for name in names} | {
            "state": refund.state.value,
            "origin": refund.origin.value,
            "due_at": due_at,
            "updated_at": refund.updated_at,
        }
        return Insert(refunds.name, {"book": self._desk.book, "id": refund.id}, values)

    def _change(self, refund: Refund, to: RefundState, **columns: object) -> Rider:
        state = advance(refund.state, to).value
        fresh = {"state": state, "due_at": None, "updated_at": self._desk.clock.now()}
        key = {"book": self._desk.book, "id": refund.id}
        return Advance(
            refunds.name, key, {"revision": refund.revision}, {**fresh, "revision": refund.revision + 1, **columns}
        )

    async def _write(self, refund: Refund, columns: dict[str, object]) -> bool:
        values = columns | {"updated_at": self._desk.clock.now()}
        async with tx(self._desk.engine) as connection:
            return await store.change(connection, refunds, self._desk.book, refund.id, refund.revision, values)


def _saying(commands: tuple[Command, ...], said: Mapping[str, str]) -> tuple[Command, ...]:
    """The commands with what people said about them."""
    return tuple(structs.replace(command, metadata=said) for command in commands) if said else commands


def _is_of(refund: Refund, rail: str, truth: RefundTruth) -> bool:
    """Whether the provider's refund that carries this one's id is this one.

    Whoever refunds at the provider's pages may write any id: one of another payment, of a refund that has its own
    object there, or of one that failed, is somebody's new refund.
    """
    return (
        refund.rail == rail
        and refund.source in (None, truth.id)
        and truth.payment in (refund.payment, refund.capture)
        and (refund.state is not _S.FAILED or truth.status is RefundStatus.FAILED)
    )
