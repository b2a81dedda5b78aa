"""A payout: value that leaves over a fiat rail to an account of the user's own. Pure: its states, names and figures.

    requested -> submitting -> submitted -> paid -> returned
        |            |    \\       |   \\
    cancelled        |     +-> unknown  +-> rejected | failed
                     +-------> (the same, where the evidence is faster than our own note of it)

Asking holds the money. `submitting` is written before the act outside, with our own id, which every rail passes on: a
bank as the end-to-end id (ISO 20022 EndToEndId), a provider as its idempotency key. Who dies there is resumed; whether
an act happened whose answer was lost is `unknown`, never guessed. Only the rail's evidence settles or releases it.
The rail says no: `rejected`, and its owner has it back. It had said yes and then couldn't: `failed`, the same. Paid,
and days later it's back: `returned`, credited again.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from base.errors import BrokenInvariant
from fiat.errors import InvalidRecipient

PREFIX = "pyo"
BATCH_PREFIX = "pyb"

PAYPAL = "paypal"
"""The rail that pays to PayPal accounts."""

NAME_LENGTH_MAX = 70
"""Characters of a creditor's name in SEPA (EPC132-08, AT-E001)."""

EMAIL_LENGTH_MAX = 127
"""Characters of a receiver's address at PayPal (Payouts 1.9)."""

_ULID = "[0-9A-HJKMNP-TV-Z]{26}"
_NAMED = re.compile(rf"(?=({PREFIX.upper()}{_ULID}))")
_BATCH_NAMED = re.compile(rf"(?=({BATCH_PREFIX.upper()}{_ULID}))")
_EMAIL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,63}", re.ASCII)
_NOISE = re.compile(r"[^0-9A-Z]")
_NOT_SEPA = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]")
_LETTER = re.compile(r"[A-Za-z0-9]")


class PayoutState(StrEnum):
    REQUESTED = "requested"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    PAID = "paid"
    RETURNED = "returned"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = PayoutState

