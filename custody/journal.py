"""The signer's own memory: an append-only, hash-chained SQLite file, written before any answer leaves.

It is what makes "one nonce, one intent" true across crashes, and what limits are counted from. Every row's hash covers
the row and the hash before it; opening it recomputes all of them. `synchronous=FULL`: what was answered is on disk.
One signer at a time (a lock file that the kernel frees). Not here: what is allowed (policy, nonces).
"""

import fcntl
import os
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, Self

import cbor2

from base.files import sync_folder
from custody.derivation import Role
from custody.errors import JournalExists, JournalInUse, JournalMissing, JournalTampered
from custody.intents import Cancel, Intent, Transfer, asset_of, from_map, to_map
from custody.nonces import Journalled, NonceFacts
from custody.policy import WINDOW_SECONDS, Rule

_GENESIS: Final = sha256(b"onebook/journal/1").digest()
"""Stands where the first row's predecessor would."""

_SCHEMA: Final = """
CREATE TABLE rows (
    sequence INTEGER PRIMARY KEY,
    at_us    INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    subject  TEXT,
    attempt  INTEGER,
    chain_id INTEGER,
    sender   TEXT,
    nonce    INTEGER,
    body     BLOB NOT NULL,
    hash     BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_subject_per_nonce ON rows (chain_id, sender, nonce) WHERE kind = 'intent';
CREATE UNIQUE INDEX one_nonce_per_subject ON rows (subject) WHERE kind = 'intent';
CREATE UNIQUE INDEX one_intent_per_attempt ON rows (subject, attempt) WHERE kind IN ('intent', 'successor');
CREATE UNIQUE INDEX one_signature_per_attempt ON rows (subject, attempt) WHERE kind = 'signed';
CREATE TRIGGER rows_stay BEFORE UPDATE ON rows BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER rows_remain BEFORE DELETE ON rows BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


class Kind(StrEnum):
    """What a row records."""

    ENROLLED = "enrolled"  # the first row: the keys and the policy this journal began with
    POLICY = "policy"  # a successor policy, accepted
    INTENT = "intent"  # a subject gets its nonce
    SUCCESSOR = "successor"  # the same nonce again: replacement or cancellation
    SIGNED = "signed"  # the bytes of an intent or successor
    REFUSED = "refused"


class Head(NamedTuple):
    """How far a journal goes: the highest sequence and that row's hash."""

    sequence: int
    hash: bytes


class SignedBytes(NamedTuple):
    """Bytes as they left, and the row that holds them."""

    raw: bytes
    at: Head


class _Row(NamedTuple):
    sequence: int
    at_us: int
    kind: str
    subject: str | None
    attempt: int | None
    chain_id: int | None
    sender: str | None
    nonce: int | None
    body: bytes
    hash: bytes

    def expected_hash(self, previous: bytes) -> bytes:
        """SHA-256 over the row before and everything in this one."""
        return sha256(cbor2.dumps([previous, *self[:-1]], canonical=True)).digest()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a journal was begun with, and the policy that it has accepted last."""

    fingerprints: Mapping[Role, bytes]
    policy_version: int
    policy_fingerprint: bytes


class _Window:
    """Units signed for within the rolling day, by (role, network, asset)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int, str], deque[tuple[int, int]]] = defaultdict(deque)
        self._sums: dict[tuple[str, int, str], int] = defaultdict(int)

    def add(self, at_us: int, transfer: Transfer) -> None:
        self.spent(at_us, transfer)  # forgets what is older, so that a long journal loads in little memory
        key = _window_key(transfer)
        self._entries[key].append((at_us, transfer.amount))
        self._sums[key] += transfer.amount

    def spent(self, now_us: int, transfer: Transfer) -> int:
        """The sum over (now - 24 h, now], forgetting what is older."""
        key = _window_key(transfer)
        entries = self._entries[key]
        while entries and entries[0][0] <= now_us - WINDOW_SECONDS * 1_000_000:
            self._sums[key] -= entries.popleft()[1]
        return self._sums[key]


def _window_key(transfer: Transfer) -> tuple[str, int, str]:
    return transfer.sender.role.value, transfer.chain_id, asset_of(transfer)


