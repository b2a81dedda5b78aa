"""What is read beside a break, out of real rows: the cause names its evidence; and entries that count at an address."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from chain import tables as chain
from db.engine import tx
from ledger.accounts import house_account
from ledger.commands import ChainEvidence, Evidence, Post, Posting, alone
from ledger.outcomes import require_accepted
from ledger.requests import request_key
from tests.treasury.conftest import Treasury
from tests.treasury.test_reconciliation import DEPOSIT, HOT, journey, withdraw
from tests.wallet.conftest import USDC
from tests.wallet.scripted_chain import digest
from treasury.break_states import BreakState
from treasury.records import CauseCode, Likelihood

pytestmark = pytest.mark.slow

SUSPENSE, GAS_PAID = house_account("suspense", "USDC"), house_account("network-fees", "ETH")
HOT_ETH = house_account("custody:local:hot", "ETH")


async def book(treasury: Treasury, id: str, debit: str, credit: str, amount: int, evidence: Evidence | None = None):
    await treasury.house.ledger.ensure_open(debit, credit)
    posting = Posting(debit, credit, debit.rpartition("/")[2], amount)
    (outcomes,) = await treasury.house.ledger.submit(alone(Post(id=id, postings=(posting,), evidence=evidence)))
    require_accepted(outcomes)


async def evidence_of(treasury: Treasury, database, tx_hash: str, place: str | None = None) -> ChainEvidence:
    table = chain.observations if place is None else chain.outgoing
    async with tx(database.engine()) as connection:
        found = (await connection.execute(select(table).where(table.c.tx_hash == tx_hash))).one()
    return ChainEvidence("local", found.block_number, found.block_hash, tx_hash, place or found.place)


async def causes(treasury: Treasury):
    (found,) = (await treasury.reconciler.run()).breaks
    return [(cause.code, cause.likelihood, cause.evidence) for cause in found.causes]


async def test_what_is_booked_twice_is_named_by_its_transaction(treasury, database):
    await journey(treasury)
    again = await evidence_of(treasury, database, digest("d"))
    await book(treasury, "wrk:again:1", DEPOSIT, SUSPENSE, 50_000_000, again)
    assert await causes(treasury) == [(CauseCode.DUPLICATE, Likelihood.EXACT, (digest("d"),))]


async def test_what_was_booked_by_hand_is_named_and_not_where_the_amount_is_another(treasury):
    await journey(treasury)
    await book(treasury, "req:by-hand", HOT, SUSPENSE, 5)
    assert await causes(treasury) == [(CauseCode.MANUAL_CHANGE, Likelihood.LIKELY, ("req:by-hand",))]
    await book(treasury, "wrk:worker:1", HOT, SUSPENSE, 1)
    assert await causes(treasury) == []


async def test_gas_that_is_booked_twice_is_named_by_its_transaction(treasury, database):
    await journey(treasury)
    withdrawal = await withdraw(treasury, final_blocks=4, gas=True)
    await treasury.house.chain.set_transaction(withdrawal.id, state="final")
    treasury.node.held[USDC, treasury.house.hot] -= 25_000_000
    treasury.node.held[None, treasury.house.hot] -= 65_000 * 10**10
    await treasury.work()
    assert (await treasury.reconciler.run()).clean
    async with tx(database.engine()) as connection:
        sent = (await connection.execute(select(chain.outgoing))).one()
    evidence = await evidence_of(treasury, database, sent.tx_hash, "gas")
    await book(treasury, "wrk:gas-again:1", GAS_PAID, HOT_ETH, sent.fee_wei, evidence)
    assert await causes(treasury) == [(CauseCode.DUPLICATE, Likelihood.EXACT, (sent.tx_hash,))]


async def test_a_block_that_was_never_taken_in_is_named(treasury, database):
    to = await journey(treasury)
    await treasury.house.chain.mine_empty(4)
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("DELETE FROM chain_blocks WHERE number = 2"))
    treasury.node.held[USDC, to] += 1
    found = await causes(treasury)
    assert found[0] == (CauseCode.SKIPPED_BLOCK, Likelihood.LIKELY, ("local block 2",))


async def test_more_of_the_coin_than_anything_tells_of_is_perhaps_an_inner_transfer(treasury):
    await journey(treasury)
    treasury.node.held[None, treasury.house.hot] += 7
    assert await causes(treasury) == [(CauseCode.MISSED_INNER_TRANSFER, Likelihood.POSSIBLE, ())]


@pytest.mark.parametrize("step", [3, -3])
async def test_an_entry_for_an_address_counts_at_that_address(treasury, clock, step):
    to = await journey(treasury)
    treasury.node.held[USDC, to] += step
    (entry,) = (await treasury.reconciler.run()).breaks
    assert (entry.detail, entry.difference) == (to.lower(), step)
    proposed = await treasury.breaks.propose_entry(
        entry.id, against="capital", amount=None, reason="the token's own doing", by="key_ada"
    )
    key = request_key(owner="key_ben", route="confirm", key="k", body=None)
    await treasury.breaks.confirm(proposed.id, key=key, by="key_ben")
    clock.advance(timedelta(minutes=1))
    assert (await treasury.reconciler.run()).clean
    assert (await treasury.breaks.get(entry.id)).entry.state is BreakState.RESOLVED
    treasury.node.held[USDC, to] += 1
    (other,) = (await treasury.reconciler.run()).breaks
    assert (other.detail, other.difference) == (to.lower(), 1)  # beyond what was corrected
