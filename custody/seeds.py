"""BIP-39: words people can write down <-> entropy -> seed. No BIP-39 passphrase: a wrong one would raise nothing.

A seed is made of the *words*, not of the entropy: the same entropy in Chinese words is another wallet. So a secret is
its entropy and the language of its words; ours are English, Chinese ones are for importing what exists already.

Not here: where secrets rest (keystore), shares of them (shares), what is derived from them (derivation).
"""

import unicodedata
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from mnemonic import Mnemonic

from base.entropy import Entropy
from custody.errors import MnemonicInvalid

WORD_COUNTS = (12, 15, 18, 21, 24)
"""Lengths of a mnemonic that BIP-39 knows; each word carries 11 bits, checksum included."""


class Language(StrEnum):
    """The word lists that we read. The value is the name of BIP-39's own list."""

    ENGLISH = "english"
    CHINESE_SIMPLIFIED = "chinese_simplified"
    CHINESE_TRADITIONAL = "chinese_traditional"


class ReadWords(NamedTuple):
    """What words mean: their entropy and the list that they are from."""

    entropy: bytes
    language: Language

    def __repr__(self) -> str:
        return f"ReadWords({self.language.value})"


@cache
def _list(language: Language) -> Mnemonic:
    return Mnemonic(language.value)


@cache
def _known(language: Language) -> frozenset[str]:
    return frozenset(_list(language).wordlist)


def create_entropy(entropy: Entropy, *, words: int = 24) -> bytes:
    """Fresh BIP-39 entropy for a mnemonic of `words` words: 16 bytes for 12, 32 for 24."""
    if words not in WORD_COUNTS:
        raise MnemonicInvalid(f"a mnemonic has 12, 15, 18, 21 or 24 words, not {words}")
    return entropy.draw(words * 4 // 3)


def words_from_entropy(secret: bytes, language: Language = Language.ENGLISH) -> str:
    """The mnemonic of BIP-39 entropy."""
    return _list(language).to_mnemonic(secret)


def entropy_from_words(words: str) -> bytes:
    """The entropy behind an English mnemonic. Raises MnemonicInvalid, as `read_words` does."""
    told = read_words(words)
    if told.language is not Language.ENGLISH:
        raise MnemonicInvalid("these are Chinese words, and English ones are expected here", code="mnemonic_language")
    return told.entropy


def read_words(words: str) -> ReadWords:
    """The entropy and language of a mnemonic, English or Chinese (simplified or traditional).

    Case and spacing don't matter; Chinese words, one character each, may stand without spaces. Words that are in both
    Chinese lists mean the same in both, and give the same seed. Raises MnemonicInvalid with the rule that is broken and
    what to do; it names a word by its place only, since the message may end in a log.
    """
    listed = _split(words)
    if len(listed) not in WORD_COUNTS:
        raise MnemonicInvalid(
            f"a mnemonic has 12, 15, 18, 21 or 24 words, these are {len(listed)}: look for a missing or doubled word",
            code="mnemonic_length",
        )
    language, strangers = _recognise(listed)
    if strangers:
        name = "English" if language is Language.ENGLISH else "Chinese"
        raise MnemonicInvalid(
            f"word {', '.join(map(str, strangers))} isn't in the {name} BIP-39 list: check its spelling",
            code="mnemonic_word",
            places=strangers,
        )
    try:
        return ReadWords(bytes(_list(language).to_entropy(listed)), language)
    except ValueError:
        raise MnemonicInvalid(
            "the checksum doesn't match: every word is in the list, but one is the wrong word or two have changed "
            "places; compare each with the card, in order",
            code="mnemonic_checksum",
        ) from None


def seed_from_words(words: str) -> bytes:
    """The 64-byte BIP-39 seed of a mnemonic, after checking it."""
    return seed_from_entropy(*read_words(words))


def seed_from_entropy(secret: bytes, language: Language = Language.ENGLISH) -> bytes:
    """The 64-byte BIP-39 seed (PBKDF2-HMAC-SHA512, 2048 rounds, empty passphrase) of BIP-39 entropy."""
    return Mnemonic.to_seed(words_from_entropy(secret, language), "")


def _split(words: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", words).lower()
    if any(unicodedata.name(sign, "").startswith("CJK") for sign in plain):
        return [sign for sign in plain if not sign.isspace()]
    return plain.split()


def _recognise(listed: list[str]) -> tuple[Language, list[int]]:
    """The language with the fewest strangers among the words, and the places of those, from 1."""
    found = [
        (language, [place for place, word in enumerate(listed, start=1) if word not in _known(language)])
        for language in Language
    ]
    return min(found, key=lambda entry: len(entry[1]))
