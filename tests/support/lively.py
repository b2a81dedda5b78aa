"""An installation with something of everything that a backup holds: payments, a bank's line, a seal, an epoch.

with lively_installation(tmp_path) as lively:
    onebook("backup", target, "--config", lively.house.config, cwd=tmp_path)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from base.clock import SystemClock
from cli.install import BankChoice
from custody.journal_copy import copy_journal
from tests.fiat.statements import IBAN, Entry, camt053
from tests.support.command import onebook
from tests.support.installation import Caller, Installation, start_installation
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class Lively:
    """What runs, a user with money there, and the signer's journal as it was before the last payment."""

    house: Installation
    alice: Caller
    earlier_journal: Path

    def run(self, *words: str | Path, cwd: Path) -> None:
        """A command that must end well."""
        ended = onebook(*words, "--config", self.house.config, cwd=cwd)
        assert ended.returncode == 0, ended.stderr

    def withdraw(self) -> str:
        """A withdrawal of five USDC, until it's final; its id."""
        body = {"asset": "USDC", "network": "local", "address": self.house.chain.accounts[7], "amount": "5.00"}
        asked: str = self.alice.post("/v1/withdrawals", body)["id"]

        def is_final() -> bool:
            self.house.mined_on()
            return bool(self.alice.get(f"/v1/withdrawals/{asked}")["state"] == "final")

        until(f"{asked} is final", is_final, seconds=90)
        return asked


@contextmanager
def lively_installation(folder: Path) -> Iterator[Lively]:
    """It runs, with its worker: two withdrawals are final, a bank's line is sealed, an epoch is made."""
    with start_installation(folder, worker=True, banks=(BankChoice("main", IBAN, "EUR"),)) as house:
        house.fund_house(usdc=1_000, ether=10)
        lively = Lively(house, house.user("alice"), folder / "earlier.sqlite")
        house.deposit(lively.alice, 100)
        lively.withdraw()
        copy_journal(house.settings.path(house.settings.journal), lively.earlier_journal)
        lively.withdraw()
        statement = folder / "statement.xml"
        day = (SystemClock().now() - timedelta(days=1)).date()
        statement.write_bytes(camt053(Entry(12_345, "rent", payer="Ada Payer", day=day)))
        lively.run("bank", "import", statement, cwd=folder)
        lively.run("solvency", "new", cwd=folder)
        yield lively
