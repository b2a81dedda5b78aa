"""Many transfers in one request: each by itself, or all together or not at all. One submission to the book.

The request's own key is spent on a command that moves nothing and comes first, so that the same key with another list
is refused as a whole, however many items of it would be new.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Rejected
from base.ids import new_ids
from ledger.accounts import user_account
from ledger.asking import decide, refusal_of
from ledger.commands import Group, OpenAccount, Post
from ledger.engine import Ledger
from ledger.errors import RefusedByBook, RequestConflict
from ledger.outcomes import Outcome, Refused
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey
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


@dataclass(frozen=True, slots=True)
class BulkAnswer:
    """What became of each payment, in order: the transfer, or why the book refused it."""

    outcomes: tuple[Transfer | RefusedByBook, ...]
    replayed: bool


class BulkTransfers:
    """Sends many transfers of one sender at once."""

    def __init__(self, *, ledger: Ledger, directory: Directory, clock: Clock, entropy: Entropy, fees: Fees) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._fees = fees

    async def send(
        self, *, key: RequestKey, sender: str, payments: Sequence[Payment], together: bool = False
    ) -> BulkAnswer:
        """Make up to TRANSFERS_MAX transfers. `together`: all of them, or none.

        Raises what `Transfers.send` does, before anything is booked, for an item that can't be meant (`param` names
        it), RequestConflict, and with `together` RefusedByBook for the item that stopped the others.
        """
        try:
            recipients = await self._recipients(sender, payments)
        except Rejected:
            if (earlier := await self._answered_before(key, payments)) is not None:
                return earlier  # what is in the way arose since
            raise
        owing_nothing = await receivable_accounts(self._ledger, sender)
        subjects = new_ids(ID_PREFIX, len(payments), self._clock, self._entropy)
        posts = [
            transfer_post(
                RequestKey(_item_id(key, place), key.content),
                sender=sender,
                recipient=recipient,
                asset=payment.asset,
                amount=payment.amount,
                fee=self._fees(payment.amount),
                memo=payment.memo,
                subject=subject,
                owing_nothing=owing_nothing,
            )
            for place, (payment, recipient, subject) in enumerate(zip(payments, recipients, subjects, strict=True))
        ]
        for asset in {payment.asset for payment in payments}:
            await self._ledger.asset(asset)
        accounts = (side for post in posts for posting in post.postings for side in (posting.debit, posting.credit))
        await self._ledger.ensure_open(*accounts)
        claim = OpenAccount(id=key.id, account=user_account(sender, payments[0].asset))
        if together:
            return await self._all(key, claim, posts, payments)
        await decide(self._ledger, Group((claim,), content=key.content))
        decided = await self._ledger.submit(*(Group((post,), content=key.content) for post in posts))
        return _answer([outcome for (outcome,) in decided], payments)

    async def _all(
        self, key: RequestKey, claim: OpenAccount, posts: Sequence[Post], payments: Sequence[Payment]
    ) -> BulkAnswer:
        (outcomes,) = await self._ledger.submit(Group((claim, *posts), content=key.content))
        refusal = refusal_of(outcomes)
        if refusal is None:
            return _answer(outcomes[1:], payments)
        if refusal.code is Refused.ID_CONFLICT:
            raise RequestConflict("this idempotency key was used for another request", first=refusal.facts.get("first"))
        place = next(place for place, outcome in enumerate(outcomes[1:]) if outcome.refusal == refusal)
        error = RefusedByBook(
            f"transfer {place} was refused, so none was made", code=refusal.code, param=f"transfers[{place}]"
        )
        error.facts = dict(refusal.facts)
        raise error

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

    async def _answered_before(self, key: RequestKey, payments: Sequence[Payment]) -> BulkAnswer | None:
        """The answer that this very request had, if it was decided as a whole."""
        ids = [key.id, *(_item_id(key, place) for place in range(len(payments)))]
        found = {outcome.id: outcome for outcome in await self._ledger.outcomes(*ids)}
        if len(found) < len(ids) or any(outcome.content != key.content for outcome in found.values()):
            return None
        return _answer([msgspec.structs.replace(found[name], replayed=True) for name in ids[1:]], payments)


def _item_id(key: RequestKey, place: int) -> str:
    return f"{key.id}:{place}"


def _answer(outcomes: Sequence[Outcome], payments: Sequence[Payment]) -> BulkAnswer:
    found: list[Transfer | RefusedByBook] = []
    for place, (outcome, payment) in enumerate(zip(outcomes, payments, strict=True)):
        if outcome.refusal is None:
            found.append(transfer_sent(outcome, payment.memo))
            continue
        error = RefusedByBook(f"transfer {place} was refused", code=outcome.refusal.code, param=f"transfers[{place}]")
        error.facts = {"asset": payment.asset, **outcome.refusal.facts}
        found.append(error)
    return BulkAnswer(tuple(found), replayed=all(outcome.replayed for outcome in outcomes))
