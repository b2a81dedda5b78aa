"""BIP-39 against the published vectors, and what a person is told who mistypes a word."""

import pytest

from base.entropy import SeededEntropy
from custody.errors import MnemonicInvalid
from custody.seeds import create_entropy, entropy_from_words, seed_from_entropy, seed_from_words, words_from_entropy
from tests.custody import reference

# Trezor's vectors (python-mnemonic, vectors.json): entropy, words, seed with the passphrase "TREZOR".
VECTORS = [
    (
        "00" * 16,
        "abandon " * 11 + "about",
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81"
        "b2f001698e7463b04",
    ),
    (
        "7f" * 16,
        "legal winner thank year wave sausage worth useful legal winner thank yellow",
        "2e8905819b8723fe2c1d161860e5ee1830318dbf49a83bd451cfb8440c28bd6fa457fe1296106559a3c80937a1c1069be3a3a5bd381ee62"
        "60e8d9739fce1f607",
    ),
    (
        "80" * 16,
        "letter advice cage absurd amount doctor acoustic avoid letter advice cage above",
        "d71de856f81a8acc65e6fc851a38d4d7ec216fd0796d0a6827a3ad6ed5511a30fa280f12eb2e47ed2ac03b5c462a0358d18d69fe4f985ec"
        "81778c1b370b652a8",
    ),
    (
        "ff" * 16,
        "zoo " * 11 + "wrong",
        "ac27495480225222079d7be181583751e86f571027b0497b5b5d11218e0a8a13332572917f0f8e5a589620c6f15b11c61dee327651a14c3"
        "4e18231052e48c069",
    ),
    (
        "80" * 32,
        "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid "
        "letter advice cage absurd amount doctor acoustic bless",
        "c0c519bd0e91a2ed54357d9d1ebef6f5af218a153624cf4f2da911a0ed8f7a09e2ef61af0aca007096df430022f7a2b6fb91661a9589097"
        "069720d015e4e982f",
    ),
]


@pytest.mark.parametrize(("entropy", "words", "seed"), VECTORS)
def test_published_vectors_hold_for_words_and_seed(entropy: str, words: str, seed: str):
    assert words_from_entropy(bytes.fromhex(entropy)) == words
    assert entropy_from_words(words).hex() == entropy
    assert reference.seed_of(words, "TREZOR").hex() == seed, "the second opinion itself"
    assert seed_from_words(words) == seed_from_entropy(bytes.fromhex(entropy)) == reference.seed_of(words)


def test_created_entropy_becomes_as_many_words_as_asked():
    for count in (12, 15, 18, 21, 24):
        secret = create_entropy(SeededEntropy(count), words=count)
        words = words_from_entropy(secret)
        assert len(words.split()) == count
        assert entropy_from_words(words) == secret
    with pytest.raises(MnemonicInvalid):
        create_entropy(SeededEntropy(1), words=13)


def test_case_and_spacing_of_typed_words_do_not_matter():
    assert entropy_from_words("  " + "ABANDON\n " * 11 + "About ") == bytes(16)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("abandon " * 11, "mnemonic_length", "these are 11"),
        ("abandon " * 4 + "xyzzy " + "abandon " * 6 + "about", "mnemonic_word", "word 5 "),
        ("abandon " * 12, "mnemonic_checksum", "compare each with the card"),
        ("about " + "abandon " * 11, "mnemonic_checksum", "changed places"),
    ],
)
def test_wrong_words_are_explained_but_never_repeated(words: str, code: str, told: str):
    with pytest.raises(MnemonicInvalid) as caught:
        entropy_from_words(words)
    assert caught.value.code == code
    assert told in caught.value.message
    assert "abandon" not in caught.value.message
    assert "xyzzy" not in caught.value.message
