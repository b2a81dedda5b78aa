"""The signer's decisions on a real journal, without a socket: order of checks, repeats, crashes between two steps."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from base.clock import ManualClock
from base.entropy import SeededEntropy
from custody import wire
from custody.ceremony import create_keys
from custody.derivation import AccountKeys, AddressSource, Role, fingerprint
from custody.enrolment import accept_policy, enrol
from custody.errors import KeyFileLocked, PolicyNotAccepted
from custody.intents import Intent, KeyRef, to_map
from custody.journal import Journal
from custody.policy import DENIALS
from custody.policy_file import parse
from custody.service import SignerService
from custody.transactions import read
from tests.custody.samples import CHAIN, cancel, dearer, native_transfer, policy_text, token_transfer
from tests.support.signer import LIGHT, PASSPHRASE

ACCOUNTS = {role: AccountKeys(role, bytes([place]) * 64) for place, role in enumerate(Role, start=1)}
MARKS = {role: fingerprint(account.xpub) for role, account in ACCOUNTS.items()}


class Bench:
    """A service whose clock is ours, and which can be started again."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path, self.text = folder / "journal.sqlite", text
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        enrol(self.path, MARKS, parse(text), clock=self.clock)
        self.start()

    def start(self) -> None:
        self.journal = Journal.open(self.path)
        self.service = SignerService(ACCOUNTS, parse(self.text), self.journal, self.clock)

    def again(self) -> None:
        self.journal.close()
        self.start()

    def ask(self, **question: Any) -> dict[str, Any]:
        return wire.decode(wire.encode(self.service.answer(wire.encode(question)[4:]))[4:])

    def sign(self, intent: Intent, highest: Any = None) -> Any:
        """The raw bytes, or the code of a refusal."""
        told = self.ask(call="sign", intent=to_map(intent), highest=highest)
        return told["ok"]["raw"] if "ok" in told else told["refused"]["code"]

    def rows(self, kind: str) -> int:
        with sqlite3.connect(self.path) as connection:
            (count,) = connection.execute("SELECT count(*) FROM rows WHERE kind = ?", (kind,)).fetchone()
        connection.close()
        return int(count)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, policy_text())
    yield made
    made.journal.close()


def test_a_repeat_is_served_from_the_journal_and_never_journalled_again(bench: Bench):
    first = bench.ask(call="sign", intent=to_map(token_transfer()), highest=None)
    before = bench.journal.head
    for _ in range(3):
        assert bench.ask(call="sign", intent=to_map(token_transfer()), highest=None) == first
    assert bench.journal.head == before
    bench.again()
    assert bench.ask(call="sign", intent=to_map(token_transfer()), highest=None) == first


def test_f30_an_intent_journalled_without_bytes_is_finished_with_the_same_bytes(bench: Bench, tmp_path: Path):
    (tmp_path / "twin").mkdir()
    twin = Bench(tmp_path / "twin", policy_text())
    expected = twin.sign(token_transfer())
    twin.journal.close()
    bench.journal.record_intent(token_transfer(), parse(bench.text).rules[1], now_us=1)
    bench.again()
    assert bench.sign(token_transfer(amount=499)) == "attempt_differs"
    assert bench.sign(token_transfer(subject="wdr_2")) == "nonce_taken"
    assert bench.sign(token_transfer()) == expected
    assert (bench.rows("intent"), bench.rows("signed")) == (1, 1)


def test_a_repeat_needs_no_policy_and_counts_nothing(bench: Bench):
    assert isinstance(bench.sign(token_transfer(amount=1_000)), bytes)
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=1, amount=1_000)), bytes)
    for _ in range(5):
        assert isinstance(bench.sign(token_transfer(amount=1_000)), bytes)
    assert bench.sign(token_transfer(subject="wdr_3", nonce=2, amount=501)) == "over_day_limit"
    assert isinstance(bench.sign(token_transfer(subject="wdr_3", nonce=2, amount=500)), bytes)


def test_day_limit_outlives_a_restart_and_ends_after_a_day(bench: Bench):
    for number in range(2):
        bench.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000))
    bench.again()
    bench.clock.advance(timedelta(hours=23, minutes=59))
    assert bench.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == "over_day_limit"
    bench.clock.advance(timedelta(minutes=1))
    assert isinstance(bench.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)), bytes)


