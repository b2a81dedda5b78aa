"""Acts: what a person did to treasury or operation, as a row that a record in the book's sequence seals. Pure.

Personal data stands here by id alone: neither row nor record can be erased.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ledger.asking import ALONE, Before
from ledger.canonical import dump, instant_text
from ledger.commands import Record
from ledger.requests import worker_id
from ledger.riders import Insert

ID_PREFIX = "aud"

TABLE = "treasury_audit_log"

Noted = Callable[[str | None], Before]
"""What is to be booked with an act on this subject, so that the log tells of it or it hasn't happened."""


def unnoted(subject: str | None) -> Before:
    """Nothing: for what no person did."""
    return ALONE


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a key, and its user where it has one. `process:worker` and the like act for themselves."""

    key: str
    user: str | None = None


class ActOutcome(StrEnum):
    BEGUN = "begun"
    """It was about to be done. Without a later row of the same act nobody knows whether it was."""
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    """It broke off; part of it may have been done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One row. `act` is the id of the first row about the same act; `request` is the API request's id.

    `detail`: a refusal's code, or what else is worth keeping of it.
    """

    id: str
    act: str
    at: datetime
    actor: Actor
    action: str
    subject: str | None = None
    outcome: ActOutcome = ActOutcome.DONE
    reason_code: str | None = None
    reason: str | None = None
    request: str | None = None
    detail: str | None = None

    def columns(self) -> dict[str, object]:
        """The row's columns besides its key."""
        return {
            "act": self.act,
            "at": self.at,
            "actor_key": self.actor.key,
            "actor_user": self.actor.user,
            "action": self.action,
            "subject": self.subject,
            "outcome": self.outcome.value,
            "reason_code": self.reason_code,
            "reason": self.reason,
            "request": self.request,
            "detail": self.detail,
        }

    def digest(self) -> str:
        """SHA-256, as hex, of all that the row says."""
        said = {**self.columns(), "id": self.id, "at": instant_text(self.at)}
        return hashlib.sha256(dump(said)).hexdigest()

    def sealed(self, book: str, command: str) -> Before:
        """The row, and the record under the id `command` that seals it: to be booked with the act itself."""
        record = Record(id=command, subject=self.id, facts={"audit_log": self.digest()})
        return Before((record,), (Insert(TABLE, {"book": book, "id": self.id}, self.columns()),))

    def alone(self, book: str) -> Before:
        """The same, for a row about what is no command of the book."""
        return self.sealed(book, worker_id(f"audit-log:{self.id}", 1))
