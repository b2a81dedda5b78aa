"""The payout contract on both nodes: what it pays, and what recipients, tokens, callers and strangers may try.

Every attack has its accepted twin: the same thing without the malice, which must go through.
"""

import itertools
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3 import Web3

from chain import local, payout
from chain.evm.addresses import created_address
from chain.evm.blocks import Log
from chain.local import LocalTxReverted, NodeKind
from chain.payout import Leg, gas_bound, leg_outcomes, native_call, payout_code, token_call
from tests.support.chain import RunningChain, start_local_chain
from tests.support.contracts import ask, create, why_reverted

pytestmark = pytest.mark.slow

SENDER, ATTACKER = 1, 2
"""Development accounts; both own tokens and ether."""
GAS = 16_000_000
"""Enough for anything here, and under the 2^24 of EIP-7825."""
STIPEND = 2_300
"""What the EVM adds to a recipient's gas when ether comes with the call."""
ARRAY = "(bytes32,address,uint256)[]"
PANIC_OVERFLOW = keccak(text="Panic(uint256)")[:4] + (0x11).to_bytes(32, "big")

_ids = itertools.count(1)


def leg(to: str, amount: int = 1_000) -> Leg:
    return Leg(keccak(text=f"withdrawal {next(_ids)}"), to.lower(), amount)


def fresh() -> str:
    """An address that nobody ever used."""
    return "0x" + keccak(text=f"somebody {next(_ids)}")[-20:].hex()


def error(signature: str, *arguments: object) -> bytes:
    return local.encode_call(signature, *arguments)


def unchecked(function: str, legs: Sequence[Leg], *before: object) -> bytes:
    """A call as anybody could encode it, without the checks of our own encoder."""
    types = ["address"] * len(before) + [ARRAY]
    plain = [(found.id, found.to, found.amount) for found in legs]
    return keccak(text=f"{function}({','.join(types)})")[:4] + encode(types, [*before, plain])


@dataclass(frozen=True)
class Payouts:
    chain: RunningChain
    address: str

    def account(self, index: int = SENDER) -> str:
        return self.chain.accounts[index]

    def send(self, call: bytes, *, value: int = 0, sender: int = SENDER, gas: int | None = GAS) -> dict[str, Any]:
        """The receipt, of a reverted transaction too if `gas` is given."""
        tx_hash = local.send(self.chain.url, to=self.address, call=call, value=value, sender=sender, gas=gas)
        return self.chain.receipt(tx_hash)

    def native(self, legs: Sequence[Leg], *, value: int | None = None, gas: int | None = GAS) -> dict[str, Any]:
        sent = sum(found.amount for found in legs) if value is None else value
        return self.send(native_call(legs), value=sent, gas=gas)

    def token(self, token: str, legs: Sequence[Leg], *, sender: int = SENDER, gas: int | None = GAS) -> dict[str, Any]:
        return self.send(token_call(token, legs), sender=sender, gas=gas)

    def outcomes(self, receipt: dict[str, Any]) -> list[bool]:
        """Which legs were paid; the transaction succeeded."""
        assert receipt["status"] == "0x1"
        return [found.paid for found in leg_outcomes(logs_of(receipt), self.address)]

    def why(self, call: bytes, *, value: int = 0, sender: int = SENDER, gas: int = GAS) -> bytes:
        """The error that the call reverts with."""
        asked = {"from": self.account(sender), "to": self.address, "value": hex(value), "gas": hex(gas)}
        return why_reverted(self.chain, {**asked, "data": "0x" + call.hex()})

    def estimate(self, call: bytes, value: int = 0) -> int:
        asked = {"from": self.account(), "to": self.address, "value": hex(value), "data": "0x" + call.hex()}
        return int(self.chain.rpc("eth_estimateGas", asked), 16)

    def ether(self, address: str) -> int:
        return self.chain.balance("ETH", address)

    def approve(self, token: str, amount: int = 2**256 - 1, *, sender: int = SENDER) -> None:
        call = local.encode_call("approve(address,uint256)", self.address, amount)
        local.send(self.chain.url, to=token, call=call, sender=sender)

    def odd_token(self, answer: int) -> str:
        token = create(self.chain, "OddToken", "uint8,address,uint256", answer, self.account(), 10**6)
        self.approve(token)
        return token


def logs_of(receipt: dict[str, Any]) -> list[Log]:
    return [
        Log(log["address"].lower(), tuple(log["topics"]), bytes.fromhex(log["data"][2:])) for log in receipt["logs"]
    ]


def gas_used(receipt: dict[str, Any]) -> int:
    return int(receipt["gasUsed"], 16)


def fee(receipt: dict[str, Any]) -> int:
    return gas_used(receipt) * int(receipt["effectiveGasPrice"], 16)


