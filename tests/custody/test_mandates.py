"""What people signed about an intent, at the signer's door: who, until when, at which fee, under which policy."""

from dataclasses import replace
from typing import Any

import pytest

from custody.approvals import Mandate, Signature, approval_statement, maker_statement, sign_statement
from tests.custody.bench import PAYOUT, Bench, address
from tests.custody.clocks import SECOND, START
from tests.custody.samples import (
    COLD,
    DEPOSIT,
    FEE_WEI_MAX,
    HOT,
    PEOPLE,
    STRANGER,
    TOKEN,
    allowance,
    authorisation,
    batch,
    dearer,
    deployment,
    mandate,
    native_transfer,
    relay,
    token_transfer,
)

NOW = START // SECOND
ENDS = NOW + 60


def to_cold(**changes: Any) -> Any:
    """A treasury payment, which two must approve; cleo makes it."""
    return token_transfer(**{"subject": "trs_1", "to": COLD, "amount": 900} | changes)


def of_a_user(**changes: Any) -> Any:
    return to_cold(subject="wdr_1", **changes)


PLAIN = to_cold()
SAID = mandate(PLAIN, not_after=ENDS)
BAD = Signature("ada", bytes(64))


def test_two_approvals_let_it_pass_once_and_are_used_up(bench: Bench):
    assert bench.sign(PLAIN) == "approvals_missing"
    raw = bench.sign(PLAIN, mandate=SAID)
    assert isinstance(raw, bytes)
    bench.clocks.advance(3600 * SECOND)
    assert bench.sign(PLAIN) == raw, "a repeat needs none, nor does it mind that they ended"
    assert bench.sign(to_cold(nonce=1), mandate=SAID) == "attempt_differs"
    assert bench.sign(to_cold(nonce=1, attempt=2), mandate=SAID) == "second_nonce"
    assert bench.sign(to_cold(subject="trs_2", nonce=1), mandate=SAID) == "approval_expired"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (mandate(PLAIN, approvers=("ada",)), "approvals_missing"),
        (mandate(PLAIN, approvers=()), "approvals_missing"),
        (mandate(PLAIN, approvers=("ben", "ada")), None),
        (mandate(PLAIN, approvers=("ada", "ada")), "approval_repeated"),
        (mandate(PLAIN, approvers=("ada", "cleo")), "approval_by_maker"),
        (mandate(PLAIN, maker="ada", approvers=("ben", "cleo")), None),
        (mandate(PLAIN, maker="usr_1"), "maker_unproven"),
        (mandate(PLAIN, policy_version=2), "approval_policy_differs"),
        (mandate(PLAIN, policy_version=0), "approval_policy_differs"),
        (mandate(PLAIN, policy_fingerprint=b"\1" * 32), "approval_policy_differs"),
        (mandate(PLAIN, not_after=NOW), None),
        (mandate(PLAIN, not_after=NOW - 1), "approval_expired"),
        (mandate(PLAIN, fee_wei_max=PLAIN.fee_wei_max), None),
        (mandate(PLAIN, fee_wei_max=PLAIN.fee_wei_max - 1), "over_approved_fee"),
        (replace(SAID, made_by=None), "maker_unproven"),
        (replace(SAID, maker="ada"), "maker_unproven"),
        (replace(SAID, made_by=replace(SAID.made_by, by="ben")), "maker_unproven"),  # type: ignore[type-var]
        (replace(SAID, made_by=SAID.approvals[0]), "maker_unproven"),
        (replace(SAID, approvals=(*SAID.approvals[:1], BAD)), "approval_repeated"),
        (replace(SAID, approvals=(BAD, *SAID.approvals[1:])), "approval_invalid"),
        (replace(SAID, approvals=(*SAID.approvals, Signature("eve", bytes(64)))), "approver_unknown"),
        (replace(SAID, approvals=(replace(BAD, scheme="webauthn"),)), "scheme_unknown"),
        (replace(SAID, not_after=ENDS + 1), "maker_unproven"),
        (replace(SAID, fee_wei_max=FEE_WEI_MAX + 1), "maker_unproven"),
        (replace(SAID, approvals=mandate(to_cold(amount=901), not_after=ENDS).approvals), "approval_invalid"),
        (replace(SAID, approvals=mandate(to_cold(subject="trs_2"), not_after=ENDS).approvals), "approval_invalid"),
        (replace(SAID, approvals=mandate(to_cold(to=STRANGER), not_after=ENDS).approvals), "approval_invalid"),
        (mandate(to_cold(amount=901)), "maker_unproven"),
    ],
)
def test_f54_what_was_not_approved_like_that_is_refused_by_code(bench: Bench, said: Mandate, code: str | None):
    told = bench.sign(PLAIN, mandate=said)
    assert told == code if code else isinstance(told, bytes)
    assert bench.rows("intent") == (code is None)