def test_a_clock_put_back_gives_no_new_limit(bench: Bench):
    for number in range(2):
        bench.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000))
    bench.clock.advance(timedelta(days=-3))
    assert bench.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == "over_day_limit"
    bench.again()
    assert bench.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == "over_day_limit"


def test_cancelling_gives_no_limit_back(bench: Bench):
    for number in range(2):
        bench.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000))
    assert isinstance(bench.sign(cancel(subject="wdr_1", nonce=1, **dearer(token_transfer()))), bytes)
    assert bench.sign(token_transfer(subject="wdr_9", nonce=2, amount=501)) == "over_day_limit"


def test_replacement_and_cancellation_are_signed_for_the_same_nonce(bench: Bench):
    hot = AddressSource(ACCOUNTS[Role.HOT].xpub).address(0)
    first = token_transfer()
    second = token_transfer(**dearer(first))
    third = cancel(**dearer(second, attempt=3))
    signed = [read(bench.sign(intent)) for intent in (first, second, third)]
    assert {one.transaction.nonce for one in signed} == {0}
    assert {one.sender for one in signed} == {hot}
    assert signed[0].transaction.payload == signed[1].transaction.payload
    last = signed[2].transaction
    assert (last.to, last.value, last.payload) == (hot, 0, b"")
    assert bench.sign(token_transfer(**dearer(third, attempt=4))) == "already_cancelled"
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=1)), bytes), "one nonce used, not three"


def test_only_a_subject_without_a_signature_is_ever_denied_by_policy(bench: Bench):
    """What a caller may conclude from a policy's code: the hold can be released, nothing is on its way."""
    assert isinstance(bench.sign(token_transfer(amount=1_000)), bytes)
    forbidden: list[dict[str, Any]] = [
        {"chain_id": 1},
        {"amount": 1_001},
        {"contract": bytes([7]) * 20},
        {"sender": KeyRef(Role.GAS, 0)},
        {"sender": KeyRef(Role.HOT, 9)},
        {"gas_limit": 10**9},
        {"max_fee_per_gas": 10**18},
    ]
    for change in forbidden:
        for fees in ({}, dearer(token_transfer())):
            assert bench.sign(token_transfer(**{"amount": 1_000} | fees | change)) not in DENIALS
    assert bench.sign(token_transfer(**dearer(token_transfer(), amount=1_000) | {"max_fee_per_gas": 10**18})) == (
        "replacement_over_fee_cap"
    )


def test_f76_a_refusal_leaves_the_nonce_to_the_next_withdrawal(bench: Bench):
    assert bench.sign(token_transfer(amount=1_001)) == "over_transfer_limit"
    assert isinstance(bench.sign(token_transfer(subject="wdr_2")), bytes)
    assert bench.sign(token_transfer(amount=1_000)) == "nonce_taken"


def test_a_journal_behind_or_beside_what_was_seen_signs_nothing(bench: Bench):
    bench.sign(token_transfer())
    head = bench.journal.head
    asked = token_transfer(subject="wdr_2", nonce=1)
    assert bench.sign(asked, [head.sequence + 1, head.hash]) == "journal_behind"
    assert bench.sign(asked, [head.sequence - 1, head.hash]) == "journal_differs"
    assert bench.sign(asked, [0, b""]) == "journal_differs"
    assert bench.sign(token_transfer(), [99, head.hash]) == "journal_behind", "not even a repeat"
    for wrong in (5, [1], ["1", b""], [True, head.hash]):
        assert bench.sign(asked, wrong) == "malformed"
    assert isinstance(bench.sign(asked, [head.sequence, head.hash]), bytes)


def test_own_destinations_are_derived_by_the_signer(bench: Bench):
    sweep = native_transfer(sender=KeyRef(Role.DEPOSIT, 7), to=KeyRef(Role.HOT, 0), subject="swp_1")
    signed = read(bench.sign(sweep))
    assert signed.transaction.to == AddressSource(ACCOUNTS[Role.HOT].xpub).address(0)
    assert signed.sender == AddressSource(ACCOUNTS[Role.DEPOSIT].xpub).address(7)


