"""Credit lines: how far a limited account may go below zero, set by the treasurer. The book keeps and enforces them."""

from dataclasses import dataclass
from datetime import datetime

from ledger.accounts import HOUSE, split_account_id
from ledger.asking import decide
from ledger.commands import SetCreditLine
from ledger.engine import Ledger
from ledger.requests import RequestKey
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
    """Sets credit lines."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def change(
        self, *, key: RequestKey, treasurer: str, account: str, cap: int, reason: str, noted: Noted = unnoted
    ) -> CreditLine:
        """Let `account` (an id) owe up to `cap`; a user's account is opened if need be.

        Raises UnknownAsset, ReasonMissing, RequestConflict, RefusedByBook (`credit_line_in_use` with the numbers,
        `not_limited`, `unknown_account`).
        """
        owner, _, asset = split_account_id(account)
        await self._ledger.asset(asset)
        metadata = note(treasurer, reason)
        if owner != HOUSE:
            await self._ledger.ensure_open(account)
        command = SetCreditLine(id=key.id, account=account, cap=cap, metadata=metadata)
        *_, outcome = await decide(self._ledger, noted(account).group(command, content=key.content))
        return CreditLine(account=account, asset=asset, cap=cap, set_at=outcome.booked_at, replayed=outcome.replayed)
