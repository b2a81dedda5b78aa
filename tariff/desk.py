"""Terms of operations: what one costs and uses up now, by its user's tier; and how limits and allowances stand.

Whoever books an operation asks for its terms, books the fee in the same entry or hold, and hands the book the charges:
limits and allowances are decided there, under its lock. An allowance that others used up meanwhile refuses nothing:
the operation is asked for again at its full price.
"""

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from base.clock import Clock, SystemClock
from base.errors import OnebookError
from ledger.asking import decided_before
from ledger.commands import Charge
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.money import Asset
from ledger.outcomes import Outcome, Refused
from ledger.requests import RequestKey
from tariff import limits
from tariff.errors import FeeAboveAccepted, LimitUnvalued
from tariff.limits import AllowanceState, LimitState, Period
from tariff.pricing import Move, Price, allowance_of, fee_of, price
from tariff.schedule import EMPTY, SUMS, Allowance, Operation, Tariff
from tariff.tiers import Tiers

SPENT_SECONDS = 0.5
"""How long a process takes it that an allowance is used up, once the book has said so."""

SPENT_MAX = 10_000
"""Used up allowances remembered at most."""

Made = TypeVar("Made")


class Worth(Protocol):
    """Knows what assets are worth."""

    async def of(self, asset: Asset, amount: int, reference: Asset) -> int:
        """What `amount` is worth in smallest units of `reference`, rounded up. Raises OnebookError if none can tell."""
        ...


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What an operation costs, in smallest units of the asset moved; and what it uses up: limits, and the allowance
    that makes it free."""

    fee: int = 0
    charges: tuple[Charge, ...] = ()

    @property
    def free(self) -> bool:
        """Whether an allowance makes it free, if the book finds enough of it left."""
        return any(charge.may_ask_again for charge in self.charges)


NOTHING = Terms()
"""The terms of most operations where there is no tariff."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an operation would cost now, what is left of its allowance, and how the limits that it counts in stand."""

    price: Price
    allowance: AllowanceState | None
    limits: tuple[LimitState, ...]


