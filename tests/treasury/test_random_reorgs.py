"""Two workers through random blocks and reorganisations: in the end book and chain agree, nothing is left over."""

import asyncio
import random

import pytest

from chain.observations import Observation
from ledger.service import PostgresLedger
from tests.wallet.conftest import ALICE, BOB, DAI, USDC
from tests.wallet.scripted_chain import digest, paid
from treasury.inflows import Inflows
from wallet.deposits import Deposits
from wallet.receivables import Receivables

pytestmark = pytest.mark.slow

UNKNOWN = "0x" + "66" * 20
FINAL_DEPTH = 4


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_reorganisations_book_and_chain_agree(treasury, database, clock, entropy, seed, monkeypatch):
    chance, house, engine = random.Random(seed), treasury.house, database.engine()
    for package in ("wallet.deposits", "treasury.inflows"):
        monkeypatch.setattr(f"{package}.BATCH", chance.choice([1, 2, 200]))
    other, common = PostgresLedger(engine, clock=clock), {"clock": clock, "entropy": entropy}
    workers = [house.deposits, treasury.inflows, Receivables(house.ledger), Receivables(other)]
    workers += [part(engine, ledger=other, registry=house.registry, **common) for part in (Deposits, Inflows)]
    targets = [(await house.addresses.issue(owner, "local")).address for owner in (ALICE, BOB)] + [house.hot]

    def fresh(number):
        contract = chance.choice([USDC, DAI, None, UNKNOWN])
        place = "value" if contract is None else "log:0"
        amount = chance.choice([500_000, 5_000_000, 7_000_000])
        return paid(chance.choice(targets), amount, contract=contract, tx_hash=digest(seed, number), place=place)

    blocks: list[list[Observation]] = []
    waiting: list[Observation] = []
    highest = 0
    for turn in range(40):
        deep = min(chance.randint(1, 3), house.chain.height - max(0, highest - FINAL_DEPTH + 1))
        if chance.random() < 0.25 and deep > 0:
            await house.chain.reorg(deep)
            waiting += [seen for block in blocks[-deep:] for seen in block]
            blocks = blocks[:-deep]
        else:
            chance.shuffle(waiting)
            again, waiting = waiting[:2], waiting[2:]
            blocks.append([*again, fresh(turn)])
            await house.chain.mine(*blocks[-1])
            highest = max(highest, house.chain.height)
        if chance.random() < 0.7:
            await asyncio.gather(*(worker.step() for worker in workers))
    await house.chain.mine_empty(2 * FINAL_DEPTH)
    while sum(await asyncio.gather(*(worker.step() for worker in workers))):
        pass

    for seen in (seen for block in blocks for seen in block if seen.contract != UNKNOWN):
        treasury.node.held[seen.contract, seen.recipient] += seen.amount
    run = await treasury.reconciler.run()
    assert (run.breaks, run.in_flight) == ((), ())
    assert [judged.skipped for judged in run.networks] == [None]
    await house.assert_sums_to_zero()
