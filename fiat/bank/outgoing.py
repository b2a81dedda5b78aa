"""The bank as a way out: a batch becomes a file in the folder that somebody carries to the bank. Once.

The folder itself is the memory of whether a file was handed over, because whoever carries it off can't be asked:

    drafts/NAME              written whole; not yet anybody's
    archive/out/NAME.json    a record of the file (no personal data): from now on the draft is to be handed over
    archive/out/.memory      the name of all these records, by which the database knows that they are its own
    out/NAME                 handed over, by renaming the draft: it's in one place or the other, never in both
    withdrawn/NAME           taken out of `out/` again before anybody carried it off

A crash in between leaves a draft, with or without its record, and it's gone on from there. A record without a draft
means that it was handed over, whether or not it's still in `out/`. So it's never put there twice.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from base.errors import ConfigError, NotFound, Unavailable
from base.files import sync_folder, write_atomically
from fiat.bank.entries import bank_account
from fiat.bank.pain001 import SUFFIX, digest, file_name, write_pain001
from fiat.bank.records import BankAccount
from fiat.errors import BankMisconfigured
from fiat.payout_steps import Submission
from fiat.payouts import BatchState, Payout, PayoutBatch, id_of, outside_name
from fiat.top_ups import BANK

FOLDER_MODE = 0o700
FILE_MODE = 0o600

HELD_SECONDS_MAX = 5
"""How long somebody who asks waits while a file is written."""


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

    @property
    def memory(self) -> "BankFiles":
        """The folder's records."""
        return self

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

    def identity(self) -> str | None:
        """The name of the folder's records; None where there are none."""
        try:
            return self._name.read_text().strip()
        except FileNotFoundError:
            return None

    def begin(self, name: str) -> str:
        """Give the records this name, unless they have one; the name that they have then. Raises ConfigError."""
        prepare_folder(self.folder)
        draft = self._name.with_name(f"{self._name.name}.{name}")
        write_atomically(draft, name.encode(), mode=FILE_MODE)
        try:
            self._name.hardlink_to(draft)  # of two that begin at once one wins, and it's never half written
        except FileExistsError:
            name = self._name.read_text().strip()
        except OSError:  # a file system without links
            draft.rename(self._name)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(self._records)
        return name

    def waiting(self, batch: str) -> str | None:
        """The file of this batch's, where it still waits to be carried off; else None."""
        name = f"{outside_name(batch)}{SUFFIX}"
        return name if any((self.folder / part / name).exists() for part in ("out", "drafts")) else None

    def withdraw(self, name: str) -> Path:
        """Take a payment file out of `out/`, so that nobody carries it off; where it is then.

        Raises NotFound where it isn't there (any more), Unavailable while another process is at it.
        """
        if Path(name).name != name or not name.endswith(SUFFIX):
            raise NotFound(f"{name[:80]!r} is no payment file's name, as in out/", param="file")
        with locked(self.folder, "out"):
            target = self.folder / "withdrawn" / name
            try:
                (self.folder / "out" / name).rename(target)
            except FileNotFoundError:
                raise NotFound(
                    f"{name} isn't in {self.folder / 'out'}: it was carried off, so the bank may have it", param="file"
                ) from None
            sync_folder(target.parent)
            sync_folder(self.folder / "out")
        return target

    def handed_over(self) -> Iterator[str]:
        """Ids of the batches whose files were ever made here."""
        if self._records.is_dir():
            for record in sorted(self._records.glob(f"*{SUFFIX}.json")):
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

    @property
    def _name(self) -> Path:
        return self._records / ".memory"


def prepare_folder(folder: Path) -> None:
    """Make the folder's parts, readable by their owner alone. Raises ConfigError."""
    try:
        for part in ("in", "out", "drafts", "withdrawn", "archive", "archive/out", "refused"):
            (folder / part).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the bank's folder {folder} can't be made: {error.strerror}", code="bank_folder") from error


@asynccontextmanager
async def held(folder: Path, part: str) -> AsyncIterator[None]:
    """As `locked`, but waits while another process is at it, so long as that usually takes."""
    until = asyncio.get_running_loop().time() + HELD_SECONDS_MAX
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder, part))
                break
            except Unavailable:
                if asyncio.get_running_loop().time() >= until:
                    raise
                await asyncio.sleep(0.02)
        yield


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
