"""What a reorganisation does to a deposit, from the node to what user, treasurer and everybody are shown, on anvil."""

import pytest
from eth_account import Account

from chain import local
from tests.support.chain import RunningChain, start_local_chain
from tests.support.whole_house import WholeHouse, whole_house

pytestmark = pytest.mark.slow

RECIPIENT = "0x00000000000000000000000000000000DeaDBeef"


@pytest.fixture
async def house(tmp_path, database):
    with start_local_chain(tmp_path) as chain:
        chain.mine(4)
        async with whole_house(chain, database, tmp_path) as made:
            await made.work()
            yield made


async def deposited(house: WholeHouse, units: int, *, blocks: int) -> str:
    """Alice has a deposit of so many units of USDC, so many blocks deep; her address."""
    to = await house.address(house.alice)
    house.chain.transfer("USDC", to, units)
    await house.work(blocks=blocks - 1)
    return to


async def withdraw(house: WholeHouse, who, amount: str = "1.00"):
    body = {"asset": "USDC", "network": "local", "address": RECIPIENT, "amount": amount}
    return await who.post("/v1/withdrawals", body)


async def send(house: WholeHouse, amount: str):
    body = {"recipient": house.bob.user, "asset": "USDC", "amount": amount}
    return await house.alice.post("/v1/transfers", body)


async def test_f02_a_credited_deposit_that_leaves_the_chain_is_taken_back_and_a_debt_locks_and_alerts(house):
    to = await deposited(house, 5_000_000, blocks=2)
    assert await house.balance(house.alice) == "5.00"
    assert (await send(house, "2.00")).status_code == 201
    house.chain.reorg(2, longer=4)
    await house.work()

    (deposit,) = await house.deposits(house.alice)
    assert (deposit["state"], await house.balance(house.alice)) == ("reversed", "0.00")
    assert (await house.alice.get("/v1/me")).json()["owed"] == [{"asset": "USDC", "amount": "2.00"}]
    assert (await house.bob.get("/v1/me")).json()["owed"] == []
    assert await house.balance(house.bob) == "2.00"
    for refused in (await withdraw(house, house.alice), await send(house, "0.50")):
        assert (refused.status_code, refused.json()["code"]) == (409, "receivable_open")
    alert = (await house.alerts())["receivable_open"]
    assert (alert["severity"], alert["subject"]) == ("critical", house.alice.user)
    assert "owes 2.00 USDC" in alert["text"]
    assert (await house.network())["state"] == "following"
    await house.require_agreement()

    house.chain.transfer("USDC", to, 3_000_000)
    await house.work(blocks=4)
    assert (await house.balance(house.alice), await house.alerts()) == ("1.00", {})
    assert (await house.alice.get("/v1/me")).json()["owed"] == []
    await house.require_agreement()


def signed_payment(chain: RunningChain, to: str, units: int) -> str:
    """A stranger's payment of USDC, signed with a key of his own, so that it can be sent again: its bytes, unsent."""
    stranger = Account.from_key("0x" + "51" * 32)
    for asset, amount in (("ETH", 10**18), ("USDC", units)):
        chain.faucet(stranger.address, amount, asset)
    paying = {
        "chainId": chain.chain_id,
        "nonce": 0,
        "to": chain.token("USDC"),
        "value": 0,
        "data": local.encode_call("transfer(address,uint256)", to, units),
        "gas": 100_000,
        "maxFeePerGas": 9 * 10**8,
        "maxPriorityFeePerGas": 1,
    }
    return str(stranger.sign_transaction(paying).raw_transaction.to_0x_hex())


@pytest.mark.parametrize("blocks", [1, 3])
async def test_f03_the_same_transaction_mined_again_elsewhere_is_one_live_credit(house, blocks):
    chain = house.chain
    to = await house.address(house.alice)
    raw = signed_payment(chain, to, 5_000_000)
    first = chain.receipt(chain.rpc("eth_sendRawTransaction", raw))
    await house.work(blocks=blocks - 1)
    assert await house.balance(house.alice) == ("5.00" if blocks > 1 else "0.00")

    chain.reorg(blocks)
    await house.work()
    chain.set_automine(False)
    chain.transfer("USDC", chain.accounts[4], 77, gas=100_000, seconds=None)  # offers more, and so comes before
    again = chain.rpc("eth_sendRawTransaction", raw)
    chain.mine()
    chain.set_automine(True)
    second = chain.receipt(again)
    assert second["transactionHash"] == first["transactionHash"]
    assert second["logs"][0]["logIndex"] != first["logs"][0]["logIndex"]
    await house.work(blocks=4)

    states = [(deposit["state"], deposit["block_hash"]) for deposit in await house.deposits(house.alice)]
    before = "orphaned" if blocks == 1 else "reversed"
    assert sorted(states) == sorted([("final", second["blockHash"]), (before, first["blockHash"])])
    assert (await house.balance(house.alice), await house.house("custody:local:deposit")) == ("5.00", -5_000_000)
    await house.require_agreement()


async def test_f04_a_reorganisation_below_final_takes_back_and_halts_and_alerts(house):
    to = await deposited(house, 5_000_000, blocks=4)
    (deposit,) = await house.deposits(house.alice)
    assert deposit["state"] == "final"
    assert (await send(house, "2.00")).status_code == 201
    asked = await withdraw(house, house.bob)
    assert asked.status_code == 201
    house.chain.reorg(5, longer=3)
    await house.work()

    (deposit,) = await house.deposits(house.alice)
    assert (deposit["state"], await house.balance(house.alice)) == ("reversed", "0.00")
    assert (await house.alice.get("/v1/me")).json()["owed"] == [{"asset": "USDC", "amount": "2.00"}]
    network = await house.network()
    assert (network["state"], network["halted"]) == ("halted", "reorg_below_final")
    alerts = await house.alerts()
    assert set(alerts) == {"network_halted", "receivable_open"}
    assert (alerts["network_halted"]["subject"], alerts["network_halted"]["severity"]) == ("local", "critical")
    assert alerts["network_halted"]["since"] == network["halted_at"]

    house.chain.transfer("USDC", to, 7_000_000)
    await house.work(blocks=8)
    newest, _ = await house.deposits(house.alice)
    assert (newest["state"], newest["amount"], await house.balance(house.alice)) == ("pending", "7.00", "0.00")
    paying = (await house.bob.get(f"/v1/withdrawals/{asked.json()['id']}")).json()
    assert (paying["state"], paying["waiting_for"], paying["reason"]) == ("approved", "node", "reorg_below_final")
    assert (await house.network())["halted_at"] == network["halted_at"]