@pytest.fixture(scope="module", params=list(NodeKind))
def deployed(request, tmp_path_factory) -> Iterator[Payouts]:
    with start_local_chain(tmp_path_factory.mktemp("chain"), request.param) as chain:
        yield Payouts(chain, local.deploy_payout(chain.url).lower())


@pytest.fixture
def payouts(deployed: Payouts) -> Iterator[Payouts]:
    """The chain with the contract, brought back to what it was after the test."""
    before = deployed.chain.snapshot()
    yield deployed
    assert int(deployed.chain.rpc("eth_getStorageAt", deployed.address, "0x0", "latest"), 16) == 0
    deployed.chain.revert(before)


@pytest.fixture
def usdc(payouts: Payouts) -> str:
    payouts.approve(payouts.chain.token("USDC"))
    return payouts.chain.token("USDC")


class TestCode:
    @pytest.mark.timeout(300)  # as long as the compiler may take, and then some
    def test_the_committed_code_is_what_hardhat_builds_byte_for_byte(self, tmp_path):
        project = tmp_path / "hardhat-local"
        source = local.hardhat_project()
        others = ("node_modules", "artifacts", "cache", "test", "Local*.sol")  # no other source has a part in it
        shutil.copytree(source, project, ignore=shutil.ignore_patterns(*others))
        (project / "node_modules").symlink_to(source / "node_modules")
        shutil.copytree(source.parent / "chain" / "contracts", tmp_path / "chain" / "contracts")
        stamps = tmp_path / ".onebook/stamps"
        stamps.mkdir(parents=True)
        (packages,) = (source.parent / ".onebook/stamps").glob("hardhat-packages-*")
        shutil.copy(packages, stamps)
        subprocess.run([sys.executable, project / "prepare.py"], check=True, capture_output=True)

        built = json.loads((project / "artifacts/contracts/OnebookPayout.sol/OnebookPayout.json").read_bytes())
        assert bytes.fromhex(built["bytecode"][2:]) == payout_code().creation
        assert bytes.fromhex(built["deployedBytecode"][2:]) == payout_code().runtime

        ship = [sys.executable, project / "ship.py", "--check"]
        assert subprocess.run(ship, capture_output=True).returncode == 0
        shipped = tmp_path / "chain/contracts/onebook_payout.json"
        shipped.write_text(shipped.read_text().replace('"runs": 10000', '"runs": 200'))
        assert subprocess.run(ship, capture_output=True).returncode == 1

    def test_what_stands_on_chain_is_the_committed_runtime_code_at_the_computed_address(self, payouts):
        creator = payouts.account(5)
        nonce = int(payouts.chain.rpc("eth_getTransactionCount", creator, "latest"), 16)
        assert local.deploy_payout(payouts.chain.url, sender=5).lower() == created_address(creator, nonce)
        for address in (payouts.address, created_address(creator, nonce)):
            assert bytes.fromhex(payouts.chain.rpc("eth_getCode", address, "latest")[2:]) == payout_code().runtime

    def test_web3_reads_calls_and_events_as_we_do(self, payouts, usdc):
        abi = json.loads(payout._CODE_FILE.read_bytes())["abi"]
        contract = Web3().eth.contract(abi=abi)
        legs = [leg(fresh(), 7), leg(fresh(), 10**12)]
        plain = [{"id": found.id, "to": Web3.to_checksum_address(found.to), "amount": found.amount} for found in legs]
        assert contract.encode_abi("payNative", [plain]) == "0x" + native_call(legs).hex()
        assert contract.encode_abi("payToken", [usdc, plain]) == "0x" + token_call(usdc, legs).hex()
        receipt = payouts.token(usdc, legs)
        ours = leg_outcomes(logs_of(receipt), payouts.address)
        raw = [log for log in receipt["logs"] if log["address"].lower() == payouts.address]
        theirs = [contract.events.Leg().process_log(as_web3(log))["args"] for log in raw]
        assert [(e["id"], e["to"].lower(), e["amount"], e["paid"]) for e in theirs] == [
            (found.leg.id, found.leg.to, found.leg.amount, found.paid) for found in ours
        ]


def as_web3(log: dict[str, Any]) -> Any:
    numbers = {name: int(log[name], 16) for name in ("blockNumber", "transactionIndex", "logIndex")}
    return {**log, **numbers, "topics": [bytes.fromhex(topic[2:]) for topic in log["topics"]]}


