"""Intents as EIP-1559 transactions: built and signed here, and read back by the client that asked. Pure.

Signatures are low-s (EIP-2). Those of keys in memory are deterministic (RFC 6979); a hardware token's are not, which is
why the journal answers what was asked before. Not here: what is signed off the chain (messages).

rlp is imported where it's needed: most commands neither build nor read a transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coincurve import PrivateKey, PublicKey

from base.rlp import EMPTY_LIST, encode_list, encode_number, encode_string
from custody import payout
from custody.derivation import address_of, keccak
from custody.errors import IntentInvalid
from custody.intents import (
    Allowance,
    Anchor,
    Cancel,
    Deployment,
    Destination,
    KeyRef,
    NativeTransfer,
    Payment,
    PayoutBatch,
    Relay,
    Sweep,
    TokenTransfer,
    TopUp,
)
from custody.messages import authorisation_nonce

AddressOf = Callable[[KeyRef], bytes]
"""The 20-byte address of one of our own keys."""

_TYPE: Final = b"\x02"
"""The EIP-2718 type of an EIP-1559 transaction."""
_TRANSFER: Final = bytes.fromhex("a9059cbb")
"""First four bytes of keccak("transfer(address,uint256)"), ERC-20."""
_APPROVE: Final = bytes.fromhex("095ea7b3")
"""First four bytes of keccak("approve(address,uint256)"), ERC-20."""
_TRANSFER_WITH_AUTHORISATION: Final = bytes.fromhex("e3ee160e")
"""First four bytes of keccak("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,
bytes32)"), EIP-3009."""
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half of the order of secp256k1: a higher s is refused by networks since EIP-2."""
_FIELDS: Final = 12
"""Of a signed transaction."""
_SHORT_LIST_MAX: Final = 0xF7
"""A list whose first byte is higher says its length in so many further bytes (Yellow Paper, appendix B)."""

Sign = Callable[[bytes], tuple[int, int, int]]
"""Signs a 32-byte digest with one key: r, s (low) and the y parity (0 or 1)."""


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

    def items(self) -> bytes:
        """RLP of its fields, one after the other, as they stand in the signed list."""
        return b"".join(
            (
                encode_number(self.chain_id),
                encode_number(self.nonce),
                encode_number(self.max_priority_fee_per_gas),
                encode_number(self.max_fee_per_gas),
                encode_number(self.gas_limit),
                encode_string(self.to),
                encode_number(self.value),
                encode_string(self.payload),
                EMPTY_LIST,
            )
        )


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Raw bytes as they're sent, and who signed them."""

    transaction: Transaction
    sender: bytes
    raw: bytes

    @property
    def tx_hash(self) -> bytes:
        """Keccak-256 of the raw bytes."""
        return keccak(self.raw)


def build(intent: Payment, address_of_key: AddressOf) -> Transaction:
    """The one transaction that carries out `intent`."""
    to, value, payload = _call(intent, address_of_key)
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


def _call(intent: Payment, address_of_key: AddressOf) -> tuple[bytes, int, bytes]:
    """Whom the transaction calls (nobody: it creates a contract), with how much wei, and with what."""
    match intent:
        case NativeTransfer() | TopUp() | Sweep(contract=None):
            return _destination(intent.to, address_of_key), intent.amount, b""
        case TokenTransfer(contract=bytes(contract)) | Sweep(contract=bytes(contract)):
            return contract, 0, _TRANSFER + _words(_destination(intent.to, address_of_key), intent.amount)
        case PayoutBatch(contract=None):
            return intent.via, intent.amount, payout.native_call(intent.legs)
        case PayoutBatch(contract=bytes(contract)):
            return intent.via, 0, payout.token_call(contract, intent.legs)
        case Allowance():
            return intent.contract, 0, _APPROVE + _words(intent.spender, intent.amount)
        case Relay():
            return intent.contract, 0, _relay(intent, address_of_key)
        case Deployment():
            return b"", 0, intent.code
        case Anchor():
            return intent.to, 0, intent.root
        case Cancel():
            return address_of_key(intent.sender), 0, b""
    raise AssertionError("a payment is one of these")


def _relay(intent: Relay, address_of_key: AddressOf) -> bytes:
    r, s, v = intent.signature[:32], intent.signature[32:64], intent.signature[64]
    return _TRANSFER_WITH_AUTHORISATION + _words(
        address_of_key(intent.owner),
        _destination(intent.to, address_of_key),
        intent.amount,
        0,  # valid after: at once
        intent.valid_before,
        authorisation_nonce(intent.chain_id, intent.authorisation),
        v,
        r,
        s,
    )


