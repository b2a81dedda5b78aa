"""One step of account fees in a process that is killed on the way; its arguments: URL, before or after, the instant."""

import asyncio
import os
import signal
import sys
from datetime import datetime

from base.clock import ManualClock
from db.engine import create_engine
from ledger.commands import Group
from ledger.outcomes import Outcome
from ledger.service import PostgresLedger
from tariff.account_fees import AccountFees
from tests.tariff.fee_people import FEES, Directory


class Killed(PostgresLedger):
    """Ends its process before or after the fees are submitted."""

    when = ""

    async def submit(self, *groups: Group) -> list[tuple[Outcome, ...]]:
        is_fees = any(command.id.startswith("wrk:account-fee:") for group in groups for command in group.commands)
        if is_fees and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        decided = await super().submit(*groups)
        if is_fees:
            os.kill(os.getpid(), signal.SIGKILL)
        return decided


async def main(url: str, when: str, now: str) -> None:
    engine, clock = create_engine(url), ManualClock(datetime.fromisoformat(now))
    ledger = Killed(engine, clock=clock)
    ledger.when = when
    await AccountFees(engine, ledger=ledger, tariff=FEES, people=Directory(), clock=clock).step()


def run() -> None:
    """The program."""
    asyncio.run(main(*sys.argv[1:]))