class TestPaying:
    def test_ether_legs_are_paid_in_order_and_what_is_over_comes_back(self, payouts):
        legs = [leg(fresh(), 10**15 + n) for n in range(3)]
        before = payouts.ether(payouts.account())
        receipt = payouts.native(legs, value=10**18)
        assert [found.leg for found in leg_outcomes(logs_of(receipt), payouts.address)] == legs
        assert payouts.outcomes(receipt) == [True] * 3
        assert [payouts.ether(found.to) for found in legs] == [found.amount for found in legs]
        spent = before - payouts.ether(payouts.account()) - fee(receipt)
        assert spent == sum(found.amount for found in legs)
        assert payouts.ether(payouts.address) == 0

    def test_token_legs_are_paid_out_of_the_exact_allowance(self, payouts):
        token = payouts.chain.token("USDC")
        legs = [leg(fresh(), 10**6 + n) for n in range(3)]
        payouts.approve(token, sum(found.amount for found in legs))
        assert payouts.outcomes(payouts.token(token, legs)) == [True] * 3
        assert [payouts.chain.balance("USDC", found.to) for found in legs] == [found.amount for found in legs]
        assert ask(payouts.chain, token, "allowance(address,address)", payouts.account(), payouts.address) == 0
        assert payouts.chain.balance("USDC", payouts.address) == 0

    def test_circles_real_usdc_is_paid_and_a_blocklisted_recipient_alone_is_not(self, payouts):
        usdc = local.deploy_circle_usdc(payouts.chain.url).address
        owner, (good, bad, also) = payouts.account(), (fresh(), fresh(), fresh())
        minting = local.encode_call("mint(address,uint256)", owner, 10**9)
        local.send(payouts.chain.url, to=usdc, call=minting)
        local.send(payouts.chain.url, to=usdc, call=local.encode_call("blacklist(address)", bad))
        payouts.approve(usdc)
        assert payouts.outcomes(payouts.token(usdc, [leg(good), leg(bad), leg(also)])) == [True, False, True]
        balances = [ask(payouts.chain, usdc, "balanceOf(address)", who) for who in (owner, good, bad, also)]
        assert balances == [10**9 - 2_000, 1_000, 0, 1_000]

    def test_no_legs_and_101_legs_are_refused_and_100_are_paid(self, payouts, usdc):
        hundred = [leg(fresh()) for _ in range(100)]
        for legs in ([], [*hundred, leg(fresh())]):
            wrong = error("WrongNumberOfLegs(uint256)", len(legs))
            assert payouts.why(unchecked("payNative", legs), value=10**6) == wrong
            assert payouts.why(unchecked("payToken", legs, usdc)) == wrong
        assert payouts.outcomes(payouts.native(hundred)) == [True] * 100
        assert payouts.outcomes(payouts.token(usdc, hundred)) == [True] * 100

    def test_the_same_id_twice_is_paid_twice_since_nothing_is_remembered(self, payouts, usdc):
        """Why the signer must refuse it, and our encoder does."""
        once = leg(fresh())
        receipt = payouts.send(unchecked("payNative", [once, once]), value=2_000)
        assert payouts.outcomes(receipt) == [True, True]
        assert payouts.ether(once.to) == 2_000
        receipt = payouts.send(unchecked("payToken", [once, once], usdc))
        assert payouts.outcomes(receipt) == [True, True]
        assert payouts.chain.balance("USDC", once.to) == 2_000

    def test_plain_ether_and_unknown_calls_are_refused(self, payouts):
        for call, value in ((b"", 1), (b"\x12\x34\x56\x78", 0), (b"\x12\x34\x56\x78", 1), (b"", 0)):
            assert payouts.send(call, value=value)["status"] == "0x0"
        assert payouts.send(token_call(payouts.chain.token("USDC"), [leg(fresh())]), value=1)["status"] == "0x0"
        assert payouts.ether(payouts.address) == 0

    def test_two_batches_fit_in_one_transaction(self, payouts):
        wallet = create(payouts.chain, "Pays", "bool", True)
        twice = leg(fresh())
        call = local.encode_call("payTwice(address,bytes)", payouts.address, native_call([twice]))
        tx_hash = local.send(payouts.chain.url, to=wallet, value=2_000, call=call, sender=SENDER, gas=GAS)
        assert payouts.outcomes(payouts.chain.receipt(tx_hash)) == [True, True]
        assert payouts.ether(twice.to) == 2_000


