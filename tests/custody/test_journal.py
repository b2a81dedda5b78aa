"""The journal: what it remembers across restarts, and what its file itself never takes twice."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest

from custody.approvals import Person
from custody.counting import FeeKey, value_key
from custody.derivation import Role
from custody.errors import JournalExists, JournalInUse, JournalMissing, JournalTampered
from custody.intents import KeyRef, Leg
from custody.journal import Enrolment, Journal, Scope, TakenBack
from custody.journal_file import Head, Kind
from custody.nonces import Journalled
from tests.custody.clocks import DAY, HOUR, MINUTE, START, ManualClocks
from tests.custody.samples import (
    CHAIN,
    DEPOSIT,
    GAS,
    HOT,
    STRANGER,
    TOKEN,
    allowance,
    batch,
    cancel,
    dearer,
    legs,
    mandate,
    native_transfer,
    proof,
    sweep,
    token_transfer,
    top_up,
)

ENROLMENT = Enrolment({Role.HOT: b"\1" * 32}, 1, b"\2" * 32)
VIA = b"\x0c" * 20
FEE = 10**16


@pytest.fixture
def clocks() -> ManualClocks:
    return ManualClocks()


@pytest.fixture
def path(tmp_path: Path, clocks: ManualClocks) -> Path:
    Journal.create(tmp_path / "journal.sqlite", ENROLMENT, proof={}, clocks=clocks)
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path, clocks: ManualClocks) -> Any:
    opened = Journal.open(path, clocks)
    yield opened
    opened.close()


def record(journal: Journal, intent: Any, **more: Any) -> Journalled:
    at = journal.time()
    assert not hasattr(at, "code")
    stated: dict[str, Any] = {"rule": "any", "fee_wei_max": FEE, "at": at}
    return journal.record_intent(intent, **(stated | more))


def fill(journal: Journal) -> None:
    """A row of every kind."""
    journal.record_start()
    first = record(journal, token_transfer(), mandate=mandate(token_transfer()), approved_by=frozenset({"ada"}))
    journal.record_signed(first, raw=b"one")
    second = journal.record_successor(token_transfer(**dearer(token_transfer())), first, at=journal.last)
    journal.record_signed(second, raw=b"two")
    journal.record_refusal(code="no", sentence="No.", rule=None, question=b"\3" * 32, intent=native_transfer())
    record(journal, allowance(VIA, nonce=1), claims={"account": "user:1"})
    record(journal, batch(VIA, nonce=2, contract=TOKEN))
    record(journal, proof())
    changed = replace(ENROLMENT, policy_version=2, people=(Person("ada", bytes(32)),), threshold=1)
    journal.record_policy(changed, proof={"signatures": []})
    journal.record_freeze(Scope(CHAIN, "native"), lifted=False, approved_by=frozenset({"ada"}))
    journal.record_freeze(Scope(CHAIN), lifted=False, approved_by=frozenset({"ada"}))
    journal.record_freeze(Scope(CHAIN), lifted=True, approved_by=frozenset({"ada", "ben"}))
    journal.record_time(approved_by=frozenset({"ada", "ben"}))
    journal.record_halt(Head(99, b"\x09" * 32))
    journal.record_resync([TakenBack("wdr_7", 1, HOT, CHAIN, 3, b"back")], approved_by=frozenset({"ada"}))
    assert journal.record_reservation(Role.DEPOSIT, 1_000) == 0


def state(journal: Journal) -> dict[str, Any]:
    """What a journal answers from."""
    asked = (token_transfer(), native_transfer(subject="wdr_2"), batch(VIA), proof(), token_transfer(subject="wdr_7"))
    facts = [journal.nonce_facts(intent, first_nonce=5) for intent in asked]
    names = [key for intent in asked if (key := value_key(intent)) is not None]
    counts, at_us = journal.counts, journal.last.window_us
    return {
        "head": journal.head,
        "last": journal.last,
        "enrolment": journal.enrolment,
        "frozen": journal.frozen,
        "serial": journal.serial,
        "halted": journal.halted,
        "next": journal.next_index(Role.DEPOSIT),
        "facts": facts,
        "signed": [journal.signed_bytes(intent) for intent in asked],
        "back": [journal.taken_back(intent) for intent in asked],
        "allowance": journal.allowance_for("bat_1"),
        "spent": [counts.spent_in_day(key, at_us=at_us + DAY) for key in names],
        "fees": counts.fees_in_day(FeeKey(Role.HOT, CHAIN), at_us=at_us),
    }


def test_every_kind_of_row_is_remembered_after_opening_again(path: Path, clocks: ManualClocks):
    journal = Journal.open(path, clocks)
    fill(journal)
    before = state(journal)
    kinds = {row.kind for row in journal.rows(first=1, count=100)}
    journal.close()
    assert kinds == {kind.value for kind in Kind}
    journal = Journal.open(path, clocks)
    assert state(journal) == before
    assert (before["serial"][:2], before["halted"], before["next"]) == ("5-", None, 1_000)
    assert before["frozen"] == {Scope(CHAIN, "native")}
    assert before["enrolment"].fingerprints == ENROLMENT.fingerprints
    assert (before["enrolment"].policy_version, before["enrolment"].threshold) == (2, 1)
    second = token_transfer(**dearer(token_transfer()))
    assert before["facts"][0].latest.intent == second
    assert (before["facts"][0].holder, before["facts"][0].next_nonce) == ("wdr_1", 4)
    assert before["facts"][4].used == "wdr_7"
    assert [one and one.raw for one in before["signed"]] == [b"one", None, None, None, None]
    assert before["back"][4].raw == b"back"
    assert before["allowance"].intent == allowance(VIA, nonce=1)
    assert journal.agrees(journal.head)
    assert not journal.agrees(Head(journal.head.sequence, bytes(32)))
    assert not journal.agrees(Head(journal.head.sequence + 1, journal.head.hash))
    journal.close()


def test_a_row_tells_who_approved_and_what_was_claimed(journal: Journal):
    fill(journal)
    rows = journal.rows(first=1, count=100)
    told = cbor2.loads(rows[2].body)
    assert (told["approved_by"], told["mandate"]["maker"], told["claims"]) == (["ada"], "cleo", None)
    assert cbor2.loads(rows[7].body)["claims"] == {"account": "user:1"}
    assert [row.sequence for row in journal.rows(first=4, count=2)] == [4, 5]


def test_first_nonce_counts_only_until_the_sender_has_paid(journal: Journal):
    assert journal.nonce_facts(token_transfer(), first_nonce=7).next_nonce == 7
    record(journal, token_transfer(nonce=7))
    assert journal.nonce_facts(token_transfer(subject="wdr_2"), first_nonce=7).next_nonce == 8
    elsewhere = token_transfer(subject="wdr_2", chain_id=5)
    assert journal.nonce_facts(elsewhere, first_nonce=0).next_nonce == 0
    assert journal.nonce_facts(token_transfer(sender=KeyRef(Role.HOT, 1)), first_nonce=0).next_nonce == 0


def test_spending_rolls_out_of_its_windows(journal: Journal, clocks: ManualClocks):
    for number in range(2):
        record(journal, token_transfer(subject=f"wdr_{number}", nonce=number, amount=100))
        clocks.advance(30 * MINUTE)
    key, counts = value_key(token_transfer()), journal.counts
    assert key is not None
    hours = (30 * MINUTE, HOUR - 1, HOUR, HOUR + 30 * MINUTE)
    assert [counts.spent_in_hour(key, at_us=START + by) for by in hours] == [200, 200, 100, 0]
    days = (DAY - 1, DAY, DAY + 30 * MINUTE)
    assert [counts.spent_in_day(key, at_us=START + by) for by in days] == [200, 100, 0]


def test_spending_sums_over_senders_but_not_over_assets_networks_and_roles(path: Path, clocks: ManualClocks):
    journal = Journal.open(path, clocks)
    record(journal, token_transfer(amount=100))
    record(journal, token_transfer(subject="wdr_2", sender=KeyRef(Role.HOT, 1), amount=11))
    journal.close()
    journal = Journal.open(path, clocks)
    others = (
        token_transfer(chain_id=5),
        token_transfer(contract=b"\5" * 20),
        token_transfer(sender=GAS),
        native_transfer(),
        allowance(VIA),
    )

    def spent(intent: Any) -> int:
        key = value_key(intent)
        assert key is not None
        return journal.counts.spent_in_day(key, at_us=START)

    assert [spent(one) for one in (token_transfer(), *others)] == [111, 0, 0, 0, 0, 0]
    journal.close()


def test_a_replacement_counts_only_what_its_fee_adds(journal: Journal):
    first = record(journal, token_transfer(gas_limit=100_000, max_fee_per_gas=10, max_priority_fee_per_gas=1))
    dear = token_transfer(attempt=2, gas_limit=100_000, max_fee_per_gas=25, max_priority_fee_per_gas=2)
    second = journal.record_successor(dear, first, at=journal.last)
    journal.record_successor(
        cancel(attempt=3, gas_limit=21_000, max_fee_per_gas=30, max_priority_fee_per_gas=3), second, at=journal.last
    )
    assert journal.counts.fees_in_day(FeeKey(Role.HOT, CHAIN), at_us=START) == 2_500_000


def test_cancelling_a_top_up_lets_its_address_have_another(path: Path, clocks: ManualClocks):
    for reopened in (False, True):
        journal = Journal.open(path, clocks)
        if not reopened:
            first = record(journal, top_up())
            assert journal.counts.has_open_top_up(CHAIN, DEPOSIT, at_us=START)
            journal.record_successor(cancel(subject="gas_1", sender=GAS, **dearer(top_up())), first, at=journal.last)
        assert not journal.counts.has_open_top_up(CHAIN, DEPOSIT, at_us=START)
        journal.close()


def test_time_in_the_journal_survives_opening_again(path: Path, clocks: ManualClocks):
    journal = Journal.open(path, clocks)
    clocks.reboot(down_us=5 * HOUR)
    journal.record_start()
    clocks.advance(MINUTE)
    record(journal, token_transfer())
    last = journal.last
    journal.close()
    assert (last.window_us, last.withheld_us, last.measured_us) == (START + HOUR + MINUTE, 4 * HOUR, MINUTE)
    journal = Journal.open(path, clocks)
    assert journal.last == last
    journal.close()


SECONDS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "a taken nonce": (token_transfer, lambda: token_transfer(subject="wdr_2")),
    "a second nonce": (token_transfer, lambda: token_transfer(nonce=1)),
    "a payment as a leg": (token_transfer, lambda: batch(VIA, nonce=1, legs=(Leg("wdr_1", STRANGER, 5),))),
    "a leg as a payment": (lambda: batch(VIA), lambda: token_transfer(subject="wdr_leg-0", nonce=1)),
    "a leg in two batches": (lambda: batch(VIA), lambda: batch(VIA, subject="bat_2", nonce=1, legs=legs(7))),
    "a batch as a leg": (
        lambda: batch(VIA),
        lambda: batch(VIA, subject="bat_2", nonce=1, legs=(Leg("bat_1", STRANGER, 1),)),
    ),
    "a message twice": (proof, lambda: proof(epoch="8")),
}


@pytest.mark.parametrize("what", SECONDS)
def test_f46_the_file_itself_refuses_a_second_use(path: Path, clocks: ManualClocks, what: str):
    first, second = SECONDS[what]
    journal = Journal.open(path, clocks)
    record(journal, first())
    before = state(journal)
    assert journal.nonce_facts(second(), first_nonce=0).used or what in ("a taken nonce",)
    with pytest.raises(sqlite3.IntegrityError):
        record(journal, second())
    assert state(journal) == before
    record(journal, sweep())
    journal.close()
    Journal.open(path, clocks).close()


def test_one_attempt_is_signed_once_in_the_file(journal: Journal):
    first = record(journal, token_transfer())
    journal.record_signed(first, raw=b"one")
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_signed(first, raw=b"two")
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_successor(cancel(), first, at=journal.last)


def test_what_was_taken_back_uses_its_subject_and_its_nonce(journal: Journal):
    journal.record_resync([TakenBack("wdr_1", 2, HOT, CHAIN, 4, b"raw")], approved_by=frozenset())
    assert journal.nonce_facts(token_transfer(subject="wdr_2"), first_nonce=0).next_nonce == 5
    assert journal.nonce_facts(token_transfer(subject="wdr_2", nonce=4), first_nonce=0).holder == "wdr_1"
    assert journal.nonce_facts(batch(VIA, legs=(Leg("wdr_1", STRANGER, 1),)), first_nonce=0).used == "wdr_1"
    for again in (token_transfer(nonce=5), token_transfer(subject="wdr_2", nonce=4)):
        with pytest.raises(sqlite3.IntegrityError):
            record(journal, again)
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_resync([TakenBack("wdr_8", 1, HOT, CHAIN, 4, b"raw")], approved_by=frozenset())


def test_a_freeze_covers_what_it_names():
    table = [
        (Scope(), 1, "native", True),
        (Scope(), 1, None, True),
        (Scope(1), 1, "native", True),
        (Scope(1), 1, None, True),
        (Scope(1), 2, "native", False),
        (Scope(1, "native"), 1, "native", True),
        (Scope(1, "native"), 1, "0x", False),
        (Scope(1, "native"), 1, None, False),
        (Scope(1, "native"), 2, "native", False),
    ]
    assert [scope.covers(chain_id, asset) for scope, chain_id, asset, _ in table] == [told for *_, told in table]
    assert [str(scope) for scope in (Scope(), Scope(1), Scope(1, "native"))] == [
        *("everything", "network 1", "network 1, asset native")
    ]


def test_a_file_that_is_no_journal_is_refused(path: Path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(JournalTampered):
        Journal.open(path, ManualClocks())
    path.write_bytes(b"")
    with pytest.raises(JournalTampered):
        Journal.open(path, ManualClocks())


def test_a_journal_is_never_missing_never_begun_anew_and_never_shared(path: Path):
    with pytest.raises(JournalMissing):
        Journal.open(path.with_name("other"), ManualClocks())
    with pytest.raises(JournalExists):
        Journal.create(path, ENROLMENT, proof={}, clocks=ManualClocks())
    journal = Journal.open(path, ManualClocks())
    with pytest.raises(JournalInUse):
        Journal.open(path, ManualClocks())
    journal.close()
    Journal.open(path, ManualClocks()).close()


def test_nobody_else_may_read_it(path: Path):
    journal = Journal.open(path, ManualClocks())
    fill(journal)
    journal.close()
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.parent.iterdir())
