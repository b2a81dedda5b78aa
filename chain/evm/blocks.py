"""Blocks and receipts from a node's JSON, believed only as far as they can be recomputed. Pure.

The header's hash covers transactionsRoot, receiptsRoot and withdrawalsRoot; these cover every transaction, status,
cumulative gas, log and withdrawal. What they don't cover (a receipt's own gas and price, a transaction's sender) is
computed here or taken with care: `sender` is the node's word. Encodings: Yellow Paper appendix, EIP-1559, 2718, 2930,
4844, 4895, 4788, 7685, 7702.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import msgspec
from eth_hash.auto import keccak

from base.rlp import encode_list, encode_number, encode_string
from chain.errors import EncodingUnknown, NodeMisbehaved
from chain.evm.tries import ordered_root
from chain.networks import GWEI, Encoding
from chain.observations import BlockRef

Json: TypeAlias = Any
"""What a node told, before anything is believed about it."""

_HEADER: tuple[tuple[str, bool], ...] = (
    # name, whether it's a number; from baseFeePerGas on each came with a later fork and is absent before it
    ("parentHash", False),
    ("sha3Uncles", False),
    ("miner", False),
    ("stateRoot", False),
    ("transactionsRoot", False),
    ("receiptsRoot", False),
    ("logsBloom", False),
    ("difficulty", True),
    ("number", True),
    ("gasLimit", True),
    ("gasUsed", True),
    ("timestamp", True),
    ("extraData", False),
    ("mixHash", False),
    ("nonce", False),
    ("baseFeePerGas", True),
    ("withdrawalsRoot", False),
    ("blobGasUsed", True),
    ("excessBlobGas", True),
    ("parentBeaconBlockRoot", False),
    ("requestsHash", False),
)
_BESIDE_THE_HEADER = frozenset({"hash", "totalDifficulty", "size", "uncles", "transactions", "withdrawals"})
_LEGACY, _ACCESS_LIST, _FEE_MARKET, _BLOB, _SET_CODE = range(5)
"""EIP-2718 transaction types."""

_Read = TypeVar("_Read")


class Log(msgspec.Struct, frozen=True):
    """An event of a contract, in the order of its receipt."""

    contract: str
    topics: tuple[str, ...]
    payload: bytes


class MinedTransaction(msgspec.Struct, frozen=True):
    """A transaction with its outcome. `recipient` is None where it made the contract `created`; fees are wei."""

    tx_hash: str
    sender: str
    recipient: str | None
    created: str | None
    nonce: int
    value: int
    succeeded: bool
    gas_used: int
    effective_gas_price: int
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a validator gets out of the staking contract, in wei; `index` is its number since the first (EIP-4895)."""

    index: int
    recipient: str
    amount: int


@dataclass(frozen=True, slots=True)
class Block:
    """A whole block. `verified`: its hash and all roots were recomputed and agree."""

    ref: BlockRef
    mined_at: datetime
    base_fee_per_gas: int
    verified: bool
    transactions: tuple[MinedTransaction, ...]
    withdrawals: tuple[Withdrawal, ...] = ()


def read_ref(block: Json) -> BlockRef:
    """A block's place in the chain, from its JSON with or without transactions. Raises NodeMisbehaved."""
    return _believing(lambda: BlockRef(_int(block["number"]), _hex(block["hash"]), _hex(block["parentHash"])))


def read_block(block: Json, receipts: Sequence[Json], encoding: Encoding) -> Block:
    """The block that a node told in full, with its receipts in order.

    Raises NodeMisbehaved when the parts don't belong together or a hash or root disagrees, EncodingUnknown when the
    encoding isn't Ethereum's, or a newer one than this version's.
    """
    return _believing(lambda: _read_block(block, receipts, encoding))


def header_hash(block: Json) -> str:
    """The hash of the block's header, recomputed from its fields."""
    fields: list[bytes] = []
    for name, is_number in _HEADER:
        if block.get(name) is None:
            break
        fields.append(_number(block[name]) if is_number else _string(block[name]))
    return _keccak_hex(encode_list(fields))


def transactions_root(block: Json) -> str:
    """transactionsRoot, recomputed from the block's transactions. Raises NodeMisbehaved if one's hash isn't its own."""
    encoded = [encode_transaction(transaction) for transaction in block["transactions"]]
    for transaction, raw in zip(block["transactions"], encoded, strict=True):
        if _keccak_hex(raw) != _hex(transaction["hash"]):
            raise NodeMisbehaved(f"transaction {transaction['hash']} doesn't have that hash")
    return _root(encoded)


