"""Payouts as people meet them: asking, looking, giving up; and what a treasurer does with one that is in doubt."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from fiat import payout_entries as entries
from fiat import payout_store as store
from fiat.errors import AmountOutOfBounds, InvalidRecipient, NoPayoutRail, PayoutNotCancellable, PayoutNotInDoubt
from fiat.payout_memory import Ending
from fiat.payouts import (
    PAYPAL,
    PREFIX,
    Payout,
    PayoutBatch,
    PayoutState,
    ProviderRecipient,
    Recipient,
    read_email,
    read_recipient,
)
from fiat.personal import Vault
from fiat.top_ups import BANK
from ledger.asking import ALONE, Before, decide, decided_before
from ledger.commands import Group, Void
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from tariff.desk import Desk, Terms
from tariff.pricing import Move
from tariff.schedule import Operation, Rule

_S = PayoutState

LIST_MAX = 201
"""Rows that a list returns at most: a page of 200, and one to know whether there are more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutTerms:
    """How an asset is paid out: over which rail, from which of our accounts (`paying` in the book), and for what fee.

    Amounts are smallest units, and multiples of `step`; `maximum` None: any.
    """

    rail: str
    asset: str
    account: str
    paying: str
    fee: int = 0
    minimum: int = 1
    maximum: int | None = None
    step: int = 1


async def owing_nothing(owner: str) -> tuple[str, ...]:
    """No account in which the owner could owe something."""
    return ()


