"""Blocks recomputed: those of both nodes and of py-evm's own encoder verify, and whatever is altered is noticed."""

import copy

import pytest
import rlp  # type: ignore[import-untyped]
from eth.db.trie import make_trie_root_and_nodes
from eth.vm.forks.london.blocks import LondonBlockHeader
from eth.vm.forks.prague.blocks import PragueBlockHeader
from eth.vm.forks.prague.receipts import PragueReceiptBuilder
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.forks.shanghai.withdrawals import Withdrawal
from eth_account import Account
from eth_hash.auto import keccak
from eth_typing import Address, BlockNumber

from chain.errors import EncodingUnknown, NodeMisbehaved
from chain.evm import blocks, transfers
from chain.evm.blocks import read_block
from chain.networks import Encoding
from tests.support.chain import start_local_chain

KEY = "0x" + "11" * 32
TO = "0x" + "22" * 20
COMMON = {"nonce": 7, "gas": 100_000, "to": TO, "value": 5, "data": "0x1234", "chainId": 1}
ACCESS = [{"address": TO, "storageKeys": ["0x" + "33" * 32]}]
TIPPED = {"maxFeePerGas": 2 * 10**9, "maxPriorityFeePerGas": 10**9}
_BY_KEY = Account.from_key(KEY).sign_authorization({"chainId": 1, "address": TO, "nonce": 3})
AUTHORIZATION = {
    "chainId": 1,
    "address": TO,
    "nonce": 3,
    "yParity": _BY_KEY.y_parity,
    "r": _BY_KEY.r,
    "s": _BY_KEY.s,
}
SIGNED = {
    "legacy": {**COMMON, "gasPrice": 10**9},
    "legacy making a contract": {**COMMON, "to": "", "gasPrice": 10**9},
    "access list": {**COMMON, "type": 1, "gasPrice": 10**9, "accessList": ACCESS},
    "fee market": {**COMMON, "type": 2, "accessList": ACCESS, **TIPPED},
    "set code": {
        **COMMON,
        "type": 4,
        "accessList": [],
        **TIPPED,
        "authorizationList": [AUTHORIZATION],
    },
}


def as_json(transaction, signed):
    """A signed transaction as a node tells it."""
    told = {name: hex(value) if isinstance(value, int) else value for name, value in transaction.items()}
    told |= {"input": told.pop("data"), "to": told["to"] or None, "hash": "0x" + signed.hash.hex()}
    return told | {"v": hex(signed.v), "r": hex(signed.r), "s": hex(signed.s)}


@pytest.mark.parametrize("kind", SIGNED)
def test_a_transaction_encodes_as_it_was_signed(kind):
    transaction = copy.deepcopy(SIGNED[kind])
    signed = Account.from_key(KEY).sign_transaction(transaction)
    told = as_json(copy.deepcopy(SIGNED[kind]), signed)
    for entry in told.get("authorizationList", []):
        entry |= {name: hex(value) for name, value in entry.items() if isinstance(value, int)}
    assert blocks.encode_transaction(told) == signed.raw_transaction
    assert PragueTransactionBuilder.decode(blocks.encode_transaction(told)).hash == signed.hash


def test_a_newer_transaction_type_is_unknown_not_wrong():
    told = as_json(SIGNED["fee market"], Account.from_key(KEY).sign_transaction(dict(SIGNED["fee market"])))
    with pytest.raises(EncodingUnknown):
        blocks.encode_transaction({**told, "type": "0x7e"})


@pytest.mark.parametrize("kind", [0, 2])
def test_a_receipt_encodes_as_py_evm_does(kind):
    log = {"address": TO, "topics": ["0x" + "44" * 32], "data": "0x" + "55" * 40}
    told = {"type": hex(kind), "status": "0x1", "cumulativeGasUsed": "0x5208", "logsBloom": "0x" + "00" * 256}
    encoded = blocks.encode_receipt({**told, "logs": [log]})
    assert PragueReceiptBuilder.decode(encoded).encode() == encoded
    assert PragueReceiptBuilder.decode(encoded).logs[0].data == bytes.fromhex("55" * 40)