class TestRecipients:
    """A recipient of ether can spoil its own leg, and nothing else."""

    @pytest.mark.parametrize(
        ("contract", "types", "arguments", "paid"),
        [
            ("Accepts", "", (), True),
            ("Refuses", "", (), False),
            ("Burns", "", (), False),
            ("Bombs", "bool", (True,), False),
            ("Bombs", "bool", (False,), True),
            ("Needs", "uint256", (payout.NATIVE_LEG_GAS,), True),
            ("Needs", "uint256", (payout.NATIVE_LEG_GAS + STIPEND,), False),
            ("Meters", "", (), True),
        ],
    )
    def test_its_leg_fails_alone_and_the_money_is_back_with_the_sender(self, payouts, contract, types, arguments, paid):
        odd = create(payouts.chain, contract, types, *arguments)
        legs = [leg(fresh(), 10**15), leg(odd, 10**16), leg(fresh(), 10**15)]
        before = payouts.ether(payouts.account())
        receipt = payouts.native(legs)
        assert payouts.outcomes(receipt) == [True, paid, True]
        assert payouts.ether(odd) == (10**16 if paid else 0)
        spent = before - payouts.ether(payouts.account()) - fee(receipt)
        assert spent == 2 * 10**15 + payouts.ether(odd)
        assert payouts.ether(payouts.address) == 0
        assert gas_used(receipt) < gas_bound(3, native=True)

    def test_a_long_answer_costs_the_recipient_not_us(self, payouts):
        """Copied whole, 120,000 bytes would cost us about 50,000 gas more."""
        plain, bomb = create(payouts.chain, "Accepts"), create(payouts.chain, "Bombs", "bool", False)
        difference = gas_used(payouts.native([leg(bomb)])) - gas_used(payouts.native([leg(plain)]))
        assert difference < payout.NATIVE_LEG_GAS + STIPEND

    @pytest.mark.parametrize("by", ["ether", "token"])
    @pytest.mark.parametrize("insists", [False, True])
    def test_calling_back_in_while_being_paid_is_refused(self, payouts, by, insists):
        own = payouts.chain.token("DAI")
        again = "0x" + "00" * 20 if by == "ether" else own
        thief = create(payouts.chain, "Reenters", "address,address,bool", payouts.address, again, insists, value=10)
        payouts.chain.faucet(thief, 10, "DAI")
        receipt = payouts.native([leg(thief), leg(fresh())])
        assert payouts.outcomes(receipt) == [not insists, True]
        refused = int.from_bytes(error("Reentered()"), "big")
        assert ask(payouts.chain, thief, "outcome()") == (0 if insists else refused)
        # the same call is sound when nobody is being paid
        local.send(payouts.chain.url, to=thief, call=local.encode_call("strike()"), sender=ATTACKER, gas=GAS)
        assert ask(payouts.chain, thief, "outcome()") == 1

    @pytest.mark.parametrize("by", ["ether", "token"])
    @pytest.mark.parametrize("insists", [False, True])
    def test_calling_back_in_out_of_a_tokens_hook_is_refused(self, payouts, by, insists):
        hooked = create(payouts.chain, "HookToken", "address,uint256", payouts.account(), 10**6)
        payouts.approve(hooked)
        again = "0x" + "00" * 20 if by == "ether" else hooked
        thief = create(payouts.chain, "Reenters", "address,address,bool", payouts.address, again, insists, value=10)
        receipt = payouts.token(hooked, [leg(fresh(), 5_000), leg(thief, 5_000), leg(fresh(), 5_000)])
        assert payouts.outcomes(receipt) == [True, not insists, True]
        refused = int.from_bytes(error("Reentered()"), "big")
        assert ask(payouts.chain, thief, "outcome()") == (0 if insists else refused)
        assert ask(payouts.chain, hooked, "balanceOf(address)", thief) == (0 if insists else 5_000)
        moving = local.encode_call("transfer(address,uint256)", thief, 5)
        local.send(payouts.chain.url, to=hooked, call=moving, sender=SENDER)
        local.send(payouts.chain.url, to=thief, call=local.encode_call("strike()"), sender=ATTACKER, gas=GAS)
        assert ask(payouts.chain, thief, "outcome()") == 1

    @pytest.mark.parametrize("insists", [False, True])
    def test_calling_back_in_with_the_unspent_is_refused(self, payouts, insists):
        """Here there is gas enough: only the guard refuses."""
        native = "0x" + "00" * 20
        thief = create(payouts.chain, "Reenters", "address,address,bool", payouts.address, native, insists, value=10)
        paid = leg(fresh())
        call = local.encode_call("pay(bytes)", native_call([paid]))
        tx_hash = local.send(payouts.chain.url, to=thief, value=5_000, call=call, sender=SENDER, gas=GAS)
        if insists:
            assert payouts.chain.receipt(tx_hash)["status"] == "0x0"
            assert payouts.ether(paid.to) == 0
        else:
            assert payouts.outcomes(payouts.chain.receipt(tx_hash)) == [True]
            assert payouts.ether(thief) == 10 + 4_000
            assert ask(payouts.chain, thief, "outcome()") == int.from_bytes(error("Reentered()"), "big")
        local.send(payouts.chain.url, to=thief, call=local.encode_call("strike()"), sender=ATTACKER, gas=GAS)
        assert ask(payouts.chain, thief, "outcome()") == 1

    def test_a_leg_to_the_contract_itself_is_not_paid(self, payouts):
        assert payouts.outcomes(payouts.native([leg(payouts.address), leg(fresh())])) == [False, True]
        assert payouts.ether(payouts.address) == 0