class PayoutDesk:
    """Takes requests for payouts. The worker's part is `fiat.payout_steps`, the evidence comes in by each rail."""

    def __init__(
        self,
        engine: AsyncEngine,
        ledger: Ledger,
        vault: Vault,
        *,
        terms: Iterable[PayoutTerms],
        clock: Clock,
        entropy: Entropy,
        owing: Callable[[str], Awaitable[tuple[str, ...]]] = owing_nothing,
        endings: Mapping[str, Ending] | None = None,
        tariff: Desk | None = None,
    ) -> None:
        """`terms`: one per rail and asset. `owing` names the accounts in which an owner must owe the house nothing.

        `endings`: by rail, who is asked before a payout is given up or ended by hand. The terms' fees are taken where
        the `tariff` has no rule.
        """
        self.terms = {(one.rail, one.asset): one for one in terms}
        self._engine = engine
        self._ledger = ledger
        self._vault = vault
        self._clock = clock
        self._entropy = entropy
        self._owing = owing
        self._endings = endings or {}
        self._tariff = tariff or Desk()

    # What users ask

    async def request(
        self,
        *,
        key: RequestKey,
        owner: str,
        asset: str,
        amount: int,
        name: str | None = None,
        iban: str | None = None,
        paypal: str | None = None,
        fee_accepted: int | None = None,
        before: Before = ALONE,
    ) -> Payout:
        """Hold `amount` and the fee, and queue the payment: by bank to the account `iban` of `name`, or to `paypal`.

        `fee_accepted`: the highest fee that its owner agreed to. `before`: what is booked first, or not at all. Raises
        NoPayoutRail, InvalidRecipient,
        AmountOutOfBounds, FeeAboveAccepted, LimitExceeded, LimitUnvalued, RequestConflict, and RefusedByBook
        (`insufficient_funds`, `frozen`, `receivable_open`).
        """
        if (first := await self.first(owner, key)) is not None:
            return first
        key = RequestKey(id=key.id, content=self._vault.digests(key.content)[0])
        rail, recipient = _read(name, iban, paypal)
        terms = self._terms_of(rail, asset)
        _require_within(terms, asset, amount)

        async def book(priced: Terms) -> Payout:
            payout = self._new(key, owner, asset, amount, terms, recipient, fee=priced.fee)
            await self._ledger.ensure_open(*entries.accounts(payout, terms.paying))
            hold = entries.hold(payout, owing_nothing=await self._owing(owner), charges=priced.charges)
            row = entries.kept(self._ledger.book, payout, *self._sealed(payout))
            *_, outcome = await decide(self._ledger, before.group(hold, row, content=key.content))
            if outcome.replayed:
                return replace(await self.get(owner, outcome.subject or ""), replayed=True)
            return payout

        return await self._tariff.at_terms(_move(owner, terms, amount), book, accepted=fee_accepted)

    async def first(self, owner: str, key: RequestKey) -> Payout | None:
        """What this request came to when it was sent before."""
        kept, *older = self._vault.digests(key.content)
        told = await self._tariff.first(self._ledger, owner, RequestKey(id=key.id, content=kept), older=older)
        return None if told is None else replace(await self.get(owner, told.subject or ""), replayed=True)

    def move(self, owner: str, *, rail: str, asset: str, amount: int) -> Move:
        """A payout whose terms are wanted. Raises NoPayoutRail, AmountOutOfBounds."""
        terms = self._terms_of(rail, asset)
        _require_within(terms, asset, amount)
        return _move(owner, terms, amount)

    async def cancel(self, *, key: RequestKey, owner: str, payout: str) -> Payout:
        """Give it up before it's submitted, and release the hold.

        Raises NotFound, PayoutNotCancellable, RequestConflict, and what its rail has against it (PayoutsHalted).
        """
        found = await self.get(owner, payout)
        try:
            if await decided_before(self._ledger, key) is not None:
                return replace(found, replayed=True)
            if found.state is not _S.REQUESTED:
                raise _too_late(found)
            async with self._ending(found):
                row = entries.moved(self._ledger.book, found, _S.CANCELLED, now=self._clock.now())
                void = Void(id=key.id, subject=found.id, hold=found.hold)
                (outcome,) = await decide(self._ledger, Group((void,), (row,), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise _too_late(await self.get(owner, payout)) from refusal
            raise
        return replace(await self.get(owner, payout), replayed=outcome.replayed)

    async def get(self, owner: str, payout: str) -> Payout:
        """The owner's payout with this id. Raises NotFound, also for somebody else's."""
        found = await self.find(payout)
        if found.owner != owner:
            raise NotFound(f"there is no payout {payout[:40]!r}", param="payout")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Payout]:
        """The owner's payouts, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            return await store.list_payouts(
                connection,
                self._vault,
                self._ledger.book,
                owner=owner,
                before=before,
                after=after,
                limit=min(limit, LIST_MAX),
            )

    # What a treasurer sees and does

    async def find(self, payout: str) -> Payout:
        """Anybody's payout. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await store.load(connection, self._vault, self._ledger.book, payout)
        if found is None:
            raise NotFound(f"there is no payout {payout[:40]!r}", param="payout")
        return found

    async def all(
        self, *, state: PayoutState | None = None, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Payout]:
        """Everybody's payouts, or those in a state, newest first (oldest first with `after`)."""
        async with tx(self._engine) as connection:
            return await store.list_payouts(
                connection,
                self._vault,
                self._ledger.book,
                state=state,
                before=before,
                after=after,
                limit=min(limit, LIST_MAX),
            )

    async def batches(
        self, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[PayoutBatch]:
        """What payouts were submitted with (for a bank: its files), newest first (oldest first with `after`)."""
        async with tx(self._engine) as connection:
            return await store.list_batches(
                connection, self._ledger.book, before=before, after=after, limit=min(limit, LIST_MAX)
            )

    async def fail(self, *, key: RequestKey, payout: str) -> Payout:
        """A treasurer says that the rail will never pay it, having asked there: its owner has the money back.

        Only one in doubt (`unknown`): as long as the rail may still answer, its answer is waited for. If it's paid
        after all, the bank's line waits in suspense, and an alert tells it. Raises NotFound, PayoutNotInDoubt,
        RequestConflict, and what its rail has against it (PayoutFileWaits, PayoutsHalted; a provider that can still be
        asked, and doesn't answer now).
        """
        found = await self.find(payout)
        try:
            if await decided_before(self._ledger, key) is not None:
                return replace(found, replayed=True)
            if found.state is not _S.UNKNOWN:
                raise _not_in_doubt(found)
            async with self._ending(found):
                found = await self.find(payout)  # its rail may have been asked, and have told
                if found.state is not _S.UNKNOWN:
                    raise _not_in_doubt(found)
                said = {"reason": "treasury"}
                row = entries.moved(self._ledger.book, found, _S.FAILED, now=self._clock.now(), due_at=None, **said)
                void = Void(id=key.id, subject=found.id, hold=found.hold, metadata=said)
                (outcome,) = await decide(self._ledger, Group((void,), (row,), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise _not_in_doubt(await self.find(payout)) from refusal
            raise
        return replace(await self.find(payout), replayed=outcome.replayed)

    def _ending(self, payout: Payout) -> AbstractAsyncContextManager[None]:
        """Its rail's leave to give the money back."""
        ending = self._endings.get(payout.rail)
        return nullcontext() if ending is None else ending.ending(payout)

    # What a request becomes

    def _terms_of(self, rail: str, asset: str) -> PayoutTerms:
        terms = self.terms.get((rail, asset))
        if terms is None:
            known = ", ".join(sorted(able for by, able in self.terms if by == rail)) or "none"
            where = "a bank account" if rail == BANK else "a PayPal account"
            raise NoPayoutRail(f"{asset[:12]!r} can't be paid out to {where}; what can is {known}", param="asset")
        return terms

    def _new(
        self,
        key: RequestKey,
        owner: str,
        asset: str,
        amount: int,
        terms: PayoutTerms,
        recipient: Recipient | ProviderRecipient,
        *,
        fee: int,
    ) -> Payout:
        now: datetime = self._clock.now()
        return Payout(
            id=new_id(PREFIX, self._clock, self._entropy),
            owner=owner,
            rail=terms.rail,
            account=terms.account,
            asset=asset,
            amount=amount,
            fee=fee,
            state=_S.REQUESTED,
            reason=None,
            detail=None,
            recipient=recipient,
            hold=key.id,
            batch=None,
            accepted_at=None,
            created_at=now,
            updated_at=now,
        )

    def _sealed(self, payout: Payout) -> tuple[bytes, str]:
        sealed = store.seal(self._vault, self._ledger.book, payout.id, payout.recipient)
        return sealed, self._vault.mark(payout.recipient.number)


def _read(name: str | None, iban: str | None, paypal: str | None) -> tuple[str, Recipient | ProviderRecipient]:
    """The rail that pays such a recipient, and the recipient. Raises InvalidRecipient."""
    if paypal is not None and name is None and iban is None:
        return PAYPAL, read_email(paypal)
    if paypal is None and name is not None and iban is not None:
        return BANK, read_recipient(name, iban)
    raise InvalidRecipient('name either a bank account ("name", "iban") or a "paypal" account', param="recipient")


def _move(owner: str, terms: PayoutTerms, amount: int) -> Move:
    fallback = Rule("payout_fee", Operation.PAYOUT, asset=terms.asset, place=terms.rail, flat=terms.fee)
    return Move(owner, Operation.PAYOUT, terms.asset, amount, terms.rail, otherwise=fallback if terms.fee else None)


def _require_within(terms: PayoutTerms, asset: str, amount: int) -> None:
    if amount % terms.step:
        raise AmountOutOfBounds(
            "more decimals than this rail takes",
            code="amount_not_payable",
            param="amount",
            asset=asset,
            minimum=max(terms.minimum, terms.step),
            amount=amount,
        )
    if amount < terms.minimum:
        raise AmountOutOfBounds(
            "less than the smallest payout", param="amount", asset=asset, minimum=terms.minimum, amount=amount
        )
    if terms.maximum is not None and amount > terms.maximum:
        raise AmountOutOfBounds(
            "more than the largest payout", param="amount", asset=asset, maximum=terms.maximum, amount=amount
        )


def _too_late(payout: Payout) -> PayoutNotCancellable:
    return PayoutNotCancellable(
        f"the payout is {payout.state}; it can be cancelled only until it's submitted",
        param="payout",
        state=payout.state.value,
    )


def _not_in_doubt(payout: Payout) -> PayoutNotInDoubt:
    return PayoutNotInDoubt(
        f"the payout is {payout.state}; only one that is unknown is ended by hand", state=payout.state.value
    )