def receipts_root(receipts: Sequence[Json]) -> str:
    """receiptsRoot, recomputed from the receipts in order."""
    return _root([encode_receipt(receipt) for receipt in receipts])


def withdrawals_root(block: Json) -> str:
    """withdrawalsRoot, recomputed from the block's withdrawals (EIP-4895: amounts in gwei)."""
    return _root(
        [
            encode_list(
                (
                    _number(one["index"]),
                    _number(one["validatorIndex"]),
                    _string(one["address"]),
                    _number(one["amount"]),
                )
            )
            for one in block["withdrawals"]
        ]
    )


def encode_transaction(transaction: Json) -> bytes:
    """A transaction as it stands in the block (EIP-2718). Raises EncodingUnknown for types newer than 4."""
    kind = _int(transaction.get("type") or "0x0")
    nonce, gas = _number(transaction["nonce"]), _number(transaction["gas"])
    to, value, call = _string(transaction["to"] or "0x"), _number(transaction["value"]), _string(transaction["input"])
    signature = [_number(transaction["r"]), _number(transaction["s"])]
    if kind == _LEGACY:
        price = _number(transaction["gasPrice"])
        return encode_list((nonce, price, gas, to, value, call, _number(transaction["v"]), *signature))
    if kind > _SET_CODE:
        raise EncodingUnknown(f"transaction type {kind} isn't known to this version")
    parity = _number(transaction.get("yParity") or transaction["v"])
    if kind == _ACCESS_LIST:
        prices = [_number(transaction["gasPrice"])]
    else:
        prices = [_number(transaction["maxPriorityFeePerGas"]), _number(transaction["maxFeePerGas"])]
    accesses = [
        encode_list((_string(entry["address"]), encode_list(_string(key) for key in entry["storageKeys"])))
        for entry in transaction["accessList"] or []
    ]
    fields = [_number(transaction["chainId"]), nonce, *prices, gas, to, value, call, encode_list(accesses)]
    if kind == _BLOB:
        hashes = [_string(entry) for entry in transaction["blobVersionedHashes"]]
        fields += [_number(transaction["maxFeePerBlobGas"]), encode_list(hashes)]
    if kind == _SET_CODE:
        fields.append(encode_list(_authorization(entry) for entry in transaction["authorizationList"]))
    return bytes((kind,)) + encode_list((*fields, parity, *signature))


def encode_receipt(receipt: Json) -> bytes:
    """A receipt as it stands under receiptsRoot (EIP-2718, EIP-658). Raises EncodingUnknown for types newer than 4."""
    kind = _int(receipt.get("type") or "0x0")
    if kind > _SET_CODE:
        raise EncodingUnknown(f"receipt type {kind} isn't known to this version")
    logs = encode_list(
        encode_list((_string(log["address"]), encode_list(map(_string, log["topics"])), _string(log["data"])))
        for log in receipt["logs"]
    )
    status, gas = _number(receipt["status"]), _number(receipt["cumulativeGasUsed"])
    encoded = encode_list((status, gas, _string(receipt["logsBloom"]), logs))
    return bytes((kind,)) + encoded if kind else encoded


def _read_block(block: Json, receipts: Sequence[Json], encoding: Encoding) -> Block:
    ref = read_ref(block)
    _check_parts(block, receipts, ref)
    verified = encoding is Encoding.ETHEREUM
    if verified:
        _check_hashes(block, receipts)
    base_fee = _int(block.get("baseFeePerGas") or "0x0")
    transactions: list[MinedTransaction] = []
    gas_before = 0
    for transaction, receipt in zip(block["transactions"], receipts, strict=True):
        if verified:
            gas_after = _int(receipt["cumulativeGasUsed"])
            gas, price = gas_after - gas_before, _price(transaction, base_fee)
            gas_before = gas_after
        else:  # other networks have other rules for both
            gas, price = _int(receipt["gasUsed"]), _int(receipt["effectiveGasPrice"])
        transactions.append(_mined(transaction, receipt, gas, price))
    mined_at = datetime.fromtimestamp(_int(block["timestamp"]), UTC)
    paid_out = tuple(
        Withdrawal(_int(one["index"]), _hex(one["address"]), _int(one["amount"]) * GWEI)
        for one in block.get("withdrawals") or ()
    )
    return Block(ref, mined_at, base_fee, verified, tuple(transactions), paid_out)


