"""Transfers between users: one entry, no table of their own. A transfer is read back from the book by its subject."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound, Rejected
from base.ids import is_id, new_id
from ledger.accounts import house_account, split_account_id, user_account
from ledger.asking import ALONE, Before, decide
from ledger.commands import Charge, Post, Posting
from ledger.engine import Ledger, Movement
from ledger.errors import RefusedByBook
from ledger.outcomes import LineKind, Outcome
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey
from tariff.desk import Desk, Terms
from tariff.errors import LimitUnvalued
from tariff.pricing import Move
from tariff.schedule import Operation, Rule, of_basis_points
from wallet.errors import SelfTransfer

FEES = "fees"
ID_PREFIX = "trf"
MEMO_LENGTH_MAX = 200
"""Characters that a memo may have."""

_CHUNK = 500
_CHUNKS_MAX = 20
"""Pieces of the history read at most for one page."""


class Directory(Protocol):
    """Knows the users. Identity implements it."""

    async def resolve(self, who: str) -> str:
        """The user id that `usr_...` or `@handle` means. Raises NotFound."""
        ...

    async def resolve_all(self, named: Sequence[str]) -> dict[str, str]:
        """The user ids of those of these who are found, by how they were named."""
        ...


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transfer costs its sender on top where the tariff has no rule: basis points of the amount, rounded up."""

    basis_points: int = 0

    def move(self, owner: str, asset: str, amount: int, *, operation: Operation = Operation.TRANSFER) -> Move:
        """A transfer of `amount` (or a hold for one) whose terms are wanted."""
        return Move(owner, operation, asset, amount, otherwise=_rule_of(self.basis_points))


@lru_cache
def _rule_of(basis_points: int) -> Rule | None:
    if not basis_points:
        return None
    return Rule("transfer_fee_basis_points", Operation.TRANSFER, percent=of_basis_points(basis_points))


@dataclass(frozen=True, slots=True)
class Transfer:
    """Value that went from one user to another. `fee` came on top of `amount`; both in smallest units."""

    id: str
    sender: str
    recipient: str
    asset: str
    amount: int
    fee: int
    memo: str | None
    booked_at: datetime
    replayed: bool = False


class Transfers:
    """Sends value between users of one book."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        directory: Directory,
        clock: Clock,
        entropy: Entropy,
        fees: Fees | None = None,
        tariff: Desk | None = None,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._fees = fees or Fees()
        self._tariff = tariff or Desk()

    async def send(
        self,
        *,
        key: RequestKey,
        sender: str,
        recipient: str,
        asset: str,
        amount: int,
        memo: str | None = None,
        fee_accepted: int | None = None,
        before: Before = ALONE,
    ) -> Transfer:
        """Move `amount` from `sender` (a user id) to `recipient` (a user id or `@handle`), in one entry.

        The fee is taken on top; `fee_accepted`: the highest that its sender agreed to. `before`: what is booked first,
        or not at all. Raises NotFound (no such recipient), SelfTransfer, UnknownAsset, FeeAboveAccepted, LimitExceeded,
        LimitUnvalued, RequestConflict, and RefusedByBook (`insufficient_funds`, `frozen`, `receivable_open`).
        """

        async def book(terms: Terms) -> Outcome:
            post = transfer_post(
                key,
                sender=sender,
                recipient=to,
                asset=asset,
                amount=amount,
                fee=terms.fee,
                memo=memo,
                subject=new_id(ID_PREFIX, self._clock, self._entropy),
                owing_nothing=await receivable_accounts(self._ledger, sender),
                charges=terms.charges,
            )
            await self._ledger.asset(asset)
            sides = (side for posting in post.postings for side in (posting.debit, posting.credit))
            await self._ledger.ensure_open(*sides)
            *_, outcome = await decide(self._ledger, before.group(post, content=key.content))
            return outcome

        try:
            to = await self._directory.resolve(recipient)
            check_transfer(sender=sender, recipient=to, memo=memo)
            move = self._fees.move(sender, asset, amount)
            return transfer_sent(await self._tariff.at_terms(move, book, accepted=fee_accepted), memo)
        except RefusedByBook:
            raise
        except (Rejected, LimitUnvalued):
            if (first := await self._tariff.first(self._ledger, sender, key)) is not None:
                return transfer_sent(first, memo)  # what is in the way arose since
            raise

    async def first(self, owner: str, key: RequestKey) -> Transfer | None:
        """What this request came to when it was sent before."""
        found = await self._tariff.first(self._ledger, owner, key)
        return None if found is None else replace(await self.get(owner, found.subject or ""), replayed=True)

    async def get(self, owner: str, transfer: str) -> Transfer:
        """The transfer with this id, to its sender or its recipient. Raises NotFound."""
        if is_id(ID_PREFIX, transfer):
            lines = await self._ledger.history(subject=transfer)
            found = _from_movements(lines)
            if found is not None and owner in (found.sender, found.recipient):
                return found
        raise NotFound(f"there is no transfer {transfer[:40]!r}", param="transfer")

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Transfer]:
        """The user's transfers, sent and received, newest first (oldest first with `after`); the keys are ids.

        Raises NotFound for a key that is no transfer of theirs. Scans a bounded part of the history, so that a page
        may hold fewer than `limit` where other movements lie between.
        """
        low = None if before is None else min(await self._places(owner, before))
        high = None if after is None else max(await self._places(owner, after))
        found: dict[str, list[Movement]] = {}
        for _ in range(_CHUNKS_MAX):
            lines = await self._ledger.history(
                owner=owner, kinds=(LineKind.POSTED,), before=low, after=high, limit=_CHUNK
            )
            for line in lines:
                if line.subject is not None and is_id(ID_PREFIX, line.subject):
                    found.setdefault(line.subject, []).append(line)
            if len(lines) < _CHUNK or len(found) > limit:
                break  # one more than asked for was begun, so the last one asked for is whole
            last = (lines[-1].seq, lines[-1].line)
            low, high = (low, last) if high is not None else (last, high)
        transfers = (_from_movements(lines) for lines in list(found.values())[:limit])
        return [transfer for transfer in transfers if transfer is not None]

    async def _places(self, owner: str, transfer: str) -> list[tuple[int, int]]:
        """Where in the book the owner's transfer stands. Raises NotFound."""
        await self.get(owner, transfer)
        return [(line.seq, line.line) for line in await self._ledger.history(subject=transfer)]


