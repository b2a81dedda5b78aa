"""A bank for the demo and the tests: the `mock-bank` program as a child process, and what a payer or we do with it.

It speaks real ISO 20022 and has a clock of its own. Nothing of the service knows it: it reads files, as from any bank.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx

from base.children import free_port, start_child, stop_child
from base.errors import Unavailable

START_SECONDS = 15.0
"""How long the bank may take to answer after its start."""

PAYER_IBAN = "NL14MOCK0000000002"


@dataclass(frozen=True, slots=True)
class DemoBank:
    """A running bank. Amounts are cents; days are the bank's own."""

    url: str
    process: Popen[bytes]

    def open_account(self, name: str, *, iban: str, currency: str = "EUR", balance: int = 0) -> None:
        """Open an account of ours, with what it holds at first."""
        account = {"id": name, "name": name, "iban": iban, "currency": currency, "balance": balance}
        self.call("POST", "/_mock/accounts", json=account)

    def receive(
        self,
        iban: str,
        amount: int,
        *,
        note: str = "",
        reference: str = "",
        payer: str = "A. Payer",
        width: int = 140,
    ) -> None:
        """Let somebody pay into the account. `note` is free text, which the bank cuts every `width` (35, 70, 140)."""
        payment: dict[str, Any] = {
            "account": iban,
            "amount": amount,
            "debtor": {"name": payer, "iban": PAYER_IBAN},
            "wrap": width,
        }
        if note:
            payment["note"] = note
        if reference:
            payment["reference"] = reference
        self.call("POST", "/_mock/credits", json=payment)

    def end_day(self) -> None:
        """Let a day pass; the bank writes each account's statement when a business day ends."""
        self.call("POST", "/_mock/advance", params={"days": "1"})

    def statements(self, name: str) -> list[bytes]:
        """The account's camt.053 files so far, oldest first."""
        issued = self.call("GET", f"/_mock/accounts/{name}/statements").json()
        numbers = sorted((one["number"], one["message_id"]) for one in issued)
        return [self.call("GET", f"/_mock/mailbox/{message}").content for _, message in numbers]

    def carry(self, folder: Path) -> int:
        """Bring the payment files that were put into `folder` to the bank, as SFTP would; returns how many."""
        files = sorted(folder.glob("*.xml"))
        for file in files:
            self.call("POST", "/payments", content=file.read_bytes())
            file.unlink()
        return len(files)

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask the bank's HTTP interface. Raises Unavailable with what the bank said if it refused."""
        answer = self.call_any(method, path, **request)
        if answer.is_error:
            raise Unavailable(f"the demo bank refused {method} {path}: {answer.text[:300]}")
        return answer

    def call_any(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The same, with a refusal as the answer that it is: the bank refuses files by it. Raises Unavailable."""
        try:
            return httpx.request(method, self.url + path, timeout=10, trust_env=False, **request)
        except httpx.HTTPError as error:
            raise Unavailable(f"the demo bank doesn't answer: {error}") from error


def start_bank(*, at: datetime, log: Path | None = None, port: int | None = None) -> DemoBank:
    """Start the bank with its clock at `at` and wait until it answers. End it with `stop_bank`."""
    chosen = port or free_port()
    clock = at.strftime("%Y-%m-%dT%H:%M")
    command = [sys.executable, "-m", "mockbank", "--port", str(chosen), "--clock", clock, "--quiet"]
    bank = DemoBank(f"http://127.0.0.1:{chosen}", start_child(command, log=log))
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            bank.call("GET", "/_mock/health")
            return bank
        except Unavailable:
            if bank.process.poll() is not None or time.monotonic() > deadline:
                stop_bank(bank)
                where = f"; see {log}" if log else ""
                raise Unavailable(f"the demo bank (mock-bank) didn't start on port {chosen}{where}") from None
        time.sleep(0.05)


def stop_bank(bank: DemoBank) -> None:
    stop_child(bank.process, seconds=5)


@contextmanager
def running_bank(*, at: datetime, log: Path | None = None) -> Iterator[DemoBank]:
    """The bank for the length of a `with` block."""
    bank = start_bank(at=at, log=log)
    try:
        yield bank
    finally:
        stop_bank(bank)


def last_business_day(today: date) -> date:
    """The newest day before `today` that's neither Saturday nor Sunday: its statement can be out by now."""
    day = today - timedelta(days=1)
    while day.weekday() >= 5:
        day -= timedelta(days=1)
    return day
