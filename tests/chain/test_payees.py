"""What a real node tells of an address that is to be paid: no code, a contract that takes it, one that doesn't."""

from collections.abc import Iterator

import pytest

from chain.evm.node import Node
from chain.evm.payees import Payee, Payees
from chain.evm.rpc import HttpRpc
from chain.networks import Deployment, Network
from tests.support.chain import RunningChain, start_local_chain

pytestmark = pytest.mark.slow

ETH = Deployment(asset="ETH", network="local", contract=None, decimals=18)
ETHER = 10**18
REFUSES, TAKES = "0x60006000fd", "0x00"

PERSON, POOR = "0x" + "a1" * 20, "0x" + "b2" * 20


@pytest.fixture(scope="module")
def anvil(tmp_path_factory) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path_factory.mktemp("payees")) as chain:
        yield chain


@pytest.fixture
async def look(anvil):
    network = Network(
        name="local",
        chain_id=anvil.chain_id,
        rpc_urls=(anvil.url,),
        native_asset="ETH",
        spendable_depth=2,
        final_depth=4,
    )
    rpc = HttpRpc(anvil.url)
    payees = Payees({"local": Node(network, rpc)})

    async def asked(to, *, amount=ETHER, deployment=ETH, sender=POOR):
        return await payees.look(deployment, sender=sender, to=to, amount=amount)

    yield asked
    await rpc.close()


def at(anvil, number: int, code: str) -> str:
    address = f"0x{'c0de' * 9}{number:04x}"
    anvil.rpc("anvil_setCode", address, code)
    return address


async def test_an_address_without_code_is_a_person(look):
    assert await look(PERSON) == Payee(is_contract=False, refuses=False)


async def test_whether_a_contract_takes_it_is_told_though_the_sender_has_nothing(anvil, look):
    assert anvil.balance("ETH", POOR) == 0
    assert await look(at(anvil, 1, REFUSES)) == Payee(is_contract=True, refuses=True)
    assert await look(at(anvil, 2, TAKES)) == Payee(is_contract=True, refuses=False)


async def test_it_is_tried_with_the_very_amount(anvil, look):
    picky = at(anvil, 3, "0x" + "620f4240" + "34" + "11" + "600a" + "57" + "00" + "5b" + "6000" + "6000" + "fd")
    # PUSH3 1000000, CALLVALUE, GT, PUSH1 10, JUMPI, STOP, JUMPDEST, then revert: more than 1,000,000 wei are refused
    assert not (await look(picky, amount=1_000_000)).refuses
    assert (await look(picky, amount=1_000_001)).refuses


async def test_an_account_that_borrows_a_contract_s_code_is_a_person(anvil, look):
    taking, refusing = at(anvil, 4, TAKES), at(anvil, 5, REFUSES)
    assert await look(at(anvil, 6, "0xef0100" + taking[2:])) == Payee(is_contract=False, refuses=False)
    assert await look(at(anvil, 7, "0xef0100" + refusing[2:])) == Payee(is_contract=False, refuses=True)


async def test_of_a_token_only_the_code_is_looked_at(anvil, look):
    usdc = Deployment(asset="USDC", network="local", contract=anvil.token("USDC").lower(), decimals=6)
    assert await look(at(anvil, 8, REFUSES), deployment=usdc) == Payee(is_contract=True, refuses=False)