def _words(*values: bytes | int) -> bytes:
    """Values as ABI words of 32 bytes."""
    return b"".join(value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0") for value in values)


def created_address(sender: bytes, nonce: int) -> bytes:
    """Where a contract comes to lie that `sender` (20 bytes) creates with this nonce."""
    return bytes(keccak(encode_list((encode_string(sender), encode_number(nonce))))[-20:])


def sign(transaction: Transaction, private_key: bytes) -> SignedTransaction:
    """`transaction` signed with the 32 bytes of a private key."""
    return read_as(transaction, sign_with(transaction, in_memory(private_key)))


def sign_with(transaction: Transaction, sign_digest: Sign) -> bytes:
    """The raw bytes of `transaction`, signed by whoever holds the key."""
    items = transaction.items()
    r, s, parity = sign_digest(_signing_hash(items))
    assert s <= _HALF_ORDER, "whoever signs gives low s"
    return _signed(items, parity, r, s)


def in_memory(private_key: bytes) -> Sign:
    """Signs with the 32 bytes of a private key, deterministically."""
    key = PrivateKey(private_key)

    def sign_digest(digest: bytes) -> tuple[int, int, int]:
        signature = key.sign_recoverable(digest, hasher=None)
        s = int.from_bytes(signature[32:64], "big")
        assert s <= _HALF_ORDER, "libsecp256k1 signs low-s"
        return int.from_bytes(signature[:32], "big"), s, signature[64]

    return sign_digest


def read(raw: bytes) -> SignedTransaction:
    """What raw bytes say and who signed them. Raises IntentInvalid unless they're exactly one such transaction."""
    import rlp  # type: ignore[import-untyped]

    if raw[:1] != _TYPE:
        raise IntentInvalid("not an EIP-1559 transaction", code="not_a_transaction")
    try:
        fields = rlp.decode(raw[1:])
        numbers = [int.from_bytes(fields[place], "big") for place in (0, 1, 2, 3, 4, 6, 9, 10, 11)]
        chain_id, nonce, tip, fee, gas, value, parity, r, s = numbers
        transaction = Transaction(chain_id, nonce, tip, fee, gas, bytes(fields[5]), value, bytes(fields[7]))
        items = transaction.items()
        signer = _signer(_signing_hash(items), r, s, parity)
    except Exception as problem:  # foreign bytes: rlp and coincurve each have their own many ways to say no
        raise IntentInvalid("not a signed EIP-1559 transaction", code="not_a_transaction") from problem
    if len(fields) != _FIELDS or _signed(items, parity, r, s) != raw or s > _HALF_ORDER:
        raise IntentInvalid("not a canonical EIP-1559 transaction", code="not_a_transaction")
    return SignedTransaction(transaction, signer, raw)


def read_as(expected: Transaction, raw: bytes) -> SignedTransaction:
    """Who signed `expected`, as raw bytes that must be that transaction and its signature and nothing else.

    What the asker knows already isn't decoded again: `read` takes several times as long. Raises IntentInvalid.
    """
    import rlp

    items = expected.items()
    try:
        tail = raw[len(_TYPE) + _prefix_length(raw[len(_TYPE)]) + len(items) :]
        parity, r, s = (int.from_bytes(part, "big") for part in rlp.decode(_list(tail)))
        signer = _signer(_signing_hash(items), r, s, parity)
    except Exception as problem:  # foreign bytes, as in `read`
        raise IntentInvalid("not a signed EIP-1559 transaction", code="not_a_transaction") from problem
    if _signed(items, parity, r, s) != raw or s > _HALF_ORDER:
        raise IntentInvalid("not the transaction that was asked for", code="not_a_transaction")
    return SignedTransaction(expected, signer, raw)


def _prefix_length(first: int) -> int:
    """How long the prefix of an RLP list is that begins with this byte."""
    return 1 + max(0, first - _SHORT_LIST_MAX)


def _destination(to: Destination, address_of_key: AddressOf) -> bytes:
    return address_of_key(to) if isinstance(to, KeyRef) else to


def _signing_hash(items: bytes) -> bytes:
    return keccak(_TYPE + _list(items))


def _signed(items: bytes, parity: int, r: int, s: int) -> bytes:
    return _TYPE + _list(items + encode_number(parity) + encode_number(r) + encode_number(s))


def _signer(digest: bytes, r: int, s: int, parity: int) -> bytes:
    """Whose signature over `digest` this is."""
    compact = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
    return address_of(PublicKey.from_signature_and_message(compact, digest, hasher=None).format(compressed=False))


def _list(items: bytes) -> bytes:
    """RLP of a list whose items are encoded already."""
    return encode_list((items,))
