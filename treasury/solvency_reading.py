"""Checking what a house published of an epoch: sums, coverage, whose signatures they are, and that a proof fits. Pure.

Nothing that the house says of how good a reserve is gets believed. `proven`: the key of the address signed this very
epoch's hash, and the balance stands on a chain. `attested`: somebody else said it, a bank or a provider, and the house
passes that on. `stated`: the house says so; of a named address anybody can look up the balance, but not whose it is.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from base.nesting import is_nested_within
from custody.errors import IntentInvalid
from custody.messages import message_signer, proof_digest
from treasury.errors import SolvencyProofInvalid
from treasury.solvency_proofs import DOCUMENT_BYTES_MAX, proof_of, read_proof
from treasury.solvency_statements import (
    FORMAT,
    AtAddress,
    AtAddresses,
    AtBank,
    AtProvider,
    ControlTold,
    Published,
    Reserve,
    Statement,
    ratio,
)
from treasury.solvency_tree import SUM_END, Inclusion

BUNDLE_FORMAT = "onebook-solvency-file-3"
"""A user's proofs together with what was published of their epoch."""

_EARLIER_FORMATS = ("onebook-solvency-file-2",)
"""Files that say less, and are read all the same: 2 has no anchors and no contracts' signatures."""

PUBLISHED_BYTES_MAX = 32_000_000
"""What is published of an epoch, a user's proofs included; anything longer isn't that."""

_LEVELS_MAX = 24

Place = tuple[str, str]
"""A network and an address on it."""


class Standing(StrEnum):
    """How far a reserve is shown to who checks it."""

    PROVEN = "proven"
    ATTESTED = "attested"
    STATED = "stated"


@dataclass(frozen=True, slots=True)
class Held:
    """What of one asset is held, by how far that is shown, in smallest units."""

    asset: str
    by_standing: dict[Standing, int]


@dataclass(frozen=True, slots=True)
class Given:
    """What a reader was handed: proofs, and what was published of their epoch where that came along, and where."""

    proofs: tuple[Inclusion, ...]
    published: Published | None
    published_at: str | None = None


# Reading


def write_bundle(proofs: Iterable[bytes], published: Published, *, published_at: str | None) -> bytes:
    """A user's file: their proofs, what everybody is shown of the epoch, and the address where everybody is."""
    told = {
        "format": BUNDLE_FORMAT,
        "published_at": published_at,
        "epoch": published,
        "proofs": [msgspec.Raw(proof) for proof in proofs],
    }
    return msgspec.json.encode(told)


def read_given(content: bytes) -> Given:
    """What a file holds: one proof, or a user's proofs with their epoch. Nothing is checked but its form.

    Raises SolvencyProofInvalid (`proof_malformed`).
    """
    if len(content) <= DOCUMENT_BYTES_MAX and b'"onebook-solvency-file-' not in content:
        return Given((read_proof(content),), None)
    told = _decoded(content)
    if not isinstance(told, dict) or told.get("format") not in (BUNDLE_FORMAT, *_EARLIER_FORMATS):
        raise _malformed(f"it's neither a proof nor a file of the format {BUNDLE_FORMAT}")
    if told.keys() != {"format", "published_at", "epoch", "proofs"} or not isinstance(told["proofs"], list):
        raise _malformed("it lacks what a file of proofs has, or has too much")
    at = told["published_at"]
    if at is not None and not isinstance(at, str):
        raise _malformed("where it was published is no text")
    return Given(tuple(proof_of(one) for one in told["proofs"]), _published(told["epoch"]), at)


def read_published(content: bytes) -> Published:
    """What was published of an epoch. Raises SolvencyProofInvalid (`proof_malformed`)."""
    return _published(_decoded(content))


def _decoded(content: bytes) -> Any:
    if len(content) > PUBLISHED_BYTES_MAX:
        raise _malformed("it's far too long")
    if not is_nested_within(content, _LEVELS_MAX):
        raise _malformed("it is nested too deeply")
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(f"it isn't JSON: {error}") from error


