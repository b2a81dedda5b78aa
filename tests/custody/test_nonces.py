"""One nonce, one intent: a row per answer of the journal's history."""

from typing import Any

import pytest

from custody.derivation import Role
from custody.intents import KeyRef
from custody.nonces import Conflict, Fresh, Journalled, NonceFacts, Repeat, Successor, judge, nonce_conflict
from tests.custody.samples import (
    authorisation,
    batch,
    cancel,
    dearer,
    legs,
    native_transfer,
    proof,
    token_transfer,
)

FIRST = token_transfer()
UP = dearer(FIRST)
CANCELLED = cancel(**UP)
SAME_TIP = {"max_priority_fee_per_gas": FIRST.max_priority_fee_per_gas}
SAME_FEE = {"max_fee_per_gas": FIRST.max_fee_per_gas}
JUST = {"max_fee_per_gas": 10**16 // FIRST.gas_limit}
VIA = b"\x0c" * 20
BATCH, PROOF = batch(VIA, gas_limit=100_000), proof()
TOO_DEAR = {"max_fee_per_gas": 10**16 // FIRST.gas_limit + 1}


def again(via: bytes = VIA, **changes: Any) -> Any:
    """A replacement of BATCH."""
    return batch(via, **{"gas_limit": 100_000} | UP | changes)


def facts(
    latest: Any = None,
    *,
    same: Any = None,
    used: str | None = None,
    holder: str | None = None,
    next_nonce: int = 0,
) -> NonceFacts:
    wrapped = [None if intent is None else Journalled(1, intent, "rule", 10**16) for intent in (same, latest)]
    return NonceFacts(same_attempt=wrapped[0], latest=wrapped[1], used=used, holder=holder, next_nonce=next_nonce)


# fmt: off
ANSWERS = [
    # asked                                              facts                                    answer
    (FIRST,                                               facts(),                                 Fresh),
    (token_transfer(attempt=3),                           facts(),                                 Fresh),
    (FIRST,                                               facts(FIRST, same=FIRST, next_nonce=1),  Repeat),
    (token_transfer(amount=501),                          facts(FIRST, same=FIRST, next_nonce=1),  "attempt_differs"),
    (token_transfer(nonce=1),                             facts(FIRST, same=FIRST, next_nonce=1),  "attempt_differs"),
    (cancel(),                                            facts(),                                 "nothing_to_cancel"),
    (token_transfer(**UP),                                facts(FIRST),                            Successor),
    (cancel(**UP),                                        facts(FIRST),                            Successor),
    (cancel(**dearer(CANCELLED, attempt=3)),              facts(CANCELLED),                        Successor),
    (token_transfer(**dearer(CANCELLED, attempt=3)),      facts(CANCELLED),                        "already_cancelled"),
    (token_transfer(**UP, nonce=1),                       facts(FIRST, next_nonce=1),              "second_nonce"),
    (token_transfer(**UP, chain_id=1),                    facts(FIRST),                            "second_nonce"),
    (token_transfer(**UP, sender=KeyRef(Role.HOT, 1)),    facts(FIRST),                            "second_nonce"),
    (cancel(**UP, nonce=1),                               facts(FIRST, next_nonce=1),              "second_nonce"),
    (token_transfer(**UP, amount=501),                    facts(FIRST),                            "terms_differ"),
    (token_transfer(**UP, to=bytes([9]) * 20),            facts(FIRST),                            "terms_differ"),
    (token_transfer(**UP, to=KeyRef(Role.DEPOSIT, 0)),    facts(FIRST),                            "terms_differ"),
    (token_transfer(**UP, contract=bytes([9]) * 20),      facts(FIRST),                            "terms_differ"),
    (token_transfer(**UP, gas_limit=60_001),              facts(FIRST),                            "terms_differ"),
    (native_transfer(**UP, amount=500),                   facts(FIRST),                            "terms_differ"),
    (token_transfer(attempt=2),                           facts(FIRST),                            "fees_not_higher"),
    (token_transfer(**UP | SAME_TIP),                     facts(FIRST),                            "fees_not_higher"),
    (token_transfer(**UP | SAME_FEE),                     facts(FIRST),                            "fees_not_higher"),
    (cancel(attempt=2),                                   facts(FIRST),                            "fees_not_higher"),
    (token_transfer(**UP | {"attempt": 1}),               facts(token_transfer(attempt=2)),        "attempt_too_low"),
    (token_transfer(**UP | TOO_DEAR),                     facts(FIRST), "replacement_over_fee_cap"),
    (cancel(**UP, gas_limit=10**6),                       facts(FIRST), "replacement_over_fee_cap"),
    (token_transfer(**UP | JUST),                         facts(FIRST),                            Successor),
    (token_transfer(**UP | {"attempt": 3}),               facts(token_transfer(attempt=2)),        Successor),
    (token_transfer(**UP),                                facts(token_transfer(attempt=2)),        "attempt_too_low"),
    (FIRST,                                               facts(used="wdr_1"),                     "subject_used"),
    (BATCH,                                               facts(used="wdr_leg-1"),                 "subject_used"),
    (cancel(),                                            facts(used="wdr_1"),                     "subject_used"),
    (BATCH,                                               facts(),                                 Fresh),
    (BATCH,                                               facts(BATCH, same=BATCH, used="bat_1"),  Repeat),
    (again(),                                             facts(BATCH, used="bat_1"),            Successor),
    (again(legs=legs(100, 201)),                          facts(BATCH, used="bat_1"),            "terms_differ"),
    (again(legs=legs(100)),                               facts(BATCH, used="bat_1"),            "terms_differ"),
    (again(legs=legs(100, 200)[::-1]),                    facts(BATCH, used="bat_1"),            "terms_differ"),
    (again(b"\x0d" * 20),                                 facts(BATCH, used="bat_1"),            "terms_differ"),
    (PROOF,                                               facts(),                                 Fresh),
    (PROOF,                                               facts(PROOF, same=PROOF),                Repeat),
    (proof(epoch="8"),                                    facts(PROOF, same=PROOF),                "attempt_differs"),
    (cancel(**UP, subject="prf_1"),                       facts(PROOF),                            "second_message"),
    (PROOF,                                               facts(FIRST),                            "second_message"),
    (authorisation(subject="wdr_1"),                      facts(FIRST),                            "second_message"),
]
# fmt: on


@pytest.mark.parametrize(("asked", "known", "answer"), ANSWERS)
def test_every_answer_of_the_history(asked: Any, known: NonceFacts, answer: Any):
    verdict = judge(asked, known)
    if isinstance(answer, str):
        assert isinstance(verdict, Conflict)
        assert verdict.code == answer
    else:
        assert isinstance(verdict, answer)


@pytest.mark.parametrize(
    ("asked", "known", "code"),
    [
        (FIRST, facts(), None),
        (FIRST, facts(holder="wdr_0", next_nonce=1), "nonce_taken"),
        (token_transfer(nonce=2), facts(next_nonce=1), "nonce_not_next"),
        (token_transfer(nonce=0), facts(next_nonce=1), "nonce_not_next"),
        (token_transfer(nonce=1), facts(next_nonce=1), None),
        (PROOF, facts(holder="wdr_0", next_nonce=7), None),
    ],
)
def test_a_new_subject_has_only_the_next_nonce(asked: Any, known: NonceFacts, code: str | None):
    conflict = nonce_conflict(asked, known)
    assert (None if conflict is None else conflict.code) == code
