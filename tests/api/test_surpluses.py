"""Ether that no transaction names, over the API: what its owner is shown, and what a treasurer may do about it."""

import pytest

from base.clock import ManualClock
from chain import coin_store, coins
from chain.coin_store import Looked
from chain.observations import NOBODY, BlockRef
from db.engine import tx
from tests.api.conftest import Stage
from tests.wallet.scripted_chain import ScriptedChain, paid

pytestmark = pytest.mark.slow

ETHER = 10**18


@pytest.fixture
async def chain(stage: Stage, database, clock: ManualClock) -> ScriptedChain:
    made = ScriptedChain(database.engine(), stage.services.chains.registry.network("local"), clock)
    await made.begin()
    return made


async def address_of(stage: Stage) -> str:
    return str((await stage.alice.post("/v1/deposit-addresses", {"network": "local"})).json()["address"]).lower()


async def find_surplus(chain: ScriptedChain, address: str, amount: int) -> BlockRef:
    """What the coin watch writes when it finds too much at an address in the newest final block."""
    depth = chain.network.final_depth
    assert depth is not None
    number = chain.height - depth + 1
    block = BlockRef(number, chain.hashes[number], chain.hashes[number - 1])
    async with tx(chain.engine) as connection:
        await coin_store.lock(connection, "local")
        assert await coin_store.account_for(
            connection,
            "local",
            Looked(address, -1, None, 0),
            block,
            balance=amount,
            untold=coins.surplus(block, address, amount),
            now=chain.clock.now(),
        )
    return block


async def test_f21_a_surplus_is_shown_is_a_break_and_is_credited_once_by_its_evidence(
    stage: Stage, chain: ScriptedChain
):
    to = await address_of(stage)
    await chain.mine_empty(20)
    await stage.services.deposits.step()  # which has seen all blocks by now
    block = await find_surplus(chain, to, ETHER)
    for _ in range(3):
        await stage.services.deposits.step()
    (seen,) = (await stage.alice.get("/v1/deposits")).json()["items"]
    assert (seen["state"], seen["amount"], seen["tx_hash"]) == ("surplus", "1.00", None)
    assert (seen["sender"], seen["block_hash"]) == (NOBODY, block.block_hash)
    run = (await stage.treasurer.post("/v1/treasury/reconciliations", {})).json()
    found = [one for one in run["breaks"] if one["reason"] == "surplus"]
    assert [(one["network"], one["account"], one["detail"]) for one in found] == [
        ("local", "house/suspense/ETH", f"{to} block {block.number}")
    ]
    (doubtful,) = (await stage.treasurer.get("/v1/treasury/deposits")).json()["items"]
    path, told = f"/v1/treasury/deposits/{doubtful['id']}/credit", {"reason": "the sender wrote to us"}
    refused = await stage.treasurer.post(path, told)
    assert (refused.status_code, refused.json()["code"], refused.json()["param"]) == (
        422,
        "deposit_not_creditable",
        "evidence",
    )
    assert (await stage.alice.post(path, told | {"evidence": "mine"})).status_code == 403
    credited = await stage.treasurer.post(path, told | {"evidence": "payout 17 of the exchange"})
    assert (credited.status_code, credited.json()["state"]) == (200, "final")
    again = await stage.treasurer.post(path, told | {"evidence": "payout 18 of the exchange"})
    assert again.json()["code"] == "deposit_not_creditable"
    (balance,) = [one for one in (await stage.alice.get("/v1/balances")).json()["items"] if one["asset"] == "ETH"]
    assert balance["available"] == "1.00"
    (line,) = (await stage.alice.get("/v1/history")).json()["items"]
    assert (line["amount"], line["evidence"]) == ("1.00", None)
    run = (await stage.treasurer.post("/v1/treasury/reconciliations", {})).json()
    assert [one for one in run["breaks"] if one["reason"] == "surplus"] == []


async def test_f21_a_validator_s_withdrawal_is_a_deposit_of_no_transaction(stage: Stage, chain: ScriptedChain):
    to = await address_of(stage)
    await chain.mine_empty(2)
    withdrawal = paid(to, 32 * ETHER, contract=None, tx_hash="", place="withdrawal:7", sender=NOBODY)
    await chain.mine(withdrawal)
    await chain.mine_empty(20)
    for _ in range(3):
        await stage.services.deposits.step()
    (seen,) = (await stage.alice.get("/v1/deposits")).json()["items"]
    assert (seen["state"], seen["place"], seen["amount"]) == ("final", "withdrawal:7", "32.00")
    (line,) = (await stage.alice.get("/v1/history")).json()["items"]
    for told in (seen, line["evidence"]):
        assert (told["tx_hash"], told["place"], told["block_number"]) == (None, "withdrawal:7", 3)
    (balance,) = [one for one in (await stage.alice.get("/v1/balances")).json()["items"] if one["asset"] == "ETH"]
    assert balance["available"] == seen["amount"]
