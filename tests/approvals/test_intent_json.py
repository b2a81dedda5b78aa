"""Intents as JSON: exact both ways for every kind, and nothing guessed."""

import json

import pytest

from custody.derivation import Role
from custody.errors import IntentInvalid
from custody.intent_json import (
    intent_from_json,
    intent_from_terms_json,
    intent_to_json,
    read_intent,
    terms_of_file,
    terms_to_json,
)
from custody.intents import Intent, KeyRef, Relay, terms
from tests.custody import samples

RELAY = Relay(
    subject="rel_1",
    attempt=1,
    chain_id=samples.CHAIN,
    sender=samples.GAS,
    nonce=0,
    gas_limit=90_000,
    max_fee_per_gas=2,
    max_priority_fee_per_gas=1,
    authorisation="swp_1",
    contract=samples.TOKEN,
    owner=samples.DEPOSIT,
    to=samples.HOT,
    amount=2**256 - 1,
    valid_before=2**40,
    signature=bytes(range(65)),
)
EVERY: list[Intent] = [
    samples.native_transfer(amount=2**256 - 1),
    samples.native_transfer(to=samples.DEPOSIT),
    samples.token_transfer(),
    samples.token_transfer(sender=KeyRef(Role.HOT, 0, 2)),
    samples.batch(samples.COLD),
    samples.batch(samples.COLD, contract=samples.TOKEN),
    samples.allowance(samples.COLD, amount=0),
    samples.sweep(),
    samples.sweep(contract=None),
    samples.top_up(),
    samples.authorisation(),
    RELAY,
    samples.deployment(),
    samples.anchor(),
    samples.proof(),
    samples.cancel(),
]


@pytest.mark.parametrize("intent", EVERY, ids=lambda intent: intent.kind)
def test_every_kind_comes_back_exactly(intent: Intent):
    told = intent_to_json(intent)
    assert read_intent(json.dumps(told)) == intent
    assert not any(type(value) is int for value in told.values()), "numbers are strings"
    if intent.kind != "cancel":
        assert terms(intent_from_terms_json(terms_to_json(intent))) == terms(intent)
        assert terms_of_file(json.dumps(told)) == terms_to_json(intent)


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"amount": 1.5}, "amount"),
        ({"amount": 2**53}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "01"}, "amount"),
        ({"amount": True}, "amount"),
        ({"to": "0x70997970C51812dc3A010C7d01b50e0d17dc79c8"}, "to"),
        ({"to": "0x7099"}, "to"),
        ({"to": None}, "to"),
        ({"sender": "hot"}, "sender"),
        ({"sender": "hot:2147483648"}, "sender"),
        ({"contract": "0xzz"}, "contract"),
        ({"memo": "x"}, None),
        ({"kind": "anything"}, "kind"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(changed: dict[str, object], param: str | None):
    told = intent_to_json(samples.token_transfer()) | changed
    with pytest.raises(IntentInvalid) as caught:
        intent_from_json(told)
    assert caught.value.param == param


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "proof", "kind": "cancel"}', '{"amount": NaN}', "[" * 2000])
def test_a_file_that_is_no_intent_is_refused(text: str):
    with pytest.raises(IntentInvalid):
        read_intent(text)


def test_terms_have_no_nonce_and_no_price():
    with pytest.raises(IntentInvalid, match="nonce"):
        intent_from_terms_json(terms_to_json(samples.token_transfer()) | {"nonce": "7"})
    with pytest.raises(IntentInvalid, match="cancellation"):
        intent_from_terms_json({"kind": "cancel"})
