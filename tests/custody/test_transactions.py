"""Transactions against a second opinion (eth-account), and what counts as one when read back."""

import re
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_abi.abi import encode
from eth_account import Account
from eth_utils import keccak  # type: ignore[attr-defined]
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from custody.derivation import AccountKeys, Role
from custody.errors import IntentInvalid
from custody.intents import KeyRef
from custody.transactions import build, created_address, read, read_as, sign
from tests.custody.samples import token_transfer
from tests.custody.strategies import FORMS, MESSAGES, intents

KEYS = {role: AccountKeys(role, bytes([number]) * 64) for number, role in enumerate(Role, start=1)}
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@cache
def key(ref: KeyRef) -> bytes:
    return KEYS[ref.role].private_key(ref.index)


def address(ref: KeyRef) -> bytes:
    return bytes.fromhex(Account.from_key(key(ref)).address[2:])


@st.composite
def payments(draw: st.DrawFn) -> Any:
    """Any payment, its own addresses near the start: deriving is slow."""
    intent = draw(intents(tuple(kind for kind in FORMS if kind not in MESSAGES)))
    near = {
        name: KeyRef(value.role, value.index % 3)
        for name in ("sender", "to", "owner")
        if isinstance(value := getattr(intent, name, None), KeyRef)
    }
    assume(near.get("to") != near["sender"])
    return replace(intent, **near)


def call_of(intent: Any) -> dict[str, Any]:
    """Whom an intent calls with what: written from the standards, with eth-abi."""
    to = getattr(intent, "to", None)
    to = address(to) if isinstance(to, KeyRef) else to
    contract = getattr(intent, "contract", None)
    match intent.kind:
        case "cancel":
            return {"to": address(intent.sender), "value": 0, "data": b""}
        case "deployment":
            return {"value": 0, "data": intent.code}
        case "anchor":
            return {"to": to, "value": 0, "data": intent.root}
        case "payout_batch":
            legs = [(keccak(leg.subject.encode()), leg.to, leg.amount) for leg in intent.legs]
            if contract is None:
                data = call("payNative((bytes32,address,uint256)[])", legs)
                return {"to": intent.via, "value": sum(leg.amount for leg in intent.legs), "data": data}
            return {"to": intent.via, "value": 0, "data": call(PAY_TOKEN, contract, legs)}
        case "allowance":
            return {"to": contract, "value": 0, "data": call("approve(address,uint256)", intent.spender, intent.amount)}
        case "relay":
            nonce = keccak(intent.chain_id.to_bytes(32, "big") + intent.authorisation.encode())
            told = (address(intent.owner), to, intent.amount, 0, intent.valid_before, nonce)
            r, s, v = intent.signature[:32], intent.signature[32:64], intent.signature[64]
            return {"to": contract, "value": 0, "data": call(WITH_AUTHORISATION, *told, v, r, s)}
        case _ if contract is None:
            return {"to": to, "value": intent.amount, "data": b""}
        case _:
            return {"to": contract, "value": 0, "data": call("transfer(address,uint256)", to, intent.amount)}


PAY_TOKEN = "payToken(address,(bytes32,address,uint256)[])"
WITH_AUTHORISATION = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"


def call(signature: str, *values: Any) -> bytes:
    types = signature[signature.index("(") + 1 : -1]
    listed = re.findall(r"\([^()]*\)\[\]|[^,()]+", types)
    return bytes(keccak(signature.encode())[:4] + encode(listed, values))


def second_opinion(intent: Any) -> dict[str, Any]:
    """What eth-account is asked to sign: written from the intent, not from our transaction."""
    return {
        "type": 2,
        "chainId": intent.chain_id,
        "nonce": intent.nonce,
        "gas": intent.gas_limit,
        "maxFeePerGas": intent.max_fee_per_gas,
        "maxPriorityFeePerGas": intent.max_priority_fee_per_gas,
        "accessList": [],
    } | call_of(intent)


@given(payments())
@settings(max_examples=200, deadline=None)
def test_every_kind_of_payment_signs_to_the_same_bytes_as_eth_account(intent: Any):
    ours = sign(build(intent, address), key(intent.sender))
    theirs = Account.sign_transaction(second_opinion(intent), key(intent.sender))
    assert ours.raw == bytes(theirs.raw_transaction)
    assert ours.tx_hash == bytes(theirs.hash)
    assert Account.recover_transaction(ours.raw) == Account.from_key(key(intent.sender)).address
    assert read(ours.raw) == ours
    assert read_as(ours.transaction, ours.raw) == ours


@given(st.binary(min_size=20, max_size=20), st.integers(0, 2**63 - 1))
@settings(max_examples=100, deadline=None)
def test_a_contract_lies_where_the_standard_says(sender: bytes, nonce: int):
    assert created_address(sender, nonce) == keccak(rlp.encode([sender, nonce]))[12:]


def test_a_published_contract_address_is_found_again():
    creator = bytes.fromhex("6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0")
    assert created_address(creator, 0).hex() == "cd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert created_address(creator, 1).hex() == "343c43a37d37dff08ae8c4a11544c718abb4fcf8"


def test_signing_again_gives_the_same_bytes():
    transaction = build(token_transfer(), address)
    assert len({sign(transaction, key(KeyRef(Role.HOT, 0))).raw for _ in range(20)}) == 1


def test_a_signature_with_high_s_is_not_read_as_ours():
    signed = sign(build(token_transfer(), address), key(KeyRef(Role.HOT, 0)))
    parity, r, s = (int.from_bytes(part, "big") for part in rlp.decode(signed.raw[1:])[9:])
    malleated = b"\x02" + rlp.encode([*rlp.decode(signed.raw[1:])[:9], 1 - parity, r, ORDER - s])
    for reading in (read, partial(read_as, signed.transaction)):
        with pytest.raises(IntentInvalid):
            reading(malleated)


def test_bytes_that_are_not_one_whole_transaction_are_refused():
    raw = sign(build(token_transfer(), address), key(KeyRef(Role.HOT, 0))).raw
    for wrong in (b"", b"\x02", raw[:-1], raw + b"\0", b"\x01" + raw[1:], raw[1:], b"\x02" + b"\xc0", bytes(200)):
        for reading in (read, partial(read_as, build(token_transfer(), address))):
            with pytest.raises(IntentInvalid):
                reading(wrong)


@given(payments(), payments())
@settings(max_examples=100, deadline=None)
def test_bytes_of_another_transaction_are_not_read_as_the_expected_one(intent: Any, another: Any):
    assume(build(intent, address) != build(another, address))
    with pytest.raises(IntentInvalid):
        read_as(build(intent, address), sign(build(another, address), key(another.sender)).raw)


def test_any_flipped_bit_changes_signer_or_is_refused():
    signed = sign(build(token_transfer(), address), key(KeyRef(Role.HOT, 0)))
    for place in range(8, len(signed.raw) * 8, 7):
        flipped = bytearray(signed.raw)
        flipped[place // 8] ^= 1 << (place % 8)
        with suppress(IntentInvalid):
            assert read_as(signed.transaction, bytes(flipped)).sender != signed.sender
        try:
            told = read(bytes(flipped))
        except IntentInvalid:
            continue
        assert (told.transaction, told.sender) != (signed.transaction, signed.sender)
