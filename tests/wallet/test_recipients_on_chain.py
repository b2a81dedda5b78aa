"""Recipients in a whole house on a real chain: users here without a transaction, contracts that turn a payment down."""

from typing import Any

import pytest

from tests.support.chain import start_local_chain
from tests.support.signer import generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house
from wallet.withdrawal_estimates import hot_address

pytestmark = pytest.mark.slow

ETHER = 10**18
REFUSES, TAKES = "0x60006000fd", "0x00"
CONTRACT = "0x" + "c0de" * 10


@pytest.fixture
async def house(database, tmp_path):
    with start_local_chain(tmp_path) as chain:
        signer = start_signer(tmp_path / "signer", generous_policy(chain.chain_id, chain.token("USDC").lower()))
        try:
            async with whole_house(chain, database, tmp_path, signer=signer) as made:
                await made.work()
                yield made
        finally:
            signer.stop()


async def ended(house: WholeHouse, withdrawal: str) -> dict[str, Any]:
    """The withdrawal, when it has come to its end."""
    for _ in range(8):
        await house.work(blocks=4)
        found: dict[str, Any] = (await house.alice.get(f"/v1/withdrawals/{withdrawal}")).json()
        if found["state"] in ("final", "reverted", "rejected"):
            return found
    raise AssertionError(f"still {found}; {house.trouble}")


async def test_a_contract_that_refuses_is_paid_once_it_takes_and_a_user_here_in_the_book(house):
    chain, alice = house.chain, house.alice
    chain.faucet(await house.address(alice), 5 * ETHER)
    await house.work(blocks=4)
    chain.rpc("anvil_setCode", CONTRACT, REFUSES)
    body = {"asset": "ETH", "network": "local", "address": CONTRACT, "amount": "1.00"}

    # The hot address is still empty: that the contract refuses is told all the same.
    estimate = (await alice.post("/v1/withdrawals/estimate", body)).json()
    assert [warning["code"] for warning in estimate["warnings"]] == ["contract_refuses"]
    assert {note["code"] for note in estimate["notes"]} == {"first_time", "no_checksum", "contract"}
    refused = await alice.post("/v1/withdrawals", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "recipient_refuses")
    assert await house.balance(alice, "ETH") == "5.00"

    hot = (await hot_address(house.parts.engine)).address
    chain.faucet(hot, 10 * ETHER)
    await house.work(blocks=4)
    refused = await alice.post("/v1/withdrawals", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "recipient_refuses")
    asked = await alice.post("/v1/withdrawals", body | {"accept": ["contract_refuses"]})
    assert asked.status_code == 201, asked.text
    done = await ended(house, asked.json()["id"])
    assert (done["state"], done["accepted"], done["tx_hash"]) == ("rejected", ["contract_refuses"], None)
    assert chain.balance("ETH", hot) == 10 * ETHER, "what would be turned down isn't sent"
    chain.rpc("anvil_setCode", CONTRACT, TAKES)
    estimate = (await alice.post("/v1/withdrawals/estimate", body)).json()
    assert estimate["warnings"] == []
    changed = await alice.post("/v1/withdrawals", body | {"accept": ["contract_refuses"]})
    done = await ended(house, changed.json()["id"])
    assert (done["state"], done["accepted"]) == ("final", [])
    assert chain.balance("ETH", CONTRACT) == ETHER
    assert await house.house("network-fees", "ETH") == -await house.house("fees", "ETH")
    await house.require_agreement()

    # A user here is paid in the book: nothing leaves, and book and chain agree.
    before = chain.balance("ETH", hot)
    body = {"asset": "ETH", "network": "local", "address": await house.address(house.bob), "amount": "1.00"}
    inside = (await alice.post("/v1/withdrawals", body | {"fee_highest": "0"})).json()
    assert (inside["state"], inside["internal"], inside["fee"]) == ("final", True, "0.00")
    await house.work(blocks=4)
    assert (chain.balance("ETH", hot), await house.balance(house.bob, "ETH")) == (before, "1.00")
    await house.require_agreement()
