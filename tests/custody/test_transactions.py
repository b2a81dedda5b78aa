"""Transactions against a second opinion (eth-account), and what counts as one when read back."""

import random
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account

from custody.derivation import AccountKeys, Role
from custody.errors import IntentInvalid
from custody.intents import Cancel, Intent, KeyRef, NativeTransfer, TokenTransfer
from custody.transactions import build, read, sign
from tests.custody.samples import token_transfer

KEYS = {role: AccountKeys(role, bytes([number]) * 64) for number, role in enumerate(Role, start=1)}
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def key(ref: KeyRef) -> bytes:
    return KEYS[ref.role].private_key(ref.index)


def address(ref: KeyRef) -> bytes:
    return bytes.fromhex(Account.from_key(key(ref)).address[2:])


def random_intent(draw: random.Random) -> Intent:
    fee = draw.randrange(1, 2 ** draw.randrange(1, 100))
    common: dict[str, Any] = {
        "subject": f"wdr_{draw.randrange(10**9)}",
        "attempt": 1,
        "chain_id": draw.randrange(1, 2 ** draw.randrange(1, 63)),
        "sender": KeyRef(draw.choice(list(Role)), draw.randrange(5)),
        "nonce": draw.randrange(2 ** draw.randrange(1, 63)),
        "gas_limit": draw.randrange(21_000, 30_000_000),
        "max_fee_per_gas": fee,
        "max_priority_fee_per_gas": draw.randrange(fee + 1),
    }
    to: Any = draw.choice([draw.randbytes(20), b"\0" * 19 + b"\1", KeyRef(draw.choice(list(Role)), draw.randrange(5))])
    amount = draw.randrange(1, 2 ** draw.randrange(1, 257))
    choices: list[Intent] = [
        NativeTransfer(**common, to=to, amount=amount),
        TokenTransfer(**common, to=to, amount=amount, contract=draw.randbytes(20)),
        Cancel(**common),
    ]
    return draw.choice(choices)


def second_opinion(intent: Intent) -> dict[str, Any]:
    """What eth-account is asked to sign: written from the intent, not from our transaction."""
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": intent.chain_id,
        "nonce": intent.nonce,
        "gas": intent.gas_limit,
        "maxFeePerGas": intent.max_fee_per_gas,
        "maxPriorityFeePerGas": intent.max_priority_fee_per_gas,
        "accessList": [],
    }
    if isinstance(intent, Cancel):
        return fields | {"to": address(intent.sender), "value": 0, "data": b""}
    to = address(intent.to) if isinstance(intent.to, KeyRef) else intent.to
    if isinstance(intent, NativeTransfer):
        return fields | {"to": to, "value": intent.amount, "data": b""}
    call = bytes.fromhex(f"a9059cbb{to.hex():0>64}{intent.amount:064x}")
    return fields | {"to": intent.contract, "value": 0, "data": call}


@pytest.mark.parametrize("number", range(150))
def test_random_intents_sign_to_the_same_bytes_as_eth_account(number: int):
    intent = random_intent(random.Random(number))
    ours = sign(build(intent, address), key(intent.sender))
    theirs = Account.sign_transaction(second_opinion(intent), key(intent.sender))
    assert ours.raw == bytes(theirs.raw_transaction)
    assert ours.tx_hash == bytes(theirs.hash)
    assert Account.recover_transaction(ours.raw) == Account.from_key(key(intent.sender)).address
    assert read(ours.raw) == ours


def test_signing_again_gives_the_same_bytes():
    transaction = build(token_transfer(), address)
    assert len({sign(transaction, key(KeyRef(Role.HOT, 0))).raw for _ in range(20)}) == 1


def test_a_signature_with_high_s_is_not_read_as_ours():
    signed = sign(build(token_transfer(), address), key(KeyRef(Role.HOT, 0)))
    parity, r, s = (int.from_bytes(part, "big") for part in rlp.decode(signed.raw[1:])[9:])
    malleated = rlp.encode([*signed.transaction.fields(), 1 - parity, r, ORDER - s])
    with pytest.raises(IntentInvalid):
        read(b"\x02" + malleated)


def test_bytes_that_are_not_one_whole_transaction_are_refused():
    raw = sign(build(token_transfer(), address), key(KeyRef(Role.HOT, 0))).raw
    for wrong in (b"", b"\x02", raw[:-1], raw + b"\0", b"\x01" + raw[1:], raw[1:], b"\x02" + b"\xc0", bytes(200)):
        with pytest.raises(IntentInvalid):
            read(wrong)


def test_any_flipped_bit_changes_signer_or_is_refused():
    signed = sign(build(token_transfer(), address), key(KeyRef(Role.HOT, 0)))
    for place in range(8, len(signed.raw) * 8, 7):
        flipped = bytearray(signed.raw)
        flipped[place // 8] ^= 1 << (place % 8)
        try:
            told = read(bytes(flipped))
        except IntentInvalid:
            continue
        assert (told.transaction, told.sender) != (signed.transaction, signed.sender)
