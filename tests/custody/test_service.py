"""The signer's decisions on a real journal, without a socket: order of checks, repeats, crashes between two steps."""

from pathlib import Path
from typing import Any

import cbor2
import pytest

from custody import wire
from custody.derivation import AddressSource, Role
from custody.intents import KeyRef, to_map
from custody.judging import DENIALS
from custody.transactions import read
from tests.custody.bench import ACCOUNTS, PAYOUT, Bench, benched
from tests.custody.clocks import DAY, HOUR, MINUTE
from tests.custody.samples import CHAIN, GAS, batch, cancel, dearer, policy_text, sweep, token_transfer


def test_a_repeat_is_served_from_the_journal_and_never_journalled_again(plain: Bench):
    first = plain.ask(call="sign", intent=to_map(token_transfer()), highest=None)
    before = plain.journal.head
    for _ in range(3):
        assert plain.ask(call="sign", intent=to_map(token_transfer()), highest=None) == first
    assert plain.journal.head == before
    plain.again()
    assert plain.ask(call="sign", intent=to_map(token_transfer()), highest=None) == first


def test_f30_an_intent_journalled_without_bytes_is_finished_with_the_same_bytes(plain: Bench, tmp_path: Path):
    with benched(tmp_path / "twin", policy_text()) as twin:
        expected = twin.sign(token_transfer())
    plain.journal.record_intent(token_transfer(), rule="any", fee_wei_max=10**16, at=plain.journal.last)
    plain.again()
    assert plain.sign(token_transfer(amount=499)) == "attempt_differs"
    assert plain.sign(token_transfer(subject="wdr_2")) == "nonce_taken"
    assert plain.sign(token_transfer()) == expected
    assert (plain.rows("intent"), plain.rows("signed")) == (1, 1)


def test_a_repeat_needs_no_policy_and_counts_nothing(plain: Bench):
    assert isinstance(plain.sign(token_transfer(amount=1_000)), bytes)
    assert isinstance(plain.sign(token_transfer(subject="wdr_2", nonce=1, amount=1_000)), bytes)
    for _ in range(5):
        assert isinstance(plain.sign(token_transfer(amount=1_000)), bytes)
    assert plain.sign(token_transfer(subject="wdr_3", nonce=2, amount=501)) == "over_day_limit"
    assert isinstance(plain.sign(token_transfer(subject="wdr_3", nonce=2, amount=500)), bytes)


def test_day_limit_outlives_a_restart_and_ends_after_a_day(plain: Bench):
    for number in range(2):
        plain.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000))
    plain.again()
    plain.clocks.advance(24 * HOUR - MINUTE)
    assert plain.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == "over_day_limit"
    plain.clocks.advance(MINUTE)
    assert isinstance(plain.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)), bytes)


def test_a_clock_put_back_gives_no_new_limit(plain: Bench):
    for number in range(2):
        plain.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000))
    for code in ("clock_behind", "clock_behind", "over_day_limit"):
        plain.clocks.wall_us += 3 * DAY if code == "over_day_limit" else 0 if plain.rows("refused") else -3 * DAY
        assert plain.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == code
        plain.again()


def test_cancelling_gives_no_limit_back(plain: Bench):
    for number in range(2):
        plain.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000))
    assert isinstance(plain.sign(cancel(subject="wdr_1", nonce=1, **dearer(token_transfer()))), bytes)
    assert plain.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == "over_day_limit"


def test_replacement_and_cancellation_are_signed_for_the_same_nonce(plain: Bench):
    hot = AddressSource(ACCOUNTS[Role.HOT].xpub).address(0)
    first = token_transfer()
    second = token_transfer(**dearer(first))
    third = cancel(**dearer(second, attempt=3))
    signed = [read(plain.sign(intent)) for intent in (first, second, third)]
    assert {one.transaction.nonce for one in signed} == {0}
    assert {one.sender for one in signed} == {hot}
    assert signed[0].transaction.payload == signed[1].transaction.payload
    last = signed[2].transaction
    assert (last.to, last.value, last.payload) == (hot, 0, b"")
    assert plain.sign(token_transfer(**dearer(third, attempt=4))) == "already_cancelled"
    assert isinstance(plain.sign(token_transfer(subject="wdr_2", nonce=1)), bytes), "one nonce used, not three"