def test_first_nonces_of_the_policy_are_used(tmp_path: Path):
    text = policy_text() + f'[[first_nonces]]\nchain_id = {CHAIN}\nrole = "hot"\nindex = 0\nnonce = 41\n'
    bench = Bench(tmp_path, text)
    assert bench.sign(token_transfer()) == "nonce_not_next"
    assert read(bench.sign(token_transfer(nonce=41))).transaction.nonce == 41
    assert read(bench.sign(token_transfer(subject="wdr_2", nonce=42))).transaction.nonce == 42
    bench.journal.close()


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
        ({"call": "addresses", "role": "cold", "first": 0, "count": 1}, "malformed"),
        ({"call": "addresses", "role": "hot", "first": "0", "count": 1}, "malformed"),
        ({"call": "addresses", "role": "deposit", "first": 0, "count": 1001}, "addresses_out_of_range"),
        ({"call": "addresses", "role": "deposit", "first": 5000, "count": 2}, "addresses_out_of_range"),
        ({"call": "addresses", "role": "hot", "first": 1, "count": 1}, "addresses_out_of_range"),
        ({"call": "addresses", "role": "hot", "first": -1, "count": 1}, "addresses_out_of_range"),
        ({"call": "addresses", "role": "hot", "first": 0, "count": 0}, "addresses_out_of_range"),
    ],
)
def test_f52_every_other_question_is_refused_and_journalled(bench: Bench, question: dict[str, Any], code: str):
    told = bench.ask(**question)
    assert told["refused"]["code"] == code
    assert bench.rows("refused") == 1
    assert told["sequence"] == bench.journal.head.sequence


def test_no_answer_contains_a_secret(bench: Bench):
    answers = [bench.ask(call="status"), bench.ask(call="addresses", role="hot", first=0, count=1)]
    answers.append(bench.ask(call="sign", intent=to_map(token_transfer()), highest=None))
    spoken = repr(answers).encode() + b"".join(wire.encode(answer) for answer in answers)
    secrets = [account.private_key(0) for account in ACCOUNTS.values()]
    assert not any(secret in spoken or secret.hex().encode() in spoken for secret in secrets)
    assert b"prv" not in spoken


def test_only_the_accepted_policy_and_the_enrolled_keys_start(bench: Bench):
    with pytest.raises(PolicyNotAccepted, match="accepted last"):
        SignerService(ACCOUNTS, parse(bench.text.replace('"2500"', '"2501"')), bench.journal, bench.clock)
    others = {role: AccountKeys(role, b"other" * 13) for role in Role}
    with pytest.raises(PolicyNotAccepted, match="other keys"):
        SignerService(others, parse(bench.text), bench.journal, bench.clock)
    with pytest.raises(PolicyNotAccepted, match="other keys"):
        SignerService({Role.HOT: ACCOUNTS[Role.HOT]}, parse(bench.text), bench.journal, bench.clock)


def test_a_policy_made_for_other_keys_is_not_enrolled(tmp_path: Path):
    text = policy_text(fingerprints={Role.HOT: bytes(32)})
    with pytest.raises(PolicyNotAccepted):
        enrol(tmp_path / "journal", MARKS, parse(text), clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    assert not (tmp_path / "journal").exists()


def test_f79_policy_versions_rise_by_one_and_older_ones_are_refused(tmp_path: Path):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    keys = create_keys(tmp_path / "keys", passphrase=PASSPHRASE, entropy=SeededEntropy(5), cost=LIGHT)
    one, two, three = (parse(policy_text().replace("version = 1", f"version = {n}")) for n in (1, 2, 3))
    path = tmp_path / "journal.sqlite"
    enrol(path, {role: key.fingerprint for role, key in keys.items()}, one, clock=clock)

    def accept(policy: Any, passphrase: bytes = PASSPHRASE) -> None:
        accept_policy(path, tmp_path / "keys", policy, passphrase=passphrase, clock=clock)

    with pytest.raises(PolicyNotAccepted, match="has version 2"):
        accept(three)
    with pytest.raises(KeyFileLocked):
        accept(two, b"wrong")
    accept(two)
    accept(two)
    with pytest.raises(PolicyNotAccepted, match="has version 3"):
        accept(one)
    journal = Journal.open(path)
    assert (journal.head.sequence, journal.enrolment.policy_fingerprint) == (2, two.fingerprint)
    assert set(journal.enrolment.fingerprints) == set(Role)
    journal.close()