def test_each_no_of_a_mandate_comes_before_those_after_it(bench: Bench):
    wrong = replace(SAID, not_after=0, policy_version=9, fee_wei_max=0, made_by=None, approvals=(BAD, BAD))
    heard = []
    for right in (
        {},
        {"not_after": ENDS},
        {"policy_version": 1},
        {"fee_wei_max": FEE_WEI_MAX},
        {"made_by": SAID.made_by},
        {"approvals": SAID.approvals},
    ):
        wrong = replace(wrong, **right)
        heard.append(bench.sign(PLAIN, mandate=wrong))
    assert heard[:-1] == [
        "approval_expired",
        "approval_policy_differs",
        "over_approved_fee",
        "maker_unproven",
        "approval_invalid",
    ]
    assert isinstance(heard[-1], bytes)


def test_f54_a_mandate_ends_at_its_second_exactly(bench: Bench):
    bench.clocks.advance(60 * SECOND)
    assert isinstance(bench.sign(PLAIN, mandate=SAID), bytes)
    bench.clocks.advance(1)
    second = to_cold(subject="trs_2", nonce=1)
    assert bench.sign(second, mandate=mandate(second, not_after=ENDS)) == "approval_expired"


def test_a_users_maker_is_a_claim_but_a_person_named_so_cannot_approve(bench: Bench):
    said = mandate(of_a_user(), maker="usr_1")
    assert said.made_by is None
    named = replace(mandate(of_a_user(), maker="ada", approvers=("ada", "ben")), made_by=None)
    assert bench.sign(of_a_user(), mandate=named) == "approval_by_maker"
    assert bench.sign(of_a_user(), mandate=replace(said, maker="usr_2")) == "approval_invalid"
    assert isinstance(bench.sign(of_a_user(), mandate=said), bytes)


def test_f54_approvals_do_not_outlive_a_refusal_in_another_form(bench: Bench):
    """A subject that was refused may be asked again with the same approvals, and with nothing else."""
    assert bench.sign(to_cold(nonce=5), mandate=SAID) == "nonce_not_next"
    assert bench.sign(to_cold(amount=899), mandate=SAID) == "maker_unproven"
    assert isinstance(bench.sign(PLAIN, mandate=SAID), bytes)


def test_the_approved_fee_bounds_every_replacement(bench: Bench):
    said = mandate(PLAIN, fee_wei_max=PLAIN.fee_wei_max * 2)
    assert isinstance(bench.sign(PLAIN, mandate=said), bytes)
    more = dearer(PLAIN) | {"max_fee_per_gas": PLAIN.max_fee_per_gas * 2 + 1}
    assert bench.sign(to_cold(**more)) == "replacement_over_fee_cap"
    assert isinstance(bench.sign(to_cold(**dearer(PLAIN))), bytes), "twice as much was approved; no new approval"