def _check_parts(block: Json, receipts: Sequence[Json], ref: BlockRef) -> None:
    """The receipts are those of this block's transactions, in order."""
    told = [_hex(transaction["hash"]) for transaction in block["transactions"]]
    if told != [_hex(receipt["transactionHash"]) for receipt in receipts]:
        raise NodeMisbehaved(f"block {ref.number}: the receipts aren't those of its transactions")
    if any(_hex(receipt["blockHash"]) != ref.block_hash for receipt in receipts):
        raise NodeMisbehaved(f"block {ref.number}: a receipt of another block")


def _check_hashes(block: Json, receipts: Sequence[Json]) -> None:
    number = _int(block["number"])
    if header_hash(block) != _hex(block["hash"]):
        if unknown := block.keys() - {name for name, _ in _HEADER} - _BESIDE_THE_HEADER:
            raise EncodingUnknown(
                f"block {number}: its header has fields unknown to this version: {', '.join(sorted(unknown))};"
                ' to follow the network without recomputing hashes set encoding = "unknown"'
            )
        raise NodeMisbehaved(f"block {number} doesn't have the hash that the node tells")
    if number == 0 and not receipts:
        return  # holds nothing, and Hardhat's tells the hash of no bytes where the root of no transactions belongs
    if transactions_root(block) != _hex(block["transactionsRoot"]):
        raise NodeMisbehaved(f"block {number}: its transactions don't give its transactionsRoot")
    if receipts_root(receipts) != _hex(block["receiptsRoot"]):
        raise NodeMisbehaved(f"block {number}: its receipts don't give its receiptsRoot")
    root = block.get("withdrawalsRoot")  # None before the fork that brought withdrawals
    if (root is None and block.get("withdrawals")) or (root is not None and withdrawals_root(block) != _hex(root)):
        raise NodeMisbehaved(f"block {number}: its withdrawals don't give its withdrawalsRoot")


def _mined(transaction: Json, receipt: Json, gas_used: int, price: int) -> MinedTransaction:
    logs = [
        Log(_hex(log["address"]), tuple([_hex(topic) for topic in log["topics"]]), _bytes(log["data"]))
        for log in receipt["logs"]
    ]
    to, created = transaction["to"], receipt.get("contractAddress")
    return MinedTransaction(
        _hex(transaction["hash"]),
        _hex(transaction["from"]),
        _hex(to) if to else None,
        _hex(created) if created else None,
        _int(transaction["nonce"]),
        _int(transaction["value"]),
        _int(receipt["status"]) == 1,
        gas_used,
        price,
        tuple(logs),
    )


def _price(transaction: Json, base_fee: int) -> int:
    """What a unit of gas cost the sender (EIP-1559)."""
    if _int(transaction.get("type") or "0x0") < _FEE_MARKET:
        return _int(transaction["gasPrice"])
    return min(_int(transaction["maxFeePerGas"]), base_fee + _int(transaction["maxPriorityFeePerGas"]))


def _authorization(entry: Json) -> bytes:
    parity = entry.get("yParity") or entry.get("v")
    place = (_number(entry["chainId"]), _string(entry["address"]), _number(entry["nonce"]))
    return encode_list((*place, _number(parity), _number(entry["r"]), _number(entry["s"])))


def _root(items: Sequence[bytes]) -> str:
    return "0x" + ordered_root(items).hex()


def _believing(read: Callable[[], _Read]) -> _Read:
    """`read()`, its stumbling over missing or malformed fields told as what it is."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        raise NodeMisbehaved(f"a block that can't be read: {type(problem).__name__}: {problem}") from problem


def _int(text: str) -> int:
    return int(text, 16)


def _hex(text: str) -> str:
    """As we write hex digits. That they are some shows where they're decoded, or counted as ours (`transfers`)."""
    return text.lower()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _string(text: str) -> bytes:
    """Hex digits as RLP has their bytes."""
    return encode_string(bytes.fromhex(text[2:]))


def _number(text: str) -> bytes:
    """Hex digits as RLP has their number."""
    return encode_number(int(text, 16))


def _keccak_hex(raw: bytes) -> str:
    return "0x" + keccak(raw).hex()