ANSWERS = ["Nothing", "True", "False", "Two", "TrueThenShort", "TrueAndMore", "Bomb", "RevertingBomb", "Burn"]
GOOD_ANSWERS = {"Nothing", "True", "TrueAndMore", "Bomb"}
"""Bomb begins with true; nobody reads further."""


class TestTokens:
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_paid_means_that_nothing_or_true_was_answered(self, payouts, answer):
        token = payouts.odd_token(ANSWERS.index(answer))
        good, at_first = answer in GOOD_ANSWERS, answer == "TrueThenShort"
        receipt = payouts.token(token, [leg(fresh()), leg(fresh())])
        assert payouts.outcomes(receipt) == [good or at_first, good]
        assert gas_used(receipt) < gas_bound(2, native=False)

    def test_an_old_answer_is_not_taken_for_a_short_one(self, payouts):
        """31 zero bytes leave the last byte of the true that was answered before; the length is looked at."""
        short = payouts.odd_token(ANSWERS.index("TrueThenShort"))
        assert payouts.outcomes(payouts.token(short, [leg(fresh()) for _ in range(3)])) == [True, False, False]
        sound = payouts.odd_token(ANSWERS.index("True"))
        assert payouts.outcomes(payouts.token(sound, [leg(fresh()) for _ in range(3)])) == [True, True, True]

    def test_a_long_answer_costs_the_token_not_us(self, payouts):
        plain, bomb = payouts.odd_token(ANSWERS.index("True")), payouts.odd_token(ANSWERS.index("Bomb"))
        used = [gas_used(payouts.token(token, [leg(fresh())])) for token in (plain, bomb)]
        expansion = 3 * 3_750 + 3_750**2 // 512  # of 120,000 bytes in the token's own memory (Yellow Paper, appendix H)
        assert used[1] - used[0] < expansion + 1_000

    def test_an_address_without_code_pays_nobody(self, payouts):
        sound = payouts.odd_token(ANSWERS.index("Nothing"))
        assert payouts.outcomes(payouts.token(sound, [leg(fresh())])) == [True]
        for nothing in (fresh(), payouts.account(3), payouts.address, "0x" + "00" * 19 + "04"):
            # the last is the precompile that answers what it's asked: no code, and a call that goes well
            assert payouts.outcomes(payouts.token(nothing, [leg(fresh())])) == [False]

    def test_a_leg_over_balance_or_allowance_fails_alone(self, payouts):
        token = payouts.chain.token("USDC")
        payouts.approve(token, 5_000)
        legs = [leg(fresh(), 3_000), leg(fresh(), 3_000), leg(fresh(), 2_000)]
        assert payouts.outcomes(payouts.token(token, legs)) == [True, False, True]
        assert [payouts.chain.balance("USDC", found.to) for found in legs] == [3_000, 0, 2_000]

    def test_a_paused_token_pays_nobody_and_pays_again_afterwards(self, payouts, usdc):
        payouts.chain.as_token_owner("USDC", "pause()")
        assert payouts.outcomes(payouts.token(usdc, [leg(fresh()), leg(fresh())])) == [False, False]
        payouts.chain.as_token_owner("USDC", "unpause()")
        assert payouts.outcomes(payouts.token(usdc, [leg(fresh())])) == [True]


