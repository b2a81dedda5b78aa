"""Intents and their codec: exact round trips, one spelling each, and nothing that isn't an intent."""

from dataclasses import fields, replace
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custody import wire
from custody.derivation import Role
from custody.errors import IntentInvalid
from custody.intents import (
    LEGS_MAX,
    KeyRef,
    Leg,
    asset_of,
    canonical,
    digest,
    from_map,
    keys_of,
    subjects_of,
    terms,
    to_map,
)
from tests.custody.samples import (
    DEPOSIT,
    GAS,
    HOT,
    STRANGER,
    TOKEN,
    allowance,
    authorisation,
    batch,
    cancel,
    deployment,
    legs,
    native_transfer,
    proof,
    sweep,
    token_transfer,
    top_up,
)
from tests.custody.strategies import FORMS, MESSAGES, WRONG, fields_of, intents, may_be_meant

VIA = b"\x0c" * 20
some = settings(max_examples=20, deadline=None)


@pytest.mark.parametrize("kind", FORMS)
@given(told=st.data())
@some
def test_every_kind_survives_the_wire_exactly(kind: str, told: st.DataObject):
    intent = told.draw(intents((kind,)))
    body = wire.encode({"call": "sign", "intent": to_map(intent)})[4:]
    assert from_map(wire.decode(body)["intent"]) == intent
    assert intent.kind == kind


@given(intents(), intents())
@some
def test_different_intents_have_different_canonical_bytes(one: Any, two: Any):
    assert (canonical(one) == canonical(two)) == (one == two) == (digest(one) == digest(two))


@pytest.mark.parametrize("kind", FORMS)
@given(told=st.data())
@some
def test_canonical_bytes_differ_when_any_field_does(kind: str, told: st.DataObject):
    values, others = (told.draw(fields_of(kind).filter(lambda one: may_be_meant(kind, one))) for _ in range(2))
    intent = FORMS[kind](**values)
    for name in values:
        changed = values | {name: others[name]}
        if name == "max_fee_per_gas":
            changed["max_priority_fee_per_gas"] = min(changed[name], values["max_priority_fee_per_gas"])
        if name == "max_priority_fee_per_gas":
            changed[name] = min(changed[name], values["max_fee_per_gas"])
        if changed == values or not may_be_meant(kind, changed):
            continue
        assert canonical(FORMS[kind](**changed)) != canonical(intent), name
        if name not in ("attempt", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas"):
            assert terms(FORMS[kind](**changed)) != terms(intent), f"approvals must notice {name}"


@pytest.mark.parametrize("kind", FORMS)
@given(told=st.data())
@some
def test_what_people_approve_is_unmoved_by_everything_that_replacement_changes(kind: str, told: st.DataObject):
    intent = told.draw(intents((kind,)))
    if kind in MESSAGES:
        return
    fee = told.draw(st.integers(1, 2**128))
    replaced = replace(
        intent,
        attempt=told.draw(st.integers(1, 10_000)),
        nonce=told.draw(st.integers(0, 2**63 - 1)),
        max_fee_per_gas=fee,
        max_priority_fee_per_gas=told.draw(st.integers(0, fee)),
    )
    assert terms(replaced) == terms(intent)
    assert not {"attempt", "nonce", "gas_limit"} & terms(intent).keys()
    assert not any("fee" in name for name in terms(intent))


NULLABLE = {("payout_batch", "contract"), ("sweep", "contract")}


@pytest.mark.parametrize("kind", FORMS)
@given(told=st.data())
@settings(max_examples=50, deadline=None)
def test_every_field_refuses_what_it_cannot_mean(kind: str, told: st.DataObject):
    """A wrong value either raises IntentInvalid, or was a right one after all: then it comes back exactly."""
    values = told.draw(fields_of(kind).filter(lambda one: may_be_meant(kind, one)))
    name = told.draw(st.sampled_from(sorted(values)))
    wrong = told.draw(st.sampled_from(WRONG))
    if kind == "allowance" and name == "amount" and wrong is False:
        wrong = True
    changed = to_map(FORMS[kind](**values)) | {name: wrong}
    try:
        intent = from_map(changed)
    except IntentInvalid:
        return
    assert type(wrong) is not bool
    assert not isinstance(wrong, float)
    assert wrong is not None or (kind, name) in NULLABLE
    assert to_map(intent)[name] == wrong
    assert type(to_map(intent)[name]) is type(wrong)
    with pytest.raises(IntentInvalid):
        from_map(changed | {name: object()})


BOUNDS: dict[str, tuple[Any, Any, tuple[Any, ...]]] = {
    # field: lowest, highest, just outside
    "attempt": (1, 10_000, (0, 10_001)),
    "chain_id": (1, 2**63 - 1, (0, 2**63)),
    "nonce": (0, 2**63 - 1, (-1, 2**63)),
    "gas_limit": (21_000, 2**63 - 1, (20_999, 2**63)),
    "max_fee_per_gas": (2 * 10**9, 2**128, (2 * 10**9 - 1, 2**128 + 1)),
    "max_priority_fee_per_gas": (0, 30 * 10**9, (-1, 30 * 10**9 + 1)),
    "amount": (1, 2**256 - 1, (0, 2**256)),
    "subject": ("a_1", "a" * 16 + "_" + "z" * 64, ("a_", "a" * 17 + "_1", "a_" + "z" * 65, "wdr_A", "1_a", "wdr")),
    "to": (b"\0" * 19 + b"\1", b"\xff" * 20, (bytes(20), b"\1" * 19, b"\1" * 21, TOKEN)),
    "contract": (b"\0" * 19 + b"\1", b"\xff" * 20, (bytes(20), b"\1" * 19, b"\1" * 21, STRANGER)),
}


@pytest.mark.parametrize("field", BOUNDS)
def test_each_bound_is_where_it_is_said_to_be(field: str):
    low, high, outside = BOUNDS[field]
    for value in (low, high):
        assert getattr(token_transfer(**{field: value}), field) == value
    for value in outside:
        with pytest.raises(IntentInvalid):
            token_transfer(**{field: value})


def test_bounds_of_the_other_kinds():
    assert deployment(code=bytes(49_152)).code == bytes(49_152)
    assert allowance(VIA, amount=0).amount == 0
    assert len(batch(VIA, legs=legs(*[1] * LEGS_MAX)).legs) == LEGS_MAX
    for make in (
        lambda: deployment(code=b""),
        lambda: deployment(code=bytes(49_153)),
        lambda: allowance(VIA, amount=2**256),
        lambda: allowance(VIA, amount=-1),
        lambda: allowance(VIA, batch="alw_1"),
        lambda: batch(VIA, legs=()),
        lambda: batch(VIA, legs=legs(*[1] * (LEGS_MAX + 1))),
        lambda: batch(VIA, legs=list(legs(1))),
        lambda: batch(VIA, legs=legs(2**255, 2**255)),
        lambda: batch(VIA, legs=legs(1, 0)),
        lambda: proof(epoch="1" * 21),
        lambda: proof(epoch="1a"),
        lambda: proof(epoch=""),
        lambda: proof(root=bytes(31)),
        lambda: authorisation(domain_name=""),
        lambda: authorisation(domain_name="x" * 65),
        lambda: authorisation(domain_version="2\n"),
        lambda: authorisation(valid_before=0),
        lambda: top_up(to=STRANGER),
    ):
        with pytest.raises(IntentInvalid):
            make()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: sweep(to=DEPOSIT), "to_is_sender"),
        (lambda: top_up(to=GAS), "to_is_sender"),
        (lambda: authorisation(to=DEPOSIT), "to_is_sender"),
        (lambda: token_transfer(to=TOKEN), "to_is_contract"),
        (lambda: sweep(to=TOKEN), "to_is_contract"),
        (lambda: authorisation(to=TOKEN), "to_is_contract"),
        (lambda: batch(VIA, legs=legs(1, to=VIA)), "to_is_contract"),
        (lambda: batch(VIA, contract=TOKEN, legs=legs(1, to=TOKEN)), "to_is_contract"),
        (lambda: batch(VIA, legs=(Leg("wdr_1", STRANGER, 1), Leg("wdr_1", TOKEN, 1))), "leg_repeated"),
        (lambda: batch(VIA, subject="wdr_1", legs=(Leg("wdr_1", STRANGER, 1),)), "leg_repeated"),
        (lambda: native_transfer(to=bytes(20)), "zero_address"),
    ],
)
def test_what_would_lose_money_has_its_own_code(make: Any, code: str):
    with pytest.raises(IntentInvalid) as caught:
        make()
    assert caught.value.code == code


