"""The payout contract's calls and events against another implementation of the ABI, and its committed code."""

import json
import secrets
from pathlib import Path

import pytest
import rlp  # type: ignore[import-untyped]
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from base.errors import BrokenInvariant
from chain import payout
from chain.errors import InvalidAddress
from chain.evm.addresses import created_address
from chain.evm.blocks import Log
from chain.payout import Leg, LegOutcome, gas_bound, leg_outcomes, native_call, payout_code, token_call

CONTRACT = "0x" + "c0" * 20
TOKEN = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
ARRAY = "(bytes32,address,uint256)[]"
TX_GAS_MAX = 2**24  # EIP-7825


def legs_of(count: int) -> list[Leg]:
    return [
        Leg(keccak(text=str(n)), f"0x{keccak(text=f'to {n}')[-20:].hex()}", 10**n % 2**248 + 1) for n in range(count)
    ]


def plain(legs: list[Leg]) -> list[tuple[bytes, str, int]]:
    return [(leg.id, leg.to, leg.amount) for leg in legs]


def event(leg: Leg, paid: bool) -> Log:
    fields = encode(["address", "uint256", "bool"], [leg.to, leg.amount, paid])
    return Log(CONTRACT, (payout.LEG_TOPIC, "0x" + leg.id.hex()), fields)


class TestCalls:
    @pytest.mark.parametrize("count", [1, 2, 100])
    def test_calls_are_what_eth_abi_encodes(self, count):
        legs = legs_of(count)
        native = keccak(text=f"payNative({ARRAY})")[:4] + encode([ARRAY], [plain(legs)])
        token = keccak(text=f"payToken(address,{ARRAY})")[:4] + encode(["address", ARRAY], [TOKEN, plain(legs)])
        assert native_call(legs) == native
        assert token_call(TOKEN, legs) == token

    def test_the_greatest_amount_fits(self):
        (leg,) = legs_of(1)
        assert native_call([Leg(leg.id, leg.to, 2**256 - 1)]).endswith(b"\xff" * 32)

    @pytest.mark.parametrize(
        ("legs", "why"),
        [
            ([], "1 to 100"),
            (legs_of(101), "1 to 100"),
            (legs_of(2) + legs_of(1), "same id"),
            ([Leg(b"short", CONTRACT, 1)], "32 bytes"),
            ([Leg(bytes(32), CONTRACT, 0)], "amount"),
            ([Leg(bytes(32), CONTRACT, -1)], "amount"),
            ([Leg(bytes(32), CONTRACT, 2**256)], "amount"),
            ([Leg(bytes(32), CONTRACT, 2**256 - 1), Leg(b"\1" * 32, CONTRACT, 1)], "come to more"),
        ],
    )
    def test_a_batch_that_nobody_should_have_made_is_a_bug(self, legs, why):
        with pytest.raises(BrokenInvariant, match=why):
            native_call(legs)
        with pytest.raises(BrokenInvariant, match=why):
            token_call(TOKEN, legs)

    @pytest.mark.parametrize("to", ["0x" + "00" * 20, "0x12", TOKEN.replace("A0b", "a0b")])
    def test_a_leg_to_nobody_or_to_a_mistyped_address_is_refused(self, to):
        with pytest.raises(InvalidAddress):
            native_call([Leg(bytes(32), to, 1)])
        with pytest.raises(InvalidAddress):
            token_call(to, legs_of(1))

    @pytest.mark.parametrize("native", [True, False])
    def test_the_bound_for_a_full_batch_fits_in_a_transaction(self, native):
        assert gas_bound(payout.LEGS_MAX, native=native) < TX_GAS_MAX


class TestEvents:
    def test_outcomes_are_read_in_order_and_foreign_logs_left_out(self):
        first, second = legs_of(2)
        transfer = Log(TOKEN.lower(), ("0x" + "11" * 32,), b"")
        elsewhere = Log("0x" + "c1" * 20, event(first, True).topics, event(first, True).payload)
        logs = [transfer, event(first, True), elsewhere, transfer, event(second, False)]
        assert leg_outcomes(logs, CONTRACT) == (LegOutcome(1, first, True), LegOutcome(4, second, False))

    @pytest.mark.parametrize(
        "bend",
        [
            lambda log: Log(log.contract, log.topics[:1], log.payload),
            lambda log: Log(log.contract, (*log.topics, log.topics[1]), log.payload),
            lambda log: Log(log.contract, log.topics, log.payload[:-1]),
            lambda log: Log(log.contract, log.topics, log.payload + b"\0" * 32),
            lambda log: Log(log.contract, log.topics, b"\1" + log.payload[1:]),
            lambda log: Log(log.contract, log.topics, log.payload[:-1] + b"\2"),
        ],
    )
    def test_an_event_in_another_form_is_not_believed(self, bend):
        sound = event(legs_of(1)[0], True)
        assert len(leg_outcomes([sound], CONTRACT)) == 1
        with pytest.raises(BrokenInvariant, match="isn't the payout contract's"):
            leg_outcomes([bend(sound)], CONTRACT)


