"""Many transfers in one request: each by itself, or all together or not at all. One submission to the book.

The request's own key is spent on a command that moves nothing and comes first, so that the same key with another list
is refused as a whole, however many items of it would be new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError, Rejected
from base.ids import new_ids
from ledger.accounts import user_account
from ledger.asking import decide, refusal_of
from ledger.commands import Group, OpenAccount, Post
from ledger.engine import Ledger
from ledger.errors import RefusedByBook, RequestConflict
from ledger.outcomes import Outcome, Refused
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey
from tariff.desk import Desk, Terms, require_accepted
from tariff.errors import LimitUnvalued
from wallet.transfers import ID_PREFIX, Directory, Fees, Transfer, check_transfer, transfer_post, transfer_sent

TRANSFERS_MAX = 1000
"""Transfers of one request at most."""


@dataclass(frozen=True, slots=True)
class Payment:
    """What one item of a request asks for: `recipient` is a user id or `@handle`, `amount` smallest units."""

    recipient: str
    asset: str
    amount: int
    memo: str | None = None
    fee_accepted: int | None = None


@dataclass(frozen=True, slots=True)
class BulkAnswer:
    """What became of each payment, in order: the transfer, or why it was refused."""

    outcomes: tuple[Transfer | OnebookError, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked, with whom it pays: everything that a try at other terms doesn't change."""

    key: RequestKey
    sender: str
    payments: Sequence[Payment]
    recipients: Sequence[str]
    subjects: Sequence[str]
    owing_nothing: tuple[str, ...]

    def post(self, place: int, terms: Terms) -> Post:
        payment = self.payments[place]
        return transfer_post(
            RequestKey(_item_id(self.key, place), self.key.content),
            sender=self.sender,
            recipient=self.recipients[place],
            asset=payment.asset,
            amount=payment.amount,
            fee=terms.fee,
            memo=payment.memo,
            subject=self.subjects[place],
            owing_nothing=self.owing_nothing,
            charges=terms.charges,
        )


