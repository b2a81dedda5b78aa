"""What an own address did, or became, without us: how it's told, and what that stops. Pure.

Whoever can make one of our addresses send, or give it code, has its key or our signature, so its sender is halted until
a person has looked: nothing more is reserved or signed for it. What only came to an address halts nothing: anybody can
send. Booking what left isn't done here (`treasury.outflows`).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chain.coins import SHORTAGE
from chain.observations import BlockRef
from chain.signing import Role

UNDER_REVIEW = "the address that pays it is under review"
"""Why a payment waits whose sender is halted, in the words that its owner is told."""

_DELEGATED = "ef0100"
"""How the code of an address begins that delegates to another one (EIP-7702); the other one's 20 bytes follow."""

_DELEGATION_DIGITS = 46


class Kind(StrEnum):
    """What was found."""

    TRANSACTION = "transaction"
    """It sent a transaction that none of our attempts is."""
    OUTFLOW = "outflow"
    """A token or the native coin left it in a transaction of others: by an allowance, or by its code."""
    CODE = "code"
    """It has code, as a contract or by an EIP-7702 authorisation."""
    NONCE = "nonce"
    """Its nonce moved without a transaction, as an EIP-7702 authorisation moves it."""
    BALANCE = "balance"
    """It holds less of the native coin than all that is recorded leaves it."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An address at a block, as nodes tell it. `code_hash` is None where it has no code; `delegate`: EIP-7702's."""

    nonce: int
    code_hash: str | None = None
    delegate: str | None = None


@dataclass(frozen=True, slots=True)
class KnownState:
    """What an own address was when it was last looked at; block -1: it never was."""

    address: str
    role: Role
    block_number: int = -1
    nonce: int = 0
    code_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The transactions recorded of an address since it was looked at: how many, and the last one's nonce of all."""

    count: int = 0
    last_nonce: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that we didn't cause. `what` tells it from others of its kind at its address, for good."""

    address: str
    kind: Kind
    what: str
    block_number: int
    block_hash: str
    words: str
    tx_hash: str | None = None


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding that nobody has accepted yet."""

    seq: int
    network: str
    finding: Finding
    found_at: datetime

    def __str__(self) -> str:
        return self.finding.words


@dataclass(frozen=True, slots=True)
class Departure:
    """A transfer from an own address that no transaction of ours explains. `amount` in chain units of `contract`."""

    address: str
    tx_hash: str
    place: str
    contract: str | None
    recipient: str
    amount: int
    block_number: int
    block_hash: str


def judge(known: KnownState, told: AccountState, sent: Sent, block: BlockRef) -> list[Finding]:
    """What is wrong with an address at a final block, beside what was so when it was looked at before.

    A deposit address begins with nonce 0, and one of the house's where the chain says when it's first looked at.
    """
    findings: list[Finding] = []
    expected = _expected_nonce(known, told, sent)
    if told.code_hash is not None and told.code_hash != known.code_hash:
        by = f"that of {told.delegate} by an EIP-7702 authorisation" if told.delegate else f"hash {told.code_hash}"
        words = f"it has code in block {block.number}: {by}"
        findings.append(_at(block, known, Kind.CODE, f"{told.code_hash} at {told.nonce}", words))
    if told.nonce != expected:
        words = f"its nonce is {told.nonce} in block {block.number}, by the transactions it sent {expected}"
        findings.append(_at(block, known, Kind.NONCE, f"{expected} to {told.nonce}", words))
    return findings


def foreign_transaction(address: str, tx_hash: str, nonce: int, block: BlockRef) -> Finding:
    """An own address sent this one, and we didn't."""
    return Finding(
        address=address,
        kind=Kind.TRANSACTION,
        what=tx_hash,
        block_number=block.number,
        block_hash=block.block_hash,
        words=f"transaction {tx_hash} with its nonce {nonce} in block {block.number} is none of ours",
        tx_hash=tx_hash,
    )


def foreign_outflow(left: Departure) -> Finding:
    """Something left an own address in a transaction of others, or in none."""
    of = "wei" if left.contract is None else f"units of {left.contract}"
    if left.place.startswith(SHORTAGE):
        kind, tx_hash = Kind.BALANCE, None
        words = f"{left.amount} wei are missing in block {left.block_number}, and nothing recorded took them"
    else:
        kind, tx_hash = Kind.OUTFLOW, left.tx_hash
        words = f"{left.amount} {of} went to {left.recipient} in transaction {left.tx_hash}, which is none of ours"
    return Finding(
        address=left.address,
        kind=kind,
        what=f"{left.tx_hash}/{left.place}",
        block_number=left.block_number,
        block_hash=left.block_hash,
        words=words,
        tx_hash=tx_hash,
    )


def state_of(findings: Iterable[OpenFinding]) -> str:
    """The fingerprint of what is open at an address: whoever accepts it names what was shown."""
    lines = sorted(f"{one.finding.kind}:{one.finding.what}" for one in findings)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def delegate_of(code: str) -> str | None:
    """Whose code an address runs, where its code (hex) is an EIP-7702 delegation."""
    code = code.removeprefix("0x").lower()
    is_delegation = len(code) == _DELEGATION_DIGITS and code.startswith(_DELEGATED)
    return "0x" + code.removeprefix(_DELEGATED) if is_delegation else None


def _expected_nonce(known: KnownState, told: AccountState, sent: Sent) -> int:
    if known.block_number >= 0:
        return known.nonce + sent.count
    if sent.last_nonce is not None:
        return sent.last_nonce + 1
    return 0 if known.role is Role.DEPOSIT else told.nonce


def _at(block: BlockRef, known: KnownState, kind: Kind, what: str, words: str) -> Finding:
    return Finding(
        address=known.address,
        kind=kind,
        what=what,
        block_number=block.number,
        block_hash=block.block_hash,
        words=words,
    )
