"""One canonical form of commands and outcomes: hashed for identity and for the leaf, and stored for the audit.

JSON with sorted keys and no spaces; integers of money as decimal strings, instants as UTC ISO 8601 with microseconds.
A leaf commits to metadata by a salted hash only, so that personal data can be erased.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime

from ledger.commands import (
    CloseAccount,
    ClosePeriod,
    Command,
    Expire,
    Freeze,
    Hold,
    OpenAccount,
    Post,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.outcomes import Kind, Outcome

_KINDS: dict[type[Command], Kind] = {
    OpenAccount: Kind.OPEN,
    CloseAccount: Kind.CLOSE,
    Freeze: Kind.FREEZE,
    Unfreeze: Kind.UNFREEZE,
    SetCreditLine: Kind.CREDIT_LINE,
    Post: Kind.POST,
    Hold: Kind.HOLD,
    Settle: Kind.SETTLE,
    Void: Kind.VOID,
    Expire: Kind.EXPIRE,
    Reverse: Kind.REVERSE,
    ClosePeriod: Kind.CLOSE_PERIOD,
}
_APART = frozenset({"id", "metadata", "evidence", "subject", "effective_at"})
"""Fields of a command that stand in columns of their own."""


def kind_of(command: Command) -> Kind:
    """The kind of a command, as its row says it."""
    return _KINDS[type(command)]


def command_terms(command: Command) -> dict[str, object]:
    """What a command asks, besides its identity, metadata, evidence, subject and effective date, as plain JSON."""
    return {item.name: _plain(getattr(command, item.name)) for item in fields(command) if item.name not in _APART}


def command_content(command: Command) -> bytes:
    """SHA-256 of all that a command says but its id: what a repeat must equal."""
    said = {item.name: _plain(getattr(command, item.name)) for item in fields(command) if item.name != "id"}
    return hashlib.sha256(dump([kind_of(command), said])).digest()


def leaf_hash(*, book: str, command: Mapping[str, object], outcome: Outcome, salt: bytes) -> bytes:
    """The leaf of a command in the book's Merkle tree (RFC 9162 domain prefix 0x00).

    `command` has keys `terms`, `evidence`, `effective_at` as stored and `metadata`, which enters only as
    SHA-256(salt || metadata).
    """
    refusal = outcome.refusal
    said = [
        book,
        outcome.seq,
        outcome.id,
        outcome.kind,
        outcome.subject,
        outcome.content.hex(),
        None if refusal is None else [refusal.code, _plain(refusal.facts)],
        [_plain(line) for line in outcome.lines],
        _plain(outcome.booked_at),
        command["effective_at"],
        command["terms"],
        command["evidence"],
        hashlib.sha256(salt + dump(command["metadata"])).hexdigest(),
    ]
    return hashlib.sha256(b"\x00" + dump(said)).digest()


def dump(value: object) -> bytes:
    """Canonical JSON bytes of plain values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def evidence_terms(command: Command) -> object:
    """A command's evidence as plain JSON, None without."""
    return _plain(command.evidence)


def instant_text(instant: datetime | None) -> str | None:
    """An instant as the canonical form writes it."""
    return None if instant is None else instant.astimezone(UTC).isoformat(timespec="microseconds")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    raise TypeError(f"{type(value).__name__} has no canonical form")
