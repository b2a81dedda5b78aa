"""Only the very transaction that was asked for is accepted from a signer; and how intents reach the real one."""

from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account

from chain.errors import SignerConflict, SignerRefused, SignerUnavailable
from chain.evm.signed import check_signed, transfer_call
from chain.orders import order_map, order_of
from chain.signing import (
    Allow,
    Anchor,
    Batch,
    CancelIntent,
    Carry,
    Deploy,
    Leg,
    OwnAddress,
    OwnKey,
    Role,
    TransferIntent,
)
from custody import derivation, errors, intents
from custody.transactions import build
from custody.transactions import sign as sign_as_custody
from wiring.signing import for_chain, for_custody

KEY = Account.from_key("0x" + "51" * 32)
SENDER = KEY.address.lower()
TOKEN, TO = "0x" + "33" * 20, "0x" + "22" * 20
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1: (r, order - s) signs as well as (r, s)."""

TOKENS = TransferIntent(
    subject="wdr_1",
    attempt=1,
    chain_id=31337,
    sender=OwnKey(Role.HOT, 0),
    nonce=4,
    gas_limit=100_000,
    max_fee_per_gas=2 * 10**9,
    max_priority_fee_per_gas=10**9,
    contract=TOKEN,
    to=TO,
    amount=5,
)
NATIVE = replace(TOKENS, contract=None)
CANCEL = CancelIntent(
    subject="wdr_1",
    attempt=2,
    chain_id=31337,
    sender=OwnKey(Role.HOT, 0),
    nonce=4,
    gas_limit=21_000,
    max_fee_per_gas=3 * 10**9,
    max_priority_fee_per_gas=2 * 10**9,
)


def sign(**changes):
    fields = {
        "type": 2,
        "chainId": 31337,
        "nonce": 4,
        "gas": 100_000,
        "maxFeePerGas": 2 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        "to": TOKEN,
        "value": 0,
        "data": "0x" + transfer_call(TO, 5).hex(),
    }
    return KEY.sign_transaction(fields | changes)


NATIVE_FIELDS = {"to": TO, "value": 5, "data": "0x"}
CANCEL_FIELDS = {
    "to": KEY.address,
    "value": 0,
    "data": "0x",
    "gas": 21_000,
    "maxFeePerGas": 3 * 10**9,
    "maxPriorityFeePerGas": 2 * 10**9,
}


@pytest.mark.parametrize(("intent", "fields"), [(TOKENS, {}), (NATIVE, NATIVE_FIELDS), (CANCEL, CANCEL_FIELDS)])
def test_what_was_asked_for_is_accepted_with_its_hash(intent, fields):
    signed = sign(**fields)
    found = check_signed(bytes(signed.raw_transaction), intent, sender=SENDER, recipient=TO)
    assert found == "0x" + signed.hash.hex()


@pytest.mark.parametrize(
    "changes",
    [
        {"chainId": 1},
        {"nonce": 5},
        {"gas": 100_001},
        {"maxFeePerGas": 2 * 10**9 + 1},
        {"maxPriorityFeePerGas": 10**9 + 1},
        {"to": TO},
        {"value": 1},
        {"data": "0x" + transfer_call(TO, 6).hex()},
        {"data": "0x" + transfer_call(SENDER, 5).hex()},
        {"data": "0x" + transfer_call(TO, 5).hex() + "00"},
        {"accessList": [{"address": TO, "storageKeys": []}]},
    ],
)
def test_f52_anything_else_than_asked_for_is_refused(changes):
    raw = bytes(sign(**changes).raw_transaction)
    with pytest.raises(SignerUnavailable) as caught:
        check_signed(raw, TOKENS, sender=SENDER, recipient=TO)
    assert caught.value.code == "signer_mismatch"


@pytest.mark.parametrize(
    "bend", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: b"", lambda raw: b"\x01" + raw[1:]]
)
def test_other_bytes_of_the_same_transaction_are_refused(bend):
    raw = bend(bytes(sign().raw_transaction))
    with pytest.raises(SignerUnavailable):
        check_signed(raw, TOKENS, sender=SENDER, recipient=TO)


def test_another_s_key_is_refused():
    with pytest.raises(SignerUnavailable, match="isn't signed by"):
        check_signed(bytes(sign().raw_transaction), TOKENS, sender=TO, recipient=TO)


def test_a_high_s_is_refused():
    signed = sign()
    low, high = signed.s.to_bytes(32, "big"), (ORDER - signed.s).to_bytes(32, "big")
    raw = bytes(signed.raw_transaction).replace(low, high)
    with pytest.raises(SignerUnavailable):
        check_signed(raw, TOKENS, sender=SENDER, recipient=TO)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (errors.SignerRefused("over_transfer_limit", "too much", sequence=3, head=b"h"), SignerRefused),
        (errors.IntentInvalid("no such thing"), SignerRefused),
        (errors.SignerRefused("nonce_not_next", "the next is 3", sequence=3, head=b"h"), SignerConflict),
        (errors.SignerRefused("second_nonce", "signed before", sequence=3, head=b"h"), SignerConflict),
        (errors.SignerRefused("a_code_of_tomorrow", "?", sequence=3, head=b"h"), SignerConflict),
        (errors.SignerRefused("frozen", "everything is frozen", sequence=3, head=b"h"), SignerUnavailable),
        *(
            (errors.SignerRefused(code, "wait", sequence=3, head=b"h"), SignerUnavailable)
            for code in ("clock_behind", "clock_drifts", "journal_behind", "journal_differs", "journal_halted")
        ),
        (errors.SignerRefused("approvals_missing", "2 are needed", sequence=3, head=b"h"), SignerRefused),
        (errors.SignerUnavailable("nobody there"), SignerUnavailable),
        (errors.SignerMismatch("somebody else there"), SignerUnavailable),
    ],
)
def test_only_a_no_of_the_policy_frees_anything(answer, kind):
    no = for_chain(answer)
    assert type(no) is kind
    if isinstance(no, SignerRefused):
        assert no.journal == ((3, b"h") if isinstance(answer, errors.SignerRefused) else None)


@pytest.mark.parametrize(
    ("role", "contract", "to", "kind"),
    [
        (Role.GAS, None, OwnKey(Role.DEPOSIT, 7), intents.TopUp),
        (Role.GAS, None, OwnKey(Role.DEPOSIT, 7, 2), intents.TopUp),
        (Role.DEPOSIT, None, OwnKey(Role.HOT, 0), intents.Sweep),
        (Role.DEPOSIT, TOKENS.contract, OwnKey(Role.HOT, 0), intents.Sweep),
        (Role.DEPOSIT, TOKENS.contract, TO, intents.Sweep),
        (Role.HOT, None, OwnKey(Role.GAS, 0), intents.NativeTransfer),
    ],
)
def test_what_a_gas_key_gives_is_a_top_up_and_what_a_deposit_key_gives_a_sweep(role, contract, to, kind):
    asked: Any = for_custody(replace(TOKENS, sender=OwnKey(role, 3, 4), contract=contract, to=to))
    assert type(asked) is kind
    assert asked.sender == intents.KeyRef(derivation.Role(role.value), 3, 4)
    if isinstance(to, OwnKey):
        assert str(asked.to) == str(to)
    assert (asked.amount, intents.asset_of(asked)) == (TOKENS.amount, contract or "native")


@pytest.mark.parametrize(
    ("intent", "kind"),
    [
        (TOKENS, intents.TokenTransfer),
        (NATIVE, intents.NativeTransfer),
        (replace(TOKENS, to=OwnKey(Role.DEPOSIT, 7)), intents.TokenTransfer),
        (CANCEL, intents.Cancel),
    ],
)
def test_an_intent_keeps_its_meaning_on_the_way_to_the_signer(intent, kind):
    asked: Any = for_custody(intent)
    assert type(asked) is kind
    for name in ("subject", "attempt", "chain_id", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas"):
        assert getattr(asked, name) == getattr(intent, name)
    assert asked.sender == intents.KeyRef(derivation.Role.HOT, 0)
    if isinstance(intent, TransferIntent) and not isinstance(asked, intents.Cancel):
        own = intents.KeyRef(derivation.Role.DEPOSIT, 7)
        assert asked.to == (own if isinstance(intent.to, OwnKey) else bytes.fromhex(TO[2:]))
        assert asked.amount == 5


VIA, OWNER = "0x" + "44" * 20, OwnAddress(OwnKey(Role.DEPOSIT, 7), "0x" + "55" * 20)
LEGS = Batch((Leg("wdr_a", TO, 2), Leg("wdr_b", "0x" + "23" * 20, 3)))
ORDERS = {
    "native batch": replace(NATIVE, to=VIA, order=LEGS),
    "token batch": replace(TOKENS, to=VIA, order=LEGS),
    "allowance": replace(TOKENS, to=VIA, order=Allow("bat_1")),
    "allowance taken back": replace(TOKENS, to=VIA, amount=0, order=Allow("bat_1")),
    "deployment": replace(NATIVE, to=VIA, amount=0, order=Deploy(b"\x60\x00")),
    "carried authorisation": replace(
        TOKENS, sender=OwnKey(Role.GAS, 0), order=Carry("swp_1", OWNER, 1_800_000_000, b"\x01" * 64 + b"\x1b")
    ),
    "anchor": replace(NATIVE, sender=OwnKey(Role.GAS, 0), amount=0, order=Anchor(bytes(range(32)))),
}


@pytest.mark.parametrize("intent", ORDERS.values(), ids=ORDERS)
def test_what_an_order_calls_is_what_the_signer_builds_for_it(intent):
    owners = {7: bytes.fromhex(OWNER.address[2:])}
    asked = for_custody(intent)
    signed = sign_as_custody(build(asked, lambda key: owners[key.index]), bytes(KEY.key))
    found = check_signed(signed.raw, intent, sender=SENDER, recipient=intent.to)
    assert found == "0x" + signed.tx_hash.hex()
    other = replace(intent, amount=intent.amount + 1, order=None)
    with pytest.raises(SignerUnavailable):
        check_signed(signed.raw, other, sender=SENDER, recipient=intent.to)


@pytest.mark.parametrize("intent", ORDERS.values(), ids=ORDERS)
def test_an_order_is_read_back_from_its_row_as_it_was(intent):
    assert order_of(order_map(intent.order)) == intent.order
