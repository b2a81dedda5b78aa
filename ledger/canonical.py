"""The canonical form of what the book decided: what content hashes, stored details and leaves are made of.

A leaf is SHA-256(0x00 || preimage). The preimage is text: a row for the command, then one for each of its lines, just
as PostgreSQL's COPY writes rows (fields by tab, rows by newline, `\\N` for absent, backslash escapes), so that an audit
can hash what it streams. Metadata enters by a salted hash only, so that personal data can be erased.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from ledger.commands import (
    Charge,
    CloseAccount,
    ClosePeriod,
    Command,
    Evidence,
    Expire,
    Freeze,
    Hold,
    OpenAccount,
    Post,
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.outcomes import Kind, Outcome

ABSENT = r"\N"

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
    Record: Kind.RECORD,
}
_ESCAPES = str.maketrans({"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"})
_sorted_json = msgspec.json.Encoder(order="sorted")


def dump(value: object) -> bytes:
    """Canonical JSON bytes of plain values: keys sorted, no spaces, UTF-8."""
    return _sorted_json.encode(value)


def kind_of(command: Command) -> Kind:
    """The kind of a command, as its row says it."""
    return _KINDS[type(command)]


def command_content(command: Command) -> bytes:
    """SHA-256 of all that a command says: what a repeat under its id must equal."""
    return hashlib.sha256(kind_of(command).encode() + dump(command)).digest()


def id_key(command_id: str) -> bytes:
    """What an id is remembered by, for ever: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(command_id.encode()).digest()[:16]


def metadata_hash(salt: bytes, metadata: Mapping[str, str]) -> bytes:
    """What a leaf says about metadata."""
    return hashlib.sha256(salt + dump(dict(metadata))).digest()


def detail_of(command: Command, outcome: Outcome, *, account_number: int | None = None) -> str | None:
    """What neither the columns nor the lines of an outcome tell, as canonical JSON; None if there is nothing.

    `terms` are what an accepted command set (and the number that an opened account got), `facts` a refusal's numbers,
    `evidence` what caused it, `effective_at_requested` the date that a closed period moved.
    """
    said: dict[str, object] = {}
    if outcome.refusal is not None:
        if outcome.refusal.facts:
            facts = outcome.refusal.facts.items()
            said["facts"] = {name: fact if isinstance(fact, int) else str(fact) for name, fact in facts}
    else:
        terms = _terms(command, account_number)
        if terms:
            said["terms"] = terms
        if command.effective_at is not None and command.effective_at != (outcome.effective_at or outcome.booked_at):
            said["effective_at_requested"] = instant_text(command.effective_at)
        if outcome.reverses is not None:
            said["reverses"] = outcome.reverses
    if command.evidence is not None:
        said["evidence"] = evidence_terms(command.evidence)
    return dump(said).decode() if said else None


def _terms(command: Command, account_number: int | None) -> dict[str, object]:
    match command:
        case OpenAccount():
            return {"account": command.account, "number": account_number}
        case CloseAccount():
            return {"account": command.account}
        case Freeze() | Unfreeze():
            return {"scope": command.scope, "target": command.target}
        case SetCreditLine():
            return {"account": command.account, "cap": str(command.cap)}
        case ClosePeriod():
            return {"until": instant_text(command.until)}
        case Record():
            said: dict[str, object] = {"facts": dict(command.facts)}
            return said | {"charges": charge_terms(command.charges)} if command.charges else said
        case Post() | Hold():
            terms: dict[str, object] = {}
            if command.charges:
                terms["charges"] = charge_terms(command.charges)
            if isinstance(command, Hold) and command.expires_at is not None:
                terms["expires_at"] = instant_text(command.expires_at)
            return terms
        case _:
            return {}


def charge_terms(charges: Iterable[Charge]) -> list[list[str]]:
    """Charges as plain JSON: [counter, amount, cap] each, numbers as decimal strings.

    Not `may_ask_again`: it says only when there is no decision yet.
    """
    return [[charge.counter, str(charge.amount), str(charge.cap)] for charge in charges]


def evidence_terms(evidence: Evidence) -> dict[str, object]:
    """Evidence as plain JSON."""
    return msgspec.structs.asdict(evidence)


def instant_text(instant: datetime) -> str:
    """An instant as PostgreSQL writes a timestamptz in ISO style at UTC: `2026-11-23 02:45:22.1234+00`."""
    instant = instant.astimezone(UTC)
    fraction = f".{instant.microsecond:06d}".rstrip("0") if instant.microsecond else ""
    return f"{instant.isoformat(sep=' ', timespec='seconds')[:19]}{fraction}+00"


def escaped(text: str) -> str:
    """Text as COPY writes it."""
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def command_row(
    *,
    book: str,
    seq: int,
    command_id: str,
    kind: str,
    subject: str | None,
    content: bytes,
    booked_at: str,
    refusal: str | None = None,
    detail: str | None = None,
    effective_at: str | None = None,
    metadata: bytes | None = None,
) -> str:
    """The first row of a leaf's preimage; instants come as `instant_text`, `metadata` as `metadata_hash`."""
    return (
        f"{escaped(book)}\t{seq}\t{escaped(command_id)}\t{kind}\t{ABSENT if subject is None else escaped(subject)}"
        f"\t{content.hex()}\t{refusal or ABSENT}\t{ABSENT if detail is None else escaped(detail)}\t{booked_at}"
        f"\t{effective_at or ABSENT}\t{ABSENT if metadata is None else metadata.hex()}"
    )


def line_row(
    kind: str,
    debit: str,
    credit: str,
    amount: str,
    debit_balance: str,
    credit_balance: str,
    hold: str = "NULL",
    hold_posting: str = "NULL",
) -> str:
    """A line's row of a leaf's preimage, with the newline that parts it from the row before. `hold` is its seq."""
    if hold == "NULL":
        hold = hold_posting = ABSENT
    return f"\n{kind}\t{debit}\t{credit}\t{amount}\t{debit_balance}\t{credit_balance}\t{hold}\t{hold_posting}"


def leaf_hash(preimage: str) -> bytes:
    """The leaf of a preimage in the book's Merkle tree (RFC 9162: leaves are hashed behind 0x00)."""
    return hashlib.sha256(b"\x00" + preimage.encode()).digest()
