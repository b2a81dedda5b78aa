"""What is signed off the chain: token authorisations (EIP-3009 over EIP-712) and proofs of control (EIP-191). Pure.

Each has one fixed form; there is no way to have another text or another typed structure signed.
"""

from collections.abc import Callable
from typing import Final

from coincurve import PublicKey

from custody.derivation import address_of, checksummed, keccak
from custody.errors import IntentInvalid
from custody.intents import Authorisation, KeyRef, Message, ProofOfControl

_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_AUTHORISATION_TYPE: Final = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def authorisation_nonce(chain_id: int, subject: str) -> bytes:
    """The nonce (32 bytes) of an authorisation: Keccak-256 of its network and its sweep, so that each has one."""
    return bytes(keccak(chain_id.to_bytes(32, "big") + subject.encode("ascii")))


def proof_text(address: bytes, *, chain_id: int, epoch: str, root: bytes) -> str:
    """The one form of a proof of control: the address in EIP-55 spelling, the root as 64 hex digits.

    It begins with a letter, so it's no transaction, and EIP-191 puts another byte before it than before typed data.
    """
    return f"Onebook proves control of {checksummed(address)} on network {chain_id} for {epoch} {root.hex()}"


def proof_digest(address: bytes, *, chain_id: int, epoch: str, root: bytes) -> bytes:
    """The 32 bytes that are signed for a proof of control; whoever checks one needs no key for them."""
    text = proof_text(address, chain_id=chain_id, epoch=epoch, root=root).encode("ascii")
    return bytes(keccak(b"\x19Ethereum Signed Message:\n%d%b" % (len(text), text)))


def message_digest(intent: Message, address_of_key: Callable[[KeyRef], bytes]) -> bytes:
    """The 32 bytes that are signed for a message."""
    match intent:
        case ProofOfControl():
            address = address_of_key(intent.sender)
            return proof_digest(address, chain_id=intent.chain_id, epoch=intent.epoch, root=intent.root)
        case Authorisation():
            domain = keccak(
                _DOMAIN_TYPE
                + keccak(intent.domain_name.encode())
                + keccak(intent.domain_version.encode())
                + intent.chain_id.to_bytes(32, "big")
                + intent.contract.rjust(32, b"\0")
            )
            to = address_of_key(intent.to) if isinstance(intent.to, KeyRef) else intent.to
            struct = keccak(
                _AUTHORISATION_TYPE
                + address_of_key(intent.sender).rjust(32, b"\0")
                + to.rjust(32, b"\0")
                + intent.amount.to_bytes(32, "big")
                + bytes(32)
                + intent.valid_before.to_bytes(32, "big")
                + authorisation_nonce(intent.chain_id, intent.subject)
            )
            return bytes(keccak(b"\x19\x01" + domain + struct))
    raise AssertionError("a message is one of these")


def encode_signature(r: int, s: int, parity: int) -> bytes:
    """r, s and v (27 or 28) as 65 bytes, as contracts and wallets take them."""
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])


def message_signer(digest: bytes, signature: bytes) -> bytes:
    """The address that signed `digest`. Raises IntentInvalid unless the signature is one, and low-s."""
    if len(signature) != 65 or signature[64] not in (27, 28) or int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise IntentInvalid("not a signature of 65 bytes with low s", code="not_a_signature")
    try:
        compact = signature[:64] + bytes([signature[64] - 27])
        signer = PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except Exception as problem:  # coincurve has its own many ways to say no to foreign bytes
        raise IntentInvalid("not a signature", code="not_a_signature") from problem
    return address_of(signer.format(compressed=False))
