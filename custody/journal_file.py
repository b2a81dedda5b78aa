"""How the signer's journal lies in its file: rows, their hashes, and the tables that find them again.

SQLite in WAL mode with `synchronous=FULL`; two triggers keep rows from being changed. A row's hash covers everything in
it and the hash of the row before. Not here: what rows mean (journal).
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import cbor2

from custody import payout
from custody.errors import IntentInvalid, JournalInUse, JournalTampered
from custody.intents import Allowance, KeyRef, from_map, subjects_of
from custody.timekeeping import Moment
from custody.transactions import read

GENESIS: Final = sha256(b"onebook/journal/1").digest()
"""Stands where the first row's predecessor would."""

_SCHEMA: Final = """
CREATE TABLE rows (
    sequence  INTEGER PRIMARY KEY,
    at_us     INTEGER NOT NULL,
    window_us INTEGER NOT NULL,
    clock     BLOB NOT NULL,
    kind      TEXT NOT NULL,
    subject   TEXT,
    attempt   INTEGER,
    chain_id  INTEGER,
    sender    TEXT,
    nonce     INTEGER,
    body      BLOB NOT NULL,
    hash      BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_subject_per_nonce ON rows (chain_id, sender, nonce) WHERE kind IN ('intent', 'resynced');
CREATE UNIQUE INDEX one_intent_per_attempt ON rows (subject, attempt) WHERE kind IN ('intent', 'successor');
CREATE UNIQUE INDEX one_signature_per_attempt ON rows (subject, attempt) WHERE kind = 'signed';
CREATE INDEX what_was_taken_back ON rows (subject) WHERE kind = 'resynced';
CREATE TABLE subjects (subject TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE allowances (batch TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TRIGGER rows_stay BEFORE UPDATE ON rows BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER rows_remain BEFORE DELETE ON rows BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER subjects_stay BEFORE UPDATE ON subjects BEGIN SELECT RAISE(ABORT, 'subjects stay used'); END;
CREATE TRIGGER subjects_remain BEFORE DELETE ON subjects BEGIN SELECT RAISE(ABORT, 'subjects stay used'); END;
"""


_PAGE_BYTES: Final = 1024
"""A commit writes every page that it touched, and rows are about 500 bytes: smaller pages, less to flush."""
CHECKPOINT_ROWS: Final = 2_000
"""Rows after which the log is worth moving into the file."""
_AUTOCHECKPOINT_PAGES: Final = 80_000
"""Pages of log (80 MB) at which SQLite moves them itself, in the middle of a commit: only if nobody did before."""


class Kind(StrEnum):
    """What a row records."""

    ENROLLED = "enrolled"  # the first row: the keys and the policy this journal began with
    STARTED = "started"  # a signer opened it
    POLICY = "policy"  # a successor policy, accepted
    INTENT = "intent"  # a subject gets its nonce
    SUCCESSOR = "successor"  # the same nonce again: replacement or cancellation
    SIGNED = "signed"  # the bytes of an intent or successor
    REFUSED = "refused"
    FROZEN = "frozen"
    LIFTED = "lifted"
    TIME = "time"  # approvers confirmed the time
    HALTED = "halted"  # a client had seen more than there is
    RESYNCED = "resynced"  # a transaction that was lost, taken back
    TAKEN_UP = "taken_up"  # the end of a halt
    RESERVED = "reserved"  # address indexes given away


class Head(NamedTuple):
    """How far a journal goes: the highest sequence and that row's hash."""

    sequence: int
    hash: bytes


