"""Credit lines: how far a limited account may go below zero, set by the treasurer. The book keeps and enforces them."""

from dataclasses import dataclass
from datetime import datetime

from ledger.accounts import HOUSE, split_account_id
from ledger.asking import Before, decide, decided_before
from ledger.commands import Record, SetCreditLine
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.requests import RequestKey
from treasury.by_hand_alone import ByHandAlone, second_person
from treasury.notes import note
from treasury.operations.acts import Noted, unnoted


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What an account (an id) may owe at most, in smallest units, since when."""

    account: str
    asset: str
    cap: int
    set_at: datetime
    replayed: bool = False


class CreditLines:
    """Sets credit lines. Without `alone` one treasurer sets any."""

    def __init__(self, ledger: Ledger, *, alone: ByHandAlone | None = None) -> None:
        self._ledger = ledger
        self._alone = alone

    async def change(
        self,
        *,
        key: RequestKey,
        treasurer: str,
        account: str,
        cap: int,
        reason: str,
        confirmed_by: str | None = None,
        noted: Noted = unnoted,
    ) -> CreditLine:
        """Let `account` (an id) owe up to `cap`; a user's account is opened if need be.

        What it's raised by uses up the treasurer's limits, unless a second one has confirmed it (`confirmed_by`).
        Raises UnknownAsset, ReasonMissing, SecondPersonNeeded, RequestConflict, RefusedByBook (`credit_line_in_use`
        with the numbers, `not_limited`, `unknown_account`).
        """
        owner, _, asset = split_account_id(account)
        await self._ledger.asset(asset)
        metadata = note(treasurer, reason, confirmed_by=confirmed_by)
        try:
            if (outcome := await decided_before(self._ledger, key)) is None:
                used: tuple[Record, ...] = ()
                if confirmed_by is None and self._alone is not None:
                    raised = {asset: await self._raised(account, cap)}
                    used = await self._alone.record(key, treasurer, raised)
                if owner != HOUSE:
                    await self._ledger.ensure_open(account)
                command = SetCreditLine(id=key.id, account=account, cap=cap, metadata=metadata)
                before = noted(account)
                group = Before((*before.commands, *used), before.riders).group(command, content=key.content)
                *_, outcome = await decide(self._ledger, group)
        except RefusedByBook as refusal:
            raise second_person(refusal) from refusal
        return CreditLine(account=account, asset=asset, cap=cap, set_at=outcome.booked_at, replayed=outcome.replayed)

    async def _raised(self, account: str, cap: int) -> int:
        """How much more the account could owe than it may now.

        Another one may change it meanwhile: then at most what two had allowed, or what was counted, stands again.
        """
        known = await self._ledger.account(account)
        return max(0, cap - (0 if known is None else known.credit_line))