def _published(told: Any) -> Published:
    try:
        found = msgspec.convert(told, Published)
    except msgspec.ValidationError as error:
        raise _malformed(f"what was published of its epoch: {error}") from error
    if found.statement.format != FORMAT:
        raise _malformed(f"the format of what was published isn't {FORMAT}")
    return found


# Checking


def check_published(
    published: Published, *, digest: bytes | None = None, confirmed: Collection[Place] = ()
) -> list[Held]:
    """What of each asset is held, and how far that is shown. Raises SolvencyProofInvalid, saying what isn't right.

    `digest`: the epoch's hash that everybody else was shown, if the reader knows it. `confirmed`: where a node of the
    reader's own showed that a contract took its signature; others of contracts show nothing.
    """
    statement = published.statement
    found = statement.digest()
    if found.hex() != published.digest:
        raise _wrong("digest_differs", "the statement isn't what its hash is over: something in it was changed")
    if digest is not None and digest != found:
        raise _wrong("other_epoch", f"the epoch's hash is {found.hex()}, not {digest.hex()}")
    for what, names in _once(statement):
        if again := next((name for name, times in Counter(names).items() if times > 1), None):
            raise _wrong("told_twice", f"{what} {again} is told twice: it would be counted twice")
    _check_sums(statement)
    _check_anchor(published)
    signed = _signed(published, confirmed)
    held: dict[str, dict[Standing, int]] = {one.asset: {} for one in statement.coverage}
    for reserve in statement.reserves:
        by_standing = held[reserve.asset]
        standing = _standing(reserve, signed)
        by_standing[standing] = by_standing.get(standing, 0) + int(reserve.amount)
    return [Held(asset, by_standing) for asset, by_standing in held.items()]


def check_fits(proof: Inclusion, statement: Statement) -> None:
    """Raise SolvencyProofInvalid unless the proof's list is the statement's."""
    listed = statement.list_of(proof.terms.asset)
    if proof.terms.epoch != statement.epoch or listed is None:
        raise _wrong("other_epoch", f"epoch {statement.epoch} has no list like the proof's: {proof.terms.epoch}")
    told = (proof.terms.seq, proof.leaves, proof.total, proof.root.hex())
    if told != (statement.seq, listed.users, int(listed.total), listed.root):
        raise _wrong("other_root", f"the proof's list of {proof.terms.asset} isn't the one that was published")


def _once(statement: Statement) -> list[tuple[str, list[object]]]:
    """What may be told only once, each by its kind."""
    return [
        ("the list of", [one.asset for one in statement.lists]),
        ("the coverage of", [one.asset for one in statement.coverage]),
        ("network", [one.network for one in statement.networks]),
        ("chain", [one.chain_id for one in statement.networks]),
        ("reserve", [_place(one) for one in statement.reserves]),
    ]


def _place(reserve: Reserve) -> str:
    match reserve:
        case AtAddress():
            return f"{reserve.network} {reserve.address} {reserve.asset}"
        case AtAddresses():
            return f"{reserve.network} {reserve.role} addresses {reserve.asset}"
        case AtBank():
            return f"bank {reserve.account} {reserve.asset}"
        case AtProvider():
            return f"provider {reserve.provider} {reserve.asset}"


def _check_sums(statement: Statement) -> None:
    networks = {one.network for one in statement.networks}
    held = {one.asset: 0 for one in statement.coverage}
    for reserve in statement.reserves:
        if isinstance(reserve, AtAddress | AtAddresses) and reserve.network not in networks:
            raise _wrong("coverage_differs", f"a reserve is on {reserve.network}, of which no block is told")
        if reserve.asset not in held:
            raise _wrong("coverage_differs", f"there are reserves of {reserve.asset}, but no coverage")
        held[reserve.asset] += int(reserve.amount)
    owed = {one.asset: int(one.total) for one in statement.lists}
    if missing := owed.keys() - held.keys():
        raise _wrong("coverage_differs", f"{min(missing)} is owed, but no coverage of it is told")
    for one in statement.coverage:
        has, owes = held[one.asset], owed.get(one.asset, 0)
        if abs(has) >= SUM_END or owes >= SUM_END:
            raise _wrong("sum_too_large", f"what is told of {one.asset} reaches 2^256")
        if (one.held, one.owed, one.ratio) != (str(has), str(owes), ratio(has, owes)):
            raise _wrong(
                "coverage_differs", f"the coverage of {one.asset} isn't what its list and its reserves add up to"
            )


