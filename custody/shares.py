"""SLIP-39: a BIP-39 entropy split into shares in words, so that no single card is the key and none is indispensable.

Without a SLIP-39 passphrase: a wrong one would raise nothing and give another secret. Instead each card carries its
set's id and the key's fingerprint, which is compared before what was restored is used.

The library is a reference implementation without hardening; WARNING is what its own README says, for people to read
before they use it. Its messages repeat words of the share, so none of them is passed on.

Not here: the cards on the screen (cli), what the secret is used for (keystore).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import Final

from shamir_mnemonic import EncryptedMasterSecret, MnemonicError, Share, recover_ems, shamir, split_ems
from shamir_mnemonic.constants import MAX_SHARE_COUNT, MIN_MNEMONIC_LENGTH_WORDS
from shamir_mnemonic.shamir import ShareGroup
from shamir_mnemonic.wordlist import WORD_INDEX_MAP

from base.entropy import Entropy
from custody.errors import SharesInvalid

WARNING: Final = (
    "The library that makes and combines shares (shamir-mnemonic) is not hardened: its own README says that "
    '"calculations are most likely trivially vulnerable to side-channel attacks" and that it is for verifying other '
    "implementations, not for sensitive secrets. Use it on an air-gapped computer that nobody else uses, preferably "
    "a live system, and switch that off afterwards."
)

_ITERATION_EXPONENT: Final = 1
_IDENTIFIER_BITS: Final = 15
_SCHEME: Final = re.compile(r"([1-9][0-9]?)(?:of|-of-)([1-9][0-9]?)")
_TRIES_MAX: Final = 500
"""Selections of shares that are tried to find the bad one among more than are needed."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a secret is split: `groups` of (needed, made), of which `groups_needed` are needed."""

    groups: tuple[tuple[int, int], ...]
    groups_needed: int

    @classmethod
    def parse(cls, text: str, *, groups_needed: int | None = None) -> "Scheme":
        """A scheme from "2of3", or from several such, "2of3,3of5"; all groups are needed unless said otherwise."""
        found = [_SCHEME.fullmatch(part.strip().lower()) for part in text.split(",")]
        groups = tuple((int(match[1]), int(match[2])) for match in found if match is not None)
        if len(groups) < len(found):
            raise SharesInvalid('shares are written as "2of3", or "2of3,3of5" for groups: needed, "of", made')
        scheme = cls(groups, len(groups) if groups_needed is None else groups_needed)
        scheme.check()
        return scheme

    def check(self) -> None:
        """Raises SharesInvalid when SLIP-39 can't do it, or when it would be no sharing at all."""
        if not 1 <= self.groups_needed <= len(self.groups) <= MAX_SHARE_COUNT:
            raise SharesInvalid(f"1 to {len(self.groups)} groups can be needed, and there are at most 16")
        for needed, made in self.groups:
            if not needed <= made <= MAX_SHARE_COUNT:
                raise SharesInvalid(f"{needed} of {made} can't be: at most all are needed, and at most 16 are made")
            if needed == 1 and made > 1:
                raise SharesInvalid("of a group of which one share is enough only one is made (1of1); copy that card")


@dataclass(frozen=True, slots=True)
class Card:
    """One share as it is written down: its place in the set, and its words."""

    set_id: str
    group: int
    groups: int
    groups_needed: int
    member: int
    members: int
    members_needed: int
    words: tuple[str, ...] = field(repr=False)

    @property
    def title(self) -> str:
        """The card's place in words, such as "share 2 of 3, 2 needed"."""
        share = f"share {self.member} of {self.members}, {self.members_needed} needed"
        return (
            share if self.groups == 1 else f"group {self.group} of {self.groups} ({self.groups_needed} needed), {share}"
        )


@dataclass(frozen=True, slots=True)
class ReadShare:
    """A share that was typed in; `place` is its number in the order of typing, from 1."""

    place: int
    share: Share = field(repr=False)

    @property
    def set_id(self) -> str:
        """The set's id, as the card shows it."""
        return _set_id(self.share.identifier)


