"""What a recovery finds and does, as it is shown: items of the journal that the database doesn't know. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from chain.rebuilding import JournalPayment, Rebuilt
from chain.restores import Halt
from custody.signed_subjects import SignedSubject


class Part(StrEnum):
    """What becomes of something that was signed and isn't known here."""

    REBUILD = "rebuild"
    """A withdrawal of which nothing is left, or a batch of them."""
    MOVE_ON = "move_on"
    """A withdrawal that is known, but not that it was signed."""
    TRANSACTION = "transaction"
    """The transaction and its attempts; all else of it is known, or isn't kept."""
    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A subject of the journal that isn't known here, or not wholly. `amount` and `shortage` in smallest units.

    `batch`: the subject with which it was signed, where it's a leg of that; then nonce, attempts and bytes are that's.
    """

    subject: str
    part: Part
    kind: str
    chain_id: int
    sender: str
    nonce: int
    attempts: int
    row: int
    tx_hash: str | None = None
    raw: bytes | None = None
    batch: str | None = None
    network: str | None = None
    owner: str | None = None
    asset: str | None = None
    amount: int | None = None
    to: str | None = None
    shortage: int = 0
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is missing.

    `in_batches`: withdrawals of the backup that may be paid by a batch that can't be rebuilt, or not this leg of it: a
    person ends them. `waiting`: those that nothing was signed for, and that go on afterwards.
    """

    halt: Halt | None
    rows: int
    items: tuple[Item, ...]
    refused: tuple[str, ...]
    in_batches: tuple[str, ...]
    waiting: tuple[str, ...]

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.halt is not None or bool(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done by this call; an earlier one may have done the rest. `left`: by hand, and why it's still halted."""

    transactions: Rebuilt
    booked: int
    withdrawals: int
    left: tuple[Item, ...]


class About:
    """Makes items of what is known of a subject, and of the payment that it is here, or that a leg of it would be."""

    def __init__(self, signed: SignedSubject, payment: JournalPayment | None = None) -> None:
        self._signed = signed
        self._payment = payment

    def item(
        self,
        part: Part,
        *,
        owner: str | None = None,
        asset: str | None = None,
        amount: int | None = None,
        shortage: int = 0,
        note: str | None = None,
    ) -> Item:
        signed, payment = self._signed, self._payment
        subject = signed.subject if payment is None else payment.subject
        return Item(
            subject=subject,
            batch=None if subject == signed.subject else signed.subject,
            part=part,
            kind=signed.kind,
            chain_id=signed.chain_id,
            sender=str(signed.sender),
            nonce=signed.nonce,
            attempts=len(signed.attempts),
            row=signed.last_row,
            tx_hash=None if payment is None else payment.tx_hash,
            raw=next((one.raw for one in reversed(signed.attempts) if one.raw is not None), None),
            network=None if payment is None else payment.payment.network,
            to=None if payment is None else payment.payment.recipient,
            owner=owner,
            asset=asset,
            amount=amount,
            shortage=shortage,
            note=note,
        )
