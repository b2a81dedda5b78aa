"""Intents and their codec: exact round trips, one spelling each, and nothing that isn't an intent."""

from dataclasses import fields
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody import wire
from custody.derivation import MAX_INDEX, Role
from custody.errors import IntentInvalid
from custody.intents import Cancel, KeyRef, NativeTransfer, TokenTransfer, canonical, digest, from_map, to_map
from tests.custody.samples import STRANGER, TOKEN, cancel, native_transfer, token_transfer

key_refs = st.builds(KeyRef, st.sampled_from(Role), st.integers(0, MAX_INDEX))
addresses = st.binary(min_size=20, max_size=20).filter(any)
amounts = st.integers(1, 2**256 - 1)


@st.composite
def intents(draw: st.DrawFn) -> Any:
    fee = draw(st.integers(1, 2**64))
    common: dict[str, Any] = {
        "subject": draw(st.from_regex(r"[a-z]{3}_[0-9a-z]{26}", fullmatch=True)),
        "attempt": draw(st.integers(1, 10_000)),
        "chain_id": draw(st.integers(1, 2**63 - 1)),
        "sender": draw(key_refs),
        "nonce": draw(st.integers(0, 2**63 - 1)),
        "gas_limit": draw(st.integers(21_000, 2**40)),
        "max_fee_per_gas": fee,
        "max_priority_fee_per_gas": draw(st.integers(0, fee)),
    }
    to = draw(st.one_of(addresses, key_refs))
    return draw(
        st.sampled_from(
            [
                NativeTransfer(**common, to=to, amount=draw(amounts)),
                TokenTransfer(
                    **common, to=to, amount=draw(amounts), contract=draw(addresses.filter(lambda a: a != to))
                ),
                Cancel(**common),
            ]
        )
    )


@given(intents())
def test_every_intent_survives_the_wire_exactly(intent: Any):
    body = wire.encode({"call": "sign", "intent": to_map(intent)})[4:]
    assert from_map(wire.decode(body)["intent"]) == intent


@given(intents(), intents())
def test_different_intents_have_different_canonical_bytes(one: Any, two: Any):
    assert (canonical(one) == canonical(two)) == (one == two) == (digest(one) == digest(two))


def test_canonical_bytes_stay_what_they_are():
    assert digest(token_transfer()).hex() == "52d55d4e2034f60d504949506f3b9fb72534b65042cf51058de08a4e56e31c1f"
    assert cbor2.loads(canonical(cancel()))[0] == "onebook/intent/1"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": "WDR_1"}, "subject"),
        ({"subject": "wdr_" + "x" * 65}, "subject"),
        ({"subject": "wdr_1\n"}, "subject"),
        ({"attempt": 0}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"chain_id": 0}, "chain_id"),
        ({"nonce": -1}, "nonce"),
        ({"nonce": 1.0}, "nonce"),
        ({"gas_limit": 20_999}, "gas_limit"),
        ({"max_fee_per_gas": 0}, "max_fee_per_gas"),
        ({"max_priority_fee_per_gas": 31 * 10**9}, "max_priority_fee_per_gas"),
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": 2**256}, "amount"),
        ({"to": b""}, "to"),
        ({"to": bytes(20)}, "to"),
        ({"to": "0x" + "11" * 20}, "to"),
        ({"to": TOKEN}, "to"),
        ({"contract": bytes(19)}, "contract"),
    ],
)
def test_an_intent_that_cannot_be_meant_is_refused(changes: dict[str, Any], param: str):
    with pytest.raises(IntentInvalid) as caught:
        token_transfer(**changes)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sign_hash"},
        {"kind": None},
        {"payload": b"\x01"},
        {"sender": ["cold", 0]},
        {"sender": ["hot"]},
        {"sender": ["hot", 0, 0]},
        {"sender": "hot:0"},
        {"to": ["hot", -1]},
        {"to": None},
        {"subject": 5},
        {"amount": "5"},
        {"amount": True},
    ],
)
def test_a_map_that_is_no_intent_is_refused(change: dict[str, object]):
    with pytest.raises(IntentInvalid):
        from_map(to_map(token_transfer()) | change)


@pytest.mark.parametrize("missing", [field.name for field in fields(NativeTransfer)])
def test_every_field_is_needed(missing: str):
    told = to_map(native_transfer())
    del told[missing]
    with pytest.raises(IntentInvalid):
        from_map(told)
    with pytest.raises(IntentInvalid):
        from_map([told])


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "nothing"),
        (b"\xff", "a stray break"),
        (b"GET / HTTP/1.1\r\n\r\n", "another protocol"),
        (bytes.fromhex("a1617600"), "version 0"),
        (bytes.fromhex("a16176f5"), "version true"),
        (bytes.fromhex("a1617601") + b"\0", "a byte too many"),
        (bytes.fromhex("a161761801"), "a number longer than needed"),
        (bytes.fromhex("bf617601ff"), "an indefinite length"),
        (bytes.fromhex("a2617601617601"), "a doubled key"),
        (bytes.fromhex("a26161f93c00617601"), "a float"),
        (bytes.fromhex("a26161f97e00617601"), "not a number"),
        (bytes.fromhex("a26161d82363286129617601"), "a tag that would compile a pattern"),
        (bytes.fromhex("a26161c11a514b67b0617601"), "a tag that would become a date"),
        (bytes.fromhex("a26161d901028101617601"), "a tag that would become a set"),
        (bytes.fromhex("a26161d9ffff01617601"), "a tag that nobody knows"),
        (bytes.fromhex("a26161f7617601"), "undefined"),
        (bytes.fromhex("a26161a10101617601"), "a key below that isn't text"),
        (bytes.fromhex("a26161c24101617601"), "a bignum that isn't big"),
        (bytes.fromhex("a2617601616101"), "keys out of order"),
        (bytes.fromhex("a20101617601"), "a key that isn't text"),
        (bytes.fromhex("81617601"), "a list"),
        (b"\x81" * 60_000, "a deep nest"),
        (bytes.fromhex("5b00007fffffffffff"), "a length of 128 TiB"),
    ],
)
def test_only_canonical_maps_of_this_version_are_read(body: bytes, what: str):
    with pytest.raises(IntentInvalid):
        wire.decode(body)


def test_the_accepted_twin_of_those_is_read():
    assert wire.decode(bytes.fromhex("a2616101617601")) == {"a": 1}
    assert wire.decode(bytes.fromhex("a26161c249010000000000000000617601")) == {"a": 2**64}


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(body: bytes):
    try:
        told = wire.decode(body)
    except IntentInvalid:
        return
    assert wire.encode(told)[4:] == body


def test_a_frame_has_a_highest_size():
    with pytest.raises(wire.FrameTooLarge):
        wire.encode({"call": "sign", "intent": {"blob": bytes(wire.FRAME_BYTES_MAX)}})


def test_an_own_destination_is_named_never_claimed():
    told = to_map(native_transfer(to=KeyRef(Role.DEPOSIT, 3)))
    assert told["to"] == ["deposit", 3]
    assert to_map(native_transfer())["to"] == STRANGER
