"""A node invents a block in which every hash fits: with a second node nobody is credited, and everybody can see why."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.faults.inventing import Invention
from tests.faults.lies import Kind
from tests.faults.lying_node import lying_node
from tests.support.whole_house import whole_house

pytestmark = pytest.mark.slow

ETHER = 10**18


@asynccontextmanager
async def behind(anvil, database, home, *, count: int):
    """A house that knows the chain through so many nodes, each of which can be made to lie: (house, nodes)."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(lying_node(anvil.url)) for _ in range(count)]
        network = {"rpc_urls": [node.url for node in nodes]}
        house = await stack.enter_async_context(whole_house(anvil, database, home, network=network))
        yield house, nodes


def invent(anvil, liar, to: str) -> Invention:
    """The next block, in which a stranger pays another one, is told by this liar as a payment of 100 ETH to `to`."""
    made = Invention(anvil.height() + 1, to, 100 * ETHER)
    liar.lie(Kind.INVENT, times=None, invention=made)
    anvil.transfer("ETH", anvil.accounts[5], 7)
    return made


async def pay_out(house) -> str:
    """Alice asks for a withdrawal of what she has."""
    body = {"asset": "ETH", "network": "local", "address": house.chain.accounts[6], "amount": "0.5"}
    asked = await house.alice.post("/v1/withdrawals", body)
    assert asked.status_code == 201, asked.text
    return f"/v1/withdrawals/{asked.json()['id']}"


@pytest.mark.parametrize("first", [True, False])
async def test_f75_of_an_invented_block_nothing_is_credited_all_halts_and_an_alert_names_the_nodes(
    anvil, database, tmp_path, first
):
    async with behind(anvil, database, tmp_path, count=2) as (house, nodes):
        liar, honest = nodes if first else nodes[::-1]
        alice = await house.address(house.alice)
        anvil.transfer("ETH", alice, 2 * ETHER)
        await house.work(blocks=4)
        assert await house.balance(house.alice, "ETH") == "2.00"
        anvil.transfer("ETH", alice, 3 * ETHER)  # seen before the lie, to be credited after it
        await house.work()
        made = invent(anvil, liar, alice)
        withdrawal = await pay_out(house)
        for _ in range(6):
            await house.work(blocks=2)
        assert liar.told[Kind.INVENT]
        assert await house.balance(house.alice, "ETH") == "2.00"
        assert len(await house.deposits(house.alice)) == 2
        network = await house.network()
        assert (network["state"], network["halted"], network["trusting_one_node"]) == (
            "halted",
            "nodes_disagree",
            False,
        )
        truth = anvil.block_hash(made.height)
        names = [f"{number} ({one.url.removeprefix('http://')})" for number, one in enumerate(nodes, start=1)]
        hashes = {names[nodes.index(liar)]: made.told[truth]["hash"], names[nodes.index(honest)]: truth}
        told = network["disagreement"]
        assert (told["height"], told["since"]) == (made.height, network["halted_at"])
        assert {one["node"]: one["block_hash"] for one in told["told"]} == hashes
        alert = (await house.alerts())["nodes_disagree"]
        assert (alert["severity"], alert["subject"], alert["since"]) == ("critical", "local", told["since"])
        assert all(name in alert["text"] for name in names)
        assert f"about block {made.height}" in alert["text"]
        paying = (await house.alice.get(withdrawal)).json()
        assert (paying["state"], paying["waiting_for"], paying["reason"]) == ("approved", "node", "nodes_disagree")
        assert 'onebook_alerts{code="nodes_disagree"} 1.0' in (await house.api.get("/metrics")).text

        liar.be_honest()
        await house.work(blocks=4)
        assert await house.balance(house.alice, "ETH") == "5.00"
        states = [(deposit["state"], deposit["amount"]) for deposit in await house.deposits(house.alice)]
        assert states == [("final", "3.00"), ("final", "2.00")]
        network = await house.network()
        assert (network["state"], network["disagreement"]) == ("following", None)
        assert "nodes_disagree" not in await house.alerts()
        paying = (await house.alice.get(withdrawal)).json()  # no hot address has anything here
        assert (paying["state"], paying["waiting_for"], paying["reason"]) == ("approved", "funds", None)
        await house.require_agreement()


async def test_f75_two_of_three_are_believed_and_the_third_is_named(anvil, database, tmp_path):
    async with behind(anvil, database, tmp_path, count=3) as (house, (_, _, liar)):
        alice = await house.address(house.alice)
        await house.work()
        made = invent(anvil, liar, alice)
        anvil.transfer("ETH", alice, 3 * ETHER)
        await house.work(blocks=4)
        deposits = await house.deposits(house.alice)
        assert [(deposit["state"], deposit["amount"]) for deposit in deposits] == [("final", "3.00")]
        assert (await house.network())["state"] == "following"
        alert = (await house.alerts())["nodes_disagree"]
        liars_block = made.told[anvil.block_hash(made.height)]["hash"]
        assert alert["severity"] == "warning"
        assert f"node 3 ({liar.url.removeprefix('http://')}) tells" in alert["text"]
        assert liars_block in alert["text"] or (await house.network())["disagreement"]["height"] > made.height
        liar.be_honest()
        await house.work(blocks=1)
        assert "nodes_disagree" not in await house.alerts()


async def test_f75_a_block_that_was_taken_in_is_denied_by_one_node_alone(anvil, database, tmp_path):
    async with behind(anvil, database, tmp_path, count=2) as (house, (liar, _)):
        alice = await house.address(house.alice)
        anvil.transfer("ETH", alice, 3 * ETHER)
        await house.work()
        made = Invention(anvil.height(), alice, 100 * ETHER)
        liar.lie(Kind.INVENT, times=None, invention=made)
        for _ in range(4):
            await house.work()
        assert (await house.network())["halted"] == "nodes_disagree"
        assert (await house.network())["disagreement"]["height"] == made.height
        (deposit,) = await house.deposits(house.alice)
        assert (deposit["state"], deposit["amount"]) == ("pending", "3.00")
        liar.be_honest()
        await house.work()  # no new block is needed to see that they agree
        assert (await house.network())["state"] == "following"
        await house.work(blocks=4)
        assert await house.balance(house.alice, "ETH") == "3.00"


async def test_a_single_node_is_believed_whatever_it_invents_and_all_are_told_so(anvil, database, tmp_path):
    async with behind(anvil, database, tmp_path, count=1) as (house, (liar,)):
        alice = await house.address(house.alice)
        await house.work()
        invent(anvil, liar, alice)
        await house.work(blocks=2)
        (deposit,) = await house.deposits(house.alice)
        assert (deposit["state"], deposit["amount"]) == ("credited", "100.00")
        network = await house.network()
        assert (network["trusting_one_node"], network["disagreement"], network["state"]) == (True, None, "following")
        liar.be_honest()
        await house.work(blocks=1)
        (deposit,) = await house.deposits(house.alice)
        assert (deposit["state"], await house.balance(house.alice, "ETH")) == ("reversed", "0.00")
