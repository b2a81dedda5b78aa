"""EIP-3009 as the chain shows it: whether a signature is its owner's, and which transaction used it. Pure."""

from collections.abc import Iterator
from typing import Any

from base.nesting import limit_recursion
from chain.errors import SignerUnavailable
from chain.evm.blocks import Block
from chain.orders import authorisation_nonce
from chain.signing import AuthorisationIntent

AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
"""keccak("AuthorizationUsed(address,bytes32)"), EIP-3009; both are indexed."""

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_SIGNATURE_BYTES = 65
_FIELDS = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


def check_authorisation(signature: bytes, intent: AuthorisationIntent, *, owner: str, recipient: str) -> None:
    """Make sure that `owner` signed exactly this authorisation, by another implementation than the signer's.

    Raises SignerUnavailable (`signer_mismatch`) for anything else.
    """
    # Imported when it's first needed: few processes ever check a signature, and it takes long.
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    limit_recursion()
    domain = {
        "name": intent.domain_name,
        "version": intent.domain_version,
        "chainId": intent.chain_id,
        "verifyingContract": intent.contract,
    }
    message = {
        "from": owner,
        "to": recipient,
        "value": intent.amount,
        "validAfter": 0,
        "validBefore": intent.valid_before,
        "nonce": authorisation_nonce(intent.chain_id, intent.subject),
    }
    types: dict[str, Any] = {"TransferWithAuthorization": _FIELDS}
    try:
        asked = encode_typed_data(domain, types, message)
        signer = str(Account.recover_message(asked, signature=signature)).lower()
        is_low = len(signature) == _SIGNATURE_BYTES and int.from_bytes(signature[32:64], "big") <= _HALF_ORDER
    except Exception as problem:  # foreign bytes: the decoders have many ways to say no
        raise _mismatch("what the signer answered isn't a signature") from problem
    if signer != owner or not is_low:
        raise _mismatch(f"the signer's answer to {intent.subject} isn't {owner}'s signature of it")


def using(block: Block, *, contract: str, owner: str, nonce: bytes) -> Iterator[str]:
    """The transactions of a block in which `contract` told that it used the owner's authorisation with this nonce."""
    topics = (AUTHORIZATION_USED, f"0x{owner[2:]:0>64}", f"0x{nonce.hex()}")
    for transaction in block.transactions:
        if transaction.succeeded and any(
            log.contract.lower() == contract and log.topics[:3] == topics for log in transaction.logs
        ):
            yield transaction.tx_hash


def _mismatch(message: str) -> SignerUnavailable:
    return SignerUnavailable(message, code="signer_mismatch")