def test_a_header_hashes_as_py_evm_does():
    header = PragueBlockHeader(
        difficulty=0,
        block_number=BlockNumber(12),
        gas_limit=30_000_000,
        timestamp=1_700_000_000,
        base_fee_per_gas=7,
        gas_used=21_000,
        extra_data=b"on",
    )
    names = [name for name, _ in blocks._HEADER]
    fields = rlp.decode(rlp.encode(header))
    numbers = {name for name, is_number in blocks._HEADER if is_number}
    told = {
        name: hex(int.from_bytes(field, "big")) if name in numbers else "0x" + field.hex()
        for name, field in zip(names, fields, strict=True)
    }
    assert blocks.header_hash(told) == "0x" + keccak(rlp.encode(header)).hex()


PAID_OUT = (
    "128328a 1262d41 127ef72 12727aa 127e627 1279144 128bf38 12908fc 1286675 1291120 128a65f 128d180 128a7a6 127eaf3"
    " 128f716 128b81c"
)
"""Gwei of the sixteen withdrawals of a block of Ethereum's main network."""


def test_f21_the_withdrawals_of_a_block_of_the_main_network_give_its_root():
    told = [
        {
            "index": hex(0x43AEA0B + place),
            "validatorIndex": hex(0xC1C6A + place),
            "address": "0xb9d7934878b5fb9610b3fe8a5e441e8fad7e293f",
            "amount": "0x" + amount,
        }
        for place, amount in enumerate(PAID_OUT.split())
    ]
    root = "0x549d97d094b3215b7d7cdf2ed672cbb35dc2bc4c43ea8ffa572412cbc57a3203"
    assert blocks.withdrawals_root({"withdrawals": told}) == root
    told[7]["amount"] = "0x1"
    assert blocks.withdrawals_root({"withdrawals": told}) != root


def paying_out():
    """A block of py-evm that pays withdrawals, as a node would tell it."""
    paid = [
        Withdrawal(7, 300, Address(bytes.fromhex(TO[2:])), 32 * 10**9),
        Withdrawal(8, 301, Address(bytes.fromhex("33" * 20)), 0),
    ]
    header = PragueBlockHeader(
        difficulty=0,
        block_number=BlockNumber(12),
        gas_limit=30_000_000,
        timestamp=1_700_000_000,
        base_fee_per_gas=7,
        withdrawals_root=make_trie_root_and_nodes(paid)[0],
    )
    numbers = {name for name, is_number in blocks._HEADER if is_number}
    told = {
        name: hex(int.from_bytes(field, "big")) if name in numbers else "0x" + field.hex()
        for (name, _), field in zip(blocks._HEADER, rlp.decode(rlp.encode(header)), strict=True)
    }
    withdrawals = [
        {
            "index": hex(one.index),
            "validatorIndex": hex(one.validator_index),
            "address": "0x" + one.address.hex(),
            "amount": hex(one.amount),
        }
        for one in paid
    ]
    return told | {"hash": "0x" + header.hash.hex(), "transactions": [], "withdrawals": withdrawals}


def test_f21_a_withdrawal_of_the_block_is_a_transfer_in_wei_and_nothing_is_ignored():
    read = read_block(paying_out(), [], Encoding.ETHEREUM)
    assert read.verified
    (found,) = transfers.observations(read, {TO, "0x" + "33" * 20})
    assert (found.tx_hash, found.place) == (read.ref.block_hash, "withdrawal:7")
    assert (found.contract, found.recipient, found.amount) == (None, TO, 32 * 10**18)
    assert TO in transfers.touched(read)
    assert transfers.observations(read, {"0x" + "44" * 20}) == ()


@pytest.mark.parametrize(
    "alter",
    [
        lambda block: block["withdrawals"][0].update(amount="0x1"),
        lambda block: block["withdrawals"][0].update(address="0x" + "55" * 20),
        lambda block: block["withdrawals"].pop(),
        lambda block: block["withdrawals"].append(block["withdrawals"][0]),
        lambda block: block.update(withdrawals=None),
        lambda block: block.pop("withdrawals"),
        lambda block: block.update(withdrawalsRoot=blocks.withdrawals_root(block | {"withdrawals": []})),
    ],
)
def test_f21_altered_withdrawals_are_noticed(alter):
    block = paying_out()
    alter(block)
    with pytest.raises(NodeMisbehaved):
        read_block(block, [], Encoding.ETHEREUM)


