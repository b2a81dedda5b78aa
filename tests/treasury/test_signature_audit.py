"""The comparison of journal, database and chain, one difference at a time; each has its twin without one."""

from dataclasses import replace

import pytest

from custody.journal_audit import JournalReading, SignedTransaction
from custody.journal_file import GENESIS, Head
from treasury.signature_audit import MINING_SECONDS, OnChain, Reason, compare_chain, compare_stored
from treasury.signature_store import Sent, StoredAttempt

NOW = 10**15
OLD = NOW - 2 * MINING_SECONDS * 1_000_000
CHAINS = {"local": 31337}


def signed(
    nonce: int, *, raw: bytes | None = None, at_us: int = OLD, back: bool = False, attempt: int = 1
) -> SignedTransaction:
    subject = f"wdr_{nonce}"
    return SignedTransaction(
        subject, attempt, 31337, "hot:0", nonce, raw or bytes([nonce, attempt]), nonce + 1, at_us, back
    )


def stored(one: SignedTransaction) -> StoredAttempt:
    head = bytes([one.sequence]) * 32
    return StoredAttempt("local", one.subject, one.attempt, one.sender, one.nonce, one.raw, one.sequence, head, None)


def reading(*transactions: SignedTransaction, rows: int = 5) -> JournalReading:
    made = JournalReading()
    made.signed = list(transactions)
    made.hashes = [bytes([number]) * 32 for number in range(1, rows + 1)]
    made.head = Head(rows, made.hashes[-1] if rows else GENESIS)
    return made


def reasons(read: JournalReading, *attempts: StoredAttempt) -> list[Reason]:
    return [one.reason for one in compare_stored(read, attempts, CHAINS, now_us=NOW)]


def test_the_same_signatures_on_both_sides_are_no_difference():
    both = [signed(0), signed(1), signed(1, attempt=2)]
    assert reasons(reading(*both), *map(stored, both)) == []


@pytest.mark.parametrize(
    ("read", "attempts", "found"),
    [
        (reading(signed(0)), [replace(stored(signed(0)), raw=b"other")], [Reason.BYTES_DIFFER]),
        (reading(), [stored(signed(0))], [Reason.NOT_IN_JOURNAL]),
        (reading(signed(0)), [], [Reason.NOT_IN_DATABASE]),
        (reading(signed(0, at_us=NOW - 10**6)), [], []),
        (reading(signed(0)), [replace(stored(signed(0)), head=bytes(32))], [Reason.JOURNAL_DIFFERS]),
        (reading(rows=1), [replace(stored(signed(0)), sequence=9)], [Reason.JOURNAL_BEHIND]),
        (reading(), [replace(stored(signed(0)), raw=None)], []),
        (reading(signed(0, back=True)), [stored(signed(0)), stored(signed(0, attempt=2))], []),
    ],
    ids=["bytes", "journal lacks", "database lacks", "a moment ago", "head", "behind", "a refusal", "taken back"],
)
def test_stored(read: JournalReading, attempts: list[StoredAttempt], found: list[Reason]):
    assert reasons(read, *attempts) == found


def test_a_broken_chain_is_all_that_is_said():
    broken = reading(signed(0))
    broken.flaw = "row 2 of the journal isn't what was written"
    assert reasons(broken, stored(signed(1))) == [Reason.JOURNAL_BROKEN]


def chain(
    signed_: list[SignedTransaction], mined: int, placed: dict[str, int | None], sent: list[Sent] | None = None
) -> list[Reason]:
    seen = OnChain({"hot:0": mined}, placed)
    found = compare_chain(signed_, seen, sent or [], first_nonces={}, now_us=NOW)
    return [one.reason for one in found]


def test_chain():
    one, two, fresh = signed(0), signed(1), signed(1, at_us=NOW - 10**6)
    stranger = Sent("local", "0xff", "0x00", "hot:0", 0, 7)
    assert chain([one], 1, {one.tx_hash: 5}) == []
    assert chain([one], 0, {one.tx_hash: None}) == [], "waiting"
    assert chain([one, fresh], 1, {one.tx_hash: 5}) == [], "signed a second ago"
    assert chain([one, two], 1, {one.tx_hash: 5}) == [Reason.NOT_ON_CHAIN]
    assert chain([one], 1, {}) == [Reason.FOREIGN_TRANSACTION], "its nonce went to something else"
    assert chain([one], 1, {}, [stranger]) == [Reason.FOREIGN_TRANSACTION], "said once"
    assert chain([one], 2, {one.tx_hash: 5}) == [Reason.FOREIGN_TRANSACTION], "one more than was signed"
    assert chain([], 1, {}) == [Reason.FOREIGN_TRANSACTION]
    replaced = signed(0, attempt=2)
    assert chain([one, replaced], 1, {one.tx_hash: 5}) == [], "the first attempt was mined, its replacement never"


def test_what_was_before_the_journal_is_not_its_affair():
    before = Sent("local", "0xff", "0x00", "hot:0", 2, 7)
    seen = OnChain({"hot:0": 3}, {})
    assert list(compare_chain([], seen, [before], first_nonces={"hot:0": 3}, now_us=NOW)) == []
