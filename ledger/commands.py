"""Commands: the only way to change a book. Immutable values; what each does is in `ledger.core`.

A command's `id` makes a repeat harmless: same id and same content give the first outcome again. `subject` names the
resource that it's about (`wdr_...`) and comes back with the outcome, also on a repeat. `evidence` says what outside the
book caused the command; a freeze stops intents, never evidence.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from ledger.riders import Rider


class ChainEvidence(msgspec.Struct, frozen=True, gc=False):
    """A block, and where in it. Hashes are hex with 0x.

    `place` is `log:n`, `value`, `trace:path` or `gas` within a transaction. `withdrawal:index` and `surplus:address`
    are the block's own; there `tx_hash` is the block's hash.
    """

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str

    @property
    def transaction(self) -> str | None:
        """The transaction's hash; None where there is none."""
        return None if self.tx_hash == self.block_hash else self.tx_hash


class BankEvidence(msgspec.Struct, frozen=True, gc=False):
    """A line of a bank statement: our bank account's name, the statement's id, the line's number from 1."""

    account: str
    statement: str
    line: int


class SignerEvidence(msgspec.Struct, frozen=True, gc=False):
    """A row of the signer's journal, which shows that something was signed away: its sequence, and its hash as hex."""

    journal_row: int
    journal_hash: str


class RailEvidence(msgspec.Struct, frozen=True, gc=False):
    """What a payment provider says: our name of its rail, and its own id of the payment, refund, dispute, ..."""

    rail: str
    object: str


Evidence = ChainEvidence | BankEvidence | SignerEvidence | RailEvidence


class Posting(msgspec.Struct, frozen=True, gc=False):
    """`amount` of `asset` from the debit account to the credit account.

    With `debit_rest`, the debit account gives only what it has available and `debit_rest` the remainder; with
    `credit_rest`, the credit account takes only what it owes (its debit balance) and `credit_rest` the remainder. The
    split is made under the book's lock and the outcome's lines tell it.
    """

    debit: str
    credit: str
    asset: str
    amount: int
    debit_rest: str | None = None
    credit_rest: str | None = None


class Charge(msgspec.Struct, frozen=True, gc=False):
    """A share of a limit that this command uses up: `amount` more on `counter`, which may reach `cap` and no more.

    The name of a counter says whose, what and when (`usr_.../send/2026-11-23`); its unit is the caller's choice. A hold
    that ends with nothing settled gives its charges back.

    One that `may_ask_again` refuses nothing: where it doesn't fit, the group is left undecided (`allowance_spent`), and
    its ids are as free as before. So what is free only as long as an allowance lasts can be asked for at another price.
    """

    counter: str
    amount: int
    cap: int
    may_ask_again: bool = False


class Bound(msgspec.Struct, frozen=True, gc=False):
    """What an account may come to: after the entry its posted balance is from `least` to `most` smallest units.

    None: no bound on that side. What is outside already may come nearer, but go no further.
    """

    account: str
    least: int | None = None
    most: int | None = None


class _Common(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    id: str
    subject: str | None = None
    evidence: Evidence | None = None
    effective_at: datetime | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class OpenAccount(_Common, frozen=True, kw_only=True, gc=False):
    """Open `account` (an id from `ledger.accounts`). Opening what is open already is accepted and changes nothing."""

    account: str


class CloseAccount(_Common, frozen=True, kw_only=True, gc=False):
    """Close an account whose balance and pending counters are zero."""

    account: str


class FreezeScope(StrEnum):
    ACCOUNT = "account"
    OWNER = "owner"
    ASSET = "asset"
    NETWORK = "network"
    """A network, rail or bank account by its name: the house's accounts there (`ledger.accounts.place_of`)."""


class Freeze(_Common, frozen=True, kw_only=True, gc=False):
    """Stop intents that touch an account, or the accounts of an owner, of an asset, or at a network."""

    scope: FreezeScope
    target: str


class Unfreeze(_Common, frozen=True, kw_only=True, gc=False):
    """Lift a freeze."""

    scope: FreezeScope
    target: str


class SetCreditLine(_Common, frozen=True, kw_only=True, gc=False):
    """Let a limited account owe up to `cap` smallest units."""

    account: str
    cap: int


class Post(_Common, frozen=True, kw_only=True, gc=False):
    """Book an entry: all its postings, in order, or none.

    `covered` holds every debited account to what it has, also one without a limit of its own: for people's moves out
    of accounts that only evidence may overdraw. `owing_nothing` names accounts none of which may be below zero; one
    that was never opened isn't. `bounds` aren't set where there are none: what is unset isn't part of the content.
    """

    postings: tuple[Posting, ...]
    covered: bool = False
    charges: tuple[Charge, ...] = ()
    owing_nothing: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] | msgspec.UnsetType = msgspec.UNSET


class Hold(_Common, frozen=True, kw_only=True, gc=False):
    """Set value aside by pending postings. The hold's id is this command's id.

    Without `expires_at` it stays until it's settled or voided. `owing_nothing` is as in a post.
    """

    postings: tuple[Posting, ...]
    expires_at: datetime | None = None
    charges: tuple[Charge, ...] = ()
    owing_nothing: tuple[str, ...] = ()


class Settle(_Common, frozen=True, kw_only=True, gc=False):
    """Post a part of a hold, or all of it.

    `amounts` are (posting's index from 0, amount) pairs; None means all that remains. `close` releases the rest.
    `owing_nothing` is as in a post.
    """

    hold: str
    amounts: tuple[tuple[int, int], ...] | None = None
    close: bool = False
    owing_nothing: tuple[str, ...] = ()


class Void(_Common, frozen=True, kw_only=True, gc=False):
    """Release all that remains of a hold."""

    hold: str


class Expire(_Common, frozen=True, kw_only=True, gc=False):
    """Release all that remains of a hold whose `expires_at` has come."""

    hold: str


class Reverse(_Common, frozen=True, kw_only=True, gc=False):
    """Take back what an entry (a post or a settlement) moved, wholly or in part; the two are linked both ways.

    `amounts` are (line's index from 0 in the entry's outcome, amount) pairs; None means all that isn't reversed yet. It
    is refused like any entry where the money is spent.
    """

    entry: str
    amounts: tuple[tuple[int, int], ...] | None = None


class ClosePeriod(_Common, frozen=True, kw_only=True, gc=False):
    """Close the book's effective time before `until`: what is effective earlier moves to `until`."""

    until: datetime


class Record(_Common, frozen=True, kw_only=True, gc=False):
    """State facts that move nothing. They stand in the book's sequence, word by word in their leaf: sealed with it.

    They can't be erased: what may have to be one day belongs into the metadata. `charges` are what the commands beside
    it in its group use up, where those have none of their own; unset where there are none, as a post's bounds.
    """

    facts: Mapping[str, str]
    charges: tuple[Charge, ...] | msgspec.UnsetType = msgspec.UNSET


Command = (
    OpenAccount
    | CloseAccount
    | Freeze
    | Unfreeze
    | SetCreditLine
    | Post
    | Hold
    | Settle
    | Void
    | Expire
    | Reverse
    | ClosePeriod
    | Record
)


class Group(msgspec.Struct, frozen=True, gc=False):
    """Commands that succeed or fail together and see each other's effects in order, and the rows that ride with them.

    `content` is the SHA-256 of what the caller sent; None takes the hash of each command itself.
    """

    commands: tuple[Command, ...]
    riders: tuple[Rider, ...] = ()
    content: bytes | None = None


def alone(command: Command, *riders: Rider, content: bytes | None = None) -> Group:
    """A group of one command."""
    return Group((command,), riders, content)