def split(secret: bytes, scheme: Scheme, entropy: Entropy) -> tuple[Card, ...]:
    """The cards of a BIP-39 entropy (16 to 32 bytes), group by group; what they recombine to was checked.

    The identifier and the polynomials are drawn from `entropy`, through the library's own hook for that.
    """
    scheme.check()
    drawn_by_library, shamir.RANDOM_BYTES = shamir.RANDOM_BYTES, entropy.draw
    try:
        identifier = int.from_bytes(entropy.draw(2), "big") >> (16 - _IDENTIFIER_BITS)
        sealed = EncryptedMasterSecret.from_master_secret(secret, b"", identifier, True, _ITERATION_EXPONENT)
        groups = split_ems(scheme.groups_needed, scheme.groups, sealed)
    finally:
        shamir.RANDOM_BYTES = drawn_by_library
    cards = tuple(_card(share, scheme) for group in groups for share in group)
    for chosen in _smallest_selections(cards, scheme):
        if restore([read_share(" ".join(card.words), place) for place, card in enumerate(chosen, 1)]) != secret:
            raise AssertionError("shares don't recombine to the secret that they were made of")
    return cards


def read_share(words: str, place: int) -> ReadShare:
    """The share that words mean; `place` is its number among those typed. Raises SharesInvalid, with no word in it."""
    listed = words.lower().split()
    strangers = [str(number) for number, word in enumerate(listed, 1) if word not in WORD_INDEX_MAP]
    if strangers:
        raise SharesInvalid(
            f"share {place}: word {', '.join(strangers)} isn't in the SLIP-39 list: check its spelling",
            code="share_word",
        )
    if len(listed) < MIN_MNEMONIC_LENGTH_WORDS:
        raise SharesInvalid(
            f"share {place} has {len(listed)} words, and a share has at least {MIN_MNEMONIC_LENGTH_WORDS}: "
            "look for a missing one",
            code="share_length",
        )
    try:
        return ReadShare(place, Share.from_mnemonic(" ".join(listed)))
    except MnemonicError:
        raise SharesInvalid(
            f"share {place} doesn't pass its checksum: a word is wrong, missing or doubled, or two have changed "
            "places; compare each with the card, in order",
            code="share_checksum",
        ) from None


def missing(shares: Sequence[ReadShare]) -> str | None:
    """What is still needed, as a sentence, or None when the shares are enough. Raises SharesInvalid like `restore`."""
    groups = _groups(shares)
    first = shares[0].share
    complete = sum(len(members) >= members[0].share.member_threshold for members in groups.values())
    if complete >= first.group_threshold:
        return None
    parts = [
        f"{members[0].share.member_threshold - len(members)} more of group {index + 1}"
        for index, members in sorted(groups.items())
        if len(members) < members[0].share.member_threshold
    ]
    others = first.group_threshold - len(groups)
    if others > 0:
        parts.append(f"{others} more group{'s' if others > 1 else ''}")
    return "still needed: " + " and ".join(parts)


def restore(shares: Sequence[ReadShare]) -> bytes:
    """The BIP-39 entropy behind enough shares of one set.

    Raises SharesInvalid: a share of another set, one typed twice, one that contradicts the others (named where there
    are more than needed), or too few. Compare the fingerprint of what comes out before it is used.
    """
    return bytes(gather(shares).decrypt(b""))