def test_a_rules_fee_bounds_what_was_approved_dearer(bench: Bench):
    said = mandate(PLAIN, fee_wei_max=10 * FEE_WEI_MAX)
    assert isinstance(bench.sign(PLAIN, mandate=said), bytes)
    more = dearer(PLAIN) | {"max_fee_per_gas": FEE_WEI_MAX // PLAIN.gas_limit + 1}
    assert bench.sign(to_cold(**more)) == "replacement_over_fee_cap"
    assert isinstance(bench.sign(to_cold(**more | {"max_fee_per_gas": FEE_WEI_MAX // PLAIN.gas_limit})), bytes)


def test_a_replacement_needs_room_in_the_gas_budget_for_what_it_adds(bench: Bench):
    dear: dict[str, Any] = {"gas_limit": 10**6, "max_fee_per_gas": 9 * 10**9}
    intents = [native_transfer(subject=f"wdr_{n}", nonce=n, amount=1, **dear) for n in range(5)]
    assert all(isinstance(bench.sign(one), bytes) for one in intents)
    full: dict[str, Any] = {"attempt": 2, "max_fee_per_gas": 10 * 10**9, "max_priority_fee_per_gas": 3 * 10**9}
    for place in range(5):
        assert isinstance(bench.sign(replace(intents[place], **full)), bytes)
    assert bench.sign(native_transfer(subject="wdr_9", nonce=5, amount=1, gas_limit=21_000)) == "over_gas_budget"
    bench.clocks.advance(24 * 3600 * SECOND)
    assert isinstance(bench.sign(native_transfer(subject="wdr_9", nonce=5, amount=1, gas_limit=21_000)), bytes)


def test_a_replacement_over_the_gas_budget_has_its_own_code(bench: Bench):
    dear: dict[str, Any] = {"gas_limit": 10**6, "max_fee_per_gas": 10 * 10**9}
    small = native_transfer(subject="wdr_0", amount=1, gas_limit=10**6, max_fee_per_gas=5 * 10**9)
    assert isinstance(bench.sign(small), bytes)
    for n in range(1, 5):
        assert isinstance(bench.sign(native_transfer(subject=f"wdr_{n}", nonce=n, amount=1, **dear)), bytes)
    last = native_transfer(subject="wdr_5", nonce=5, amount=1, gas_limit=10**6, max_fee_per_gas=4 * 10**9)
    assert isinstance(bench.sign(last), bytes)
    more: dict[str, Any] = {"attempt": 2, "max_priority_fee_per_gas": 3 * 10**9}
    assert bench.sign(replace(small, max_fee_per_gas=6 * 10**9 + 1, **more)) == "replacement_over_gas_budget"
    assert isinstance(bench.sign(replace(small, max_fee_per_gas=6 * 10**9, **more)), bytes)


def test_a_deployment_is_approved_by_the_hash_of_its_code(bench: Bench):
    assert bench.sign(deployment()) == "approvals_missing"
    assert bench.sign(deployment(code=b"\1"), mandate=mandate(deployment(code=b"\1"))) == "contract_unknown"
    assert isinstance(bench.sign(deployment(), mandate=mandate(deployment())), bytes)


def test_a_batch_builds_on_its_own_allowance_exactly(bench: Bench):
    paid = batch(PAYOUT, contract=TOKEN, nonce=1)
    assert bench.sign(batch(PAYOUT, contract=TOKEN, nonce=0)) == "allowance_missing"
    assert isinstance(bench.sign(allowance(PAYOUT, amount=299)), bytes)
    assert bench.sign(paid) == "allowance_missing"
    assert isinstance(bench.sign(allowance(PAYOUT, subject="alw_2", nonce=1, batch="bat_2")), bytes)
    assert bench.sign(batch(PAYOUT, contract=TOKEN, nonce=2)) == "allowance_missing", "another batch's"
    assert isinstance(bench.sign(allowance(PAYOUT, subject="alw_3", nonce=2)), bytes)
    assert isinstance(bench.sign(batch(PAYOUT, contract=TOKEN, nonce=3)), bytes), "the last one counts"
    assert isinstance(bench.sign(allowance(PAYOUT, subject="alw_4", nonce=4, amount=0, batch="bat_2")), bytes)
    two = tuple(replace(leg, subject=leg.subject + "-b") for leg in paid.legs)
    assert bench.sign(batch(PAYOUT, subject="bat_2", contract=TOKEN, nonce=5, legs=two)) == "allowance_missing"


def test_a_relay_carries_only_what_was_signed(bench: Bench):
    given = authorisation(valid_before=NOW + 3_600)
    assert bench.sign(relay(bytes(65), valid_before=NOW + 3_600)) == "authorisation_unknown"
    signature = bench.sign(given)
    assert len(signature) == 65
    for changes in (
        {"amount": 501},
        {"to": DEPOSIT},
        {"owner": replace(DEPOSIT, index=4)},
        {"valid_before": NOW + 3_599},
        {"authorisation": "swp_2"},
        {"signature": bytes(65)},
        {"to": address(HOT)},
    ):
        assert bench.sign(relay(signature, **{"valid_before": NOW + 3_600} | changes)) == "authorisation_unknown", (
            changes
        )
    assert bench.sign(relay(signature, contract=STRANGER)) == "asset_not_listed"
    assert isinstance(bench.sign(relay(signature, valid_before=NOW + 3_600)), bytes)
    assert bench.sign(given) == signature
    assert bench.sign(replace(given, amount=499)) == "attempt_differs"


def test_a_maker_signs_what_an_approver_would_under_another_domain(bench: Bench):
    approved = sign_statement("cleo", PEOPLE["cleo"], approval_statement(PLAIN, SAID))
    made = sign_statement("ada", PEOPLE["ada"], maker_statement(PLAIN, SAID))
    assert bench.sign(PLAIN, mandate=replace(SAID, made_by=approved)) == "maker_unproven"
    assert bench.sign(PLAIN, mandate=replace(SAID, approvals=(made, SAID.approvals[1]))) == "approval_invalid"