class Journal:
    """An open journal, verified from its first row. `now_us` is microseconds since 1970; rows' times never fall."""

    def __init__(self, connection: sqlite3.Connection, lock: int) -> None:
        self._connection = connection
        self._lock = lock
        self._window = _Window()
        self.head = Head(0, _GENESIS)
        self.last_at_us = 0
        self._enrolment: Enrolment | None = None
        for row in self._verified_rows():
            self._take(row)
        if self._enrolment is None:
            raise JournalTampered("the journal has no first row")

    @classmethod
    def create(cls, path: Path, enrolment: Enrolment, *, now_us: int) -> None:
        """Begin a journal at `path` for these keys and this policy; a file that exists is never touched."""
        if path.exists():
            raise JournalExists(f"{path} exists: a journal is never begun anew")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = _connect(path)
        try:
            connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            body = {
                "keys": {role.value: mark for role, mark in enrolment.fingerprints.items()},
                "policy_version": enrolment.policy_version,
                "policy": enrolment.policy_fingerprint,
            }
            _insert(connection, _row(Head(0, _GENESIS), now_us, Kind.ENROLLED, body))
        finally:
            connection.close()
        sync_folder(path.parent)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open and verify a journal.

        Raises JournalMissing, JournalInUse when another process has it, JournalTampered naming the first wrong row.
        """
        if not path.exists():
            raise JournalMissing(
                f"{path} is missing: keys whose journal is lost must not sign, since they might pay twice; "
                "put the journal back"
            )
        lock, connection = _lock(path), None
        try:
            connection = _connect(path)
            return cls(connection, lock)
        except BaseException as problem:
            if connection is not None:
                connection.close()
            os.close(lock)
            if isinstance(problem, sqlite3.DatabaseError):
                raise JournalTampered(f"{path} isn't a journal, or is damaged: {problem}") from problem
            raise

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._connection.close()
        os.close(self._lock)

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def enrolment(self) -> Enrolment:
        """The keys this journal was begun with, and the policy accepted last."""
        assert self._enrolment is not None
        return self._enrolment

    def nonce_facts(self, intent: Intent, *, first_nonce: int) -> NonceFacts:
        """What the journal knows about an intent; `first_nonce` counts for a sender without history."""
        sender, chain_id = str(intent.sender), intent.chain_id
        mine = "subject = ? AND kind IN ('intent', 'successor')"
        holder = self._one(
            "chain_id = ? AND sender = ? AND nonce = ? AND kind = 'intent'", chain_id, sender, intent.nonce
        )
        highest = self._connection.execute(
            "SELECT max(nonce) FROM rows WHERE chain_id = ? AND sender = ? AND kind = 'intent'", (chain_id, sender)
        ).fetchone()[0]
        return NonceFacts(
            same_attempt=self._journalled(self._one(f"{mine} AND attempt = ?", intent.subject, intent.attempt)),
            latest=self._journalled(self._one(f"{mine} ORDER BY attempt DESC LIMIT 1", intent.subject)),
            holder=holder.subject if holder else None,
            next_nonce=first_nonce if highest is None else highest + 1,
        )

    def spent_in_window(self, transfer: Transfer, *, now_us: int) -> int:
        """Units signed for in the 24 hours before `now_us`: same role, network and asset as `transfer`."""
        return self._window.spent(now_us, transfer)

    def signed_bytes(self, intent: Intent) -> SignedBytes | None:
        """The bytes of an attempt, or None when only its intent was journalled."""
        row = self._one("subject = ? AND attempt = ? AND kind = 'signed'", intent.subject, intent.attempt)
        return SignedBytes(cbor2.loads(row.body)["raw"], Head(row.sequence, row.hash)) if row else None

    def agrees(self, claimed: Head) -> bool:
        """Whether this journal has the row that a client has seen."""
        row = self._one("sequence = ?", claimed.sequence) if 0 < claimed.sequence <= self.head.sequence else None
        return row is not None and row.hash == claimed.hash

    # --- writing -----------------------------------------------------------------------------------------------------

    def record_intent(self, transfer: Transfer, rule: Rule, *, now_us: int) -> Journalled:
        """A subject gets its nonce; counts at once and in full."""
        body = {"intent": to_map(transfer), "rule": rule.name, "fee_wei_max": rule.fee_wei_max}
        head = self._append(now_us, Kind.INTENT, body, transfer)
        return Journalled(head.sequence, transfer, rule.name, rule.fee_wei_max)

    def record_successor(self, intent: Intent, of: Journalled, *, now_us: int) -> Journalled:
        """A replacement or cancellation, within what its first signature was allowed."""
        body = {"intent": to_map(intent), "rule": of.rule, "fee_wei_max": of.fee_wei_max}
        head = self._append(now_us, Kind.SUCCESSOR, body, intent)
        return Journalled(head.sequence, intent, of.rule, of.fee_wei_max)

    def record_signed(self, journalled: Journalled, *, raw: bytes, now_us: int) -> SignedBytes:
        """The bytes of a journalled intent."""
        head = self._append(now_us, Kind.SIGNED, {"of": journalled.sequence, "raw": raw}, journalled.intent)
        return SignedBytes(raw, head)

    def record_refusal(
        self, *, code: str, sentence: str, rule: str | None, question: bytes, intent: Intent | None, now_us: int
    ) -> Head:
        """A no; `question` is the SHA-256 of what was asked, the intent is kept whole where there was one."""
        told = to_map(intent) if intent is not None else None
        body = {"code": code, "sentence": sentence, "rule": rule, "question": question, "intent": told}
        return self._append(now_us, Kind.REFUSED, body, intent)

    def record_policy(self, *, version: int, fingerprint: bytes, now_us: int) -> Head:
        """A successor policy."""
        return self._append(now_us, Kind.POLICY, {"policy_version": version, "policy": fingerprint})

    def _append(self, now_us: int, kind: Kind, body: Mapping[str, object], intent: Intent | None = None) -> Head:
        row = _row(self.head, max(now_us, self.last_at_us), kind, body, intent)
        _insert(self._connection, row)
        self._take(row)
        return self.head

    # --- reading -----------------------------------------------------------------------------------------------------

    def _take(self, row: _Row) -> None:
        """Advance what is kept in memory by one row that is on disk."""
        self.head, self.last_at_us = Head(row.sequence, row.hash), row.at_us
        if row.kind == Kind.INTENT:
            intent = from_map(cbor2.loads(row.body)["intent"])
            assert not isinstance(intent, Cancel)
            self._window.add(row.at_us, intent)
        elif row.kind in (Kind.ENROLLED, Kind.POLICY):
            told = cbor2.loads(row.body)
            keys = (
                {Role(name): mark for name, mark in told["keys"].items()}
                if row.kind == Kind.ENROLLED
                else self.enrolment.fingerprints
            )
            self._enrolment = Enrolment(keys, told["policy_version"], told["policy"])

    def _verified_rows(self) -> Iterator[_Row]:
        """All rows in order, each checked against the one before."""
        flaw = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if flaw != "ok":
            raise JournalTampered(f"the journal's file is damaged: {flaw}")
        previous, expected = _GENESIS, 1
        for found in self._connection.execute("SELECT * FROM rows ORDER BY sequence"):
            row = _Row(*found)
            if row.sequence != expected or row.hash != row.expected_hash(previous):
                raise JournalTampered(f"row {expected} of the journal isn't what was written", sequence=expected)
            previous, expected = row.hash, expected + 1
            yield row

    def _one(self, where: str, *values: object) -> _Row | None:
        found = self._connection.execute(f"SELECT * FROM rows WHERE {where}", values).fetchone()  # noqa: S608 - ours
        return _Row(*found) if found else None

    @staticmethod
    def _journalled(row: _Row | None) -> Journalled | None:
        if row is None:
            return None
        told = cbor2.loads(row.body)
        return Journalled(row.sequence, from_map(told["intent"]), told["rule"], told["fee_wei_max"])


def _row(head: Head, at_us: int, kind: Kind, body: Mapping[str, object], intent: Intent | None = None) -> _Row:
    """The row that follows `head`."""
    place: tuple[str | None, int | None, int | None, str | None, int | None] = (None, None, None, None, None)
    if intent is not None:
        place = (intent.subject, intent.attempt, intent.chain_id, str(intent.sender), intent.nonce)
    encoded = cbor2.dumps(dict(body), canonical=True)
    bare = _Row(head.sequence + 1, at_us, kind.value, *place, encoded, b"")
    return bare._replace(hash=bare.expected_hash(head.hash))


def _insert(connection: sqlite3.Connection, row: _Row) -> None:
    with connection:
        connection.execute(f"INSERT INTO rows VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - placeholders


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level="IMMEDIATE", timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _lock(path: Path) -> int:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise JournalInUse(f"another process has {path} open: stop it first") from problem
    return descriptor
