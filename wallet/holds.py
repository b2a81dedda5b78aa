"""Holds between users: value that its sender sets aside for somebody until an instant, to be paid or let go.

No table of their own: a hold is read back from the book by its subject. It's a promise: both can have it paid at any
time, wholly or in parts, but only its recipient can let go of it, or of what is left, before it expires.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound, Rejected
from base.ids import is_id, new_id
from ledger.accounts import HOUSE, house_account, split_account_id, user_account
from ledger.asking import decide, decided_before, stopping
from ledger.commands import Command, Group, Posting, Settle, Void
from ledger.commands import Hold as HoldCommand
from ledger.engine import KnownHold, Ledger, Movement
from ledger.errors import BookCorrupt, RefusedByBook, RequestConflict
from ledger.outcomes import Line, LineKind, Outcome, Refused
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey
from ledger.state import HoldState
from tariff.desk import Desk, Terms
from tariff.errors import LimitUnvalued
from tariff.schedule import Operation
from wallet.errors import HoldPromised
from wallet.transfers import FEES, Directory, Fees, check_transfer

ID_PREFIX = "hld"

DAYS_MAX = 90
"""How far away the end of a hold may be."""

_PAGE = 500
_PAGES_MAX = 20
"""Pages of payments that are added up at most, for a hold that expired."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Value set aside for a user, in smallest units; `fee` comes on top of `amount`.

    Of `amount`, `settled` was paid to the recipient so far, and `remaining` is still held.
    """

    id: str
    sender: str
    recipient: str
    asset: str
    amount: int
    fee: int
    settled: int
    remaining: int
    state: HoldState
    memo: str | None
    created_at: datetime
    expires_at: datetime | None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class HoldStep:
    """What a settlement or void did: `settled` went to the recipient, `fee` to the house.

    `released` of the amount came back to the sender, and with it what was held for its fee.
    """

    hold: str
    asset: str
    settled: int
    fee: int
    released: int
    booked_at: datetime
    replayed: bool = False


class Holds:
    """Sets value aside between users of one book, and ends that."""

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

    async def create(
        self,
        *,
        key: RequestKey,
        sender: str,
        recipient: str,
        asset: str,
        amount: int,
        expires_at: datetime,
        memo: str | None = None,
        fee_accepted: int | None = None,
    ) -> Hold:
        """Set `amount`, and the fee of paying it, aside for `recipient` (a user id or `@handle`).

        `fee_accepted`: the highest fee that its sender agreed to. Raises NotFound (no such recipient), SelfTransfer,
        Rejected (`expires_too_late`, `memo_too_long`), UnknownAsset, FeeAboveAccepted, LimitExceeded, LimitUnvalued,
        RequestConflict, RefusedByBook (`insufficient_funds`, `frozen`, `receivable_open`, `expires_in_past`).
        """

        async def book(terms: Terms) -> Outcome:
            source, target = user_account(sender, asset), user_account(to, asset)
            postings = [Posting(source, target, asset, amount)]
            if terms.fee:
                postings.append(Posting(source, house_account(FEES, asset), asset, terms.fee))
            await self._ledger.asset(asset)
            await self._ledger.ensure_open(*(side for posting in postings for side in (posting.debit, posting.credit)))
            command = HoldCommand(
                id=key.id,
                subject=new_id(ID_PREFIX, self._clock, self._entropy),
                postings=tuple(postings),
                expires_at=expires_at,
                metadata={} if memo is None else {"memo": memo},
                owing_nothing=await receivable_accounts(self._ledger, sender),
                charges=terms.charges,
            )
            (outcome,) = await decide(self._ledger, Group((command,), content=key.content))
            return outcome

        try:
            to = await self._directory.resolve(recipient)
            check_transfer(sender=sender, recipient=to, memo=memo)
            self._check_end(expires_at)
            move = self._fees.move(sender, asset, amount, operation=Operation.HOLD)
            outcome = await self._tariff.at_terms(move, book, accepted=fee_accepted)
        except RefusedByBook:
            raise
        except (Rejected, LimitUnvalued):
            first = await self._tariff.first(self._ledger, sender, key)
            if first is None:
                raise
            outcome = first  # what is in the way arose since
        return _made(outcome, expires_at=expires_at, memo=memo)

    def _check_end(self, expires_at: datetime) -> None:
        latest = self._clock.now() + timedelta(days=DAYS_MAX)
        if expires_at > latest:
            raise Rejected(
                f"a hold ends within {DAYS_MAX} days: at {latest.isoformat()} at the latest",
                code="expires_too_late",
                param="expires_at",
                latest=latest.isoformat(),
            )

    async def get(self, owner: str, hold: str) -> Hold:
        """The hold with this id as it stands now, to its sender or its recipient. Raises NotFound."""
        held, known = await self._find(owner, hold)
        main, *fees = known.postings
        return Hold(
            id=hold,
            sender=split_account_id(main.debit)[0],
            recipient=split_account_id(main.credit)[0],
            asset=main.asset,
            amount=main.amount,
            fee=sum(fee.amount for fee in fees),
            settled=await self._settled(hold, known),
            remaining=main.remaining,
            state=known.state,
            memo=held.metadata.get("memo"),
            created_at=known.booked_at,
            expires_at=known.expires_at,
        )

    async def settle(
        self, *, key: RequestKey, owner: str, hold: str, amount: int | None = None, close: bool = False
    ) -> HoldStep:
        """Pay `amount` of the hold to its recipient, None: all that remains; `close` releases the rest.

        Its sender and its recipient may; only its recipient may release anything. Raises NotFound, HoldPromised,
        RequestConflict, RefusedByBook (`frozen`, `receivable_open`, `hold_closed`, `hold_expired`,
        `exceeds_remainder`).
        """
        _, known = await self._find(owner, hold)
        try:
            if close and amount is not None and amount < known.postings[0].remaining:
                _require_recipient(owner, known)
            await self._require_unfrozen(known)
        except Rejected:
            if (first := await decided_before(self._ledger, key)) is not None:
                return _done(first, known)  # what is in the way arose since
            raise
        command = Settle(
            id=key.id,
            subject=hold,
            hold=known.id,
            amounts=_shares(known, amount),
            close=close,
            owing_nothing=await receivable_accounts(self._ledger, _sender(known)),
        )
        return await self._step(key, known, command, owner=owner)

    async def void(self, *, key: RequestKey, owner: str, hold: str) -> HoldStep:
        """Let go of all that remains of the hold. Only its recipient may.

        Raises NotFound, HoldPromised, RequestConflict, RefusedByBook (`hold_closed`, `hold_expired`).
        """
        _, known = await self._find(owner, hold)
        _require_recipient(owner, known)
        return await self._step(key, known, Void(id=key.id, subject=hold, hold=known.id), owner=owner)

    async def _require_unfrozen(self, known: KnownHold) -> None:
        """Raise if a freeze stops a payment out of the hold now: the book itself only looks when value is set aside."""
        main = known.postings[0]
        if stops := stopping(await self._ledger.freezes(), main.debit, main.credit):
            scope, target = stops[0]
            raise RefusedByBook("this can't be paid while it's frozen", code=Refused.FROZEN, scope=scope, target=target)

    async def _step(self, key: RequestKey, known: KnownHold, command: Command, *, owner: str) -> HoldStep:
        try:
            (outcome,) = await decide(self._ledger, Group((command,), content=key.content))
        except RequestConflict:
            raise
        except RefusedByBook as refusal:
            if refusal.code != Refused.RECEIVABLE_OPEN:
                # What its numbers are in, and the name that its parties know it by.
                refusal.facts = {**refusal.facts, "asset": known.postings[0].asset, "hold": known.subject}
            elif owner != _sender(known):
                refusal.facts = {}  # how much its sender owes is their own
            raise
        return _done(outcome, known)

    async def _find(self, owner: str, hold: str) -> tuple[Movement, KnownHold]:
        """The hold's own line and what became of it. Raises NotFound, also for others' holds."""
        if is_id(ID_PREFIX, hold):
            lines = await self._ledger.history(subject=hold, kinds=(LineKind.HELD,))
            parties = {split_account_id(side)[0] for line in lines for side in (line.debit, line.credit)}
            if lines and owner in parties - {HOUSE}:
                known = await self._ledger.hold(lines[0].command)
                if known is None:
                    raise BookCorrupt(f"{hold} has lines, but isn't among the holds")
                return lines[-1], known
        raise NotFound(f"there is no hold {hold[:40]!r}", param="hold")

    async def _settled(self, hold: str, known: KnownHold) -> int:
        """What was paid of a hold: of one that has ended, what its end didn't release."""
        main = known.postings[0]
        match known.state:
            case HoldState.OPEN:
                return main.amount - main.remaining
            case HoldState.SETTLED | HoldState.VOIDED:
                lines = await self._ledger.history(subject=hold, kinds=(LineKind.RELEASED,))
                return main.amount - sum(line.amount for line in lines if line.credit == main.credit)
            case HoldState.EXPIRED:  # its end is the worker's own entry, about no movement of theirs
                return await self._paid(hold, main.credit)

    async def _paid(self, hold: str, target: str) -> int:
        """What was paid of a hold, payment by payment."""
        total, before = 0, None
        for _ in range(_PAGES_MAX):
            lines = await self._ledger.history(subject=hold, kinds=(LineKind.POSTED,), before=before, limit=_PAGE)
            total += sum(line.amount for line in lines if line.credit == target)
            if len(lines) < _PAGE:
                break
            before = (lines[-1].seq, lines[-1].line)
        return total


