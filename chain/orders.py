"""Orders of own transactions as the maps that their rows keep, and what they call on chain. Pure."""

from typing import Any, assert_never

from eth_hash.auto import keccak

from chain import payout
from chain.signing import Allow, Anchor, Batch, Carry, Claims, Deploy, Leg, Order, OwnAddress, OwnKey, Role

_APPROVE = bytes.fromhex("095ea7b3")
"""First four bytes of keccak("approve(address,uint256)"), ERC-20."""
_CARRY = bytes.fromhex("e3ee160e")
"""First four bytes of keccak("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,
bytes32)"), EIP-3009."""


def order_map(order: Order) -> dict[str, Any]:
    """What a row keeps; amounts are decimal strings, bytes are hex."""
    match order:
        case Batch(legs):
            return {"does": "batch", "legs": [_leg_map(leg) for leg in legs]}
        case Allow(batch):
            return {"does": "allow", "batch": batch}
        case Deploy(code):
            return {"does": "deploy", "code": code.hex()}
        case Carry(authorisation, owner, valid_before, signature):
            key = owner.key
            return {
                "does": "carry",
                "authorisation": authorisation,
                "owner": [key.role.value, key.index, key.generation, owner.address],
                "valid_before": valid_before,
                "signature": signature.hex(),
            }
        case Anchor(root):
            return {"does": "anchor", "root": root.hex()}
        case _ as never:
            assert_never(never)


def order_of(told: dict[str, Any]) -> Order:
    """The order that such a map tells of."""
    match told["does"]:
        case "batch":
            return Batch(tuple(_leg(leg) for leg in told["legs"]))
        case "allow":
            return Allow(told["batch"])
        case "deploy":
            return Deploy(bytes.fromhex(told["code"]))
        case "carry":
            role, index, generation, address = told["owner"]
            owner = OwnAddress(OwnKey(Role(role), index, generation), address)
            signature = bytes.fromhex(told["signature"])
            return Carry(told["authorisation"], owner, told["valid_before"], signature)
        case "anchor":
            return Anchor(bytes.fromhex(told["root"]))
    raise AssertionError(f"an order does one of these, not {told['does']!r}")


def claims_map(claims: Claims) -> dict[str, Any]:
    """Claims as rows keep them."""
    key_hash = None if claims.key_hash is None else claims.key_hash.hex()
    more = {
        "content": None if claims.content is None else claims.content.hex(),
        "fee_highest": None if claims.fee_highest is None else str(claims.fee_highest),
        "fee_price": claims.fee_price,
        "fee_wei_max": None if claims.fee_wei_max is None else str(claims.fee_wei_max),
        "service_fee": None if claims.service_fee is None else str(claims.service_fee),
    }
    told = {"account": claims.account, "asset": claims.asset, "amount": str(claims.amount), "key_hash": key_hash}
    return told | {name: value for name, value in more.items() if value is not None}


def claims_of(told: dict[str, Any]) -> Claims:
    """The claims that such a map tells of."""
    key_hash = None if told["key_hash"] is None else bytes.fromhex(told["key_hash"])
    return Claims(
        told["account"],
        told["asset"],
        int(told["amount"]),
        key_hash,
        content=bytes.fromhex(told["content"]) if "content" in told else None,
        fee_highest=int(told["fee_highest"]) if "fee_highest" in told else None,
        fee_price=told.get("fee_price"),
        fee_wei_max=int(told["fee_wei_max"]) if "fee_wei_max" in told else None,
        service_fee=int(told["service_fee"]) if "service_fee" in told else None,
    )


def _leg_map(leg: Leg) -> dict[str, Any]:
    told: dict[str, Any] = {"subject": leg.subject, "to": leg.to, "amount": str(leg.amount)}
    return told if leg.claims is None else told | {"claims": claims_map(leg.claims)}


def _leg(told: dict[str, Any]) -> Leg:
    claims = claims_of(told["claims"]) if "claims" in told else None
    return Leg(told["subject"], told["to"], int(told["amount"]), claims)


def leg_id(subject: str) -> bytes:
    """The 32 bytes by which the payout contract's event names a leg: keccak of its subject."""
    return bytes(keccak(subject.encode("ascii")))


def authorisation_nonce(chain_id: int, subject: str) -> bytes:
    """The nonce (32 bytes) of the authorisation with this subject; the signer makes the same one."""
    return bytes(keccak(chain_id.to_bytes(32, "big") + subject.encode("ascii")))


def called(order: Order, *, chain_id: int, contract: str | None, to: str, amount: int) -> tuple[bytes, int, bytes]:
    """Whom such a transaction calls (nobody: it creates a contract), with how much wei, and with what.

    `contract`, `to` (addresses in hex) and `amount` are the transaction's.
    """
    match order:
        case Batch(legs):
            told = [payout.Leg(leg_id(leg.subject), leg.to, leg.amount) for leg in legs]
            if contract is None:
                return _address(to), amount, payout.native_call(told)
            return _address(to), 0, payout.token_call(contract, told)
        case Allow():
            return _address(contract), 0, _APPROVE + _words(_address(to), amount)
        case Deploy(code):
            return b"", 0, code
        case Carry(authorisation, owner, valid_before, signature):
            nonce = authorisation_nonce(chain_id, authorisation)
            r, s, v = signature[:32], signature[32:64], signature[64]
            words = _words(_address(owner.address), _address(to), amount, 0, valid_before, nonce, v, r, s)
            return _address(contract), 0, _CARRY + words
        case Anchor(root):
            return _address(to), 0, root
        case _ as never:
            assert_never(never)


def _words(*values: bytes | int) -> bytes:
    return b"".join(value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0") for value in values)


def _address(text: str | None) -> bytes:
    assert text is not None, "such an order is about a token"
    return bytes.fromhex(text[2:])
