"""What a journal's rows say of each subject that was signed: on a real journal."""

from typing import Any

from custody.intents import Cancel
from custody.journal import Journal, TakenBack
from custody.journal_file import GENESIS, Head
from custody.signed_subjects import TAKEN_BACK, SubjectReading
from tests.custody.samples import CHAIN, HOT, cancel, dearer, native_transfer, proof, sweep, token_transfer
from tests.custody.test_journal import clocks, journal, path, record  # noqa: F401 - fixtures


def read(journal: Journal, start: Head | None = None) -> SubjectReading:  # noqa: F811
    reading = SubjectReading(start)
    for row in journal.rows(first=reading.head.sequence + 1, count=1_000):
        reading.take(row)
    return reading


def test_attempts_bytes_claims_and_nonces_are_told_by_subject(journal: Journal):  # noqa: F811
    claims = {"account": "usr_a/wallet/USDC", "asset": "USDC", "amount": "5", "key_hash": bytes(32)}
    first = record(journal, token_transfer(), claims=claims)
    at = journal.record_signed(first, raw=b"one").at
    again = journal.record_successor(token_transfer(**dearer(token_transfer())), first, at=journal.last)
    journal.record_signed(again, raw=b"two")
    begun = record(journal, sweep())
    given_up = record(journal, native_transfer(subject="wdr_9", nonce=1))
    journal.record_signed(given_up, raw=b"three")
    ending = journal.record_successor(
        cancel(subject="wdr_9", nonce=1, **dearer(native_transfer(subject="wdr_9", nonce=1))), given_up, at=journal.last
    )
    journal.record_signed(ending, raw=b"four")
    record(journal, proof())
    reading = read(journal)
    assert reading.flaw is None
    paid, swept, cancelled = reading.subjects.values()
    assert (paid.subject, paid.kind, paid.claims) == (first.intent.subject, "token_transfer", claims)
    assert [(one.attempt, one.raw) for one in paid.attempts] == [(1, b"one"), (2, b"two")]
    assert (paid.attempts[0].at, paid.first) == (at, first.intent)
    assert (swept.subject, swept.attempts[0].raw) == (begun.intent.subject, None), "journalled, and not signed yet"
    assert isinstance(cancelled.attempts[-1].intent, Cancel)
    assert reading.next_nonces()[paid.chain_id, HOT] == 2


def test_a_denial_stands_until_something_is_signed(journal: Journal):  # noqa: F811
    no: dict[str, Any] = {"sentence": "Too much.", "rule": None, "question": b"\3" * 32}
    journal.record_refusal(code="over_day_limit", intent=token_transfer(), **no)
    journal.record_refusal(code="frozen", intent=native_transfer(), **no)
    reading = read(journal)
    assert {subject: one.sentence for subject, one in reading.refusals.items()} == {
        token_transfer().subject: "Too much."
    }, "a freeze says nothing of a subject"
    record(journal, token_transfer())
    assert read(journal).refusals == {}


def test_it_goes_on_from_a_row_and_believes_nothing_behind_a_break(journal: Journal):  # noqa: F811
    first = record(journal, token_transfer())
    journal.record_signed(first, raw=b"one")
    whole = read(journal)
    journal.record_start()
    assert read(journal, whole.head).subjects == {}
    assert read(journal, Head(whole.head.sequence, GENESIS)).flaw == (
        f"row {whole.head.sequence + 1} of the journal isn't what was written"
    )


def test_what_a_resync_gave_back_is_known_by_its_bytes_alone(journal: Journal):  # noqa: F811
    journal.record_resync([TakenBack("wdr_7", 2, HOT, CHAIN, 0, b"raw")], approved_by=frozenset())
    (found,) = read(journal).subjects.values()
    assert (found.subject, found.kind, found.first, found.nonce) == ("wdr_7", TAKEN_BACK, None, 0)
    assert [(one.attempt, one.raw) for one in found.attempts] == [(2, b"raw")]
