"""Intents as EIP-1559 transactions: built and signed here, and read back by the client that asked. Pure.

Signatures are deterministic (RFC 6979) and low-s (EIP-2), so the same intent signed again gives the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

import rlp  # type: ignore[import-untyped]
from coincurve import PrivateKey, PublicKey
from eth_utils import keccak  # type: ignore[attr-defined]

from custody.derivation import address_of
from custody.errors import IntentInvalid
from custody.intents import Cancel, Intent, KeyRef, NativeTransfer, TokenTransfer

AddressOf = Callable[[KeyRef], bytes]
"""The 20-byte address of one of our own keys."""

_TYPE: Final = b"\x02"
"""The EIP-2718 type of an EIP-1559 transaction."""
_TRANSFER: Final = bytes.fromhex("a9059cbb")
"""First four bytes of keccak("transfer(address,uint256)"), ERC-20."""
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half of the order of secp256k1: a higher s is refused by networks since EIP-2."""
_FIELDS: Final = 12


@dataclass(frozen=True, slots=True)
class Transaction:
    """An EIP-1559 transaction without its signature; the access list is always empty."""

    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas_limit: int
    to: bytes
    value: int
    payload: bytes

    def fields(self) -> list[object]:
        return [
            self.chain_id,
            self.nonce,
            self.max_priority_fee_per_gas,
            self.max_fee_per_gas,
            self.gas_limit,
            self.to,
            self.value,
            self.payload,
            [],
        ]


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Raw bytes as they're sent, the hash they'll be known by, and who signed."""

    transaction: Transaction
    sender: bytes
    raw: bytes
    tx_hash: bytes


def build(intent: Intent, address_of_key: AddressOf) -> Transaction:
    """The one transaction that carries out `intent`."""
    match intent:
        case NativeTransfer():
            to, value, payload = _destination(intent.to, address_of_key), intent.amount, b""
        case TokenTransfer():
            recipient = _destination(intent.to, address_of_key)
            to, value = intent.contract, 0
            payload = _TRANSFER + recipient.rjust(32, b"\0") + intent.amount.to_bytes(32, "big")
        case Cancel():
            to, value, payload = address_of_key(intent.sender), 0, b""
        case _:
            assert_never(intent)
    return Transaction(
        chain_id=intent.chain_id,
        nonce=intent.nonce,
        max_priority_fee_per_gas=intent.max_priority_fee_per_gas,
        max_fee_per_gas=intent.max_fee_per_gas,
        gas_limit=intent.gas_limit,
        to=to,
        value=value,
        payload=payload,
    )


def sign(transaction: Transaction, private_key: bytes) -> SignedTransaction:
    """`transaction` signed with the 32 bytes of a private key."""
    key = PrivateKey(private_key)
    signature = key.sign_recoverable(_signing_hash(transaction), hasher=None)
    r, s, parity = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    assert s <= _HALF_ORDER, "libsecp256k1 signs low-s"
    raw = _TYPE + rlp.encode([*transaction.fields(), parity, r, s])
    return SignedTransaction(transaction, address_of(key.public_key.format(compressed=False)), raw, keccak(raw))


def read(raw: bytes) -> SignedTransaction:
    """What raw bytes say and who signed them. Raises IntentInvalid unless they're exactly one such transaction."""
    if raw[:1] != _TYPE:
        raise IntentInvalid("not an EIP-1559 transaction", code="not_a_transaction")
    try:
        fields = rlp.decode(raw[1:])
        numbers = [int.from_bytes(fields[place], "big") for place in (0, 1, 2, 3, 4, 6, 9, 10, 11)]
        chain_id, nonce, tip, fee, gas, value, parity, r, s = numbers
        transaction = Transaction(chain_id, nonce, tip, fee, gas, bytes(fields[5]), value, bytes(fields[7]))
        compact = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
        signer = PublicKey.from_signature_and_message(compact, _signing_hash(transaction), hasher=None)
    except Exception as problem:  # foreign bytes: rlp and coincurve each have their own many ways to say no
        raise IntentInvalid("not a signed EIP-1559 transaction", code="not_a_transaction") from problem
    again = _TYPE + rlp.encode([*transaction.fields(), parity, r, s])
    if len(fields) != _FIELDS or again != raw or s > _HALF_ORDER:
        raise IntentInvalid("not a canonical EIP-1559 transaction", code="not_a_transaction")
    return SignedTransaction(transaction, address_of(signer.format(compressed=False)), raw, keccak(raw))


def _destination(to: bytes | KeyRef, address_of_key: AddressOf) -> bytes:
    return address_of_key(to) if isinstance(to, KeyRef) else to


def _signing_hash(transaction: Transaction) -> bytes:
    return keccak(_TYPE + rlp.encode(transaction.fields()))
