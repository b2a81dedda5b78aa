"""What is given back to a journal: our own signatures only, without contradiction or gap, signed by the people."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.approvals import sign_statement
from custody.clocks import SystemClocks
from custody.derivation import AccountKeys, AddressSource, Role
from custody.enrolment import enrol
from custody.errors import JournalExists, ResyncRefused
from custody.intents import KeyRef
from custody.journal import Journal
from custody.journal_copy import journal_copy
from custody.journal_file import Head, Kind
from custody.policy_file import parse
from custody.resync import Missing, Plan, begin_again, missing_to_json, plan, read_missing, take_up
from custody.rolekeys import HdKeys
from custody.transactions import build, sign
from tests.custody.samples import CHAIN, PEOPLE, full_policy, token_transfer

SEEDS = {role: role.value.encode().ljust(64, b"\1") for role in Role}
ACCOUNTS = {role: AccountKeys(role, seed) for role, seed in SEEDS.items()}
SOURCES = {role: AddressSource(account.xpub) for role, account in ACCOUNTS.items()}
KEYS = {role.value: HdKeys(account) for role, account in ACCOUNTS.items()}
POLICY = parse(full_policy())
SEEN = Head(9, bytes(range(32)))


def address_of(key: KeyRef) -> bytes:
    return SOURCES[key.role].address(key.index)


def entry(nonce: int, subject: str | None = None, *, attempt: int = 1, **changes: Any) -> dict[str, object]:
    intent = token_transfer(subject=subject or f"wdr_{nonce}", nonce=nonce, attempt=attempt, **changes)
    raw = sign(build(intent, address_of), ACCOUNTS[intent.sender.role].private_key(intent.sender.index)).raw
    return {"subject": intent.subject, "attempt": attempt, "key": str(intent.sender), "raw": "0x" + raw.hex()}


def missing(*entries: dict[str, object], seen: Head | None = SEEN) -> Missing:
    told = None if seen is None else {"sequence": seen.sequence, "head": seen.hash.hex()}
    return read_missing(json.dumps({"seen": told, "transactions": entries}), address_of)


def by(planned: Plan, *names: str) -> list[Any]:
    return [sign_statement(name, PEOPLE[name], planned.statement) for name in names]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    enrol(tmp_path / "journal.sqlite", KEYS, POLICY, clocks=SystemClocks())
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """It knows that nonce 0 was signed for wdr_0."""
    opened = Journal.open(path, SystemClocks())
    intent = token_transfer(subject="wdr_0", nonce=0)
    moment = opened.time()
    journalled = opened.record_intent(intent, rule="token out", fee_wei_max=10**16, at=moment)  # type: ignore[arg-type]
    opened.record_signed(journalled, raw=bytes.fromhex(str(entry(0)["raw"])[2:]))
    yield opened
    opened.close()


def test_the_people_give_back_what_was_lost_and_every_window_is_full(journal: Journal, path: Path):
    told = missing(entry(0), entry(1), entry(2), entry(2, attempt=2, max_fee_per_gas=10**11))
    planned = plan(told, POLICY, journal)
    assert [(one.subject, one.attempt) for one in planned.taken] == [("wdr_1", 1), ("wdr_2", 2)]
    assert planned.known == ("wdr_0 attempt 1",)
    for names in ((), ("ada",)):
        with pytest.raises(ResyncRefused, match="2 signatures are needed"):
            take_up(journal, planned, signatures=by(planned, *names))
    with pytest.raises(ResyncRefused, match="isn't over what is asked"):
        take_up(journal, planned, signatures=by(replace(planned, taken=()), "ada", "ben"))
    with pytest.raises(ResyncRefused, match="isn't over what is asked"):
        take_up(journal, planned, signatures=by(replace(planned, seen=None), "ada", "ben"))
    assert not journal.agrees(SEEN)
    take_up(journal, planned, signatures=by(planned, "ada", "cleo"))
    assert journal.agrees(SEEN), "clients that saw the lost rows can go on"
    assert journal.halted is None
    facts = journal.nonce_facts(token_transfer(subject="wdr_9", nonce=3), first_nonce=0)
    assert (facts.next_nonce, facts.holder) == (3, None)
    assert journal.taken_back(token_transfer(subject="wdr_2", nonce=2)) is not None
    with pytest.raises(ResyncRefused, match="has gone on"):
        take_up(journal, planned, signatures=by(planned, "ada", "cleo"))
    with journal_copy(path) as reopened:
        assert reopened.agrees(SEEN)
        assert not reopened.agrees(Head(9, bytes(32)))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry(2)], "the next nonce of hot:0 on network 31337 is 1"),
        ([entry(1), entry(3)], "is 2, the file goes on with 3"),
        ([entry(0, "wdr_x")], "was signed for wdr_0 by this journal, not for wdr_x"),
        ([entry(1), entry(1, "wdr_x")], "stands in the file for"),
        ([entry(1, "wdr_0")], "wdr_0 has another nonce already"),
        ([entry(1), entry(2, "wdr_1")], "wdr_1 has another nonce already"),
        ([entry(1, chain_id=CHAIN + 1)], "which the policy doesn't know"),
        ([entry(1, sender=KeyRef(Role.HOT, 3))], "beyond the policy's highest index"),
    ],
)
def test_what_contradicts_the_journal_or_leaves_a_gap_is_refused(
    journal: Journal, entries: list[dict[str, object]], said: str
):
    with pytest.raises(ResyncRefused, match=said.replace("(", r"\(")):
        plan(missing(*entries), POLICY, journal)
    assert all(row.kind != Kind.RESYNCED for row in journal.rows(first=1, count=100))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"key": "gas:0"}, "isn't signed by gas:0"),
        ({"key": "hot:1"}, "isn't signed by hot:1"),
        ({"key": "cold:0"}, "keys are named by their role"),
        ({"raw": "0x02"}, "not a signed"),
        ({"raw": "zz"}, "hexadecimal"),
        ({"subject": "WDR 1"}, "a subject is an id"),
        ({"attempt": 0}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"raw": str(entry(1)["raw"]) + "00"}, "not a"),
    ],
)
def test_only_whole_signatures_of_our_own_are_read(changed: dict[str, object], said: str):
    with pytest.raises(ResyncRefused, match=said):
        missing(entry(1) | changed)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"transactions": [1], "seen": null}', "[" * 9000])
def test_a_file_that_isnt_one_is_refused(text: str):
    with pytest.raises(ResyncRefused):
        read_missing(text, address_of)


def test_what_the_audit_writes_is_read_back():
    told = missing(entry(1), entry(2))
    assert read_missing(missing_to_json(told), address_of) == told


def test_another_policy_than_the_journals_is_refused(journal: Journal):
    with pytest.raises(ResyncRefused, match="version 1"):
        plan(missing(), parse(full_policy(version=2)), journal)


def test_a_lost_journal_begins_again_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "journal.sqlite"
    planned = plan(missing(entry(0), entry(1)), POLICY, None)
    with pytest.raises(ResyncRefused, match="1 are there"):
        begin_again(path, planned, POLICY, KEYS, signatures=by(planned, "ada"), clocks=SystemClocks())
    assert list(tmp_path.iterdir()) == []
    begin_again(path, planned, POLICY, KEYS, signatures=by(planned, "ada", "ben"), clocks=SystemClocks())
    journal = Journal.open(path, SystemClocks())
    assert journal.agrees(SEEN)
    assert journal.nonce_facts(token_transfer(nonce=2), first_nonce=0).next_nonce == 2
    assert journal.nonce_facts(token_transfer(subject="wdr_1", nonce=2), first_nonce=0).used == "wdr_1"
    assert journal.enrolment.people == POLICY.people
    journal.close()
    with pytest.raises(JournalExists):
        begin_again(path, planned, POLICY, KEYS, signatures=by(planned, "ada", "ben"), clocks=SystemClocks())
    assert {one.name for one in tmp_path.iterdir()} == {"journal.sqlite", "journal.sqlite.lock"}
