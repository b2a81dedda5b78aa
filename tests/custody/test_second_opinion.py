"""A thousand random transactions at the edges of their fields, signed by us and by eth-account: the same bytes."""

import random
import secrets
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction

from custody.derivation import AccountKeys, Role
from custody.intents import Cancel, KeyRef, NativeTransfer, TokenTransfer
from custody.transactions import build, read, sign

COUNT = 1_000
Known = NativeTransfer | TokenTransfer | Cancel
UINT64, UINT256 = 2**63 - 1, 2**256 - 1
KEYS = {role: AccountKeys(role, bytes([number]) * 64) for number, role in enumerate(Role, start=7)}


def key(ref: KeyRef) -> bytes:
    return KEYS[ref.role].private_key(ref.index)


def address(ref: KeyRef) -> bytes:
    return bytes.fromhex(Account.from_key(key(ref)).address[2:])


def edge(draw: random.Random, low: int, high: int) -> int:
    """A number from `low` to `high`: often an end of it, or beside a power of 256, where the encoding gets longer."""
    power: int = 256 ** draw.randrange(0, 33)
    near = [low, low + 1, high, high - 1, power - 1, power, power + 1, 127, 128, draw.randrange(low, high + 1)]
    return draw.choice([number for number in near if low <= number <= high])


def random_bytes20(draw: random.Random) -> bytes:
    """An address, often with zeros at one of its ends, which no encoding may drop."""
    zeros = draw.choice([0, 0, 1, 19])
    body = bytes(zeros) + bytes(draw.randrange(1, 256) for _ in range(20 - zeros))
    return draw.choice([body, body[::-1]])


def random_intent(draw: random.Random) -> Known:
    fee = edge(draw, 1, 2**128)
    common: dict[str, Any] = {
        "subject": f"wdr_{draw.randrange(10**9)}",
        "attempt": 1,
        "chain_id": edge(draw, 1, UINT64),
        "sender": KeyRef(draw.choice(list(Role)), draw.randrange(3)),
        "nonce": edge(draw, 0, UINT64),
        "gas_limit": edge(draw, 21_000, UINT64),
        "max_fee_per_gas": fee,
        "max_priority_fee_per_gas": edge(draw, 0, fee),
    }
    to: Any = draw.choice([random_bytes20(draw), KeyRef(draw.choice(list(Role)), draw.randrange(3))])
    match draw.randrange(3):
        case 0:
            return NativeTransfer(**common, to=to, amount=edge(draw, 1, UINT256))
        case 1:
            return TokenTransfer(**common, to=to, amount=edge(draw, 1, UINT256), contract=draw.randbytes(20))
        case _:
            return Cancel(**common)


def told_to_the_other(intent: Known) -> dict[str, Any]:
    """What eth-account is asked to sign, written from the intent and not from our transaction."""
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
    call = f"a9059cbb{to.hex():0>64}{intent.amount:064x}"
    return fields | {"to": intent.contract, "value": 0, "data": bytes.fromhex(call)}


@pytest.mark.slow
def test_a_thousand_random_transactions_are_byte_for_byte_what_eth_account_signs():
    seed = secrets.randbits(64)
    print(f"seed: {seed}")
    draw = random.Random(seed)
    for _ in range(COUNT):
        intent = random_intent(draw)
        signed = sign(build(intent, address), key(intent.sender))
        other = Account.sign_transaction(told_to_the_other(intent), key(intent.sender))
        assert signed.raw == other.raw_transaction, intent
        assert signed.tx_hash == other.hash, intent
        assert read(signed.raw) == signed, intent
        assert Account.recover_transaction(signed.raw) == Account.from_key(key(intent.sender)).address, intent
        decoded = TypedTransaction.from_bytes(other.raw_transaction).as_dict()
        assert (decoded["nonce"], decoded["value"]) == (signed.transaction.nonce, signed.transaction.value), intent
