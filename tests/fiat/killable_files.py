"""A process that hands one batch over and ends itself with SIGKILL at a named instant; started by the kill test.

Arguments: database url, folder, key file, point. The shipped code has no such switch: it's told the instants.
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from base.clock import SystemClock
from base.entropy import SystemEntropy
from db.engine import create_engine
from fiat.bank.outgoing import BankFiles
from fiat.bank.records import BankAccount
from fiat.payout_steps import Gathering, PayoutSteps
from fiat.personal import load_vault
from ledger.service import PostgresLedger
from tests.support.bank import OUR_IBAN


async def main(url: str, folder: str, key: str, point: str) -> None:
    def reached(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = create_engine(url)
    ledger = PostgresLedger(engine, clock=SystemClock())
    account = BankAccount(name="mock", iban=OUR_IBAN, asset="EUR")
    steps = PayoutSteps(
        engine,
        ledger,
        load_vault(Path(key)),
        BankFiles(Path(folder), {"mock": account}, reached=reached),
        gathering=Gathering(wait=timedelta(), payouts_max=2),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        reached=reached,
    )
    while await steps.step():
        pass
    await ledger.aclose()
    await engine.dispose()


def run() -> None:
    """The program."""
    asyncio.run(main(*sys.argv[1:]))
