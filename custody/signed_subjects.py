"""What a journal has signed, by subject: what a database that was put back from a backup is rebuilt from. Pure.

Rows are taken in order and checked against the one before. Messages (authorisations, proofs of control) have no nonce
and are passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2

from custody.intent_json import key_named
from custody.intents import Authorisation, KeyRef, Payment, ProofOfControl, from_map
from custody.journal_file import GENESIS, Head, Kind, Row
from custody.judging import DENIALS

TAKEN_BACK = "taken_back"
"""The kind of what a resync gave back: only its bytes are known."""


@dataclass(slots=True)
class SignedAttempt:
    """An attempt as the journal has it. `intent` None: it was taken back; `raw` None: journalled, not yet signed.

    `at` is the row whose answer gave the bytes (that of the intent, while there are none); `at_us` Unix microseconds.
    """

    attempt: int
    intent: Payment | None
    raw: bytes | None
    at: Head
    at_us: int


@dataclass(slots=True)
class SignedSubject:
    """All attempts of one subject, in order, on its one nonce. `claims`: whose it is, as the asker said it; of
    a batch, whose each leg is."""

    subject: str
    kind: str
    chain_id: int
    sender: KeyRef
    nonce: int
    claims: Mapping[str, Any] | list[Mapping[str, Any] | None] | None
    attempts: list[SignedAttempt] = field(default_factory=list)

    @property
    def first(self) -> Payment | None:
        """The intent that it began with."""
        return self.attempts[0].intent

    @property
    def last_row(self) -> int:
        """The row of the latest attempt."""
        return self.attempts[-1].at.sequence


@dataclass(frozen=True, slots=True)
class Refusal:
    """The policy's no to a subject, for which nothing was signed."""

    sentence: str
    at: Head


class SubjectReading:
    """Takes rows in order from the one after `start`. `flaw` says where the hash chain first breaks; after that
    nothing more is believed."""

    def __init__(self, start: Head | None = None) -> None:
        self.head = start or Head(0, GENESIS)
        self.flaw: str | None = None
        self.subjects: dict[str, SignedSubject] = {}
        self.refusals: dict[str, Refusal] = {}
        """Of subjects for which nothing was signed."""
        self._waiting: dict[int, SignedAttempt] = {}

    def take(self, row: Row) -> None:
        """The next row."""
        if self.flaw is not None:
            return
        expected = self.head.sequence + 1
        try:
            right = row.sequence == expected and row.hash == row.expected_hash(self.head.hash)
            if right:
                self._read(row, Head(row.sequence, row.hash))
        except (cbor2.CBORError, KeyError, TypeError, ValueError):
            right = False
        if not right:
            self.flaw = f"row {expected} of the journal isn't what was written"
            return
        self.head = Head(row.sequence, row.hash)

    def next_nonces(self) -> dict[tuple[int, KeyRef], int]:
        """The nonce after the highest that was signed, by chain id and sender."""
        found: dict[tuple[int, KeyRef], int] = {}
        for one in self.subjects.values():
            place = (one.chain_id, one.sender)
            found[place] = max(found.get(place, 0), one.nonce + 1)
        return found

    def _read(self, row: Row, at: Head) -> None:
        match row.kind:
            case Kind.INTENT | Kind.SUCCESSOR:
                self._begin(row, at)
            case Kind.SIGNED:
                told = cbor2.loads(row.body)
                attempt = self._waiting.pop(told["of"], None)
                if attempt is not None:
                    attempt.raw, attempt.at = told["raw"], at
            case Kind.RESYNCED:
                raw = cbor2.loads(row.body)["raw"]
                self._attempt(row, None, TAKEN_BACK, None, SignedAttempt(row.attempt or 1, None, raw, at, row.at_us))
            case Kind.REFUSED:
                told = cbor2.loads(row.body)
                if row.subject is not None and row.subject not in self.subjects and told["code"] in DENIALS:
                    self.refusals[row.subject] = Refusal(told["sentence"], at)
            case _:
                pass

    def _begin(self, row: Row, at: Head) -> None:
        told = cbor2.loads(row.body)
        intent = from_map(told["intent"])
        if isinstance(intent, Authorisation | ProofOfControl):
            return
        attempt = SignedAttempt(intent.attempt, intent, None, at, row.at_us)
        self._waiting[row.sequence] = attempt
        self._attempt(row, intent, intent.kind, told.get("claims"), attempt)

    def _attempt(
        self,
        row: Row,
        intent: Payment | None,
        kind: str,
        claims: Mapping[str, Any] | list[Mapping[str, Any] | None] | None,
        attempt: SignedAttempt,
    ) -> None:
        if row.subject is None or row.chain_id is None or row.sender is None or row.nonce is None:
            raise ValueError("what is signed has a place")
        self.refusals.pop(row.subject, None)
        known = self.subjects.get(row.subject)
        if known is None:
            sender = intent.sender if intent is not None else key_named(row.sender)
            known = SignedSubject(row.subject, kind, row.chain_id, sender, row.nonce, claims)
            self.subjects[row.subject] = known
        known.attempts.append(attempt)