NEXT: Mapping[PayoutState, frozenset[PayoutState]] = {
    _S.REQUESTED: frozenset({_S.SUBMITTING, _S.REJECTED, _S.CANCELLED}),
    _S.SUBMITTING: frozenset({_S.SUBMITTED, _S.UNKNOWN, _S.PAID, _S.REJECTED, _S.FAILED}),
    _S.SUBMITTED: frozenset({_S.UNKNOWN, _S.PAID, _S.REJECTED, _S.FAILED}),
    _S.UNKNOWN: frozenset({_S.SUBMITTED, _S.PAID, _S.REJECTED, _S.FAILED}),
    _S.PAID: frozenset({_S.RETURNED}),
    _S.RETURNED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""The transition table. An empty set ends the payout."""

OUTSIDE = frozenset({_S.SUBMITTING, _S.SUBMITTED, _S.UNKNOWN})
"""The act may have happened: only evidence ends these."""

RELEASED = frozenset({_S.REJECTED, _S.FAILED, _S.CANCELLED})
"""Ends at which its owner has amount and fee back."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a bank pays: the holder's name and the IBAN. Personal: never shown in a log, an error or an event."""

    name: str = field(repr=False)
    iban: str = field(repr=False)

    @property
    def number(self) -> str:
        """By which equal recipients are known."""
        return self.iban


@dataclass(frozen=True, slots=True)
class ProviderRecipient:
    """Whom a provider pays, as it knows them: at PayPal an e-mail address, written small. Personal."""

    address: str = field(repr=False)

    @property
    def number(self) -> str:
        """By which equal recipients are known."""
        return self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """`amount` goes to the recipient, `fee` to the house, both in smallest units of `asset` and held by `hold`.

    `account` is our account that pays, `batch` what it's submitted with. `reason` is why it ended unpaid or came back:
    an ISO 20022 code (`AC04`), a provider's, or a word of ours (`unclaimed` while it waits for its receiver); `detail`
    says more. `accepted_at`: the rail said that it will pay. `source`: what a provider calls it; `rail_fee`: what the
    provider charged the house for it, as booked.
    """

    id: str
    owner: str
    rail: str
    account: str
    asset: str
    amount: int
    fee: int
    state: PayoutState
    reason: str | None
    detail: str | None
    recipient: Recipient | ProviderRecipient = field(repr=False)
    hold: str
    batch: str | None
    accepted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    source: str | None = None
    rail_fee: int = 0
    replayed: bool = False

    @property
    def total(self) -> int:
        """What its owner is debited, in smallest units."""
        return self.amount + self.fee

    @property
    def end_to_end_id(self) -> str:
        """Its name on the rail: at most 35 letters and digits."""
        return outside_name(self.id)


class BatchState(StrEnum):
    """PREPARED: written down, the act may have begun. SUBMITTED: done. UNKNOWN: nobody can tell. REJECTED: wholly."""

    PREPARED = "prepared"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutBatch:
    """Payouts that are submitted together: for a bank, one file. `total` is the sum of its amounts, without fees."""

    id: str
    rail: str
    account: str
    asset: str
    payouts: int
    total: int
    state: BatchState
    reason: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def message_id(self) -> str:
        """Its name on the rail: a bank's MsgId."""
        return outside_name(self.id)


def advance(state: PayoutState, to: PayoutState) -> PayoutState:
    """`to`, if it may follow `state`. Raises BrokenInvariant otherwise: no evidence can cause that."""
    if to not in NEXT[state]:
        raise BrokenInvariant(f"a payout can't go from {state} to {to}", state=str(state), to=str(to))
    return to


def outside_name(id: str) -> str:
    """`pyo_01jd...` as every rail can carry it: `PYO01JD...`, 29 characters of letters and digits (SEPA's set)."""
    return id.replace("_", "").upper()


def id_of(name: str) -> str:
    """The id that `outside_name` was made of."""
    return f"{name[:3]}_{name[3:]}".lower()


def named_payouts(texts: tuple[str, ...]) -> frozenset[str]:
    """Ids of payouts that these texts name; spaces, dashes, case and line breaks don't matter."""
    return _found(_NAMED, texts)


def named_batches(texts: tuple[str, ...]) -> frozenset[str]:
    """Ids of batches that these texts name."""
    return _found(_BATCH_NAMED, texts)


def _found(pattern: re.Pattern[str], texts: tuple[str, ...]) -> frozenset[str]:
    mark = pattern.pattern[4:7]
    compact = (_NOISE.sub("", text.upper()) for text in texts if mark in text.upper())
    return frozenset(id_of(name) for text in compact for name in pattern.findall(text))


def read_email(text: str) -> ProviderRecipient:
    """A provider's account by its e-mail address. Raises InvalidRecipient, which doesn't repeat it."""
    tidy = text.strip().lower()
    if len(tidy) > EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(tidy):
        raise InvalidRecipient(
            "that is no e-mail address: write the one that the PayPal account has, as in name@host.example",
            param="recipient.paypal",
        )
    return ProviderRecipient(tidy)


def in_sepa_letters(name: str) -> str:
    """A name in the letters that every bank must take (EPC217-08): without accents, `&` as `+`; may be empty."""
    from text_unidecode import unidecode

    return " ".join(_NOT_SEPA.sub(" ", unidecode(name).replace("&", "+")).split())


def read_recipient(name: str, iban: str) -> Recipient:
    """A recipient as it will stand in the payment. Raises InvalidRecipient, which repeats neither."""
    from schwifty import IBAN
    from schwifty.exceptions import SchwiftyException

    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    if not 1 <= len(tidy) <= NAME_LENGTH_MAX or not tidy.isprintable() or not _LETTER.search(in_sepa_letters(tidy)):
        raise InvalidRecipient(
            f"the account holder's name: 1 to {NAME_LENGTH_MAX} printable characters with a letter or digit, as its"
            " bank knows it",
            param="recipient.name",
        )
    try:
        number = IBAN(iban)
    except SchwiftyException as error:
        raise InvalidRecipient(
            f"that is no valid IBAN ({type(error).__name__}): compare it with the bank's own writing",
            param="recipient.iban",
        ) from None
    return Recipient(name=tidy, iban=str(number))