def test_only_a_subject_without_a_signature_is_ever_denied_by_policy(plain: Bench):
    """What a caller may conclude from a policy's code: the hold can be released, nothing is on its way."""
    assert isinstance(plain.sign(token_transfer(amount=1_000)), bytes)
    forbidden: list[dict[str, Any]] = [
        {"chain_id": 1},
        {"amount": 1_001},
        {"contract": bytes([7]) * 20},
        {"sender": GAS},
        {"sender": KeyRef(Role.HOT, 9)},
        {"gas_limit": 10**9},
        {"max_fee_per_gas": 10**18},
    ]
    for change in forbidden:
        for fees in ({}, dearer(token_transfer())):
            assert plain.sign(token_transfer(**{"amount": 1_000} | fees | change)) not in DENIALS
    assert plain.sign(token_transfer(**dearer(token_transfer(), amount=1_000) | {"max_fee_per_gas": 10**18})) == (
        "replacement_over_fee_cap"
    )


def test_f76_a_refusal_leaves_the_nonce_to_the_next_withdrawal(plain: Bench):
    assert plain.sign(token_transfer(amount=1_001)) == "over_transfer_limit"
    assert isinstance(plain.sign(token_transfer(subject="wdr_2")), bytes)
    assert plain.sign(token_transfer(amount=1_000)) == "nonce_taken"


@pytest.mark.parametrize("seen", [(-1, None), (0, bytes(32)), (-1, bytes(32))])
def test_f47_a_journal_beside_what_was_seen_signs_nothing_any_more(plain: Bench, seen: tuple[int, bytes | None]):
    """It was put back, and went on by itself: it has other rows than the one that was seen."""
    plain.sign(token_transfer())
    head = plain.journal.head
    asked = token_transfer(subject="wdr_2", nonce=1)
    assert plain.sign(asked, [head.sequence + seen[0], seen[1] or head.hash]) == "journal_differs"
    plain.again()
    assert plain.sign(asked, [head.sequence, head.hash]) == "journal_halted", "one who saw another is enough"
    assert plain.sign(token_transfer()) == "journal_halted", "not even a repeat"
    plain.resync()
    assert isinstance(plain.sign(asked, [head.sequence, head.hash]), bytes | str)
    assert plain.ask(call="status")["ok"]["halted"] is False


def test_what_says_nothing_of_a_journal_is_malformed(plain: Bench):
    plain.sign(token_transfer())
    head = plain.journal.head
    asked = token_transfer(subject="wdr_2", nonce=1)
    for wrong in (
        [0, b""],
        [0, head.hash],
        [head.sequence, head.hash[:31]],
        5,
        [1],
        [-1, head.hash],
        [2**63, head.hash],
        ["1", b""],
        [True, head.hash],
        [head.sequence, None],
        [head.sequence, head.hash, 1],
    ):
        assert plain.sign(asked, wrong) == "malformed"
    assert isinstance(plain.sign(asked, [head.sequence, head.hash]), bytes)


def test_f47_a_journal_behind_what_was_seen_signs_nothing_any_more(plain: Bench):
    plain.sign(token_transfer())
    head = plain.journal.head
    asked = token_transfer(subject="wdr_2", nonce=1)
    assert plain.sign(asked, [head.sequence + 1, head.hash]) == "journal_behind"
    assert plain.sign(asked, [head.sequence, head.hash]) == "journal_halted", "one who saw more is enough"
    assert plain.sign(token_transfer()) == "journal_halted", "not even a repeat"


def test_own_destinations_are_derived_by_the_signer(plain: Bench):
    signed = read(plain.sign(sweep(sender=KeyRef(Role.DEPOSIT, 7), contract=None)))
    assert signed.transaction.to == AddressSource(ACCOUNTS[Role.HOT].xpub).address(0)
    assert signed.sender == AddressSource(ACCOUNTS[Role.DEPOSIT].xpub).address(7)


def test_first_nonces_of_the_policy_are_used(tmp_path: Path):
    text = policy_text() + f'[[first_nonces]]\nchain_id = {CHAIN}\nrole = "hot"\nindex = 0\nnonce = 41\n'
    with benched(tmp_path, text) as plain:
        ask_from_41(plain)