def _check_anchor(published: Published) -> None:
    """Raise unless an anchor can be what it says it is: on a chain of the statement's, after the block it tells."""
    anchor = published.anchor
    if anchor is None:
        return
    block = next((one for one in published.statement.networks if one.network == anchor.network), None)
    if block is None:
        raise _wrong("anchor_differs", f"its hash is said to be on {anchor.network}, of which the epoch tells no block")
    if anchor.block_number <= block.block_number:
        raise _wrong("anchor_differs", "its hash is said to be on a chain before the block that it tells of")


def _signed(published: Published, confirmed: Collection[Place]) -> set[Place]:
    """Where the epoch was signed. Raises for any signature that isn't what it says."""
    statement = published.statement
    blocks = {one.network: one for one in statement.networks}
    seen: set[Place] = set()
    found: set[Place] = set()
    for control in published.controls:
        where = (control.network, control.address)
        if control.network not in blocks or where in seen:
            raise _wrong("control_invalid", f"there is no reserve, or two signatures, at {control.address}")
        seen.add(where)
        if control.kind == "contract":
            if control.block_hash is None or (control.block_number or 0) < blocks[control.network].block_number:
                raise _wrong("control_invalid", f"no block is told at which {control.address} took its signature")
            found |= {where} & set(confirmed)
        elif not is_by_key(control_digest(published, control.network, control.address), control):
            raise _wrong(
                "control_invalid",
                f"the signature at {control.address} isn't by its key over epoch {statement.number} and its hash",
            )
        else:
            found.add(where)
    return found


def control_digest(published: Published, network: str, address: str) -> bytes:
    """The 32 bytes that are signed for an address on a network of the epoch's."""
    chain_id = next(one.chain_id for one in published.statement.networks if one.network == network)
    return proof_digest(
        bytes.fromhex(address[2:]),
        chain_id=chain_id,
        epoch=str(published.statement.number),
        root=bytes.fromhex(published.digest),
    )


def is_by_key(digest: bytes, control: ControlTold) -> bool:
    """Whether the address's own key signed."""
    try:
        signer = message_signer(digest, bytes.fromhex(control.signature))
    except IntentInvalid:
        return False
    return "0x" + signer.hex() == control.address


def _standing(reserve: Reserve, signed: set[Place]) -> Standing:
    match reserve:
        case AtAddress():
            return Standing.PROVEN if (reserve.network, reserve.address) in signed else Standing.STATED
        case AtAddresses():
            return Standing.STATED
        case AtBank() | AtProvider():
            return Standing.ATTESTED


def standing_of(reserve: Reserve, published: Published) -> Standing:
    """How far one reserve is shown, where the signatures were checked already, those of contracts as well."""
    return _standing(reserve, {(one.network, one.address) for one in published.controls})


def place_of(reserve: Reserve) -> str:
    """In words: `hot address 0x... on ethereum`, `bank main by statement S1 of 2026-01-31`."""
    match reserve:
        case AtAddress():
            return f"{reserve.role} address {reserve.address} on {reserve.network}"
        case AtAddresses():
            return f"{reserve.addresses} {reserve.role} addresses on {reserve.network}"
        case AtBank():
            return f"bank {reserve.account} by statement {reserve.statement} of {reserve.as_of}"
        case AtProvider():
            return f"provider {reserve.provider}"


def _wrong(code: str, why: str) -> SolvencyProofInvalid:
    return SolvencyProofInvalid(why, code=code)


def _malformed(why: str) -> SolvencyProofInvalid:
    return SolvencyProofInvalid(f"this is no proof of what a house owes or holds: {why}", code="proof_malformed")
