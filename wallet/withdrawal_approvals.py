"""What a withdrawal that the signer wants people's approvals for needs of the house: to ask them, and to hear them.

The wallet knows no policy and no signature: `Approving` is the house's desk for that, and what it says moves states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol

from chain.payments import Payment
from chain.signing import OwnKey

APPROVABLE: Final = frozenset({"approvals_missing", "over_ceiling", "approval_expired", "approval_policy_differs"})
"""The signer's codes that people can change."""

PATIENCE: Final = timedelta(days=1)
"""How long people are given."""

ASKED: Final = "the house's people have to approve it"
NOT_APPROVED: Final = "the house's people didn't approve it"
"""What its user reads."""


ALONE: Final = "people are asked to approve it as a payment of its own"
"""Why it's in no batch."""


class Answer(StrEnum):
    """What became of the asking."""

    OPEN = "open"
    APPROVED = "approved"
    ENDED = "ended"
    """Withdrawn, or its time is over."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The latest asking for a withdrawal: what became of it, and the key that is to pay by what people see."""

    answer: Answer
    sender: OwnKey


class Approving(Protocol):
    """Asks the people whom the signer's policy names."""

    async def ask(self, payment: Payment, *, owner: str, code: str, refused: str) -> bool:
        """Ask for approval of this payment of `owner`'s, which the signer refused with `code` as the transaction
        `refused`; again it's the same one. False where nobody could approve it.

        Raises Unavailable while nobody can be asked.
        """
        ...

    async def asked(self, withdrawals: Sequence[str]) -> Mapping[str, Asked]:
        """What became of the latest asking for each of these, by id; none of one that nobody was asked about."""
        ...