def test_f21_withdrawals_in_a_block_from_before_there_were_any_are_noticed():
    header = LondonBlockHeader(
        difficulty=0, block_number=BlockNumber(12), gas_limit=30_000_000, timestamp=1_600_000_000, base_fee_per_gas=7
    )
    numbers = {name for name, is_number in blocks._HEADER if is_number}
    told = {
        name: hex(int.from_bytes(field, "big")) if name in numbers else "0x" + field.hex()
        for (name, _), field in zip(blocks._HEADER, rlp.decode(rlp.encode(header)), strict=False)
    }
    told |= {"hash": "0x" + header.hash.hex(), "transactions": []}
    assert read_block(told, [], Encoding.ETHEREUM).withdrawals == ()
    with pytest.raises(NodeMisbehaved, match="withdrawalsRoot"):
        read_block(told | {"withdrawals": paying_out()["withdrawals"]}, [], Encoding.ETHEREUM)


@pytest.fixture(scope="module", params=["anvil", "hardhat"])
def told(request, tmp_path_factory):
    """A block of several transactions, as a node tells it, with its receipts."""
    with start_local_chain(tmp_path_factory.mktemp("chain"), request.param) as chain:
        chain.set_automine(False)
        hashes = [chain.transfer("USDC", TO, n, gas=100_000, seconds=None, sender=1) for n in range(1, 4)]
        hashes.append(chain.transfer("ETH", TO, 9, sender=2, gas=30_000, seconds=None))
        hashes.append(chain.transfer("USDC", TO, 10**30, sender=5, gas=100_000, seconds=None))
        for tx_hash in hashes:  # anvil takes them in at its leisure
            while chain.rpc("eth_getTransactionByHash", tx_hash) is None:
                pass
        chain.mine()
        block = chain.rpc("eth_getBlockByNumber", chain.receipt(hashes[0])["blockNumber"], True)
        return block, [chain.receipt(one["hash"]) for one in block["transactions"]]


@pytest.mark.slow
class TestNodesBlocks:
    def test_a_block_of_several_verifies_and_its_gas_is_recomputed(self, told):
        block, receipts = told
        assert len(receipts) == 5
        read = read_block(block, receipts, Encoding.ETHEREUM)
        assert read.verified
        assert [one.succeeded for one in read.transactions].count(False) == 1
        for transaction, receipt in zip(read.transactions, receipts, strict=True):
            assert transaction.gas_used == int(receipt["gasUsed"], 16)
            assert transaction.effective_gas_price == int(receipt["effectiveGasPrice"], 16)

    @pytest.mark.parametrize(
        "alter",
        [
            lambda block, receipts: receipts[0].update(logs=[]),
            lambda block, receipts: receipts[0]["logs"][0].update(data="0x" + "ff" * 32),
            lambda block, receipts: receipts[-1].update(status="0x1" if receipts[-1]["status"] == "0x0" else "0x0"),
            lambda block, receipts: receipts[1].update(cumulativeGasUsed="0x1"),
            lambda block, receipts: receipts.pop(),
            lambda block, receipts: receipts.reverse(),
            lambda block, receipts: receipts[0].update(blockHash="0x" + "00" * 32),
            lambda block, receipts: receipts[0].pop("logs"),
            lambda block, receipts: block["transactions"][0].update(value="0x99"),
            lambda block, receipts: block["transactions"][0].update(hash="0x" + "00" * 32),
            lambda block, receipts: block.update(parentHash="0x" + "00" * 32),
            lambda block, receipts: block.update(timestamp="0x1"),
            lambda block, receipts: block.update(hash="0x" + "00" * 32),
        ],
    )
    def test_f8_whatever_is_altered_is_noticed(self, told, alter):
        block, receipts = copy.deepcopy(told)
        alter(block, receipts)
        with pytest.raises(NodeMisbehaved):
            read_block(block, receipts, Encoding.ETHEREUM)

    def test_f8_a_receipt_left_out_with_its_root_rewritten_is_noticed(self, told):
        block, receipts = copy.deepcopy(told)
        block["transactions"].pop()
        receipts.pop()
        block["receiptsRoot"] = blocks.receipts_root(receipts)
        block["transactionsRoot"] = blocks.transactions_root(block)
        with pytest.raises(NodeMisbehaved, match="doesn't have the hash"):
            read_block(block, receipts, Encoding.ETHEREUM)

    def test_a_header_field_of_a_later_fork_is_named(self, told):
        block, receipts = copy.deepcopy(told)
        block |= {"blockAccessListHash": "0x" + "00" * 32, "hash": "0x" + "12" * 32}
        for receipt in receipts:
            receipt["blockHash"] = block["hash"]
        with pytest.raises(EncodingUnknown, match="blockAccessListHash"):
            read_block(block, receipts, Encoding.ETHEREUM)
        assert not read_block(block, receipts, Encoding.UNKNOWN).verified