def ask_from_41(plain: Bench) -> None:
    assert plain.sign(token_transfer()) == "nonce_not_next"
    assert read(plain.sign(token_transfer(nonce=41))).transaction.nonce == 41
    assert read(plain.sign(token_transfer(subject="wdr_2", nonce=42))).transaction.nonce == 42


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"call": "sign_hash", "hash": bytes(32)}, "call_unknown"),
        ({"call": "sign_bytes", "bytes": b"x"}, "call_unknown"),
        ({"call": "export", "role": "hot"}, "call_unknown"),
        ({"call": ["sign"]}, "call_unknown"),
        ({}, "call_unknown"),
        ({"call": "status", "extra": 1}, "malformed"),
        ({"call": "sign"}, "malformed"),
        ({"call": "sign", "intent": to_map(token_transfer())}, "malformed"),
        ({"call": "sign", "intent": {"kind": "sign_hash", "hash": bytes(32)}, "highest": None}, "intent_unknown"),
        ({"call": "sign", "intent": to_map(token_transfer()) | {"data": b"x"}, "highest": None}, "intent_invalid"),
        ({"call": "addresses", "keys": "cold", "first": 0, "count": 1}, "role_not_held"),
        ({"call": "addresses", "keys": "hot", "first": "0", "count": 1}, "malformed"),
        ({"call": "addresses", "keys": "deposit", "first": 0, "count": 1001}, "addresses_out_of_range"),
        ({"call": "addresses", "keys": "deposit", "first": 5000, "count": 2}, "addresses_out_of_range"),
        ({"call": "addresses", "keys": "hot", "first": 1, "count": 1}, "addresses_out_of_range"),
        ({"call": "addresses", "keys": "hot", "first": -1, "count": 1}, "addresses_out_of_range"),
        ({"call": "addresses", "keys": "hot", "first": 0, "count": 0}, "addresses_out_of_range"),
        ({"call": "addresses", "keys": ["hot"], "first": 0, "count": 1}, "role_not_held"),
        ({"call": "reserve", "keys": "cold", "count": 1, "highest": None}, "role_not_held"),
        ({"call": "reserve", "keys": "deposit", "count": 0, "highest": None}, "malformed"),
        ({"call": "reserve", "keys": "deposit", "count": 1001, "highest": None}, "malformed"),
        ({"call": "reserve", "keys": "deposit", "count": True, "highest": None}, "malformed"),
        ({"call": "reserve", "keys": "hot", "count": 2, "highest": None}, "indexes_used_up"),
        ({"call": "reserve", "keys": "deposit", "count": 1, "highest": [99, bytes(32)]}, "journal_behind"),
        ({"call": "rows", "first": 0, "count": 1}, "malformed"),
        ({"call": "rows", "first": 1, "count": 201}, "malformed"),
        ({"call": "rows", "first": 1, "count": None}, "malformed"),
        ({"call": "freeze", "chain_id": "1", "asset": None, "serial": 0, "signatures": []}, "malformed"),
        ({"call": "freeze", "chain_id": None, "asset": "native", "serial": 0, "signatures": []}, "malformed"),
        ({"call": "freeze", "chain_id": 1, "asset": "USDC", "serial": 0, "signatures": []}, "malformed"),
        ({"call": "freeze", "chain_id": 1, "asset": "0x" + "AB" * 20, "serial": 0, "signatures": []}, "malformed"),
        ({"call": "freeze", "chain_id": 1, "asset": None, "serial": 0, "signatures": []}, "nobody_enrolled"),
        ({"call": "lift", "chain_id": None, "asset": None, "serial": 0, "signatures": []}, "nobody_enrolled"),
        ({"call": "confirm_time", "seconds": "1", "serial": 0, "signatures": []}, "malformed"),
        ({"call": "confirm_time", "seconds": 1, "serial": 0, "signatures": []}, "nobody_enrolled"),
        ({"call": "sign", "intent": to_map(token_transfer()), "highest": None, "mandate": {}}, "intent_invalid"),
        ({"call": "sign", "intent": to_map(token_transfer()), "highest": None, "claims": {}}, "intent_invalid"),
    ],
)
def test_f52_every_other_question_is_refused_and_journalled(plain: Bench, question: dict[str, Any], code: str):
    told = plain.ask(**question)
    assert told["refused"]["code"] == code
    assert plain.rows("refused") == 1
    assert not plain.rows("intent")
    assert told["sequence"] == plain.journal.head.sequence


