"""Who is paid by a withdrawal: whom it must not reach, and what its owner has to be warned of before. Pure.

Refused is what is lost for certain, or comes back to where it was. A warning is about what is most often a mistake or a
trick: the request is refused until it names the warning among those it accepts. A note is only shown.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from chain.evm.addresses import show_address
from chain.signing import OwnAddress as OwnKeyAddress
from ledger.errors import RefusedByBook
from wallet.errors import OwnAddress, Precompile, RecipientDoubtful, TokenContract, UnknownWarning

PRECOMPILES = frozenset({*range(0x01, 0x12), 0x100})
"""Addresses that are part of the chain's own machine (Yellow Paper, appendix E; EIP-4844, EIP-2537; EIP-7951)."""

LIKENESS_DIGITS = 4
"""Leading and trailing hexadecimal digits by which people compare addresses, and by which tricksters imitate them."""

USER_PREFIX = "usr_"
"""How a user's id begins, and so the names of their accounts."""

RECENT_DAYS = 90
"""For so long it's remembered from whom a user received, when an address is compared with those."""


class WarningCode(StrEnum):
    """What a request must accept by name."""

    LOOKS_ALIKE = "looks_alike"
    """It begins and ends like an address that its owner paid before or received from, and is another."""
    CONTRACT_REFUSES = "contract_refuses"
    """The code at the address turns this payment down, as things are now."""

    @property
    def refusal(self) -> str:
        """The code of the problem while it isn't accepted."""
        return {self.LOOKS_ALIKE: "recipient_looks_alike", self.CONTRACT_REFUSES: "recipient_refuses"}[self]


class Note(StrEnum):
    """What is worth knowing, and needs no answer."""

    FIRST_TIME = "first_time"
    NO_CHECKSUM = "no_checksum"
    CONTRACT = "contract"


NOTES: Mapping[Note, str] = {
    Note.FIRST_TIME: "you haven't paid this address before",
    Note.NO_CHECKSUM: "the address carries no checksum (no mixed case), so a mistyped digit can't be noticed",
    Note.CONTRACT: "a contract stands at this address: ask its operator whether it credits what you send",
}
"""What each note says."""


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning, in words for whoever is to decide. `resembles`: the known address, where it's about one."""

    code: WarningCode
    says: str
    resembles: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """An address (lower-case hex) that may be paid. `user`: whose deposit address it is, if one of our users'."""

    address: str
    user: str | None = None
    warnings: tuple[Warned, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """An address of our own, and whose it is: the house's without `owner`. `pooled`: nobody was given it yet."""

    own: OwnKeyAddress
    book: str | None = None
    owner: str | None = None
    pooled: bool = False

    @property
    def role(self) -> str:
        return self.own.key.role.value


def refuse_lost(address: str, contracts: Mapping[str, str]) -> None:
    """Raise Precompile or TokenContract where what is sent is lost. `contracts`: asset by token contract."""
    if int(address, 16) in PRECOMPILES:
        raise Precompile(
            "this address is part of the chain's own machine: nobody can get out what is sent there", param="address"
        )
    if (asset := contracts.get(address)) is not None:
        raise TokenContract(
            f"this is the contract of {asset} itself; what it gets is lost", param="address", token=asset
        )


def user_at(held: Held | None, *, book: str, owner: str) -> str | None:
    """Whose deposit address of this book it is; None for an address that is to be paid over the chain.

    Raises OwnAddress for the house's addresses, those that are to be given out, and the owner's own.
    """
    if held is None:
        return None
    if held.pooled:
        raise OwnAddress("this address is the house's own: nobody was given it yet", param="address", role=held.role)
    if held.owner is None:
        raise OwnAddress("this address is the house's own", param="address", role=held.role)
    if held.book != book:
        return None  # a book is complete for itself: what leaves one arrives in another over the chain
    if held.owner == owner:
        raise OwnAddress(
            "this is your own deposit address: what you send there would come back to you",
            code="own_deposit_address",
            param="address",
        )
    return held.owner


def look_alike(one: str, other: str) -> bool:
    """Whether two different addresses (lower-case hex) begin and end with the same digits."""
    return one != other and likeness(one) == likeness(other)


def likeness(address: str) -> tuple[str, str]:
    """The digits by which people compare addresses: the first (with 0x) and the last."""
    return address[: 2 + LIKENESS_DIGITS], address[-LIKENESS_DIGITS:]


def warn_of(address: str, *, paid: bool, known: Sequence[str], refuses: bool) -> tuple[Warned, ...]:
    """The warnings about `address`. `paid`: its owner paid it before, so it's no imitation to them.

    `known`: addresses that they paid or received from, most telling first. `refuses`: its code turns the payment down.
    """
    warnings = []
    twin = None if paid else next((one for one in known if look_alike(address, one)), None)
    if twin is not None:
        shown = show_address(twin)
        says = (
            f"this address begins and ends like {shown}, which you paid or received from, but is another: such are made"
            " to be copied by mistake. Compare every character"
        )
        warnings.append(Warned(WarningCode.LOOKS_ALIKE, says, resembles=twin))
    if refuses:
        says = (
            "the contract at this address turns this payment down as things are now. If it still does when the payment"
            " is due, it isn't made and all comes back to you; if it does so on the chain, the network's fee is yours"
        )
        warnings.append(Warned(WarningCode.CONTRACT_REFUSES, says))
    return tuple(warnings)


def require_accepted_warnings(warnings: Sequence[Warned], accepted: Collection[str]) -> tuple[WarningCode, ...]:
    """The warnings that were there and are accepted. Raises UnknownWarning, and RecipientDoubtful for one that isn't.

    Accepting what isn't warned of is no mistake: things may have changed since the estimate.
    """
    unknown = sorted(name for name in accepted if name not in set(WarningCode))
    if unknown:
        raise UnknownWarning(
            f"there is no warning {unknown[0][:40]!r} to accept",
            param="accept",
            known=[str(code) for code in WarningCode],
        )
    missing = [warned for warned in warnings if warned.code not in accepted]
    if missing:
        first = missing[0]
        more = {} if first.resembles is None else {"resembles": show_address(first.resembles)}
        raise RecipientDoubtful(
            first.says,
            code=first.code.refusal,
            param="address",
            warnings=[str(warned.code) for warned in missing],
            **more,
        )
    return tuple(warned.code for warned in warnings)


@contextmanager
def telling_nothing_of_others(owner: str) -> Iterator[None]:
    """Take out of a refusal by the book whatever names another user: who pays an address needn't learn whose it is."""
    try:
        yield
    except RefusedByBook as refusal:
        refusal.facts = {name: fact for name, fact in refusal.facts.items() if not _names_another(fact, owner)}
        raise


def _names_another(fact: object, owner: str) -> bool:
    return isinstance(fact, str) and fact.startswith(USER_PREFIX) and fact.partition("/")[0] != owner
