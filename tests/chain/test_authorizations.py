"""EIP-3009 against Circle's real USDC: FiatTokenV2_2 behind its proxy, on both nodes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from chain import local
from chain.local import LocalTxReverted, NodeKind
from tests.support.chain import RunningChain, start_local_chain
from tests.support.eip3009 import AUTHORIZATION_USED, Authorization, circle_domain, sign, transfer_call, used

pytestmark = pytest.mark.slow

TARGET = "0x00000000000000000000000000000000DeaDBeef"
KEY = keccak(text="a deposit address that owns no ether")
OWNER = Account.from_key(KEY).address
OWNED = 100_000_000
IMPLEMENTATION_SLOT = "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3"
"""keccak("org.zeppelinos.proxy.implementation"): Circle's proxy is older than EIP-1967."""


@dataclass(frozen=True)
class Usdc:
    chain: RunningChain
    address: str

    def ask(self, function: str, *arguments: object) -> int:
        call = {"to": self.address, "data": "0x" + local.encode_call(function, *arguments).hex()}
        return int(self.chain.rpc("eth_call", call, "latest"), 16)

    def balance(self, owner: str) -> int:
        return self.ask("balanceOf(address)", owner)

    def send(self, call: bytes, *, sender: int = local.FAUCET_ACCOUNT) -> dict[str, Any]:
        return self.chain.receipt(local.send(self.chain.url, to=self.address, call=call, sender=sender))

    def relay(
        self, authorization: Authorization, *, key: bytes = KEY, relayer: int = 5, **domain: object
    ) -> dict[str, Any]:
        """Signed by `key` in a domain with these changes, sent by a stranger."""
        signature = sign(key, circle_domain(self.chain.chain_id, self.address, **domain), authorization)
        return self.send(transfer_call(authorization, signature), sender=relayer)


@pytest.fixture(scope="module", params=list(NodeKind))
def deployed(request, tmp_path_factory) -> Iterator[Usdc]:
    with start_local_chain(tmp_path_factory.mktemp("chain"), request.param) as chain:
        usdc = Usdc(chain, local.deploy_circle_usdc(chain.url).address)
        usdc.send(local.encode_call("mint(address,uint256)", OWNER, OWNED))
        yield usdc


@pytest.fixture
def usdc(deployed: Usdc) -> Iterator[Usdc]:
    before = deployed.chain.snapshot()
    yield deployed
    deployed.chain.revert(before)


def wanted(**changes: object) -> Authorization:
    plain = Authorization(owner=OWNER, to=TARGET, amount=40_000_000, nonce=keccak(text="local, sweep 1"))
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_signature_moves_the_money_of_an_address_without_ether(usdc):
    assert usdc.chain.balance("ETH", OWNER) == 0
    receipt = usdc.relay(wanted())
    assert (usdc.balance(OWNER), usdc.balance(TARGET)) == (OWNED - 40_000_000, 40_000_000)
    assert used(receipt, usdc.address) == [(OWNER.lower(), wanted().nonce)]
    assert usdc.ask("authorizationState(address,bytes32)", OWNER, wanted().nonce) == 1


def test_a_used_authorisation_cannot_be_replayed_but_another_one_goes(usdc):
    usdc.relay(wanted())
    for relayer in (5, 6):
        with pytest.raises(LocalTxReverted, match="authorization is used or canceled"):
            usdc.relay(wanted(), relayer=relayer)
    assert usdc.balance(TARGET) == 40_000_000
    usdc.relay(wanted(nonce=keccak(text="local, sweep 2")))
    assert usdc.balance(TARGET) == 80_000_000


def test_a_relay_that_comes_second_reverts_though_the_money_has_moved(usdc):
    """Somebody else relays first: our own transaction fails, and the sweep is done all the same."""
    signature = sign(KEY, circle_domain(usdc.chain.chain_id, usdc.address), wanted())
    usdc.send(transfer_call(wanted(), signature), sender=7)
    ours = local.send(usdc.chain.url, to=usdc.address, call=transfer_call(wanted(), signature), sender=5, gas=200_000)
    assert usdc.chain.receipt(ours)["status"] == "0x0"
    assert usdc.balance(TARGET) == 40_000_000
    looked = usdc.chain.rpc(
        "eth_getLogs", {"address": usdc.address, "fromBlock": "0x0", "topics": [AUTHORIZATION_USED]}
    )
    assert used({"logs": looked}, usdc.address) == [(OWNER.lower(), wanted().nonce)]


@pytest.mark.parametrize(
    "domain",
    [
        {"name": "USDC"},
        {"version": "1"},
        {"chainId": 1},
        {"verifyingContract": TARGET},
    ],
    ids=lambda domain: next(iter(domain)),
)
def test_a_signature_for_another_domain_is_refused(usdc, domain):
    with pytest.raises(LocalTxReverted, match="invalid signature"):
        usdc.relay(wanted(), **domain)
    usdc.relay(wanted())


@pytest.mark.parametrize("changed", [{"amount": 40_000_001}, {"to": OWNER}, {"nonce": bytes(32)}, {"valid_after": 1}])
def test_what_was_signed_is_what_can_be_relayed(usdc, changed):
    signature = sign(KEY, circle_domain(usdc.chain.chain_id, usdc.address), wanted())
    with pytest.raises(LocalTxReverted, match="invalid signature"):
        usdc.send(transfer_call(wanted(**changed), signature))
    usdc.send(transfer_call(wanted(), signature))


def test_only_the_owner_can_sign(usdc):
    with pytest.raises(LocalTxReverted, match="invalid signature"):
        usdc.relay(wanted(), key=keccak(text="somebody else"))


def test_it_holds_between_its_instants_only(usdc):
    now = int(usdc.chain.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    with pytest.raises(LocalTxReverted, match="authorization is expired"):
        usdc.relay(wanted(valid_before=now))
    with pytest.raises(LocalTxReverted, match="authorization is not yet valid"):
        usdc.relay(wanted(valid_after=now + 3600))
    usdc.relay(wanted(valid_after=now - 1, valid_before=now + 3600))


def test_more_than_the_balance_uses_up_nothing(usdc):
    with pytest.raises(LocalTxReverted, match="exceeds balance"):
        usdc.relay(wanted(amount=OWNED + 1))
    assert usdc.ask("authorizationState(address,bytes32)", OWNER, wanted().nonce) == 0
    usdc.relay(wanted())


def test_it_is_the_proxy_and_the_implementation_that_mainnet_has(usdc):
    slot = usdc.chain.rpc("eth_getStorageAt", usdc.address, IMPLEMENTATION_SLOT, "latest")
    implementation = "0x" + slot[-40:]
    assert int(implementation, 16) != 0
    assert usdc.chain.rpc("eth_getCode", implementation, "latest") != "0x"
    separator = usdc.ask("DOMAIN_SEPARATOR()").to_bytes(32, "big")
    fields = (
        keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak(text="USD Coin"),
        keccak(text="2"),
        usdc.chain.chain_id.to_bytes(32, "big"),
        bytes.fromhex(usdc.address[2:]).rjust(32, b"\0"),
    )
    assert separator == keccak(b"".join(fields))
    assert usdc.ask("decimals()") == 6
