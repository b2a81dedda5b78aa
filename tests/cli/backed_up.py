"""An installation with something of everything that a backup holds: payments, a bank's line, a seal, an epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from base.clock import SystemClock
from cli.install import BankChoice
from tests.fiat.statements import IBAN, Entry, camt053
from tests.support.command import onebook
from tests.support.installation import Installation, start_installation
from tests.support.waiting import until


@contextmanager
def lively_installation(folder: Path) -> Iterator[Installation]:
    """It runs, with its worker: two withdrawals are final, a bank's line is sealed, an epoch is under a seal."""
    with start_installation(folder, worker=True, banks=(BankChoice("main", IBAN, "EUR"),)) as house:
        house.fund_house(usdc=1_000, ether=10)
        alice = house.user("alice")
        house.deposit(alice, 100)
        for _ in range(2):
            withdraw(house, alice)
        statement = folder / "statement.xml"
        day = (SystemClock().now() - timedelta(days=1)).date()
        statement.write_bytes(camt053(Entry(12_345, "rent", payer="Ada Payer", day=day)))
        ended = onebook("bank", "import", statement, "--config", house.config, cwd=folder)
        assert ended.returncode == 0, ended.stderr
        ended = onebook("solvency", "new", "--config", house.config, "--json", cwd=folder)
        assert ended.returncode == 0, ended.stderr
        yield house


def withdraw(house: Installation, user: "object") -> None:
    """A withdrawal of five USDC, until it's final."""
    body = {"asset": "USDC", "network": "local", "address": house.chain.accounts[7], "amount": "5.00"}
    asked = user.post("/v1/withdrawals", body)["id"]  # type: ignore[attr-defined]

    def is_final() -> bool:
        house.mined_on()
        return bool(user.get(f"/v1/withdrawals/{asked}")["state"] == "final")  # type: ignore[attr-defined]

    until(f"{asked} is final", is_final, seconds=90)
