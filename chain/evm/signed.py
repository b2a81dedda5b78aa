"""What a typed intent means as an EIP-1559 transaction, and whether signed bytes are exactly that. Pure."""

import rlp  # type: ignore[import-untyped]
from coincurve import PublicKey
from eth_hash.auto import keccak

from chain.errors import SignerUnavailable
from chain.signing import CancelIntent, Intent, TransferIntent

_TYPE = b"\x02"
_TRANSFER = bytes.fromhex("a9059cbb")
"""First four bytes of keccak("transfer(address,uint256)"), ERC-20."""
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half of the order of secp256k1: networks refuse a higher s since EIP-2."""
_UNSIGNED_FIELDS = 9


def transfer_call(recipient: str, amount: int) -> bytes:
    """Call data of an ERC-20 transfer."""
    return _TRANSFER + _address(recipient).rjust(32, b"\0") + amount.to_bytes(32, "big")


def check_signed(raw: bytes, intent: Intent, *, sender: str, recipient: str) -> str:
    """The transaction hash of `raw`, after making sure that it carries out `intent` and that `sender` signed it.

    `recipient` is the address behind the intent's destination. Raises SignerUnavailable (`signer_mismatch`) for
    anything else, down to the encoding: other bytes would have another hash.
    """
    unsigned = _fields(intent, sender=sender, recipient=recipient)
    try:
        signature = rlp.decode(raw[1:])[_UNSIGNED_FIELDS:]
        parity, r, s = (int.from_bytes(part, "big") for part in signature)
        compact = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
        digest = keccak(_TYPE + rlp.encode(unsigned))
        signer = PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except Exception as problem:  # foreign bytes: rlp and coincurve each have their own many ways to say no
        raise _mismatch("what the signer answered isn't a signed transaction") from problem
    if _TYPE + rlp.encode([*unsigned, parity, r, s]) != raw or s > _HALF_ORDER:
        raise _mismatch(f"the signer answered another transaction than attempt {intent.attempt} asked for")
    if keccak(signer.format(compressed=False)[1:])[-20:] != _address(sender):
        raise _mismatch(f"the signer's answer isn't signed by {sender}")
    return "0x" + keccak(raw).hex()


def _fields(intent: Intent, *, sender: str, recipient: str) -> list[object]:
    match intent:
        case CancelIntent():
            to, value, call = sender, 0, b""
        case TransferIntent(contract=None):
            to, value, call = recipient, intent.amount, b""
        case TransferIntent(contract=contract):
            to, value, call = str(contract), 0, transfer_call(recipient, intent.amount)
    return [
        intent.chain_id,
        intent.nonce,
        intent.max_priority_fee_per_gas,
        intent.max_fee_per_gas,
        intent.gas_limit,
        _address(to),
        value,
        call,
        [],
    ]


def _mismatch(message: str) -> SignerUnavailable:
    return SignerUnavailable(message, code="signer_mismatch")


def _address(text: str) -> bytes:
    return bytes.fromhex(text[2:])
