"""Transfers between users: one entry, no table of their own. A transfer is read back from the book by its subject."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound, Rejected
from base.ids import is_id, new_id
from ledger.accounts import house_account, split_account_id, user_account
from ledger.asking import decide, decided_before
from ledger.commands import Group, Post, Posting
from ledger.engine import Ledger, Movement
from ledger.outcomes import LineKind, Outcome
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey
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
    """What a transfer costs its sender on top: basis points of the amount, rounded up to a smallest unit."""

    basis_points: int = 0

    def __call__(self, amount: int) -> int:
        return -(-amount * self.basis_points // 10_000)


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
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._fees = fees or Fees()

    async def send(
        self, *, key: RequestKey, sender: str, recipient: str, asset: str, amount: int, memo: str | None = None
    ) -> Transfer:
        """Move `amount` from `sender` (a user id) to `recipient` (a user id or `@handle`), in one entry.

        The fee, if one is configured, is taken on top and rounded up. Raises NotFound (no such recipient),
        SelfTransfer, UnknownAsset, RequestConflict, and RefusedByBook (`insufficient_funds`, `frozen`,
        `receivable_open`).
        """
        try:
            to = await self._directory.resolve(recipient)
            check_transfer(sender=sender, recipient=to, memo=memo)
        except Rejected:
            if (first := await decided_before(self._ledger, key)) is not None:
                return transfer_sent(first, memo)  # what is in the way arose since
            raise
        post = transfer_post(
            key,
            sender=sender,
            recipient=to,
            asset=asset,
            amount=amount,
            fee=self._fees(amount),
            memo=memo,
            subject=new_id(ID_PREFIX, self._clock, self._entropy),
            owing_nothing=await receivable_accounts(self._ledger, sender),
        )
        await self._ledger.asset(asset)
        await self._ledger.ensure_open(*(side for posting in post.postings for side in (posting.debit, posting.credit)))
        (outcome,) = await decide(self._ledger, Group((post,), content=key.content))
        return transfer_sent(outcome, memo)

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
) -> Post:
    """The entry of a transfer: the amount, and the fee on top if there is one. `subject` is the transfer's id.

    `owing_nothing` are the accounts of what the sender may owe.
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
