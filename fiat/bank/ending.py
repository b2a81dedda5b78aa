"""May a bank's payout be given up, or ended by hand? Not while its file lies there, nor while the folder knows more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fiat.bank.outgoing import BankFiles, held
from fiat.errors import PayoutFileWaits
from fiat.payout_memory import Remembering
from fiat.payouts import Payout


class BankEnding:
    """Looks into the folder of payment files."""

    def __init__(self, files: BankFiles, remembering: Remembering) -> None:
        self._files = files
        self._remembering = remembering

    @asynccontextmanager
    async def ending(self, payout: Payout) -> AsyncIterator[None]:
        """Within it no file is put into `out/`, and none is withdrawn.

        Raises PayoutsHalted (the folder knows files that this database doesn't, or isn't its folder), PayoutFileWaits
        (the payout's file could still be carried off), Unavailable while a file is being written.
        """
        async with held(self._files.folder, "out"):
            await self._remembering.require()
            name = None if payout.batch is None else self._files.waiting(payout.batch)
            if name is not None:
                raise PayoutFileWaits(
                    f"the payout's file {name} still waits in out/, so the bank may yet be told to pay it: withdraw it"
                    f" first, `onebook bank withdraw {name}`",
                    file=name,
                )
            yield
