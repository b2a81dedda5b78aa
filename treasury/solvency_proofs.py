"""A user's proof that what they are owed is counted: its one JSON document, and the check of it. Pure.

Whoever has the file needs no database and no network, only the root that everybody else was shown. The form is in
docs/solvency.md, so that anybody can write a verifier of their own.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from base.nesting import is_nested_within
from treasury.errors import ListUnfit, SolvencyProofInvalid
from treasury.solvency_tree import (
    LEAVES_MAX,
    SUM_BYTES,
    SUM_END,
    Inclusion,
    Step,
    Terms,
    leaf_of,
    levels_of,
    root_of,
)

FORMAT = "onebook-solvency-2"

DOCUMENT_BYTES_MAX = 16_384
"""Forty levels with sums of 78 digits; anything longer isn't a proof."""

_LEVELS_MAX = 4
_FIELDS = frozenset(
    {"format", "epoch", "asset", "seq", "owner", "salt", "amount", "index", "leaves", "total", "root", "path"}
)
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_.:+-]{1,100}", re.ASCII)


def write_proof(proof: Inclusion) -> bytes:
    """The proof as its file says it."""
    return json.dumps(proof_map(proof), separators=(",", ":")).encode()


def proof_map(proof: Inclusion) -> dict[str, object]:
    """The proof as plain JSON."""
    return {
        "format": FORMAT,
        "epoch": proof.terms.epoch,
        "asset": proof.terms.asset,
        "seq": proof.terms.seq,
        "owner": proof.owner,
        "salt": proof.salt.hex(),
        "amount": str(proof.amount),
        "index": proof.index,
        "leaves": proof.leaves,
        "total": str(proof.total),
        "root": proof.root.hex(),
        "path": [[step.digest.hex(), str(step.amount)] for step in proof.path],
    }


def read_proof(content: bytes) -> Inclusion:
    """The proof in a file's bytes, every part of its form; what it claims isn't checked yet.

    Raises SolvencyProofInvalid (`proof_malformed`). An amount below zero or of 2^256 has no form, so it's none.
    """
    if len(content) > DOCUMENT_BYTES_MAX:
        raise _malformed(f"it has {len(content)} bytes; a proof has at most {DOCUMENT_BYTES_MAX}")
    if not is_nested_within(content, _LEVELS_MAX):
        raise _malformed("it is nested too deeply")
    try:
        told: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(f"it isn't JSON: {error}") from error
    return proof_of(told)


def proof_of(told: Any) -> Inclusion:
    """The proof that plain JSON means, every part of its form. Raises SolvencyProofInvalid (`proof_malformed`)."""
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise _malformed(f"its format isn't {FORMAT}")
    if told.keys() != _FIELDS:
        raise _malformed(f"it lacks, or has too much: {', '.join(sorted(told.keys() ^ _FIELDS))}"[:200])
    if not isinstance(told["path"], list):
        raise _malformed("its path is no list")
    try:
        terms = Terms(_text(told, "epoch"), _text(told, "asset"), _number(told, "seq"))
    except ListUnfit as error:
        raise _malformed(error.message) from error
    owner = _text(told, "owner")
    if not _OWNER.fullmatch(owner):
        raise _malformed("its owner is no user's id")
    return Inclusion(
        terms=terms,
        owner=owner,
        salt=_digest(told["salt"], "salt"),
        amount=_amount(told["amount"], "amount"),
        index=_number(told, "index"),
        leaves=_number(told, "leaves"),
        total=_amount(told["total"], "total"),
        root=_digest(told["root"], "root"),
        path=tuple(_step(step, level) for level, step in enumerate(told["path"])),
    )


def verify(
    proof: Inclusion,
    *,
    owner: str | None = None,
    epoch: str | None = None,
    asset: str | None = None,
    root: bytes | None = None,
) -> None:
    """Raise SolvencyProofInvalid, saying at which step, unless the proof's root counts its amount for its owner.

    What is given must be the proof's: `owner` is the reader's own id, `root` the one that everybody else was shown.
    Without them it's shown only that the file agrees with itself.
    """
    for code, what, expected, found in (
        ("other_owner", "user", owner, proof.owner),
        ("other_epoch", "epoch", epoch, proof.terms.epoch),
        ("other_asset", "asset", asset, proof.terms.asset),
        ("other_root", "root", None if root is None else root.hex(), proof.root.hex()),
    ):
        if expected is not None and expected != found:
            raise SolvencyProofInvalid(f"the proof is for the {what} {found}, not for {expected}", code=code)
    if not 0 < proof.leaves <= LEAVES_MAX or not 0 <= proof.index < proof.leaves:
        raise SolvencyProofInvalid(
            f"place {proof.index} is outside a list of {proof.leaves} users", code="place_outside_list"
        )
    levels = levels_of(proof.leaves)
    if len(proof.path) != levels:
        raise SolvencyProofInvalid(
            f"its path has {len(proof.path)} steps; in a list of {proof.leaves} it has {levels}", code="path_length"
        )
    top, total = _climb(proof)
    if total != proof.total:
        raise SolvencyProofInvalid(f"its path adds up to {total}, not to the total {proof.total}", code="total_differs")
    if root_of(proof.terms, leaves=proof.leaves, total=total, top=top) != proof.root:
        raise SolvencyProofInvalid(
            "its path doesn't lead to its root: something in it was changed", code="root_differs"
        )


def _climb(proof: Inclusion) -> tuple[bytes, int]:
    """The hash at the top and the sum there."""
    digest = leaf_of(proof.terms.bound(), proof.salt, proof.owner, _bounded(proof.amount))
    amount, place = proof.amount, proof.index
    for step in proof.path:
        here = amount.to_bytes(SUM_BYTES) + digest
        beside = _bounded(step.amount).to_bytes(SUM_BYTES) + step.digest
        digest = hashlib.sha256(b"\x01" + (beside + here if place % 2 else here + beside)).digest()
        amount = _bounded(amount + step.amount)
        place //= 2
    return digest, amount


def _bounded(amount: int) -> int:
    if amount < 0:
        raise SolvencyProofInvalid(
            "an amount in it is below zero: it would take from the total", code="negative_amount"
        )
    if amount >= SUM_END:
        raise SolvencyProofInvalid("a sum in it reaches 2^256", code="sum_too_large")
    return amount


# The form


def _malformed(why: str) -> SolvencyProofInvalid:
    return SolvencyProofInvalid(f"this is no proof of what a user is owed: {why}", code="proof_malformed")


def _text(told: Mapping[str, Any], name: str) -> str:
    if not isinstance(told[name], str):
        raise _malformed(f"its {name} is no text")
    return str(told[name])


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _malformed(f"its {name} is no number from 0 up, below 2^63")
    return value


def _digest(value: object, what: str) -> bytes:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise _malformed(f"its {what} isn't 64 hex digits in lower case")
    return bytes.fromhex(value)


def _amount(value: object, what: str) -> int:
    if isinstance(value, str) and value.startswith("-"):
        raise SolvencyProofInvalid(f"its {what} is below zero: it would take from the total", code="negative_amount")
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise _malformed(f"its {what} is no whole number in a string, without leading zeros")
    if int(value) >= SUM_END:
        raise SolvencyProofInvalid(f"its {what} reaches 2^256", code="sum_too_large")
    return int(value)


def _step(step: object, level: int) -> Step:
    if not isinstance(step, list) or len(step) != 2:
        raise _malformed(f"step {level} of its path is no pair of hash and sum")
    return Step(_digest(step[0], f"step {level}'s hash"), _amount(step[1], f"step {level}'s sum"))