def _sender(known: KnownHold) -> str:
    return split_account_id(known.postings[0].debit)[0]


def _require_recipient(owner: str, known: KnownHold) -> None:
    """Raise HoldPromised unless `owner` is who the hold is for."""
    if owner != split_account_id(known.postings[0].credit)[0]:
        raise HoldPromised(
            "a hold is a promise to its recipient: only they can let go of it before it expires",
            expires_at=None if known.expires_at is None else known.expires_at.isoformat(),
        )


def _shares(known: KnownHold, amount: int | None) -> tuple[tuple[int, int], ...] | None:
    """What to settle of each posting for a payment of `amount`; None: all that remains.

    With each part the fee for all that is paid by then is taken, rounded down: many small parts cost what one large one
    does, no order of parts comes to more than is held, and the last part takes the rest.
    """
    if amount is None:
        return None
    main, *fees = known.postings
    paid = main.amount - main.remaining + min(amount, main.remaining)
    shares = [fee.amount * paid // main.amount - (fee.amount - fee.remaining) for fee in fees]
    return ((0, amount), *((place, share) for place, share in enumerate(shares, start=1) if share > 0))


def _done(outcome: Outcome, known: KnownHold) -> HoldStep:
    """What an accepted settlement or void did."""
    main = known.postings[0]
    return HoldStep(
        hold=known.subject or known.id,
        asset=main.asset,
        settled=_sum(outcome.lines, LineKind.POSTED, main.credit, same=True),
        fee=_sum(outcome.lines, LineKind.POSTED, main.credit, same=False),
        released=_sum(outcome.lines, LineKind.RELEASED, main.credit, same=True),
        booked_at=outcome.booked_at,
        replayed=outcome.replayed,
    )


def _made(outcome: Outcome, *, expires_at: datetime, memo: str | None) -> Hold:
    """The hold that an accepted outcome says was made, as it was then."""
    main, *fees = outcome.lines
    return Hold(
        id=outcome.subject or outcome.id,
        sender=split_account_id(main.debit)[0],
        recipient=split_account_id(main.credit)[0],
        asset=main.asset,
        amount=main.amount,
        fee=sum(line.amount for line in fees),
        settled=0,
        remaining=main.amount,
        state=HoldState.OPEN,
        memo=memo,
        created_at=outcome.booked_at,
        expires_at=expires_at,
        replayed=outcome.replayed,
    )


def _sum(lines: tuple[Line, ...], kind: LineKind, target: str, *, same: bool) -> int:
    return sum(line.amount for line in lines if line.kind is kind and (line.credit == target) is same)