class TestCallers:
    def test_legs_over_the_value_are_refused_before_anything_is_paid(self, payouts):
        legs = [leg(fresh(), 600), leg(fresh(), 401)]
        assert payouts.why(native_call(legs), value=1_000) == error("ValueBelowSum(uint256,uint256)", 1_000, 1_001)
        assert payouts.native(legs, value=1_000)["status"] == "0x0"
        assert [payouts.ether(found.to) for found in legs] == [0, 0]
        assert payouts.outcomes(payouts.native(legs, value=1_001)) == [True, True]

    def test_a_sum_past_the_largest_number_is_no_small_sum(self, payouts):
        call = unchecked("payNative", [leg(fresh(), 2**256 - 1), leg(fresh(), 2)])
        assert payouts.why(call, value=10) == PANIC_OVERFLOW

    def test_forced_ether_pays_nobody_and_goes_to_nobody(self, payouts):
        create(payouts.chain, "Forces", "address", payouts.address, value=10**18)
        assert payouts.ether(payouts.address) == 10**18
        greedy = leg(fresh(), 10**18)
        assert payouts.why(native_call([greedy]), value=10**18 - 1)[:4] == error("ValueBelowSum(uint256,uint256)")
        refusing = create(payouts.chain, "Refuses")
        before = payouts.ether(payouts.account())
        receipt = payouts.native([leg(fresh(), 700), leg(refusing, 10**18)], value=10**18 + 1_000)
        assert payouts.outcomes(receipt) == [True, False]
        assert before - payouts.ether(payouts.account()) - fee(receipt) == 700
        assert payouts.ether(payouts.address) == 10**18

    def test_a_sender_that_refuses_the_unspent_reverts_all_of_it(self, payouts):
        paid = leg(fresh())
        call = local.encode_call("pay(address,bytes)", payouts.address, native_call([paid]))
        takes, refuses = (create(payouts.chain, "Pays", "bool", takes) for takes in (True, False))

        def through(wallet: str, value: int) -> Any:
            sent = local.send(payouts.chain.url, to=wallet, value=value, call=call, sender=SENDER, gas=GAS)
            return payouts.chain.receipt(sent)

        assert through(refuses, 1_001)["status"] == "0x0"
        asked = {"from": payouts.account(), "to": refuses, "value": hex(1_001), "data": "0x" + call.hex()}
        assert why_reverted(payouts.chain, asked) == error("UnspentNotReturned(uint256)", 1)
        assert payouts.ether(paid.to) == 0
        assert payouts.outcomes(through(refuses, 1_000)) == [True]  # nothing is over
        assert payouts.outcomes(through(takes, 1_001)) == [True]
        assert payouts.ether(takes) == 1

    def test_dirty_addresses_are_refused_whole(self, payouts):
        sound = native_call([leg(fresh())])
        dirty = bytearray(sound)
        dirty[4 + 3 * 32] = 1  # the highest byte of the recipient's word
        assert payouts.send(bytes(dirty), value=1_000)["status"] == "0x0"
        assert payouts.outcomes(payouts.send(sound, value=1_000)) == [True]

    @pytest.mark.parametrize("cut", [1, 32, 96])
    def test_a_shortened_call_is_refused_whole(self, payouts, usdc, cut):
        legs = [leg(fresh()), leg(fresh())]
        assert payouts.send(native_call(legs)[:-cut], value=2_000)["status"] == "0x0"
        assert payouts.send(token_call(usdc, legs)[:-cut])["status"] == "0x0"
        assert [payouts.ether(found.to) for found in legs] == [0, 0]


class TestAllowances:
    def test_nobody_else_can_spend_our_allowance(self, payouts, usdc):
        """Anybody may call; the money always comes from who calls."""
        owned = {who: payouts.chain.balance("USDC", payouts.account(who)) for who in (SENDER, ATTACKER)}
        loot = payouts.account(ATTACKER)
        for call in (
            token_call(usdc, [leg(loot)]),
            token_call(usdc, [leg(payouts.account(SENDER)), leg(loot)]),
            unchecked("payToken", [leg(loot)] * 100, usdc),
        ):
            assert not any(payouts.outcomes(payouts.send(call, sender=ATTACKER)))
        payouts.approve(usdc, 500, sender=ATTACKER)  # an allowance of its own lets it spend its own money only
        assert payouts.outcomes(payouts.send(token_call(usdc, [leg(fresh(), 501)]), sender=ATTACKER)) == [False]
        assert payouts.outcomes(payouts.send(token_call(usdc, [leg(fresh(), 500)]), sender=ATTACKER)) == [True]
        assert payouts.chain.balance("USDC", payouts.account(SENDER)) == owned[SENDER]
        assert payouts.chain.balance("USDC", loot) == owned[ATTACKER] - 500
        assert payouts.outcomes(payouts.token(usdc, [leg(loot, 500)])) == [True]  # we can

    def test_the_token_cannot_be_made_to_do_anything_else(self, payouts, usdc):
        """The contract's only call to a token carries the caller as payer; another payer isn't in its interface."""
        victim, thief = payouts.account(SENDER), payouts.account(ATTACKER)
        stealing = local.encode_call("transferFrom(address,address,uint256)", victim, thief, 1_000)
        assert payouts.send(stealing, sender=ATTACKER)["status"] == "0x0"
        assert payouts.send(token_call(usdc, [leg(thief)])[:4] + stealing, sender=ATTACKER)["status"] == "0x0"

    def test_a_general_multicall_with_the_same_allowance_is_robbed(self, payouts):
        """The control: what the rule against general multicalls prevents."""
        token, multicall = payouts.chain.token("USDC"), create(payouts.chain, "GeneralMulticall")
        giving = local.encode_call("approve(address,uint256)", multicall, 1_000)
        local.send(payouts.chain.url, to=token, call=giving, sender=SENDER)
        loot = fresh()
        stealing = local.encode_call("transferFrom(address,address,uint256)", payouts.account(SENDER), loot, 1_000)
        robbing = local.encode_call("call(address,bytes)", token, stealing)
        local.send(payouts.chain.url, to=multicall, call=robbing, sender=ATTACKER)
        assert payouts.chain.balance("USDC", loot) == 1_000


