"""A journal's rows, checked by whoever reads them: the hash chain from its first row, and what was signed. Pure."""

from dataclasses import dataclass
from typing import Final

import cbor2
from eth_utils import keccak  # type: ignore[attr-defined]

from custody.intents import Authorisation, ProofOfControl
from custody.journal_file import GENESIS, Head, Kind, Row

_MESSAGES: Final = frozenset({Authorisation.kind, ProofOfControl.kind})


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction that a journal holds. `sender` is written `hot:0`; `at_us` Unix microseconds."""

    subject: str
    attempt: int
    chain_id: int
    sender: str
    nonce: int
    raw: bytes
    sequence: int
    at_us: int
    is_taken_back: bool = False

    @property
    def tx_hash(self) -> str:
        """The hash that the chain knows it by."""
        return "0x" + bytes(keccak(self.raw)).hex()


class JournalReading:
    """Takes rows in order. `flaw` says where the chain first breaks; after that nothing more is believed."""

    def __init__(self) -> None:
        self.head = Head(0, GENESIS)
        self.flaw: str | None = None
        self.signed: list[SignedTransaction] = []
        self.hashes: list[bytes] = []
        """Of each row, by sequence - 1."""
        self.lost: list[range] = []
        """Sequences of rows that clients saw and a resync gave up: what they were is not known any more."""
        self.messages = 0
        self._halted: list[tuple[int, int]] = []
        self._last_signed = 0
        self._kinds: dict[int, str] = {}

    def take(self, row: Row) -> None:
        """The next row."""
        if self.flaw is not None:
            return
        expected = self.head.sequence + 1
        try:
            right = row.sequence == expected and row.hash == row.expected_hash(self.head.hash)
            if right:
                self._read(row)
        except (cbor2.CBORError, KeyError, TypeError, ValueError):
            right = False
        if not right:
            self.flaw = f"row {expected} of the journal isn't what was written"
            return
        self.head = Head(row.sequence, row.hash)
        self.hashes.append(row.hash)

    def has(self, head: Head) -> bool:
        """Whether that row was read, and is that one."""
        return 0 < head.sequence <= len(self.hashes) and self.hashes[head.sequence - 1] == head.hash

    def has_lost(self, head: Head) -> bool:
        """Whether a resync gave that row up."""
        return any(head.sequence in lost for lost in self.lost)

    def _read(self, row: Row) -> None:
        match row.kind:
            case Kind.INTENT | Kind.SUCCESSOR:
                self._kinds[row.sequence] = cbor2.loads(row.body)["intent"]["kind"]
            case Kind.SIGNED:
                self._last_signed = row.sequence
                told = cbor2.loads(row.body)
                if self._kinds.pop(told["of"], "") in _MESSAGES:
                    self.messages += 1
                else:
                    self._keep(row, told["raw"])
            case Kind.RESYNCED:
                self._keep(row, cbor2.loads(row.body)["raw"], is_taken_back=True)
            case Kind.HALTED:
                self._halted.append((self._last_signed + 1, cbor2.loads(row.body)["sequence"]))
            case Kind.TAKEN_UP:
                self.lost += [range(first, seen + 1) for first, seen in self._halted]
                self._halted = []
            case _:
                pass

    def _keep(self, row: Row, raw: bytes, *, is_taken_back: bool = False) -> None:
        if (
            row.subject is None
            or row.attempt is None
            or row.chain_id is None
            or row.sender is None
            or row.nonce is None
        ):
            raise ValueError("a signed transaction has a place")
        self.signed.append(
            SignedTransaction(
                row.subject,
                row.attempt,
                row.chain_id,
                row.sender,
                row.nonce,
                raw,
                row.sequence,
                row.at_us,
                is_taken_back,
            )
        )