class TestAddresses:
    @pytest.mark.parametrize(
        ("nonce", "address"),
        [
            # the example that every explanation of CREATE uses
            (0, "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"),
            (1, "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"),
            (2, "0xf778b86fa74e846c4f0a1fbd1335fe81c00a0c91"),
            (3, "0xfffd933a0bc612844eaf0c6fe3e5b8e9b6c1d19c"),
        ],
    )
    def test_created_addresses_are_the_published_ones(self, nonce, address):
        assert created_address("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0", nonce) == address

    @pytest.mark.parametrize("nonce", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**63, 2**64 - 2])
    def test_created_addresses_agree_with_rlp(self, nonce):
        creator = secrets.token_bytes(20)
        assert created_address("0x" + creator.hex(), nonce) == "0x" + keccak(rlp.encode([creator, nonce]))[-20:].hex()


FORBIDDEN = {
    0x31: "BALANCE",
    0x47: "SELFBALANCE",
    0x54: "SLOAD",
    0x55: "SSTORE",
    0xF0: "CREATE",
    0xF2: "CALLCODE",
    0xF4: "DELEGATECALL",
    0xF5: "CREATE2",
    0xFF: "SELFDESTRUCT",
}
CALL, TLOAD, TSTORE = 0xF1, 0x5C, 0x5D


def opcodes(code: bytes) -> list[int]:
    """The instructions of `code`, without what PUSH instructions carry."""
    found, at = [], 0
    while at < len(code):
        found.append(code[at])
        at += 1 + (code[at] - 0x5F if 0x60 <= code[at] <= 0x7F else 0)
    return found


class TestCode:
    def test_the_document_names_what_stands_in_the_file(self):
        document = (Path(__file__).parents[2] / "docs" / "payout-contract.md").read_text(encoding="utf-8")
        code = payout_code()
        bounds = [gas_bound(legs, native=native) for legs in (1, 100) for native in (True, False)]
        named = [
            code.creation_sha256,
            keccak(code.creation).hex(),
            keccak(code.runtime).hex(),
            payout.LEG_TOPIC,
            *(f"{n:,}" for n in bounds),
        ]
        named += [f"0x{call(legs_of(1))[:4].hex()}" for call in (native_call, lambda legs: token_call(TOKEN, legs))]
        assert [text for text in named if text not in document] == []

    def test_it_can_keep_nothing_and_hand_itself_to_nobody(self):
        used = opcodes(payout_code().runtime)
        assert sorted(FORBIDDEN[op] for op in set(used) & FORBIDDEN.keys()) == []
        assert used.count(CALL) == 3  # ether, token, and what goes back
        assert {TLOAD, TSTORE} <= set(used)

    def test_nothing_takes_plain_ether_or_unknown_calls(self):
        abi = json.loads(payout._CODE_FILE.read_bytes())["abi"]
        functions = {entry["name"]: entry["stateMutability"] for entry in abi if entry["type"] == "function"}
        assert functions == {"payNative": "payable", "payToken": "nonpayable"}
        assert {entry["type"] for entry in abi} == {"function", "event", "error"}

    def test_the_topic_is_that_of_the_abi(self):
        (event_abi,) = (e for e in json.loads(payout._CODE_FILE.read_bytes())["abi"] if e["type"] == "event")
        signature = f"{event_abi['name']}({','.join(field['type'] for field in event_abi['inputs'])})"
        assert "0x" + keccak(text=signature).hex() == payout.LEG_TOPIC
        assert [field["name"] for field in event_abi["inputs"] if field["indexed"]] == ["id"]

    def test_a_changed_file_is_not_used(self, tmp_path, monkeypatch):
        found = json.loads(payout._CODE_FILE.read_bytes())
        bent = tmp_path / "bent.json"
        monkeypatch.setattr(payout, "_CODE_FILE", bent)
        for change in (
            {"creation_code": found["creation_code"][:-1] + "f"},
            {"runtime_code": found["runtime_code"] + "00"},
            {"creation_code_sha256": "00" * 32},
        ):
            bent.write_text(json.dumps(found | change))
            with pytest.raises(BrokenInvariant, match="was changed"):
                payout.payout_code.__wrapped__()
        bent.write_text(json.dumps(found))
        assert payout.payout_code.__wrapped__() == payout_code()
