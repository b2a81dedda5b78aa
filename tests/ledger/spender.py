"""A process of its own that spends from one account: prints each command's id and what became of it."""

import asyncio
import random
import sys

from base.clock import SystemClock
from db.engine import create_engine
from ledger.commands import Post, Posting, alone
from ledger.service import PostgresLedger
from tests.ledger.histories import ACCOUNTS


async def spend(url: str, seed: int) -> None:
    engine = create_engine(url, pool_size=2)
    ledger = PostgresLedger(engine, clock=SystemClock())
    chance = random.Random(seed)

    async def once(number: int) -> str:
        amount = chance.randint(1, 9)
        posting = Posting(debit=ACCOUNTS[0], credit=ACCOUNTS[1], asset="USD", amount=amount)
        [(outcome,)] = await ledger.submit(alone(Post(id=f"{seed}-{number}-{amount}", postings=(posting,))))
        return f"{outcome.id}={outcome.refusal.code if outcome.refusal else 'accepted'}"

    for start in range(0, 40, 8):
        print("\n".join(await asyncio.gather(*(once(start + n) for n in range(8)))))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(spend(sys.argv[1], int(sys.argv[2])))