class Placed(Protocol):
    """What a row is about."""

    @property
    def subject(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def chain_id(self) -> int: ...
    @property
    def sender(self) -> KeyRef: ...
    @property
    def nonce(self) -> int | None: ...


class Row(NamedTuple):
    """A row as it lies in the file. `clock` is the rest of its moment, in CBOR."""

    sequence: int
    at_us: int
    window_us: int
    clock: bytes
    kind: str
    subject: str | None
    attempt: int | None
    chain_id: int | None
    sender: str | None
    nonce: int | None
    body: bytes
    hash: bytes

    @property
    def moment(self) -> Moment:
        """When it was written."""
        return Moment(self.at_us, self.window_us, *cbor2.loads(self.clock))

    def expected_hash(self, previous: bytes) -> bytes:
        """SHA-256 over the row before and everything in this one."""
        return _hash(previous, self[:-1])


def _hash(previous: bytes, fields: tuple[object, ...]) -> bytes:
    return sha256(cbor2.dumps([previous, *fields], canonical=True)).digest()


_INSERT: Final = f"INSERT INTO rows VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608 - placeholders


def make_row(head: Head, at: Moment, kind: Kind, body: Mapping[str, object], about: Placed | None = None) -> Row:
    """The row that follows `head`."""
    place: tuple[str | None, int | None, int | None, str | None, int | None] = (None, None, None, None, None)
    if about is not None:
        place = (about.subject, about.attempt, about.chain_id, str(about.sender), about.nonce)
    encoded = cbor2.dumps(dict(body), canonical=True)
    fields = (head.sequence + 1, at.at_us, at.window_us, _clock(at), kind.value, *place, encoded)
    return Row(*fields, hash=_hash(head.hash, fields))


@lru_cache(maxsize=1)
def _clock(at: Moment) -> bytes:
    """What a row keeps of its moment beside `at_us` and `window_us`; an intent and its signature share one."""
    return cbor2.dumps([at.boot_us, at.boot, at.offset_us, at.withheld_us, at.measured_us], canonical=True)


def create_tables(connection: sqlite3.Connection) -> None:
    """An empty journal's tables."""
    connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")


def insert(connection: sqlite3.Connection, row: Row) -> None:
    """Append a row; flushed at once, unless a transaction is open."""
    connection.execute(_INSERT, row)


def verified_rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """All rows in order, each checked against the one before; what finds them again is checked with them."""
    flaw = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if flaw != "ok":
        raise JournalTampered(f"the journal's file is damaged: {flaw}")
    previous, expected, used, allowed = GENESIS, 1, 0, 0
    for found in connection.execute("SELECT * FROM rows ORDER BY sequence"):
        row = Row(*found)
        if row.sequence != expected or row.hash != row.expected_hash(previous):
            raise JournalTampered(f"row {expected} of the journal isn't what was written", sequence=expected)
        firsts, is_allowance = _check_found_again(connection, row)
        used, allowed = used + firsts, allowed + is_allowance
        previous, expected = row.hash, expected + 1
        yield row
    for table, there in (("subjects", used), ("allowances", allowed)):
        (listed,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - ours
        if listed != there:
            raise JournalTampered(f"the journal has {there} {table}, its index {listed}")


def taken_back_subjects(subject: str, raw: bytes) -> tuple[str, ...]:
    """What a transaction that a resync took back uses up: its subject, and of a batch every leg, by its id."""
    try:
        legs = payout.leg_ids(read(raw).transaction.payload)
    except IntentInvalid:
        legs = ()
    return (subject, *(_leg_name(leg) for leg in legs))


def names_of(subjects: Sequence[str]) -> dict[str, str]:
    """How subjects may stand in the table of those that are used up, and which each is."""
    return {name: subject for subject in subjects for name in (subject, _leg_name(payout.leg_id(subject)))}


def _leg_name(leg: bytes) -> str:
    return f"leg:{leg.hex()}"


def _check_found_again(connection: sqlite3.Connection, row: Row) -> tuple[int, bool]:
    """How many subjects the row is the first to use, and whether it's a batch's last allowance.

    Raises JournalTampered when an index says otherwise.
    """
    is_allowance = False
    if row.kind == Kind.INTENT:
        intent = from_map(cbor2.loads(row.body)["intent"])
        subjects = subjects_of(intent)
        if isinstance(intent, Allowance):
            at = connection.execute("SELECT sequence FROM allowances WHERE batch = ?", (intent.batch,)).fetchone()
            if at is None or at[0] < row.sequence:
                raise JournalTampered(f"the index of allowances doesn't know row {row.sequence}")
            is_allowance = at[0] == row.sequence
    elif row.kind == Kind.RESYNCED:
        subjects = taken_back_subjects(str(row.subject), cbor2.loads(row.body)["raw"])
    else:
        return 0, False
    firsts = 0
    for subject in subjects:
        at = connection.execute("SELECT sequence FROM subjects WHERE subject = ?", (subject,)).fetchone()
        if at is None or at[0] > row.sequence:
            raise JournalTampered(f"the index of subjects doesn't know row {row.sequence}")
        firsts += at[0] == row.sequence
    return firsts, is_allowance


def connect(path: Path) -> sqlite3.Connection:
    """A connection that flushes every commit."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a file that isn't there yet
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection


def checkpoint(path: Path) -> None:
    """Move what the log has into the file, beside a writer that goes on: over a connection of its own."""
    connection = connect(path)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    finally:
        connection.close()


def lock(path: Path) -> int:
    """The descriptor that keeps others out. Raises JournalInUse."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise JournalInUse(f"another process has {path} open: stop it first") from problem
    return descriptor
