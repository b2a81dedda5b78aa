"""What people sign: over exactly one thing, under exactly one domain, once each, in any order."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings

from custody.approvals import (
    SIGNATURES_MAX,
    SMALL_ORDER,
    Mandate,
    Person,
    Signature,
    Unproven,
    approval_statement,
    freeze_statement,
    is_forgeable,
    lift_statement,
    maker_statement,
    mandate_from,
    mandate_map,
    policy_statement,
    proven,
    resync_statement,
    sign_statement,
    signatures_from,
    time_statement,
)
from custody.errors import IntentInvalid
from tests.custody.samples import PEOPLE, STRANGER, mandate, native_transfer, token_transfer
from tests.custody.strategies import intents

CROWD = tuple(Person(name, key.public_key().public_bytes_raw()) for name, key in PEOPLE.items())
SAID = Mandate(maker="usr_1", not_after=2**39, fee_wei_max=10**16, policy_version=1, policy_fingerprint=bytes(32))
INTENT = token_transfer()


def signed(statement: bytes, *names: str) -> tuple[Signature, ...]:
    return tuple(sign_statement(name, PEOPLE[name], statement) for name in names)


def code(statement: bytes, signatures: Any, **more: Any) -> Any:
    told = proven(statement, signatures, CROWD, **more)
    return told.code if isinstance(told, Unproven) else told


STATEMENTS: dict[str, bytes] = {
    "approval": approval_statement(INTENT, SAID),
    "made": maker_statement(INTENT, SAID),
    "policy": policy_statement(bytes(32), 1),
    "freeze": freeze_statement(serial="1-a", chain_id=None, asset=None),
    "lift": lift_statement(serial="1-a", chain_id=None, asset=None),
    "time": time_statement(serial="1-a", seconds=1),
    "resync": resync_statement(policy=bytes(32), head=bytes(32), signed=bytes(32)),
}


@pytest.mark.parametrize("meant", STATEMENTS)
@pytest.mark.parametrize("used", STATEMENTS)
def test_a_signature_counts_for_its_own_kind_of_statement_only(meant: str, used: str):
    told = code(STATEMENTS[used], signed(STATEMENTS[meant], "ada"))
    assert told == (frozenset({"ada"}) if meant == used else "approval_invalid")


def test_every_statement_is_another():
    more = [
        policy_statement(bytes(32), 2),
        policy_statement(b"\1" * 32, 1),
        *(
            make(serial=serial, chain_id=chain_id, asset=asset)
            for make in (freeze_statement, lift_statement)
            for serial, chain_id, asset in (
                ("2-a", None, None),
                ("1-b", None, None),
                ("1-a", 1, None),
                ("1-a", 1, "native"),
            )
        ),
        time_statement(serial="2-a", seconds=1),
        time_statement(serial="1-a", seconds=2),
        resync_statement(policy=b"\1" * 32, head=bytes(32), signed=bytes(32)),
        resync_statement(policy=bytes(32), head=b"\1" * 32, signed=bytes(32)),
        resync_statement(policy=bytes(32), head=bytes(32), signed=b"\1" * 32),
    ]
    assert len({*STATEMENTS.values(), *more}) == len(STATEMENTS) + len(more)


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 501},
        {"to": b"\x09" * 20},
        {"contract": b"\x09" * 20},
        {"chain_id": 1},
        {"subject": "wdr_2"},
    ],
)
def test_f54_an_approval_of_another_intent_is_not_proven(changed: dict[str, Any]):
    statement = approval_statement(token_transfer(**changed), SAID)
    assert code(statement, signed(STATEMENTS["approval"], "ada")) == "approval_invalid"
    assert code(statement, signed(statement, "ada")) == {"ada"}


@pytest.mark.parametrize(
    "changed",
    [
        {"maker": "usr_2"},
        {"not_after": 1},
        {"fee_wei_max": 1},
        {"policy_version": 2},
        {"policy_fingerprint": b"\1" * 32},
    ],
)
def test_f54_an_approval_under_another_mandate_is_not_proven(changed: dict[str, Any]):
    statement = approval_statement(INTENT, replace(SAID, **changed))
    assert code(statement, signed(STATEMENTS["approval"], "ada")) == "approval_invalid"


@given(intents(), intents())
@settings(max_examples=25, deadline=None)
def test_approvals_of_two_intents_are_one_only_when_their_terms_are(one: Any, two: Any):
    same = one == two
    assert (approval_statement(one, SAID) == approval_statement(two, SAID)) >= same
    assert approval_statement(one, SAID) != maker_statement(one, SAID)


def test_a_signature_of_the_intent_itself_or_of_nothing_never_counts():
    for signature in (b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65)):
        assert code(STATEMENTS["approval"], [Signature("ada", signature)]) == "approval_invalid"


def test_the_order_of_signatures_is_of_no_matter():
    statement = STATEMENTS["approval"]
    for order in permutations(PEOPLE):
        assert code(statement, signed(statement, *order)) == set(PEOPLE)
    assert code(statement, ()) == frozenset()


GOOD = signed(STATEMENTS["approval"], "ada", "ben")
STRANGE = Signature("eve", GOOD[0].signature)


@pytest.mark.parametrize(
    ("signatures", "told"),
    [
        ((*GOOD, GOOD[0]), "approval_repeated"),
        ((GOOD[0], GOOD[0]), "approval_repeated"),
        ((*GOOD, STRANGE), "approver_unknown"),
        ((replace(GOOD[0], by="ben"),), "approval_invalid"),
        ((replace(GOOD[0], scheme="webauthn"), GOOD[1]), "scheme_unknown"),
        ((replace(STRANGE, scheme="webauthn"),), "scheme_unknown"),
        ((replace(GOOD[0], by="Ada"),), "approver_unknown"),
        ((GOOD[1], replace(GOOD[0], signature=GOOD[1].signature)), "approval_invalid"),
    ],
)
def test_one_signature_that_does_not_count_spoils_all(signatures: Any, told: str):
    assert code(STATEMENTS["approval"], signatures) == told
    assert code(STATEMENTS["approval"], signatures[::-1]) == told


def test_f54_the_maker_does_not_approve():
    assert code(STATEMENTS["approval"], GOOD, except_for=("ben",)) == "approval_by_maker"
    assert code(STATEMENTS["approval"], GOOD[:1], except_for=("ben",)) == {"ada"}


@pytest.mark.parametrize("key", [b"\xff" * 32, b"\x02" + bytes(31)])
def test_a_key_that_is_no_point_proves_nothing(key: bytes):
    told = proven(b"x", [Signature("ada", bytes(64))], [Person("ada", key)])
    assert isinstance(told, Unproven)


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("key", SMALL_ORDER)
def test_a_key_under_which_anybody_can_sign_is_known_as_such(key: bytes, sign: int):
    assert is_forgeable(key[:31] + bytes([key[31] | sign]))
    assert not is_forgeable(CROWD[0].key)


def test_a_mandate_survives_its_map_exactly():
    for one in (mandate(INTENT), mandate(INTENT, maker="usr_1", approvers=()), mandate(INTENT, approvers=["ben"])):
        assert mandate_from(mandate_map(one)) == one


@pytest.mark.parametrize(
    "change",
    [
        {"maker": ""},
        {"maker": "x" * 65},
        {"maker": "a\n"},
        {"maker": None},
        {"not_after": -1},
        {"not_after": 2**40},
        {"not_after": True},
        {"fee_wei_max": 2**160},
        {"fee_wei_max": None},
        {"policy_version": "1"},
        {"policy_version": 2**63},
        {"policy_fingerprint": "00" * 32},
        {"policy_fingerprint": bytes(31)},
        {"made_by": []},
        {"made_by": ["ada", "ed25519"]},
        {"approvals": None},
        {"approvals": [["ada", "ed25519", "sig"]]},
        {"approvals": [["ada", "ed25519", b"", b""]]},
        {"approvals": [["a" * 65, "ed25519", b""]]},
        {"approvals": [["ada", "e" * 65, b""]]},
        {"approvals": [["ada", "ed25519", b""]] * (SIGNATURES_MAX + 1)},
        {"surprise": 1},
    ],
)
def test_a_map_that_is_no_mandate_is_refused(change: dict[str, Any]):
    with pytest.raises(IntentInvalid):
        mandate_from(mandate_map(mandate(INTENT)) | change)


def test_every_part_of_a_mandate_is_needed():
    whole = mandate_map(mandate(INTENT))
    for missing in whole:
        with pytest.raises(IntentInvalid):
            mandate_from({name: value for name, value in whole.items() if name != missing})
    assert signatures_from([]) == ()
    wrong: tuple[Any, ...] = (None, {}, b"")
    for told in wrong:
        for reader in (mandate_from, signatures_from):
            with pytest.raises(IntentInvalid):
                reader(told)
    with pytest.raises(IntentInvalid):
        signatures_from([["ada", "ed25519", b""]] * (SIGNATURES_MAX + 1))


def test_what_replacing_changes_needs_no_new_approval():
    dearer = token_transfer(attempt=2, nonce=7, max_fee_per_gas=10**12, max_priority_fee_per_gas=10**10)
    assert approval_statement(dearer, SAID) == STATEMENTS["approval"]
    assert approval_statement(native_transfer(amount=500, to=STRANGER), SAID) != STATEMENTS["approval"]
