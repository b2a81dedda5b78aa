"""BIP-39: words people can write down <-> entropy -> seed. No BIP-39 passphrase: a wrong one would raise nothing.

Not here: where secrets rest (keystore), what is derived from them (derivation).
"""

from functools import cache

from mnemonic import Mnemonic

from base.entropy import Entropy
from custody.errors import MnemonicInvalid

WORD_COUNTS = (12, 15, 18, 21, 24)
"""Lengths of a mnemonic that BIP-39 knows; each word carries 11 bits, checksum included."""


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")


def create_entropy(entropy: Entropy, *, words: int = 24) -> bytes:
    """Fresh BIP-39 entropy for a mnemonic of `words` words: 16 bytes for 12, 32 for 24."""
    if words not in WORD_COUNTS:
        raise MnemonicInvalid(f"a mnemonic has 12, 15, 18, 21 or 24 words, not {words}")
    return entropy.draw(words * 4 // 3)


def words_from_entropy(secret: bytes) -> str:
    """The English mnemonic of BIP-39 entropy."""
    return _english().to_mnemonic(secret)


def entropy_from_words(words: str) -> bytes:
    """The entropy behind an English mnemonic.

    Case and spacing don't matter. Raises MnemonicInvalid with the rule that is broken and what to do; it names a
    word by its place only, since the message may end in a log.
    """
    listed = words.lower().split()
    if len(listed) not in WORD_COUNTS:
        raise MnemonicInvalid(
            f"a mnemonic has 12, 15, 18, 21 or 24 words, these are {len(listed)}: look for a missing or doubled word",
            code="mnemonic_length",
        )
    known = set(_english().wordlist)
    strangers = [place for place, word in enumerate(listed, start=1) if word not in known]
    if strangers:
        raise MnemonicInvalid(
            f"word {', '.join(map(str, strangers))} isn't in the English BIP-39 list: check its spelling",
            code="mnemonic_word",
            places=strangers,
        )
    try:
        return bytes(_english().to_entropy(listed))
    except ValueError:
        raise MnemonicInvalid(
            "the checksum doesn't match: every word is in the list, but one is the wrong word or two have changed "
            "places; compare each with the card, in order",
            code="mnemonic_checksum",
        ) from None


def seed_from_words(words: str) -> bytes:
    """The 64-byte BIP-39 seed of a mnemonic, after checking it."""
    return seed_from_entropy(entropy_from_words(words))


def seed_from_entropy(secret: bytes) -> bytes:
    """The 64-byte BIP-39 seed (PBKDF2-HMAC-SHA512, 2048 rounds, empty passphrase) of BIP-39 entropy."""
    return Mnemonic.to_seed(words_from_entropy(secret), "")
