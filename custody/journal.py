"""The signer's own memory: an append-only, hash-chained SQLite file, written before any answer leaves.

It is what makes "one nonce, one intent" true across crashes, and what limits are counted from. Every row's hash covers
the row and the hash before it; opening it recomputes all of them. `synchronous=FULL`: what was answered is on disk.
Questions that come at the same time share a flush (`batch`). One signer at a time (a lock file that the kernel frees).
Not here: what is allowed (policy, nonces), how rows lie in the file (journal_file).
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import cbor2

from base.files import sync_folder
from custody.approvals import Mandate, Person, mandate_map
from custody.claims import Claims
from custody.clocks import Clocks
from custody.counting import Counted, Counts
from custody.errors import JournalExists, JournalMissing, JournalTampered
from custody.intents import Allowance, Cancel, First, Intent, KeyRef, Payment, TopUp, from_map, subjects_of, to_map
from custody.journal_file import (
    CHECKPOINT_ROWS,
    GENESIS,
    Head,
    Kind,
    Row,
    connect,
    create_tables,
    insert,
    lock,
    make_row,
    names_of,
    taken_back_subjects,
    verified_rows,
)
from custody.nonces import Journalled, NonceFacts
from custody.timekeeping import Moment, Unsafe, advance, begin, confirm

_NAME_DIGITS: Final = 16


class SignedBytes(NamedTuple):
    """Bytes as they left (a transaction, or a message's signature), and the row that holds them."""

    raw: bytes
    at: Head


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The keys that a journal serves (fingerprints by name), and the policy that it has accepted last, with the people
    who may change it."""

    fingerprints: Mapping[str, bytes]
    policy_version: int
    policy_fingerprint: bytes
    people: tuple[Person, ...] = ()
    threshold: int = 0

    def body(self) -> dict[str, object]:
        """What a row says of the policy."""
        return {
            "keys": dict(self.fingerprints),
            "policy_version": self.policy_version,
            "policy": self.policy_fingerprint,
            "people": [[person.name, person.key] for person in self.people],
            "threshold": self.threshold,
        }

    @staticmethod
    def from_body(told: Mapping[str, Any]) -> "Enrolment":
        """What a row's body says."""
        people = tuple(Person(name, key) for name, key in told["people"])
        return Enrolment(told["keys"], told["policy_version"], told["policy"], people, told["threshold"])


@dataclass(frozen=True, slots=True)
class Scope:
    """What a freeze stops: all (neither is given), a network, or an asset on it."""

    chain_id: int | None = None
    asset: str | None = None

    def covers(self, chain_id: int, asset: str | None) -> bool:
        """Whether an intent on that network in that asset is stopped."""
        return self.chain_id in (None, chain_id) and self.asset in (None, asset)

    def __str__(self) -> str:
        if self.chain_id is None:
            return "everything"
        return f"network {self.chain_id}" + (f", asset {self.asset}" if self.asset else "")


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A transaction that a resync gave back to a journal that had lost it; `subject` and `attempt` are claims."""

    subject: str
    attempt: int
    sender: KeyRef
    chain_id: int
    nonce: int
    raw: bytes


class Journal:
    """An open journal, verified from its first row. Times are its own (`custody.timekeeping`), and never fall."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int, clocks: Clocks) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._clocks = clocks
        self._in_batch = False
        self._checkpoint_at = 0
        self._load()

    @classmethod
    def create(cls, path: Path, enrolment: Enrolment, *, proof: Mapping[str, object], clocks: Clocks) -> None:
        """Begin a journal at `path` for these keys and this policy; a file that exists is never touched.

        `proof` shows that who began it held the keys (`custody.enrolment`).
        """
        if path.exists():
            raise JournalExists(f"{path} exists: a journal is never begun anew")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = connect(path)
        try:
            create_tables(connection)
            body = {**enrolment.body(), "proof": dict(proof)}
            insert(connection, make_row(Head(0, GENESIS), begin(clocks.read()), Kind.ENROLLED, body))
        finally:
            connection.close()
        sync_folder(path.parent)

    @classmethod
    def open(cls, path: Path, clocks: Clocks) -> Self:
        """Open and verify a journal.

        Raises JournalMissing, JournalInUse when another process has it, JournalTampered naming the first wrong row.
        """
        if not path.exists():
            raise JournalMissing(
                f"{path} is missing: keys whose journal is lost must not sign, since they might pay twice; "
                "put the journal back; for keys that never had one, onebook policy enrol begins it"
            )
        held, connection = lock(path), None
        try:
            connection = connect(path)
            return cls(path, connection, held, clocks)
        except BaseException as problem:
            if connection is not None:
                connection.close()
            os.close(held)
            if isinstance(problem, sqlite3.DatabaseError):
                raise JournalTampered(f"{path} isn't a journal, or is damaged: {problem}") from problem
            raise

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._connection.close()
        os.close(self._lock)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Rows within are flushed together at the end, or none of them is kept: then it raises what stopped them."""
        if self._in_batch:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._in_batch = True
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._load()
            raise
        finally:
            self._in_batch = False

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def serial(self) -> str:
        """What statements about the signer itself carry: how many were believed, and which journal this is (the first
        16 digits of its first row's hash), so that none holds twice, or at another signer."""
        return f"{self._said}-{self._name}"

    @property
    def enrolment(self) -> Enrolment:
        """The keys this journal was begun with, and the policy accepted last."""
        assert self._enrolment is not None
        return self._enrolment

    @property
    def frozen(self) -> frozenset[Scope]:
        """What is frozen."""
        return frozenset(self._frozen)

    def time(self) -> Moment | Unsafe:
        """The present by this journal's measure, or why there is none."""
        return advance(self.last, self._clocks.read())

    def wall_seconds(self) -> int:
        """What the wall clock says, trusted or not (Unix seconds)."""
        return self._clocks.read().wall_us // 1_000_000

    def frozen_scope(self, intent: Intent, asset: str | None) -> Scope | None:
        """The freeze that stops an intent, if one does. A cancellation is stopped by freezes of its whole network."""
        return next((scope for scope in self._frozen if scope.covers(intent.chain_id, asset)), None)

    def nonce_facts(self, intent: Intent, *, first_nonce: int) -> NonceFacts:
        """What the journal knows about an intent; `first_nonce` counts for a sender without history.

        Most intents are new: then one look at the subjects that are used up tells that nothing else need be looked for.
        """
        sender, chain_id, used = str(intent.sender), intent.chain_id, self._used(intent)
        mine = "subject = ? AND kind IN ('intent', 'successor')"
        place = "chain_id = ? AND sender = ? AND kind IN ('intent', 'resynced')"
        highest = self._connection.execute(
            f"SELECT max(nonce) FROM rows WHERE {place}",  # noqa: S608 - ours
            (chain_id, sender),
        ).fetchone()[0]
        next_nonce = first_nonce if highest is None else highest + 1
        holder = same = latest = None
        if intent.nonce is not None and intent.nonce < next_nonce:
            holder = self._one(f"{place} AND nonce = ?", chain_id, sender, intent.nonce)
        if used is not None:
            same = self._one(f"{mine} AND attempt = ?", intent.subject, intent.attempt)
            latest = self._one(f"{mine} ORDER BY attempt DESC LIMIT 1", intent.subject)
        return NonceFacts(
            same_attempt=self._journalled(same),
            latest=self._journalled(latest),
            used=used,
            holder=holder.subject if holder else None,
            next_nonce=next_nonce,
        )

    def signed_bytes(self, intent: Intent) -> SignedBytes | None:
        """The bytes of an attempt, or None when only its intent was journalled."""
        row = self._one("subject = ? AND attempt = ? AND kind = 'signed'", intent.subject, intent.attempt)
        return SignedBytes(cbor2.loads(row.body)["raw"], Head(row.sequence, row.hash)) if row else None

    def taken_back(self, intent: Intent) -> SignedBytes | None:
        """The transaction that a resync took back for this subject, if one did."""
        row = self._one("subject = ? AND kind = 'resynced' ORDER BY attempt DESC LIMIT 1", intent.subject)
        return SignedBytes(cbor2.loads(row.body)["raw"], Head(row.sequence, row.hash)) if row else None

    def first_of(self, subject: str) -> Journalled | None:
        """The intent that a subject began with."""
        return self._journalled(
            self._one("subject = ? AND kind IN ('intent', 'successor') ORDER BY attempt LIMIT 1", subject)
        )

    def allowance_for(self, batch: str) -> Journalled | None:
        """The allowance signed last for a batch."""
        row = self._connection.execute("SELECT sequence FROM allowances WHERE batch = ?", (batch,)).fetchone()
        return self._journalled(self._one("sequence = ?", row[0])) if row else None

    def next_index(self, keys: str) -> int:
        """The first address index of these keys (`deposit`, `deposit.2`) that isn't reserved."""
        return self._next_index.get(keys, 0)

    def agrees(self, claimed: Head) -> bool:
        """Whether this journal has the row that a client has seen, or was taken up where that was lost."""
        if claimed in self._taken_over:
            return True
        row = self._one("sequence = ?", claimed.sequence) if 0 < claimed.sequence <= self.head.sequence else None
        return row is not None and row.hash == claimed.hash

    def take_checkpoint(self) -> Path | None:
        """The file, when it's time that somebody calls `journal_file.checkpoint` on it, in another thread."""
        if self.head.sequence - self._checkpoint_at < CHECKPOINT_ROWS:
            return None
        self._checkpoint_at = self.head.sequence
        return self._path

    def rows(self, *, first: int, count: int) -> list[Row]:
        """Rows from a sequence on, for whoever audits."""
        found = self._connection.execute(
            "SELECT * FROM rows WHERE sequence >= ? ORDER BY sequence LIMIT ?", (first, count)
        )
        return [Row(*row) for row in found]

    # --- writing -----------------------------------------------------------------------------------------------------

    def record_start(self) -> Head:
        """The signer starts; raises nothing when the clocks are unsafe, since the row says what time there was."""
        now = self.time()
        return self._append(Kind.STARTED, {}, at=self.last if isinstance(now, Unsafe) else now)

    def record_intent(
        self,
        intent: First,
        *,
        rule: str,
        fee_wei_max: int,
        at: Moment,
        mandate: Mandate | None = None,
        approved_by: frozenset[str] = frozenset(),
        claims: Claims | None = None,
    ) -> Journalled:
        """A subject gets its nonce; counts at once and in full. `claims` are the asker's own, kept for recovery."""
        body = {
            "intent": to_map(intent),
            "rule": rule,
            "fee_wei_max": fee_wei_max,
            "fee_counted": intent.fee_wei_max,
            "mandate": None if mandate is None else mandate_map(mandate),
            "approved_by": sorted(approved_by),
            "claims": claims,
        }
        head = self._append(Kind.INTENT, body, at=at, intent=intent)
        return Journalled(head.sequence, intent, rule, fee_wei_max)

    def record_successor(self, intent: Payment, of: Journalled, *, at: Moment) -> Journalled:
        """A replacement or cancellation, within what its first signature was allowed."""
        counted = max(0, intent.fee_wei_max - of.intent.fee_wei_max)
        body = {"intent": to_map(intent), "rule": of.rule, "fee_wei_max": of.fee_wei_max, "fee_counted": counted}
        head = self._append(Kind.SUCCESSOR, body, at=at, intent=intent)
        return Journalled(head.sequence, intent, of.rule, of.fee_wei_max)

    def record_signed(self, journalled: Journalled, *, raw: bytes) -> SignedBytes:
        """The bytes of a journalled intent."""
        head = self._append(Kind.SIGNED, {"of": journalled.sequence, "raw": raw}, intent=journalled.intent)
        return SignedBytes(raw, head)

    def record_refusal(
        self, *, code: str, sentence: str, rule: str | None, question: bytes, intent: Intent | None
    ) -> Head:
        """A no; `question` is the SHA-256 of what was asked, the intent is kept whole where there was one."""
        told = to_map(intent) if intent is not None else None
        body = {"code": code, "sentence": sentence, "rule": rule, "question": question, "intent": told}
        now = self.time()
        return self._append(Kind.REFUSED, body, at=self.last if isinstance(now, Unsafe) else now, intent=intent)

    def record_policy(self, successor: Enrolment, *, proof: Mapping[str, object]) -> Head:
        """A successor policy; `proof` shows that those who may change it did."""
        return self._append(Kind.POLICY, {**successor.body(), "proof": dict(proof)})

    def record_freeze(self, scope: Scope, *, lifted: bool, approved_by: frozenset[str]) -> Head:
        """A freeze, or the lifting of one."""
        body = {"chain_id": scope.chain_id, "asset": scope.asset, "approved_by": sorted(approved_by)}
        return self._append(Kind.LIFTED if lifted else Kind.FROZEN, body)

    def record_time(self, *, approved_by: frozenset[str]) -> Head:
        """Approvers confirm the time: the one row that may bring the journal's clock back."""
        body = {"approved_by": sorted(approved_by)}
        return self._append(Kind.TIME, body, at=confirm(self.last, self._clocks.read()))

    def record_halt(self, claimed: Head) -> Head:
        """A client has seen more of this journal than there is: nothing is signed until it's taken up again."""
        return self._append(Kind.HALTED, {"sequence": claimed.sequence, "head": claimed.hash})

    def record_resync(self, transactions: Sequence[TakenBack], *, approved_by: frozenset[str]) -> Head:
        """Take transactions back and go on, every window full."""
        with self.batch():
            for one in transactions:
                self._append(Kind.RESYNCED, {"raw": one.raw}, taken_back=one)
            return self._append(Kind.TAKEN_UP, {"approved_by": sorted(approved_by)})

    def record_reservation(self, keys: str, count: int) -> int:
        """Give `count` address indexes of these keys away; the first of them."""
        first = self.next_index(keys)
        self._append(Kind.RESERVED, {"keys": keys, "first": first, "count": count})
        return first

    def _append(
        self,
        kind: Kind,
        body: Mapping[str, object],
        *,
        at: Moment | None = None,
        intent: Intent | None = None,
        taken_back: TakenBack | None = None,
    ) -> Head:
        if not self._in_batch:
            with self.batch():
                return self._append(kind, body, at=at, intent=intent, taken_back=taken_back)
        place = intent or taken_back
        at = at or self.last
        row = make_row(self.head, at, kind, body, place)
        insert(self._connection, row)
        self._index(row, intent)
        self._take(row, at, body if intent else cbor2.loads(row.body), intent)
        return self.head

    def _index(self, row: Row, intent: Intent | None) -> None:
        """Keep what finds rows again: subjects that are used up, and allowances by their batch."""
        if row.kind == Kind.INTENT and intent is not None:
            self._connection.executemany(
                "INSERT INTO subjects VALUES (?, ?)", [(subject, row.sequence) for subject in subjects_of(intent)]
            )
            if isinstance(intent, Allowance):
                self._connection.execute(
                    "INSERT INTO allowances VALUES (?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence",
                    (intent.batch, row.sequence),
                )
        elif row.kind == Kind.RESYNCED:
            used = taken_back_subjects(str(row.subject), cbor2.loads(row.body)["raw"])
            self._connection.executemany(
                "INSERT INTO subjects VALUES (?, ?) ON CONFLICT DO NOTHING", [(name, row.sequence) for name in used]
            )

    # --- reading -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read and verify the whole file."""
        self.counts = Counts()
        self.head = Head(0, GENESIS)
        self._said = 0
        self._name = ""
        self.halted: Head | None = None
        self._claimed: set[Head] = set()
        self._taken_over: set[Head] = set()
        self._enrolment: Enrolment | None = None
        self.proofs: list[tuple[Enrolment, Mapping[str, Any]]] = []
        """Every enrolment, oldest first, with what proves it."""
        self._frozen: set[Scope] = set()
        self._next_index: dict[str, int] = {}
        self._has_taken_back = False
        for row in verified_rows(self._connection):
            self._take(row, row.moment, cbor2.loads(row.body))
        self._checkpoint_at = self.head.sequence
        if self._enrolment is None:
            raise JournalTampered("the journal has no first row")

    def _take(self, row: Row, at: Moment, told: Mapping[str, Any], intent: Intent | None = None) -> None:
        """Advance what is kept in memory by one row of the file: its moment, what its body says, and its intent where
        that is at hand."""
        self.head, self.last = Head(row.sequence, row.hash), at
        match row.kind:
            case Kind.INTENT | Kind.SUCCESSOR:
                counted = Counted(intent or from_map(told["intent"]), told["fee_counted"])
                if row.kind == Kind.INTENT:
                    self.counts.add(counted, at_us=row.window_us)
                else:
                    self._take_successor(counted, row)
            case Kind.ENROLLED | Kind.POLICY:
                self._name = self._name or row.hash.hex()[:_NAME_DIGITS]
                self._enrolment = Enrolment.from_body(told)
                self.proofs.append((self._enrolment, told["proof"]))
            case Kind.FROZEN | Kind.LIFTED:
                scope = Scope(told["chain_id"], told["asset"])
                (self._frozen.add if row.kind == Kind.FROZEN else self._frozen.discard)(scope)
                self._said += 1
            case Kind.TIME:
                self._said += 1
            case Kind.RESYNCED:
                self._has_taken_back = True
            case Kind.HALTED:
                self.halted = Head(told["sequence"], told["head"])
                self._claimed.add(self.halted)
            case Kind.TAKEN_UP:
                self._said += 1
                self.halted = None
                self._taken_over |= self._claimed
                self.counts.fill(at_us=row.window_us)
            case Kind.RESERVED:
                self._next_index[told["keys"]] = told["first"] + told["count"]
            case _:
                pass

    def _take_successor(self, counted: Counted, row: Row) -> None:
        self.counts.add_fee(counted, at_us=row.window_us)
        first = self.first_of(counted.intent.subject) if isinstance(counted.intent, Cancel) else None
        if first is not None and isinstance(first.intent, TopUp):
            self.counts.close_top_up(first.intent)

    def _used(self, intent: Intent) -> str | None:
        subjects = subjects_of(intent)
        names = names_of(subjects) if self._has_taken_back else {subject: subject for subject in subjects}
        marks = ", ".join("?" * len(names))
        row = self._connection.execute(
            f"SELECT subject FROM subjects WHERE subject IN ({marks})",  # noqa: S608 - placeholders
            tuple(names),
        ).fetchone()
        return None if row is None else names[row[0]]

    def _one(self, where: str, *values: object) -> Row | None:
        found = self._connection.execute(f"SELECT * FROM rows WHERE {where}", values).fetchone()  # noqa: S608 - ours
        return Row(*found) if found else None

    @staticmethod
    def _journalled(row: Row | None) -> Journalled | None:
        if row is None:
            return None
        told = cbor2.loads(row.body)
        return Journalled(row.sequence, from_map(told["intent"]), told["rule"], told["fee_wei_max"])
