"""The odd tokens are as odd as they should be, on both nodes; and the contracts from npm work."""

from collections.abc import Iterator

import pytest

from chain import local
from chain.local import LocalTxReverted, NodeKind
from tests.support.chain import RunningChain, start_local_chain
from tests.support.contracts import ask, create
from tests.support.tokens import (
    PAYER,
    ZOS_SLOT,
    Token,
    behind_proxy,
    deploy_safe,
    deploy_weth,
    exec_safe,
    implementation,
    make_beacon,
    named,
    quirky,
)

pytestmark = pytest.mark.slow

TO = "0x00000000000000000000000000000000deadbeef"
EIP1967_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"


@pytest.fixture(scope="module", params=list(NodeKind))
def chain(request, tmp_path_factory) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path_factory.mktemp("tokens"), request.param) as running:
        yield running


def answer(token: Token, function: str, *arguments: object) -> str:
    """What a call by the payer would answer."""
    call = "0x" + local.encode_call(function, *arguments).hex()
    asked = {"from": token.chain.accounts[PAYER], "to": token.address, "data": call}
    return str(token.chain.rpc("eth_call", asked, "latest"))


def told(token: Token, tx_hash: str) -> list[int]:
    """The amounts that a transaction's Transfer events tell."""
    return [int(log["data"], 16) for log in token.chain.receipt(tx_hash)["logs"]]


def test_an_old_token_answers_nothing_and_moves_the_amount(chain):
    token = quirky(chain, "NoReturnToken")
    assert answer(token, "transfer(address,uint256)", TO, 5) == "0x"
    assert told(token, token.pay(TO, 5)) == [5]
    assert token.balance(TO) == 5
    with pytest.raises(LocalTxReverted):
        token.send("transfer(address,uint256)", TO, 1, sender=2)


def test_a_token_that_answers_false_logs_nothing(chain):
    token = quirky(chain, "FalseToken")
    tx_hash = token.send("transfer(address,uint256)", TO, 5, sender=2)
    assert (chain.receipt(tx_hash)["status"], told(token, tx_hash), token.balance(TO)) == ("0x1", [], 0)


@pytest.mark.parametrize(
    ("name", "events", "arrives"),
    [("FeeToken", [10, 990], 990), ("BoastingToken", [1000], 990), ("LyingToken", [1000], 0)],
)
def test_what_events_tell_and_what_arrives_are_two_things(chain, name, events, arrives):
    token = quirky(chain, name)
    assert told(token, token.pay(TO, 1000)) == events
    assert token.balance(TO) == arrives


def test_a_rebase_changes_balances_without_an_event(chain):
    token = quirky(chain, "RebasingToken")
    token.pay(TO, 1000)
    assert told(token, token.send("rebase(uint256)", 90)) == []
    assert token.balance(TO) == 900
    token.pay(TO, 90)
    assert token.balance(TO) == 990


def test_a_look_alike_differs_in_nothing_but_its_address(chain):
    other = named(chain, "Local USD Coin", "USDC")
    ours = Token(chain, chain.token("USDC").lower())
    for question in ("name()", "symbol()", "decimals()"):
        assert answer(other, question) == answer(ours, question)
    assert other.address != ours.address
    assert ask(chain, other.address, "nonces(address)", TO) == 0  # with permit (ERC-2612), as ours


def test_an_upgrade_changes_the_slot_and_says_so(chain):
    token, second = behind_proxy(chain), implementation(chain, 2)
    assert ask(chain, token.address, "version()") == 1
    tx_hash = token.send("upgradeToAndCall(address,bytes)", second, b"")
    assert len(chain.receipt(tx_hash)["logs"]) == 1
    assert ask(chain, token.address, "version()") == 2
    assert chain.rpc("eth_getStorageAt", token.address, EIP1967_SLOT, "latest").endswith(second[2:])
    token.send("setDecimals(uint8)", 8)
    assert token.decimals() == 8


def test_a_beacon_changes_all_behind_it(chain):
    beacon = make_beacon(chain)
    token = behind_proxy(chain, beacon=beacon.address)
    beacon.send("upgradeTo(address)", implementation(chain, 2), sender=0)
    assert ask(chain, token.address, "version()") == 2


def test_circle_s_proxy_keeps_its_implementation_in_the_older_slot_only(chain):
    usdc = local.deploy_circle_usdc(chain.url)
    assert int(chain.rpc("eth_getStorageAt", usdc.address, ZOS_SLOT, "latest"), 16) != 0
    assert int(chain.rpc("eth_getStorageAt", usdc.address, EIP1967_SLOT, "latest"), 16) == 0


def test_one_call_moves_several_times_or_in_vain(chain):
    token, moves = Token(chain, chain.token("USDC").lower()), create(chain, "Moves")
    token.send("approve(address,uint256)", moves, 1000)
    many = local.encode_call("many(address,address[],uint256[])", token.address, [TO, TO], [3, 4])
    assert told(token, local.send(chain.url, to=moves, call=many, sender=PAYER)) == [3, 4]
    in_vain = local.encode_call("inVain(address,address,uint256)", token.address, TO, 5)
    receipt = chain.receipt(local.send(chain.url, to=moves, call=in_vain, sender=PAYER))
    assert (receipt["status"], receipt["logs"], token.balance(TO)) == ("0x1", [], 7)


def test_weth_wraps_ether_and_moves(chain):
    weth = deploy_weth(chain)
    local.send(chain.url, to=weth.address, value=10**18, call=local.encode_call("deposit()"), sender=PAYER)
    weth.pay(TO, 10**17)
    assert (weth.balance(TO), weth.decimals()) == (10**17, 18)


def test_a_safe_pays_ether_and_tokens(chain):
    safe = deploy_safe(chain, [chain.accounts[PAYER]], 1)
    chain.faucet(safe, 10**18)
    chain.transfer("USDC", safe, 50)
    before, held = chain.balance("ETH", TO), chain.balance("USDC", TO)
    exec_safe(chain, safe, to=TO, value=10**17)
    paying = local.encode_call("transfer(address,uint256)", TO, 20)
    exec_safe(chain, safe, to=chain.token("USDC"), call=paying)
    assert chain.balance("ETH", TO) == before + 10**17
    assert (chain.balance("USDC", TO), chain.balance("USDC", safe)) == (held + 20, 30)