class BulkTransfers:
    """Sends many transfers of one sender at once."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        directory: Directory,
        clock: Clock,
        entropy: Entropy,
        fees: Fees,
        tariff: Desk | None = None,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._fees = fees
        self._tariff = tariff or Desk()

    async def send(
        self, *, key: RequestKey, sender: str, payments: Sequence[Payment], together: bool = False
    ) -> BulkAnswer:
        """Make up to TRANSFERS_MAX transfers. `together`: all of them, or none.

        Raises what `Transfers.send` does, before anything is booked, for an item that can't be meant (`param` names
        it), RequestConflict, and with `together` the refusal of the item that stopped the others.
        """
        try:
            recipients = await self._recipients(sender, payments)
            terms = [await self._terms(sender, payments, place) for place in range(len(payments))]
        except (Rejected, LimitUnvalued):
            if (earlier := await self._answered_before(key, sender, payments)) is not None:
                return earlier  # what is in the way arose since
            raise
        for asset in {payment.asset for payment in payments}:
            await self._ledger.asset(asset)
        subjects = new_ids(ID_PREFIX, len(payments), self._clock, self._entropy)
        owing_nothing = await receivable_accounts(self._ledger, sender)
        asked = _Request(key, sender, payments, recipients, subjects, owing_nothing)
        claim = OpenAccount(id=key.id, account=user_account(sender, payments[0].asset))
        if together:
            return await self._all(asked, claim, terms)
        posts = await self._opened(asked, dict(enumerate(terms)))
        await decide(self._ledger, Group((claim,), content=key.content))
        outcomes = await self._submit(asked, posts)
        undecided = [place for place, outcome in enumerate(outcomes) if _is_undecided(outcome)]
        errors: dict[int, OnebookError] = {}
        if undecided:  # what is free in this month was used up by those before them
            dearer = {}
            for place in undecided:
                try:
                    dearer[place] = await self._terms(sender, payments, place, at_full=True)
                except (Rejected, LimitUnvalued) as error:
                    errors[place] = error
            again = await self._submit(asked, await self._opened(asked, dearer))
            for place, outcome in zip(dearer, again, strict=True):
                outcomes[place] = outcome
        return await self._answer(sender, outcomes, payments, errors)

    async def _terms(self, sender: str, payments: Sequence[Payment], place: int, *, at_full: bool = False) -> Terms:
        """Of one item; what is wrong with it names it."""
        payment = payments[place]
        try:
            move = self._fees.move(sender, payment.asset, payment.amount)
            terms = await self._tariff.terms(move, at_full=at_full)
            require_accepted(move, terms.fee, payment.fee_accepted)
        except (Rejected, LimitUnvalued) as error:
            error.param = f"transfers[{place}].{error.param or 'amount'}"
            raise
        return terms

    async def _opened(self, asked: _Request, terms: Mapping[int, Terms]) -> list[Post]:
        """The entries of some items, once their accounts are open."""
        posts = [asked.post(place, one) for place, one in terms.items()]
        accounts = (side for post in posts for posting in post.postings for side in (posting.debit, posting.credit))
        await self._ledger.ensure_open(*accounts)
        return posts

    async def _submit(self, asked: _Request, posts: Sequence[Post]) -> list[Outcome]:
        decided = await self._ledger.submit(*(Group((post,), content=asked.key.content) for post in posts))
        return [outcome for (outcome,) in decided]

    async def _all(self, asked: _Request, claim: OpenAccount, terms: list[Terms]) -> BulkAnswer:
        while True:
            posts = await self._opened(asked, dict(enumerate(terms)))
            (outcomes,) = await self._ledger.submit(Group((claim, *posts), content=asked.key.content))
            refusal = refusal_of(outcomes)
            if refusal is None:
                return await self._answer(asked.sender, list(outcomes[1:]), asked.payments, {})
            if refusal.code is Refused.ID_CONFLICT:
                raise RequestConflict(
                    "this idempotency key was used for another request", first=refusal.facts.get("first")
                )
            place = next(place for place, outcome in enumerate(outcomes[1:]) if outcome.refusal == refusal)
            if refusal.code is not Refused.ALLOWANCE_SPENT:
                break
            for later in range(place, len(terms)):  # what is free in this month is used up by those before
                terms[later] = await self._terms(asked.sender, asked.payments, later, at_full=True)
        error = RefusedByBook(
            f"transfer {place} was refused, so none was made", code=refusal.code, param=f"transfers[{place}]"
        )
        error.facts = dict(refusal.facts)
        explained = await self._tariff.explained(error, asked.sender)
        explained.param = error.param
        raise explained

    async def _recipients(self, sender: str, payments: Sequence[Payment]) -> list[str]:
        """Who is meant by each payment. Raises for the first that can't be, naming it."""
        found = await self._directory.resolve_all(list({payment.recipient for payment in payments}))
        recipients: list[str] = []
        for place, payment in enumerate(payments):
            try:
                recipient = found.get(payment.recipient) or await self._directory.resolve(payment.recipient)
                check_transfer(sender=sender, recipient=recipient, memo=payment.memo)
            except Rejected as error:
                error.param = f"transfers[{place}].{error.param}"
                raise
            recipients.append(recipient)
        return recipients

    async def _answered_before(self, key: RequestKey, sender: str, payments: Sequence[Payment]) -> BulkAnswer | None:
        """The answer that this very request had, if it was decided as a whole."""
        ids = [key.id, *(_item_id(key, place) for place in range(len(payments)))]
        found = {outcome.id: outcome for outcome in await self._ledger.outcomes(*ids)}
        if len(found) < len(ids) or any(outcome.content != key.content for outcome in found.values()):
            return None
        outcomes = [msgspec.structs.replace(found[name], replayed=True) for name in ids[1:]]
        return await self._answer(sender, outcomes, payments, {})

    async def _answer(
        self, sender: str, outcomes: Sequence[Outcome], payments: Sequence[Payment], errors: Mapping[int, OnebookError]
    ) -> BulkAnswer:
        """`errors`: what is in the way of items that the book hasn't decided."""
        found: list[Transfer | OnebookError] = []
        for place, (outcome, payment) in enumerate(zip(outcomes, payments, strict=True)):
            if place in errors:
                found.append(errors[place])
            elif outcome.refusal is None:
                found.append(transfer_sent(outcome, payment.memo))
            else:
                error = RefusedByBook(f"transfer {place} was refused", code=outcome.refusal.code)
                error.facts = {"asset": payment.asset, **outcome.refusal.facts}
                explained = await self._tariff.explained(error, sender)
                explained.param = f"transfers[{place}]"
                found.append(explained)
        return BulkAnswer(tuple(found), all(outcome.replayed for outcome in outcomes))


def _item_id(key: RequestKey, place: int) -> str:
    return f"{key.id}:{place}"


def _is_undecided(outcome: Outcome) -> bool:
    return outcome.refusal is not None and outcome.refusal.code is Refused.ALLOWANCE_SPENT