def test_an_intent_says_which_asset_subjects_and_keys_it_uses():
    token = "0x" + TOKEN.hex()
    assert [asset_of(one) for one in (native_transfer(), top_up(), sweep(contract=None), batch(VIA))] == ["native"] * 4
    tokens = (token_transfer(), sweep(), batch(VIA, contract=TOKEN), allowance(VIA), authorisation())
    assert [asset_of(one) for one in tokens] == [token] * 5
    assert [asset_of(one) for one in (deployment(), proof(), cancel())] == [None] * 3
    assert subjects_of(batch(VIA)) == ("bat_1", "wdr_leg-0", "wdr_leg-1")
    assert subjects_of(token_transfer()) == ("wdr_1",)
    assert keys_of(sweep()) == (DEPOSIT, HOT)
    assert keys_of(native_transfer()) == (HOT,)


def test_creation_code_is_approved_by_its_hash():
    told = terms(deployment())
    assert told["code"] == deployment().code_hash
    assert len(deployment().code_hash) == 32


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


@pytest.mark.parametrize("kind", FORMS)
@given(told=st.data())
@settings(max_examples=5, deadline=None)
def test_every_field_is_needed(kind: str, told: st.DataObject):
    whole = to_map(told.draw(intents((kind,))))
    assert whole.keys() - {"kind"} == {field.name for field in fields(FORMS[kind])}
    for missing in whole:
        with pytest.raises(IntentInvalid):
            from_map({name: value for name, value in whole.items() if name != missing})
    for other in (whole | {"surprise": 1}, [whole], None, b"", {}):
        with pytest.raises(IntentInvalid):
            from_map(other)


def test_an_own_destination_is_named_never_claimed():
    told = to_map(native_transfer(to=KeyRef(Role.DEPOSIT, 3)))
    assert told["to"] == ["deposit", 3]
    assert to_map(native_transfer())["to"] == STRANGER