def check_transfer(*, sender: str, recipient: str, memo: str | None) -> None:
    """Raise what is wrong with a transfer before the book is asked. `recipient` is a user's id."""
    if recipient == sender:
        raise SelfTransfer("a transfer needs two users; this one is to yourself", param="recipient")
    if memo is not None and len(memo) > MEMO_LENGTH_MAX:
        raise Rejected(
            f"a memo has at most {MEMO_LENGTH_MAX} characters", code="memo_too_long", param="memo", length=len(memo)
        )


def transfer_post(
    key: RequestKey,
    *,
    sender: str,
    recipient: str,
    asset: str,
    amount: int,
    fee: int,
    memo: str | None,
    subject: str,
    owing_nothing: tuple[str, ...],
    charges: tuple[Charge, ...] = (),
) -> Post:
    """The entry of a transfer: the amount, and the fee on top if there is one. `subject` is the transfer's id.

    `owing_nothing` are the accounts of what the sender may owe; `charges` what it uses up of limits and allowances.
    """
    source = user_account(sender, asset)
    postings = [Posting(source, user_account(recipient, asset), asset, amount)]
    if fee:
        postings.append(Posting(source, house_account(FEES, asset), asset, fee))
    return Post(
        id=key.id,
        subject=subject,
        postings=tuple(postings),
        metadata={} if memo is None else {"memo": memo},
        owing_nothing=owing_nothing,
        charges=charges,
    )


def transfer_sent(outcome: Outcome, memo: str | None) -> Transfer:
    """The transfer that an accepted outcome says was made."""
    sent, *fees = outcome.lines
    return Transfer(
        id=outcome.subject or outcome.id,
        sender=split_account_id(sent.debit)[0],
        recipient=split_account_id(sent.credit)[0],
        asset=sent.asset,
        amount=sent.amount,
        fee=sum(line.amount for line in fees),
        memo=memo,
        booked_at=outcome.booked_at,
        replayed=outcome.replayed,
    )


def _from_movements(lines: list[Movement]) -> Transfer | None:
    if not lines:
        return None
    sent, *fees = sorted(lines, key=lambda movement: (movement.seq, movement.line))
    return Transfer(
        id=sent.subject or sent.command,
        sender=split_account_id(sent.debit)[0],
        recipient=split_account_id(sent.credit)[0],
        asset=sent.asset,
        amount=sent.amount,
        fee=sum(line.amount for line in fees),
        memo=sent.metadata.get("memo"),
        booked_at=sent.booked_at,
    )
