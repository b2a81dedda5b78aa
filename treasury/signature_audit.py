"""The signer's journal against the database and the chain: every signature accounted for, and nobody else's. Pure.

The journal is read first and the database after it, so what was signed a moment ago may not be stored yet; and what is
stored may be newer than what was read. Neither is a difference.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from custody.journal_audit import JournalReading, SignedTransaction
from custody.journal_file import Head
from treasury.signature_store import Sent, StoredAttempt

STORING_SECONDS: Final = 60
"""So long an answer of the signer may take until it's stored."""

MINING_SECONDS: Final = 3600
"""A signature older than this whose nonce isn't on chain is an alert."""


class Reason(StrEnum):
    """What a difference is about, the gravest first."""

    JOURNAL_BROKEN = "journal_broken"
    """The hash chain breaks: the journal isn't what was written."""
    JOURNAL_BEHIND = "journal_behind"
    """The database has seen more of the journal than there is."""
    JOURNAL_DIFFERS = "journal_differs"
    """A row isn't the one that the database has seen."""
    FOREIGN_TRANSACTION = "foreign_transaction"
    """An own address sent something that the journal doesn't have."""
    BYTES_DIFFER = "bytes_differ"
    """An attempt's bytes are others in the journal than in the database."""
    NOT_IN_JOURNAL = "not_in_journal"
    NOT_IN_DATABASE = "not_in_database"
    NOT_ON_CHAIN = "not_on_chain"
    """Signed more than an hour ago, and its nonce is neither mined nor waiting."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that doesn't agree."""

    reason: Reason
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class OnChain:
    """What one network's node says: by sender (`hot:0`) how many transactions are mined; by hash where each is."""

    mined_nonces: Mapping[str, int]
    placed: Mapping[str, int | None]


def compare_stored(
    reading: JournalReading, attempts: Sequence[StoredAttempt], chain_ids: Mapping[str, int], *, now_us: int
) -> Iterator[Difference]:
    """The journal and the database, both ways. `chain_ids` by network's name."""
    if reading.flaw is not None:
        yield Difference(Reason.JOURNAL_BROKEN, "journal", reading.flaw)
        return
    yield from _heads(reading, attempts)
    signed = {(one.subject, one.attempt): one for one in reading.signed if not one.is_taken_back}
    taken_back = {(one.chain_id, one.sender, one.nonce): one for one in reading.signed if one.is_taken_back}
    stored: set[tuple[str, int]] = set()
    for attempt in attempts:
        if attempt.raw is None:
            continue
        stored.add((attempt.subject, attempt.attempt))
        known = signed.get((attempt.subject, attempt.attempt))
        place = (chain_ids.get(attempt.network, 0), attempt.key, attempt.nonce)
        given_back = taken_back.get(place)
        name = f"attempt {attempt.attempt} of {attempt.subject}"
        if known is None and given_back is not None and given_back.subject == attempt.subject:
            continue
        if known is None:
            if attempt.sequence is None or attempt.sequence <= reading.head.sequence:
                yield Difference(Reason.NOT_IN_JOURNAL, attempt.subject, f"the journal has no {name}")
        elif known.raw != attempt.raw:
            told = f"{name} has other bytes in the database than in row {known.sequence} of the journal"
            yield Difference(Reason.BYTES_DIFFER, attempt.subject, told)
    for one in reading.signed:
        is_fresh = now_us - one.at_us < STORING_SECONDS * 1_000_000
        if not one.is_taken_back and (one.subject, one.attempt) not in stored and not is_fresh:
            told = f"the database has no attempt {one.attempt} of {one.subject}, signed in row {one.sequence}"
            yield Difference(Reason.NOT_IN_DATABASE, one.subject, told)


def compare_chain(
    signed: Sequence[SignedTransaction],
    seen: OnChain,
    sent: Sequence[Sent],
    *,
    first_nonces: Mapping[str, int],
    now_us: int,
) -> Iterator[Difference]:
    """What was signed for one network, and that network. `sent` is what its blocks have of own addresses,
    `first_nonces` by sender where the journal begins."""
    ours = {one.tx_hash for one in signed}
    by_nonce: dict[tuple[str, int], list[SignedTransaction]] = defaultdict(list)
    for one in signed:
        by_nonce[one.sender, one.nonce].append(one)
    told: set[tuple[str, int]] = set()
    for transaction in sent:
        if transaction.tx_hash not in ours and transaction.nonce >= first_nonces.get(transaction.key, 0):
            told.add((transaction.key, transaction.nonce))
            text = f"{transaction.key} sent {transaction.tx_hash} (nonce {transaction.nonce}): it isn't in the journal"
            yield Difference(Reason.FOREIGN_TRANSACTION, transaction.tx_hash, text)
    for (sender, nonce), attempts in sorted(by_nonce.items()):
        mined = nonce < seen.mined_nonces.get(sender, 0)
        placed = [seen.placed[one.tx_hash] for one in attempts if one.tx_hash in seen.placed]
        latest = max(attempts, key=lambda one: one.at_us)
        name = f"{latest.subject} (nonce {nonce} of {sender})"
        if mined and all(height is None for height in placed) and (sender, nonce) not in told:
            text = f"nonce {nonce} of {sender} is mined with something else than was signed for {latest.subject}"
            yield Difference(Reason.FOREIGN_TRANSACTION, latest.subject, text)
        elif not mined and not placed and now_us - latest.at_us > MINING_SECONDS * 1_000_000:
            minutes = (now_us - latest.at_us) // 60_000_000
            text = f"{name} was signed {minutes} minutes ago, and the node doesn't know it: not mined, not waiting"
            yield Difference(Reason.NOT_ON_CHAIN, latest.subject, text)
    for sender, count in sorted(seen.mined_nonces.items()):
        known = [nonce for key, nonce in by_nonce if key == sender] + [nonce for key, nonce in told if key == sender]
        highest = max(known, default=first_nonces.get(sender, 0) - 1)
        if count > highest + 1:
            text = f"{sender} has {count} transactions on chain; the journal goes to nonce {highest}"
            yield Difference(Reason.FOREIGN_TRANSACTION, sender, text)


def _heads(reading: JournalReading, attempts: Sequence[StoredAttempt]) -> Iterator[Difference]:
    """Every row of the journal that an answer named."""
    for attempt in attempts:
        if attempt.sequence is None or attempt.head is None:
            continue
        answered = Head(attempt.sequence, attempt.head)
        if reading.has(answered) or reading.has_lost(answered):
            continue
        name = f"attempt {attempt.attempt} of {attempt.subject}"
        if attempt.sequence > reading.head.sequence:
            told = f"{name} was answered with row {attempt.sequence}, the journal ends at {reading.head.sequence}"
            yield Difference(Reason.JOURNAL_BEHIND, attempt.subject, told)
        else:
            told = f"row {attempt.sequence} isn't the one with which {name} was answered"
            yield Difference(Reason.JOURNAL_DIFFERS, attempt.subject, told)
