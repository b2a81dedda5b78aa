"""EIP-3009 from outside: authorisations signed with eth-account, the calls that use them, and the event they leave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

from chain.local import encode_call

AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
"""keccak("AuthorizationUsed(address,bytes32)"); both are indexed."""

TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What the owner signs: anybody may then move exactly this, once, after `valid_after` and before `valid_before`."""

    owner: str
    to: str
    amount: int
    nonce: bytes
    valid_after: int = 0
    valid_before: int = 2**64

    def fields(self) -> dict[str, Any]:
        return {
            "from": self.owner,
            "to": self.to,
            "value": self.amount,
            "validAfter": self.valid_after,
            "validBefore": self.valid_before,
            "nonce": self.nonce,
        }


def circle_domain(chain_id: int, token: str, **changes: object) -> dict[str, Any]:
    """The EIP-712 domain of Circle's USDC on mainnet and on our local chains, with `changes`."""
    return {"name": "USD Coin", "version": "2", "chainId": chain_id, "verifyingContract": token, **changes}


def sign(key: bytes, domain: Mapping[str, Any], authorization: Authorization) -> tuple[int, bytes, bytes]:
    """v, r, s of the owner's signature (EIP-712)."""
    signed = Account.sign_message(encode_typed_data(dict(domain), TYPES, authorization.fields()), private_key=key)
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def transfer_call(authorization: Authorization, signature: tuple[int, bytes, bytes]) -> bytes:
    """Call data of `transferWithAuthorization`, which anybody may send."""
    return encode_call(
        "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
        *authorization.fields().values(),
        *signature,
    )


def used(receipt: Mapping[str, Any], token: str) -> list[tuple[str, bytes]]:
    """(owner, nonce) of each authorisation of `token` that this transaction used; the owner in lower case."""
    return [
        ("0x" + log["topics"][1][-40:], bytes.fromhex(log["topics"][2][2:]))
        for log in receipt["logs"]
        if log["address"].lower() == token.lower() and log["topics"][0] == AUTHORIZATION_USED
    ]
