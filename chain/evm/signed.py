"""What a typed intent means as an EIP-1559 transaction, and whether signed bytes are exactly that. Pure.

The signer builds and signs with code of its own; here eth-account reads the answer, so that two implementations agree.
"""

from typing import Any

from eth_hash.auto import keccak
from hexbytes import HexBytes

from base.nesting import limit_recursion
from chain.errors import SignerUnavailable
from chain.orders import called
from chain.signing import CancelIntent, Intent, TransferIntent

_DYNAMIC_FEE = 2
"""The transaction type of EIP-1559."""
_TRANSFER = bytes.fromhex("a9059cbb")
"""First four bytes of keccak("transfer(address,uint256)"), ERC-20."""
_BALANCE_OF = bytes.fromhex("70a08231")
"""First four bytes of keccak("balanceOf(address)"), ERC-20."""
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half of the order of secp256k1: networks refuse a higher s since EIP-2."""
_SIGNATURE = ("v", "r", "s")


def transfer_call(recipient: str, amount: int) -> bytes:
    """Call data of an ERC-20 transfer."""
    return _TRANSFER + _address(recipient).rjust(32, b"\0") + amount.to_bytes(32, "big")


def balance_call(owner: str) -> str:
    """Call data, in hex, that asks a token what `owner` holds."""
    return "0x" + (_BALANCE_OF + _address(owner).rjust(32, b"\0")).hex()


def check_signed(raw: bytes, intent: Intent, *, sender: str, recipient: str) -> str:
    """The transaction hash of `raw`, after making sure that it carries out `intent` and that `sender` signed it.

    `recipient` is the address behind the intent's destination. Raises SignerUnavailable (`signer_mismatch`) for
    anything else, down to the encoding: other bytes would have another hash.
    """
    # Imported when it's first needed: few processes ever check a signature, and it takes long.
    from eth_account import Account
    from eth_account.typed_transactions.typed_transaction import TypedTransaction

    limit_recursion()
    try:
        answered = TypedTransaction.from_bytes(HexBytes(raw))
        told = answered.as_dict()
        signer = Account.recover_transaction(HexBytes(raw))
        is_canonical = bytes(answered.encode()) == raw
    except Exception as problem:  # foreign bytes: the decoders have many ways to say no
        raise _mismatch("what the signer answered isn't a signed transaction") from problem
    asked = _fields(intent, sender=sender, recipient=recipient)
    unsigned = {name: value for name, value in told.items() if name not in _SIGNATURE}
    if unsigned != asked or not is_canonical or told["s"] > _HALF_ORDER:
        raise _mismatch(f"the signer answered another transaction than attempt {intent.attempt} asked for")
    if bytes.fromhex(signer[2:]) != _address(sender):
        raise _mismatch(f"the signer's answer isn't signed by {sender}")
    return transaction_hash(raw)


def transaction_hash(raw: bytes) -> str:
    """The hash that the chain knows signed bytes by."""
    return "0x" + keccak(raw).hex()


def _fields(intent: Intent, *, sender: str, recipient: str) -> dict[str, Any]:
    """The fields of the transaction that carries out `intent`, as eth-account reads them."""
    match intent:
        case CancelIntent():
            to, value, call = _address(sender), 0, b""
        case TransferIntent(order=None, contract=None):
            to, value, call = _address(recipient), intent.amount, b""
        case TransferIntent(order=None, contract=contract):
            to, value, call = _address(str(contract)), 0, transfer_call(recipient, intent.amount)
        case TransferIntent(order=order, contract=contract):
            assert order is not None
            to, value, call = called(
                order, chain_id=intent.chain_id, contract=contract, to=recipient, amount=intent.amount
            )
    return {
        "type": _DYNAMIC_FEE,
        "chainId": intent.chain_id,
        "nonce": intent.nonce,
        "maxPriorityFeePerGas": intent.max_priority_fee_per_gas,
        "maxFeePerGas": intent.max_fee_per_gas,
        "gas": intent.gas_limit,
        "to": to,
        "value": value,
        "data": call,
        "accessList": (),
    }


def _mismatch(message: str) -> SignerUnavailable:
    return SignerUnavailable(message, code="signer_mismatch")


def _address(text: str) -> bytes:
    return bytes.fromhex(text[2:])
