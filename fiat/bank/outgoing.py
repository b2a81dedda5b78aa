"""The bank as a way out: a batch becomes a file in the folder that somebody carries to the bank. Once.

The folder itself is the memory of whether a file was handed over, because whoever carries it off can't be asked:

    drafts/NAME              written whole; not yet anybody's
    archive/out/NAME.json    a record of the file (no personal data): from now on the draft is to be handed over
    out/NAME                 handed over, by renaming the draft: it's in one place or the other, never in both

A crash in between leaves a draft, with or without its record, and it's gone on from there. A record without a draft
means that it was handed over, whether or not it's still in `out/`. So it's never put there twice.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from base.errors import ConfigError, Unavailable
from base.files import sync_folder, write_atomically
from fiat.bank.entries import bank_account
from fiat.bank.pain001 import digest, file_name, write_pain001
from fiat.bank.records import BankAccount
from fiat.errors import BankMisconfigured
from fiat.payout_steps import Submission
from fiat.payouts import BatchState, Payout, PayoutBatch, id_of
from fiat.top_ups import BANK

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class BankFiles:
    """Hands batches over as pain.001 files, in `folder`."""

    def __init__(
        self, folder: Path, accounts: Mapping[str, BankAccount], *, reached: Callable[[str], None] = lambda _: None
    ) -> None:
        """`accounts` by name. `reached` is told `drafted`, `recorded` and `released`."""
        self.folder = folder
        self._accounts = accounts
        self._reached = reached

    @property
    def rail(self) -> str:
        return BANK

    def paying(self, account: str, asset: str) -> str:
        """As the protocol says. Raises BankMisconfigured for an account that isn't configured (any more)."""
        self._require(account, asset)
        return bank_account(account, asset)

    async def submit(self, batch: PayoutBatch, payouts: Sequence[Payout]) -> Submission:
        """Put the batch's file into `out/`, unless it was put there before.

        Raises Unavailable (the disk can't), BankMisconfigured (the account isn't configured any more).
        """
        content = write_pain001(self._require(batch.account, batch.asset), batch, payouts)
        try:
            with locked(self.folder, "out"):
                self._hand_over(batch, file_name(batch), content)
        except OSError as error:
            raise Unavailable(f"the folder {self.folder} can't be written: {error.strerror}") from error
        return Submission(BatchState.SUBMITTED)

    def _hand_over(self, batch: PayoutBatch, name: str, content: bytes) -> None:
        draft, record = self.folder / "drafts" / name, self._records / f"{name}.json"
        if not record.exists():
            write_atomically(draft, content, mode=FILE_MODE)
            self._reached("drafted")
            told = {
                "file": name,
                "message_id": batch.message_id,
                "batch": batch.id,
                "account": batch.account,
                "asset": batch.asset,
                "payouts": batch.payouts,
                "total_smallest_units": str(batch.total),
                "sha256": digest(content),
                "written_at": batch.created_at.isoformat(),
            }
            write_atomically(record, json.dumps(told, indent=2).encode(), mode=FILE_MODE)
            self._reached("recorded")
        if draft.exists():
            draft.rename(self.folder / "out" / name)
            sync_folder(self.folder / "out")
            sync_folder(draft.parent)
        self._reached("released")

    def handed_over(self) -> Iterator[str]:
        """Ids of the batches whose files were ever made here."""
        if self._records.is_dir():
            for record in sorted(self._records.glob("*.pain001.xml.json")):
                yield id_of(record.name.partition(".")[0])

    def _require(self, account: str, asset: str) -> BankAccount:
        found = self._accounts.get(account)
        if found is None or found.asset != asset:
            raise BankMisconfigured(
                f"payouts wait to be paid from bank account {account!r} in {asset}, which isn't configured: put it back"
                " until they are paid",
                param="bank_accounts",
            )
        return found

    @property
    def _records(self) -> Path:
        return self.folder / "archive" / "out"


def prepare_folder(folder: Path) -> None:
    """Make the folder's parts, readable by their owner alone. Raises ConfigError."""
    try:
        for part in ("in", "out", "drafts", "archive", "archive/out", "refused"):
            (folder / part).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the bank's folder {folder} can't be made: {error.strerror}", code="bank_folder") from error


@contextmanager
def locked(folder: Path, part: str) -> Iterator[None]:
    """A part of the folder is one process's at a time. Raises Unavailable while it's another's."""
    prepare_folder(folder)
    descriptor = os.open(folder / f".{part}.lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unavailable(f"another process is at work in {folder}; this is tried again") from error
        yield
    finally:
        os.close(descriptor)
