"""Freezes stop what users and the house intend on an account, an owner's accounts or an asset. Evidence goes on."""

from ledger.asking import decide
from ledger.commands import Freeze, FreezeScope, Group, Unfreeze
from ledger.engine import Ledger
from ledger.requests import RequestKey


class Freezes:
    """Sets, lifts and lists freezes. They are the book's own: nothing is kept beside it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def change(self, *, key: RequestKey, scope: FreezeScope, target: str, frozen: bool, reason: str) -> bool:
        """Freeze or lift; setting what is so already changes nothing. Returns whether this request was decided before.

        `target` is an account's name, an owner's id, an asset's code. Raises UnknownAsset, RequestConflict,
        RefusedByBook (`unknown_account`).
        """
        if scope is FreezeScope.ASSET:
            await self._ledger.asset(target)
        kind = Freeze if frozen else Unfreeze
        command = kind(id=key.id, scope=scope, target=target, metadata={"reason": reason})
        (outcome,) = await decide(self._ledger, Group((command,), content=key.content))
        return outcome.replayed

    async def all(self) -> list[tuple[FreezeScope, str]]:
        """What is frozen now."""
        return await self._ledger.freezes()