class TestGas:
    def test_each_recipient_gets_the_same_gas_whatever_the_gas_limit(self, payouts):
        given = set()
        estimate = payouts.estimate(native_call([leg(create(payouts.chain, "Meters"))]), 1_000)
        for limit in (estimate, estimate + 7, estimate + 50_000, GAS):
            meter = create(payouts.chain, "Meters")
            receipt = payouts.native([leg(meter)], gas=limit)
            if receipt["status"] == "0x1":
                given.add(ask(payouts.chain, meter, "given()"))
        (only,) = given
        assert payout.NATIVE_LEG_GAS < only < payout.NATIVE_LEG_GAS + STIPEND

    def test_no_gas_limit_makes_a_sound_leg_fail_while_the_batch_succeeds(self, payouts):
        needy = create(payouts.chain, "Needs", "uint256", payout.NATIVE_LEG_GAS + STIPEND - 200)
        legs = [leg(fresh()), leg(needy), leg(fresh()), leg(needy)]
        payouts.native(legs)  # from now on every run of it costs the same
        least = smallest_success(payouts, native_call(legs), 4_000)
        assert all(payouts.outcomes(payouts.native(legs, gas=least)))
        for limit in [least - 1, *range(60_000, least, 17_003)]:
            assert payouts.native(legs, gas=limit)["status"] == "0x0"
        for limit in range(least, least + 60_000, 5_003):
            assert all(payouts.outcomes(payouts.native(legs, gas=limit)))
        assert payouts.why(native_call(legs), value=4_000, gas=least - 1) == error("GasTooLow(uint256)", 3)

    def test_nor_with_a_token(self, payouts, usdc):
        legs = [leg(fresh()), leg(fresh()), leg(fresh())]
        payouts.token(usdc, legs)
        least = smallest_success(payouts, token_call(usdc, legs))
        assert all(payouts.outcomes(payouts.token(usdc, legs, gas=least)))
        for limit in [least - 1, *range(60_000, least, 17_003)]:
            assert payouts.token(usdc, legs, gas=limit)["status"] == "0x0"
        assert payouts.why(token_call(usdc, legs), gas=least - 1) == error("GasTooLow(uint256)", 2)

    def test_without_the_look_at_the_gas_a_low_limit_does_it(self, payouts):
        """The control: the same legs on a contract that doesn't look."""
        careless = Payouts(payouts.chain, create(payouts.chain, "CarelessPayout"))
        legs = [leg(create(payouts.chain, "Needs", "uint256", payout.NATIVE_LEG_GAS))]
        cheated = []
        for limit in range(50_000, 110_000, 2_000):
            receipt = careless.native(legs, gas=limit)
            cheated.append(receipt["status"] == "0x1" and careless.outcomes(receipt) == [False])
        assert any(cheated)
        assert careless.outcomes(careless.native(legs)) == [True]

    def test_a_node_estimates_enough(self, payouts, usdc):
        legs = [leg(fresh()) for _ in range(20)]
        assert all(payouts.outcomes(payouts.native(legs, gas=payouts.estimate(native_call(legs), 20_000))))
        assert all(payouts.outcomes(payouts.token(usdc, legs, gas=payouts.estimate(token_call(usdc, legs)))))

    @pytest.mark.parametrize("count", [1, 100])
    def test_the_bound_suffices_when_everybody_burns_all_gas(self, payouts, count):
        burner = payouts.chain.rpc("eth_getCode", create(payouts.chain, "Burns"), "latest")
        legs = [leg(fresh()) for _ in range(count)]
        for found in legs:
            payouts.chain.rpc("hardhat_setCode", found.to, burner)  # each address cold, each with code
        receipt = payouts.native(legs, gas=gas_bound(count, native=True))
        assert payouts.outcomes(receipt) == [False] * count
        token = payouts.odd_token(ANSWERS.index("Burn"))
        receipt = payouts.token(token, legs, gas=gas_bound(count, native=False))
        assert payouts.outcomes(receipt) == [False] * count
        plain = [leg(fresh()) for _ in range(count)]  # new accounts: the dearest that succeeds
        assert payouts.outcomes(payouts.native(plain, gas=gas_bound(count, native=True))) == [True] * count

    def test_gas_of_batches_is_as_documented(self, payouts):
        circle = local.deploy_circle_usdc(payouts.chain.url).address
        minting = local.encode_call("mint(address,uint256)", payouts.account(), 10**12)
        local.send(payouts.chain.url, to=circle, call=minting)
        payouts.approve(circle)
        payouts.token(circle, [leg(fresh())])  # what a first use writes is behind us
        measured = {}
        for count in (1, 10, 100):
            for name, token in (("ETH", None), ("USDC", circle)):
                for new in (True, False):
                    seeds = [keccak(text=f"{name} {count} {n}") for n in range(count)]  # zero bytes cost less
                    legs = [Leg(seed, "0x" + seed[-20:].hex(), 1_000) for seed in seeds]
                    call = native_call(legs) if token is None else token_call(token, legs)
                    receipt = payouts.send(call, value=0 if token else 1_000 * count)
                    assert payouts.outcomes(receipt) == [True] * count
                    measured[name, count, "new" if new else "known"] = gas_used(receipt)
        singly = {
            ("ETH", "known"): gas_used(payouts.chain.receipt(payouts.chain.transfer("ETH", fresh(), 1))),
            ("USDC", "new"): self.single_transfer(payouts, circle, to := fresh()),
            ("USDC", "known"): self.single_transfer(payouts, circle, to),
        }
        print(measured, singly)
        for place, most in GAS_DOCUMENTED.items():
            assert most - 1_000 < measured[place] <= most, (place, measured)
        for alone, most in GAS_DOCUMENTED_SINGLY.items():
            assert most - 1_000 < singly[alone] <= most, (alone, singly)

    @staticmethod
    def single_transfer(payouts: Payouts, token: str, to: str) -> int:
        call = local.encode_call("transfer(address,uint256)", to, 1_000)
        return gas_used(payouts.chain.receipt(local.send(payouts.chain.url, to=token, call=call, sender=SENDER)))


