"""The journal: what it remembers across crashes, and that nobody alters it unseen."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custody.derivation import Role
from custody.errors import JournalExists, JournalInUse, JournalMissing, JournalTampered
from custody.intents import KeyRef
from custody.journal import Enrolment, Head, Journal
from custody.policy_file import parse
from tests.custody.samples import cancel, dearer, native_transfer, policy_text, token_transfer

ENROLMENT = Enrolment({Role.HOT: b"\1" * 32}, 1, b"\2" * 32)
RULE = parse(policy_text()).rules[0]
DAY = 24 * 60 * 60 * 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Journal.create(tmp_path / "journal.sqlite", ENROLMENT, now_us=1_000)
    return tmp_path / "journal.sqlite"


def filled(path: Path) -> Head:
    journal = Journal.open(path)
    first = journal.record_intent(token_transfer(), RULE, now_us=2_000)
    journal.record_signed(first, raw=b"one", now_us=2_000)
    second = journal.record_successor(token_transfer(**dearer(token_transfer())), first, now_us=3_000)
    journal.record_signed(second, raw=b"two", now_us=3_000)
    journal.record_refusal(code="no", sentence="No.", rule=None, question=b"\3" * 32, intent=None, now_us=4_000)
    journal.record_intent(native_transfer(subject="wdr_2", nonce=1), RULE, now_us=5_000)
    head = journal.head
    journal.close()
    return head


def altered(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in ("DROP TRIGGER rows_stay", "DROP TRIGGER rows_remain", *statements):
            connection.execute(statement)
    connection.close()


def test_everything_is_remembered_after_opening_again(path: Path):
    head = filled(path)
    journal = Journal.open(path)
    assert journal.head == head == Head(7, head.hash)
    assert journal.enrolment == ENROLMENT
    assert journal.last_at_us == 5_000
    second = token_transfer(**dearer(token_transfer()))
    facts = journal.nonce_facts(second, first_nonce=0)
    assert facts.same_attempt is not None
    assert facts.same_attempt == facts.latest
    assert (facts.same_attempt.intent, facts.same_attempt.fee_wei_max) == (second, RULE.fee_wei_max)
    assert (facts.holder, facts.next_nonce) == ("wdr_1", 2)
    one, two = journal.signed_bytes(token_transfer()), journal.signed_bytes(second)
    assert (one and one.raw, two and two.raw) == (b"one", b"two")
    assert journal.signed_bytes(native_transfer(subject="wdr_2", nonce=1)) is None
    assert journal.agrees(head)
    assert not journal.agrees(Head(6, head.hash))
    assert not journal.agrees(Head(8, head.hash))
    journal.close()


def test_first_nonce_counts_only_until_the_sender_has_paid(path: Path):
    journal = Journal.open(path)
    assert journal.nonce_facts(token_transfer(), first_nonce=7).next_nonce == 7
    journal.record_intent(token_transfer(nonce=7), RULE, now_us=1)
    assert journal.nonce_facts(token_transfer(subject="wdr_2"), first_nonce=7).next_nonce == 8
    elsewhere = token_transfer(subject="wdr_2", chain_id=5)
    assert journal.nonce_facts(elsewhere, first_nonce=0).next_nonce == 0
    assert journal.nonce_facts(token_transfer(sender=KeyRef(Role.HOT, 1)), first_nonce=0).next_nonce == 0
    journal.close()


def test_spending_rolls_out_of_the_window_after_24_hours(path: Path):
    journal = Journal.open(path)
    for number, at in enumerate((10_000, 10_000 + DAY // 2)):
        journal.record_intent(token_transfer(subject=f"wdr_{number}", nonce=number, amount=100), RULE, now_us=at)
    asked = token_transfer(subject="wdr_9")
    seen = [journal.spent_in_window(asked, now_us=10_000 + step) for step in (DAY // 2, DAY - 1, DAY, 2 * DAY)]
    assert seen == [200, 200, 100, 0]
    journal.close()


def test_spending_sums_over_senders_but_not_over_assets_networks_and_roles(path: Path):
    journal = Journal.open(path)
    journal.record_intent(token_transfer(amount=100), RULE, now_us=1_000)
    journal.record_intent(token_transfer(subject="wdr_2", sender=KeyRef(Role.HOT, 1), amount=11), RULE, now_us=1_000)
    journal.close()
    journal = Journal.open(path)
    others = (
        token_transfer(chain_id=5),
        token_transfer(contract=b"\5" * 20),
        token_transfer(sender=KeyRef(Role.GAS, 0)),
        native_transfer(),
    )
    assert journal.spent_in_window(token_transfer(), now_us=2_000) == 111
    assert [journal.spent_in_window(other, now_us=2_000) for other in others] == [0, 0, 0, 0]
    journal.close()


def test_time_in_the_journal_never_falls(path: Path):
    journal = Journal.open(path)
    journal.record_intent(token_transfer(), RULE, now_us=9_000)
    journal.record_intent(token_transfer(subject="wdr_2", nonce=1), RULE, now_us=5)
    assert journal.last_at_us == 9_000
    journal.close()


@pytest.mark.parametrize(
    "second",
    [
        lambda: token_transfer(subject="wdr_2"),
        lambda: token_transfer(nonce=1),
    ],
    ids=["a taken nonce", "a second nonce"],
)
def test_the_file_itself_refuses_a_second_use(path: Path, second: Callable[[], Any]):
    journal = Journal.open(path)
    journal.record_intent(token_transfer(), RULE, now_us=1)
    head = journal.head
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_intent(second(), RULE, now_us=2)
    assert journal.head == head
    journal.record_intent(token_transfer(subject="wdr_2", nonce=1), RULE, now_us=3)
    journal.close()
    Journal.open(path).close()


def test_one_attempt_is_signed_once_in_the_file(path: Path):
    journal = Journal.open(path)
    first = journal.record_intent(token_transfer(), RULE, now_us=1)
    journal.record_signed(first, raw=b"one", now_us=1)
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_signed(first, raw=b"two", now_us=1)
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_successor(cancel(), first, now_us=1)
    journal.close()


def test_rows_can_neither_be_changed_nor_deleted(path: Path):
    filled(path)
    with sqlite3.connect(path) as connection:
        for statement in ("UPDATE rows SET at_us = 0", "DELETE FROM rows WHERE sequence = 7"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "sequence"),
    [
        ("UPDATE rows SET at_us = at_us + 1 WHERE sequence = 3", 3),
        ("UPDATE rows SET nonce = 5 WHERE sequence = 2", 2),
        ("UPDATE rows SET subject = 'wdr_9' WHERE sequence = 7", 7),
        ("UPDATE rows SET attempt = 9 WHERE sequence = 4", 4),
        ("UPDATE rows SET kind = 'policy' WHERE sequence = 6", 6),
        ("UPDATE rows SET body = x'a0' WHERE sequence = 5", 5),
        ("UPDATE rows SET hash = zeroblob(32) WHERE sequence = 7", 7),
        ("DELETE FROM rows WHERE sequence = 4", 4),
        ("DELETE FROM rows WHERE sequence = 1", 1),
        ("UPDATE rows SET sequence = 8 WHERE sequence = 7", 7),
    ],
)
def test_an_altered_row_is_named(path: Path, statement: str, sequence: int):
    filled(path)
    altered(path, statement)
    with pytest.raises(JournalTampered) as caught:
        Journal.open(path)
    assert caught.value.facts["sequence"] == sequence


def test_a_journal_cut_at_its_end_no_longer_agrees_with_what_was_seen(path: Path):
    head = filled(path)
    altered(path, "DELETE FROM rows WHERE sequence = 7")
    journal = Journal.open(path)
    assert journal.head.sequence == 6
    assert not journal.agrees(head)
    journal.close()


def test_a_file_that_is_no_journal_is_refused(path: Path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(JournalTampered):
        Journal.open(path)
    path.write_bytes(b"")
    with pytest.raises(JournalTampered):
        Journal.open(path)


def test_a_journal_is_never_missing_never_begun_anew_and_never_shared(path: Path):
    with pytest.raises(JournalMissing):
        Journal.open(path.with_name("other"))
    with pytest.raises(JournalExists):
        Journal.create(path, ENROLMENT, now_us=1)
    journal = Journal.open(path)
    with pytest.raises(JournalInUse):
        Journal.open(path)
    journal.close()
    Journal.open(path).close()


def test_nobody_else_may_read_it(path: Path):
    filled(path)
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.parent.iterdir())
