"""What an approver is shown comes out of the very bytes that they sign, and says what it can't know."""

from dataclasses import replace

import cbor2
import pytest

from custody.approval_requests import (
    ApprovalRequest,
    read_request,
    request_from_json,
    request_to_json,
    signed_from_text,
    signed_to_text,
)
from custody.approvals import Mandate, Signature, approval_statement, maker_statement
from custody.errors import IntentInvalid
from custody.intents import First
from custody.policy_file import parse
from custody.statement_words import StatementWords, approval_in_words
from tests.approvals.test_intent_json import EVERY
from tests.approvals.test_policy_words import NOW, SOUND
from tests.custody import samples

POLICY = parse(SOUND)
PAYMENT = samples.token_transfer(subject="mov_1", to=samples.COLD, amount=12_500_000)
SAID = Mandate(
    maker="cleo", not_after=NOW + 3600, fee_wei_max=10**16, policy_version=1, policy_fingerprint=POLICY.fingerprint
)
APPROVABLE = [intent for intent in EVERY if intent.kind != "cancel"]


def words(intent: First = PAYMENT, mandate: Mandate = SAID, *, reader: str | None = "ada") -> StatementWords:
    return approval_in_words(approval_statement(intent, mandate), POLICY, now=NOW, reader=reader)


def test_amounts_names_and_addresses_are_there_for_reading():
    shown = words()
    lines = dict(shown.lines)
    assert lines["amount"] == "12.5 USDC"
    assert lines["to"] == "0x3C44 CdDd B6a9 00fa 2b58 5dd2 99e0 3d12 FA42 93BC (cold)"
    assert lines["token"] == "0x5FbD B231 5678 afec b367 f032 d93F 642f 6418 0aa3"
    assert lines["network"] == "network 31337 (local)"
    assert lines["highest fee"] == "0.01 coins"
    assert lines["asked by"] == "cleo"
    assert lines["your rule"].startswith("to cold: ")
    assert (shown.amount, shown.obstacles) == ("12.5", ())
    assert any("whose the address is" in said for said in shown.unchecked)


@pytest.mark.parametrize("intent", APPROVABLE, ids=lambda intent: intent.kind)
def test_every_kind_can_be_shown(intent: First):
    shown = words(intent)
    assert dict(shown.lines)["for"] == intent.subject
    if intent.kind == "deployment":
        assert samples.deployment().code_hash.hex() in dict(shown.lines)["code"]
    if intent.kind == "payout_batch":
        assert sum(name.startswith("leg ") for name, _ in shown.lines) == 2


@pytest.mark.parametrize(
    ("mandate", "reader", "said"),
    [
        (replace(SAID, policy_version=2), "ada", "it's for policy version 2, your file is version 1"),
        (
            replace(SAID, policy_fingerprint=bytes(32)),
            "ada",
            "it's for another policy of version 1 than your file: compare the fingerprints",
        ),
        (replace(SAID, not_after=NOW - 1), "ada", "it ended at 2026-11-30 23:59:59 UTC"),
        (SAID, "cleo", "cleo made it, and can't approve it"),
    ],
)
def test_what_the_signer_would_not_count_is_said_before_anybody_signs(mandate: Mandate, reader: str, said: str):
    assert words(mandate=mandate, reader=reader).obstacles == (said,)


def test_a_network_or_a_denied_destination_is_an_obstacle():
    other = replace(PAYMENT, chain_id=1)
    assert words(other).obstacles == ("your policy knows no network 1",)
    token = "0x" + samples.TOKEN.hex()
    deny = f'[[rules]]\nname = "no"\naction = "deny"\nrole = "hot"\nchain_id = 31337\nasset = "{token}"\nto = "any"\n\n'
    denying = parse(SOUND.replace("[[rules]]", deny + "[[rules]]", 1))
    said = replace(SAID, policy_fingerprint=denying.fingerprint)
    shown = approval_in_words(approval_statement(PAYMENT, said), denying, now=NOW)
    assert shown.obstacles == ("rule 'no' denies it",)


def test_a_token_without_decimals_in_the_policy_is_shown_in_smallest_units():
    bare = parse(samples.full_policy())
    shown = approval_in_words(approval_statement(PAYMENT, SAID), bare, now=NOW)
    assert shown.amount == "12500000"
    assert any("how many decimals" in text for _, text in shown.lines)


def hostile() -> list[bytes]:
    good = approval_statement(PAYMENT, SAID)
    domain, body = cbor2.loads(good)
    spoiled = [
        [domain, body | {"extra": 1}],
        [domain, body | {"terms": body["terms"] | {"memo": "x"}}],
        [domain, body | {"terms": body["terms"] | {"nonce": 1}}],
        [domain, body | {"terms": body["terms"] | {"kind": "cancel"}}],
        [domain, body | {"terms": body["terms"] | {"amount": True}}],
        [domain, body | {"not_after": 1.5}],
        [domain, body | {"made_by": None}],
        ["onebook/made/1", body],
        ["onebook/freeze/1", {"serial": 0, "chain_id": None, "asset": None}],
        [domain, {name: value for name, value in body.items() if name != "maker"}],
    ]
    encoded = [cbor2.dumps(one, canonical=True) for one in spoiled]
    return [*encoded, good + b"\0", good[:-1], b"", cbor2.dumps([domain, dict(reversed(body.items()))]), b"\x81" * 9000]


@pytest.mark.parametrize("statement", hostile(), ids=range(len(hostile())))
def test_bytes_in_which_something_else_could_hide_are_not_shown(statement: bytes):
    with pytest.raises(IntentInvalid):
        approval_in_words(statement, POLICY, now=NOW)


@pytest.mark.parametrize("intent", APPROVABLE, ids=lambda intent: intent.kind)
def test_a_request_comes_back_from_its_file_with_the_same_statements(intent: First):
    made = Signature("cleo", bytes(range(64)))
    asked = ApprovalRequest(intent, replace(SAID, made_by=made))
    told = request_from_json(request_to_json(asked))
    assert told.statement == approval_statement(intent, SAID) == asked.statement
    assert told.made == maker_statement(intent, SAID)
    assert told.mandate == asked.mandate
    assert told.needs_maker is (not intent.subject.startswith("wdr_"))


@pytest.mark.parametrize(
    "changed",
    [
        {"not_after": "2027-01-01"},
        {"not_after": 5},
        {"fee_wei_max": 5},
        {"fee_wei_max": "٣"},
        {"policy_version": "1"},
        {"maker": ""},
        {"maker": 5},
        {"made_by": {"by": "cleo"}},
        {"terms": None},
        {"more": 1},
    ],
)
def test_a_request_that_isnt_one_is_refused(changed: dict[str, object]):
    with pytest.raises(IntentInvalid):
        request_from_json(request_to_json(ApprovalRequest(PAYMENT, SAID)) | changed)
    for text in ("", "[]", "{", "[" * 3000):
        with pytest.raises(IntentInvalid):
            read_request(text)
        with pytest.raises(IntentInvalid):
            signed_from_text(text)


def test_a_signatures_file_says_what_it_is_under():
    signature = Signature("ada", bytes(range(64)))
    assert signed_from_text(signed_to_text(b"statement", signature)) == (b"statement", signature)