GAS_DOCUMENTED = {
    ("ETH", 1, "new"): 61_000,
    ("ETH", 1, "known"): 36_000,
    ("ETH", 10, "new"): 407_000,
    ("ETH", 10, "known"): 157_000,
    ("ETH", 100, "new"): 3_860_000,
    ("ETH", 100, "known"): 1_360_000,
    ("USDC", 1, "new"): 79_000,
    ("USDC", 1, "known"): 61_000,
    ("USDC", 10, "new"): 372_000,
    ("USDC", 10, "known"): 201_000,
    ("USDC", 100, "new"): 3_304_000,
    ("USDC", 100, "known"): 1_594_000,
}
"""As in docs/payout-contract.md: asset, legs, and whether the recipients had any of it before."""

GAS_DOCUMENTED_SINGLY = {("ETH", "known"): 21_000, ("USDC", "new"): 63_000, ("USDC", "known"): 46_000}
"""The same payment without the contract. A plain payment to a new address costs no more (Yellow Paper, 6.2)."""


def smallest_success(payouts: Payouts, call: bytes, value: int = 0) -> int:
    """The lowest gas limit with which the call succeeds."""
    asked = {"from": payouts.account(), "to": payouts.address, "value": hex(value), "data": "0x" + call.hex()}
    low, high = 21_000, GAS
    while high - low > 1:
        middle = (low + high) // 2
        try:
            payouts.chain.rpc("eth_call", {**asked, "gas": hex(middle)}, "latest")
            high = middle
        except local.LocalNodeRefused:
            low = middle
    return high


KINDS = {
    # what a recipient does, and whether its leg is paid
    "nobody yet": (None, True),
    "accepts": (("Accepts",), True),
    "refuses": (("Refuses",), False),
    "burns": (("Burns",), False),
    "fails long": (("Bombs", "bool", True), False),
    "answers long": (("Bombs", "bool", False), True),
    "needs little": (("Needs", "uint256", 10_000), True),
    "needs more": (("Needs", "uint256", 100_000), False),
}


def test_random_batches_end_as_a_model_predicts(payouts):
    seed = random.randrange(2**32)
    print(f"seed: {seed}")
    chosen = random.Random(seed)
    made = {kind: create(payouts.chain, *how) for kind, (how, _) in KINDS.items() if how is not None}
    expected = dict.fromkeys(made.values(), 0)
    for _ in range(15):
        kinds = chosen.choices(list(KINDS), k=chosen.randint(1, 25))
        legs = [leg(made.get(kind) or fresh(), chosen.randint(1, 10**18)) for kind in kinds]
        over = chosen.choice([0, 1, 10**17])
        before = payouts.ether(payouts.account())
        receipt = payouts.native(legs, value=sum(found.amount for found in legs) + over)
        paid = [KINDS[kind][1] for kind in kinds]
        assert payouts.outcomes(receipt) == paid
        for found, was_paid in zip(legs, paid, strict=True):
            expected[found.to] = expected.get(found.to, 0) + found.amount * was_paid
        spent = sum(found.amount for found, was_paid in zip(legs, paid, strict=True) if was_paid)
        assert before - payouts.ether(payouts.account()) - fee(receipt) == spent
        assert payouts.ether(payouts.address) == 0
    assert {address: payouts.ether(address) for address in expected} == expected


def test_our_own_encoder_is_the_stricter_one(payouts):
    with pytest.raises(LocalTxReverted):
        payouts.send(unchecked("payNative", []), gas=None)
    assert payouts.outcomes(payouts.send(unchecked("payNative", [leg(fresh(), 0)]))) == [True]