def gather(shares: Sequence[ReadShare]) -> EncryptedMasterSecret:
    """What the shares have in common, before SLIP-39's own (here always empty) passphrase. Raises like `restore`."""
    lacking = missing(shares)
    if lacking is not None:
        raise SharesInvalid(f"too few shares; {lacking}", code="shares_too_few")
    first = shares[0].share
    parts = []
    for index, members in sorted(_groups(shares).items()):
        if len(members) >= members[0].share.member_threshold:
            value = _combine([(read.share, read.place) for read in members])
            part = replace(first, index=index, member_threshold=first.group_threshold, value=value)
            parts.append((part, members[0].place))
    ciphertext = _combine(parts)
    if len(ciphertext) not in (16, 20, 24, 28, 32):
        raise SharesInvalid("the secret of these shares isn't the entropy of a BIP-39 mnemonic", code="shares_foreign")
    return EncryptedMasterSecret(first.identifier, first.extendable, first.iteration_exponent, ciphertext)


def _groups(shares: Sequence[ReadShare]) -> dict[int, list[ReadShare]]:
    """The shares by group, after comparing each with those before it."""
    if not shares:
        raise SharesInvalid("no share was given", code="shares_too_few")
    first = shares[0]
    groups: dict[int, list[ReadShare]] = {}
    for read in shares:
        if read.share.common_parameters() != first.share.common_parameters():
            raise SharesInvalid(
                f"share {read.place} is from another set ({read.set_id}) than share {first.place} ({first.set_id}): "
                "take cards with the same set id",
                code="share_of_another_set",
            )
        members = groups.setdefault(read.share.group_index, [])
        for other in members:
            _compare(read, other)
        members.append(read)
    return groups


def _compare(read: ReadShare, other: ReadShare) -> None:
    if read.share == other.share:
        raise SharesInvalid(
            f"share {read.place} is share {other.place} once more: take another card", code="share_twice"
        )
    same_group = read.share.group_parameters() == other.share.group_parameters()
    if not same_group or read.share.index == other.share.index or len(read.share.value) != len(other.share.value):
        raise SharesInvalid(
            f"share {read.place} contradicts share {other.place}: they say the same set but weren't made together",
            code="share_contradicts",
        )


def _combine(shares: list[tuple[Share, int]]) -> bytes:
    """The secret of one level, from shares with the places they were typed at; more than needed must all agree."""
    needed = shares[0][0].member_threshold
    for chosen in islice(combinations(shares, needed), _TRIES_MAX):
        value = _recombined([share for share, _ in chosen])
        if value is None:
            continue
        for share, place in shares:
            if (share, place) not in chosen and _recombined([share, *(kept for kept, _ in chosen[1:])]) != value:
                raise SharesInvalid(f"share {place} contradicts the others: leave it out", code="share_contradicts")
        return value
    raise SharesInvalid(
        "these shares pass their checksums but don't belong together: one was made otherwise; try with another card",
        code="shares_disagree",
    )


def _recombined(shares: list[Share]) -> bytes | None:
    """What exactly enough shares of one level give, or None when their digest says that they don't fit."""
    alone = ShareGroup()
    try:
        for share in shares:
            alone.add(replace(share, group_index=0, group_threshold=1, group_count=1))
        return bytes(recover_ems({0: alone}).ciphertext)
    except MnemonicError:
        return None


def _smallest_selections(cards: Sequence[Card], scheme: Scheme) -> Iterator[list[Card]]:
    """Selections that should be just enough: the first and the last members of the first and the last groups."""
    by_group = [[card for card in cards if card.group == number] for number in range(1, len(scheme.groups) + 1)]
    for groups in (by_group[: scheme.groups_needed], by_group[-scheme.groups_needed :]):
        yield [card for members in groups for card in members[: members[0].members_needed]]
        yield [card for members in groups for card in members[-members[0].members_needed :]]


def _card(share: Share, scheme: Scheme) -> Card:
    needed, made = scheme.groups[share.group_index]
    return Card(
        set_id=_set_id(share.identifier),
        group=share.group_index + 1,
        groups=share.group_count,
        groups_needed=share.group_threshold,
        member=share.index + 1,
        members=made,
        members_needed=needed,
        words=tuple(share.words()),
    )


def _set_id(identifier: int) -> str:
    return f"{identifier:04X}"