def test_no_answer_contains_a_secret(plain: Bench):
    answers = [plain.ask(call="status"), plain.ask(call="addresses", keys="hot", first=0, count=1)]
    answers.append(plain.ask(call="sign", intent=to_map(token_transfer()), highest=None))
    spoken = repr(answers).encode() + b"".join(wire.encode(answer) for answer in answers)
    secrets = [account.private_key(0) for account in ACCOUNTS.values()]
    assert not any(secret in spoken or secret.hex().encode() in spoken for secret in secrets)
    assert b"prv" not in spoken


def test_address_indexes_are_given_away_once_whatever_happens(plain: Bench):
    def reserve(count: int) -> Any:
        told = plain.ask(call="reserve", keys="deposit", count=count, highest=None)
        return told["ok"]["first"] if "ok" in told else told["refused"]["code"]

    assert [reserve(1_000), reserve(3)] == [0, 1_000]
    plain.again()
    assert [reserve(1_000), reserve(1_000), reserve(1_000)] == [1_003, 2_003, 3_003]
    assert [reserve(1_000), reserve(998), reserve(1)] == ["indexes_used_up", 4_003, "indexes_used_up"]


def test_rows_are_told_whole_and_as_many_as_fit(plain: Bench):
    plain.sign(token_transfer())
    told = plain.ask(call="rows", first=1, count=200)["ok"]["rows"]
    assert [row[4] for row in told] == ["enrolled", "started", "intent", "signed"]
    assert told == [list(row) for row in plain.journal.rows(first=1, count=200)]
    assert plain.ask(call="rows", first=5, count=200)["ok"]["rows"] == []
    for number in range(120):
        plain.sign(token_transfer(subject=f"wdr_x{number}", nonce=9))
    assert 10 < len(plain.ask(call="rows", first=1, count=200)["ok"]["rows"]) < 125


def test_claims_are_kept_for_recovery_and_decide_nothing(plain: Bench):
    claims = {"account": "user:1", "asset": "USDC", "amount": "500", "key_hash": bytes(32)}
    told = plain.ask(call="sign", intent=to_map(token_transfer()), highest=None, claims=claims)
    assert "ok" in told
    again = plain.ask(call="sign", intent=to_map(token_transfer()), highest=None)
    assert again == told
    row = plain.journal.rows(first=3, count=1)[0]
    assert cbor2.loads(row.body)["claims"] == claims


def test_claims_of_a_batch_are_kept_for_each_leg(bench: Bench):
    whose: list[dict[str, object] | None] = [
        {"account": f"user:{number}", "asset": "ETH", "amount": "500", "key_hash": bytes(32)} for number in (1, 2)
    ]
    asked = batch(PAYOUT)
    assert len(asked.legs) == len(whose)
    told = bench.ask(call="sign", intent=to_map(asked), highest=None, claims=whose[:1])
    assert told["refused"]["code"] == "intent_invalid"
    told = bench.ask(call="sign", intent=to_map(asked), highest=None, claims=whose[0])
    assert told["refused"]["code"] == "intent_invalid"
    told = bench.ask(call="sign", intent=to_map(asked), highest=None, claims=[whose[0], None])
    assert "ok" in told, told
    row = next(row for row in bench.journal.rows(first=1, count=20) if row.kind == "intent")
    assert cbor2.loads(row.body)["claims"] == [whose[0], None]


def test_status_says_what_the_signer_is_doing(bench: Bench):
    told = bench.ask(call="status")["ok"]
    assert (told["people"], told["threshold"]) == (["ada", "ben", "cleo"], 2)
    (first,) = bench.journal.rows(first=1, count=1)
    assert told["serial"] == f"0-{first.hash.hex()[:16]}"
    assert told["contracts"] == [["payout", CHAIN, PAYOUT]]
    assert (told["frozen"], told["halted"], told["clock"]) == ([], False, None)
    bench.freeze("ada", chain_id=CHAIN)
    bench.clocks.advance(-DAY)
    told = bench.ask(call="status")["ok"]
    assert (told["frozen"], told["serial"][:2], told["clock"]) == ([[CHAIN, None]], "1-", "clock_behind")
    bench.sign(token_transfer(), [99, bytes(32)])
    assert bench.ask(call="status")["ok"]["halted"] is True