class Desk:
    """The terms of one book."""

    def __init__(
        self,
        tariff: Tariff = EMPTY,
        *,
        ledger: Ledger | None = None,
        tiers: Tiers | None = None,
        worth: Worth | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Without a `ledger` and `tiers` there is one tier, and nothing is limited or free."""
        self.tariff = tariff
        self._empty = tariff.is_empty
        self._ledger = ledger
        self._tiers = tiers
        self._worth = worth
        self._clock = clock or SystemClock()
        self._spent: dict[str, float] = {}  # by counter, until when it's taken so; monotonic seconds

    async def terms(self, move: Move, *, at_full: bool = False) -> Terms:
        """What `move` costs and uses up now; `at_full`: without any allowance.

        Raises UnknownAsset, LimitExceeded (of one operation), LimitUnvalued.
        """
        if self._empty:
            return _plain(move)
        tier = await self.tier_of(move.owner)
        told, now = price(self.tariff, tier, move), self._clock.now()
        what, reference, worth = SUMS[move.operation], self.tariff.reference, 0
        charges: tuple[Charge, ...] = ()
        limit = self.tariff.tiers[tier].limits.get(what)
        if limit is not None and reference is not None:
            worth = await self.worth_of(move)
            limits.require_operation(what, limit, worth, tier, reference)
            charges = limits.charges(move.owner, what, limit, worth, reference, now)
        free = () if at_full or not told.full else await self._free(move, tier)
        return Terms(0 if free else told.full, (*charges, *free))

    async def at_terms(
        self,
        move: Move,
        attempt: Callable[[Terms], Awaitable[Made]],
        *,
        accepted: int | None = None,
        at_full: bool = False,
    ) -> Made:
        """What `attempt` makes of the terms of now; tried again at full price if the allowance was used up meanwhile.

        `accepted`: the highest fee that its owner agreed to; `at_full`: without any allowance. Raises what `terms`
        does, FeeAboveAccepted, and what `attempt` does, the book's limits in words of ours.
        """
        terms = _plain(move) if self._empty else await self.terms(move, at_full=at_full)
        require_accepted(move, terms.fee, accepted)
        try:
            return await attempt(terms)
        except RefusedByBook as refusal:
            if refusal.code != Refused.ALLOWANCE_SPENT:
                raise await self.explained(refusal, move.owner) from refusal
            self.note_spent(refusal)
        terms = await self.terms(move, at_full=True)
        require_accepted(move, terms.fee, accepted)
        try:
            return await attempt(terms)
        except RefusedByBook as refusal:
            raise await self.explained(refusal, move.owner) from refusal

    async def first(
        self, ledger: Ledger, owner: str, key: RequestKey, *, older: Collection[bytes] = ()
    ) -> Outcome | None:
        """What this request came to when it was sent before, whatever tariff and tier were meanwhile.

        Raises as `decided_before` does, the book's limits in words of ours.
        """
        try:
            return await decided_before(ledger, key, older=older)
        except RefusedByBook as refusal:
            raise await self.explained(refusal, owner) from refusal

    async def explained(self, refusal: RefusedByBook, owner: str) -> OnebookError:
        """A refusal by one of our limits with its names and when it frees; any other one as it is."""
        if refusal.code != Refused.LIMIT_EXCEEDED:
            return refusal
        return limits.explained(refusal.facts, await self.tier_of(owner)) or refusal

    def note_spent(self, refusal: RefusedByBook) -> None:
        """The book said that this allowance is used up."""
        if len(self._spent) >= SPENT_MAX:
            self._spent.clear()
        self._spent[str(refusal.facts.get("counter"))] = time.monotonic() + SPENT_SECONDS

    async def tier_of(self, owner: str) -> str:
        """The name of a user's tier."""
        return self.tariff.default_tier if self._tiers is None else await self._tiers.of(owner)

    async def preview(self, move: Move) -> Preview:
        """What `move` would cost now. Raises UnknownAsset; nothing is refused for a limit."""
        tier = await self.tier_of(move.owner)
        told = price(self.tariff, tier, move)
        allowance, left = allowance_of(self.tariff, tier, move.operation), None
        if allowance is not None:
            left = await self._allowance_state(move.owner, move.operation, allowance)
            if told.full and await self._has_left(left, allowance, move):
                told = replace(told, free=True)
                self._spent.pop(_operations_counter(move.owner, left.operation, self._clock.now()), None)
        states = await self.limits(move.owner)
        counted = tuple(state for state in states if state.sum is SUMS[move.operation])
        return Preview(told, left, counted)

    async def is_free(self, move: Move) -> bool:
        """Whether an allowance covers it now. Raises UnknownAsset."""
        tier = await self.tier_of(move.owner)
        allowance = allowance_of(self.tariff, tier, move.operation)
        if allowance is None or not price(self.tariff, tier, move).full:
            return False
        return await self._has_left(await self._allowance_state(move.owner, move.operation, allowance), allowance, move)

    async def limits(self, owner: str) -> list[LimitState]:
        """How a user's limits stand."""
        reference, now = self.tariff.reference, self._clock.now()
        told = self.tariff.tiers[await self.tier_of(owner)].limits
        if reference is None or not told:
            return []
        names = {
            (what, period): limits.counter(owner, what, reference, period, now)
            for what, limit in told.items()
            for period, _ in limits.caps(limit)
        }
        used = await self._counters(*names.values())
        found: list[LimitState] = []
        for what, limit in told.items():
            if limit.operation is not None:
                found.append(LimitState(what, Period.OPERATION, limit.operation, 0, None))
            found += [
                LimitState(what, period, cap, used[names[what, period]], limits.frees_at(period, now))
                for period, cap in limits.caps(limit)
            ]
        return found

    async def allowances(self, owner: str) -> list[AllowanceState]:
        """What is left to a user of what is free in this month."""
        told = self.tariff.tiers[await self.tier_of(owner)].free
        return [await self._allowance_state(owner, operation, allowance) for operation, allowance in told.items()]

    async def worth_of(self, move: Move) -> int:
        """What is moved in smallest units of the reference, rounded up. Raises LimitUnvalued, UnknownAsset."""
        reference = self.tariff.reference
        assert reference is not None
        if move.asset == reference.code:
            return move.amount
        assert self._ledger is not None
        asset = await self._ledger.asset(move.asset)
        try:
            if self._worth is None:
                raise LimitUnvalued("there are no rates")
            return await self._worth.of(asset, move.amount, reference)
        except OnebookError as error:
            raise LimitUnvalued(
                f"this account has limits in {reference.code}, and what {move.asset} is worth can't be told now:"
                f" {error.message}",
                because=error.code,
                asset=move.asset,
                reference=reference.code,
            ) from error

    # Allowances

    async def _free(self, move: Move, tier: str) -> tuple[Charge, ...]:
        """What makes it free, as far as is known here; nothing where it isn't, or can't be valued."""
        allowance = allowance_of(self.tariff, tier, move.operation)
        if allowance is None:
            return ()
        operation, now = self._allowed_as(move.operation, tier), self._clock.now()
        taken_until = self._spent.get(_operations_counter(move.owner, operation, now))  # seconds
        if taken_until is not None and time.monotonic() < taken_until:
            return ()
        try:
            worth = 0 if allowance.value is None else await self.worth_of(move)
        except LimitUnvalued:
            return ()
        return limits.free_charges(move.owner, operation, allowance, worth, self.tariff.reference, now)

    def _allowed_as(self, operation: Operation, tier: str) -> Operation:
        """Whose allowance an operation uses: a hold a transfer's, where it has none of its own."""
        own = operation in self.tariff.tiers[tier].free
        return Operation.TRANSFER if operation is Operation.HOLD and not own else operation

    async def _allowance_state(self, owner: str, operation: Operation, allowance: Allowance) -> AllowanceState:
        now, tier = self._clock.now(), await self.tier_of(owner)
        used_as = self._allowed_as(operation, tier)
        operations, value = limits.free_counters(owner, used_as, self.tariff.reference, now)
        used = await self._counters(operations, value)
        ends = limits.frees_at(Period.MONTH, now)
        assert ends is not None
        return AllowanceState(
            operation=used_as,
            operations=allowance.operations,
            operations_used=None if allowance.operations is None else used[operations],
            value=allowance.value,
            value_used=None if allowance.value is None else used[value],
            frees_at=ends,
        )

    async def _has_left(self, state: AllowanceState, allowance: Allowance, move: Move) -> bool:
        if allowance.operations is not None and (state.operations_used or 0) + 1 > allowance.operations:
            return False
        if allowance.value is None:
            return True
        try:
            return (state.value_used or 0) + await self.worth_of(move) <= allowance.value
        except LimitUnvalued:
            return False

    async def _counters(self, *names: str) -> dict[str, int]:
        assert self._ledger is not None
        return await self._ledger.counters(*names)


def _operations_counter(owner: str, operation: Operation, now: datetime) -> str:
    """The counter by which an allowance is known to be used up; a value's isn't, for smaller operations."""
    return limits.free_counters(owner, operation, None, now)[0]


def _plain(move: Move) -> Terms:
    """The terms without a tariff: what older settings say."""
    return NOTHING if move.otherwise is None else Terms(fee_of(move.otherwise, move.amount))


def require_accepted(move: Move, fee: int, accepted: int | None) -> None:
    """Raise FeeAboveAccepted if the fee is more than was agreed to; None: whatever it is."""
    if accepted is not None and fee > accepted:
        raise FeeAboveAccepted(
            "the fee is above the one that you accepted: the tariff or your tier has changed, or your allowance is"
            " used up",
            param="fee_accepted",
            asset=move.asset,
            fee=fee,
            fee_accepted=accepted,
        )
