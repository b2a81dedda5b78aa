"""Proofs of entries: what the book says of one command, and the way from it up to a signed seal. Pure.

Whoever has the file needs no database and trusts nobody but the key that signs seals, or a seal that they kept
themselves. The file's form is in docs/proof.md, so that anybody can write a verifier of their own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from base.nesting import is_nested_within
from ledger.canonical import ABSENT, leaf_hash, metadata_hash
from ledger.errors import ProofInvalid
from ledger.merkle import root_of_path
from ledger.seals import SignedSeal, seal_of_document

FORMAT = "onebook-proof-1"

DOCUMENT_BYTES_MAX = 10_000_000
"""An entry has at most some thousand lines; anything longer isn't a proof."""

FIELDS = (
    *("book", "seq", "id", "kind", "subject", "content", "refusal", "detail", "booked_at", "effective_at"),
    "metadata_hash",
)
LINE_FIELDS = ("kind", "debit", "credit", "amount", "debit_balance", "credit_balance", "hold", "hold_posting")
"""The fields of a preimage's first row, and of the rows of its lines; see `ledger.canonical`."""

_LEVELS_MAX = 16

_UNESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a command's metadata said, and the salt that its hash is made with."""

    salt: bytes
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EntryProof:
    """A command's canonical text, the nodes beside its way up, and the seal over the root.

    `metadata` is None where there was none, where it was erased, or where it isn't to be shown.
    """

    preimage: str
    path: tuple[bytes, ...]
    seal: SignedSeal
    metadata: Metadata | None = None

    def document(self) -> dict[str, object]:
        """The proof as plain JSON, as its file says it."""
        told: dict[str, object] = {
            "format": FORMAT,
            "entry": self.preimage,
            "path": [node.hex() for node in self.path],
            "seal": self.seal.document(),
        }
        if self.metadata is not None:
            told["metadata"] = {"salt": self.metadata.salt.hex(), "values": dict(self.metadata.values)}
        return told


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof shows: the command's fields and its lines by name, None where absent; and its metadata if told."""

    command: Mapping[str, str | None]
    lines: tuple[Mapping[str, str | None], ...]
    metadata: Mapping[str, str] | None
    seal: SignedSeal


def read_proof(content: bytes) -> EntryProof:
    """The proof in a file's bytes; nothing of it is checked yet. Raises ProofInvalid."""
    if len(content) > DOCUMENT_BYTES_MAX:
        raise ProofInvalid("this is far too long for a proof", code="proof_malformed")
    if not is_nested_within(content, _LEVELS_MAX):
        raise ProofInvalid("this is nested too deeply for a proof", code="proof_malformed")
    try:
        told: Any = msgspec.json.decode(content)
        if told["format"] != FORMAT:
            raise ProofInvalid(f"this isn't a proof of the format {FORMAT}", code="proof_malformed")
        shown = told.get("metadata")
        return EntryProof(
            preimage=_text(told["entry"]),
            path=tuple(bytes.fromhex(node) for node in told["path"]),
            seal=seal_of_document(told["seal"]),
            metadata=None if shown is None else Metadata(bytes.fromhex(shown["salt"]), _texts(shown["values"])),
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ProofInvalid("this isn't a proof: it lacks what one has", code="proof_malformed") from error


def verify(proof: EntryProof, *, trusted: Collection[bytes] = (), outside: SignedSeal | None = None) -> Proven:
    """What the proof shows. Raises ProofInvalid, which says at which step it fails.

    `trusted` are public keys (32 bytes) that may have signed; none given: any. `outside` is a seal that the verifier
    kept: then it must be the very one.
    """
    seal = proof.seal.seal
    proof.seal.check(trusted)
    if outside is not None and outside.seal != seal:
        raise ProofInvalid(
            f"the proof's seal ({seal.book} number {seal.number}) isn't the one that you kept"
            f" ({outside.seal.book} number {outside.seal.number})",
            code="seal_differs",
        )
    command, *rows = proof.preimage.split("\n")
    said = _row(command, FIELDS)
    lines = tuple(_row(row, LINE_FIELDS) for row in rows)
    if said["book"] != seal.book:
        raise ProofInvalid(f"the entry is of book {said['book']}, the seal of {seal.book}", code="proof_invalid")
    place = int(said["seq"] or 0) - seal.first_seq if str(said["seq"]).isdigit() else -1
    if root_of_path(leaf_hash(proof.preimage), place, seal.size, proof.path) != seal.root:
        raise ProofInvalid("the entry isn't what was sealed: its path doesn't lead to the seal's root")
    shown = proof.metadata
    if shown is not None and said["metadata_hash"] != metadata_hash(shown.salt, shown.values).hex():
        raise ProofInvalid("the metadata isn't what was sealed", code="metadata_differs")
    return Proven(said, lines, None if shown is None else shown.values, proof.seal)


def _row(row: str, names: tuple[str, ...]) -> dict[str, str | None]:
    fields = row.split("\t")
    if len(fields) != len(names):
        raise ProofInvalid(f"a row of the entry has {len(fields)} fields, not {len(names)}", code="proof_malformed")
    return {name: None if field == ABSENT else _unescaped(field) for name, field in zip(names, fields, strict=True)}


def _unescaped(field: str) -> str:
    if "\\" not in field:
        return field
    found, rest = [], iter(field)
    for char in rest:
        found.append(_UNESCAPED.get(next(rest, ""), "\ufffd") if char == "\\" else char)
    return "".join(found)


def _text(told: object) -> str:
    if not isinstance(told, str):
        raise TypeError("not a text")
    told.encode()  # half a surrogate pair can't be hashed
    return told


def _texts(told: Any) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in told.items()}
