"""BIP-39 against the published vectors, and what a person is told who mistypes a word."""

import json
from pathlib import Path

import pytest

from base.entropy import SeededEntropy
from custody.errors import MnemonicInvalid
from custody.seeds import (
    Language,
    create_entropy,
    entropy_from_words,
    read_words,
    seed_from_entropy,
    seed_from_words,
    words_from_entropy,
)
from tests.custody import reference

VECTORS = json.loads((Path(__file__).parent / "vectors" / "bip39.json").read_text(encoding="utf-8"))["vectors"]
CHINESE = [vector for vector in VECTORS if vector["language"] != "english"]


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{each['language']}-{each['entropy'][:8]}" for each in VECTORS])
def test_published_vectors_hold_for_words_and_seed(vector: dict[str, str]):
    entropy, words, language = bytes.fromhex(vector["entropy"]), vector["words"], Language(vector["language"])
    assert words_from_entropy(entropy, language) == words
    assert read_words(words) == (entropy, language)
    assert reference.seed_of(words, "TREZOR").hex() == vector["seed"], "the second opinion itself"
    assert seed_from_words(words) == seed_from_entropy(entropy, language) == reference.seed_of(words)


def test_there_are_published_vectors_of_each_language():
    assert {vector["language"] for vector in VECTORS} == {language.value for language in Language}


@pytest.mark.parametrize("vector", CHINESE, ids=[each["entropy"][:8] for each in CHINESE])
def test_chinese_words_may_stand_without_spaces(vector: dict[str, str]):
    assert read_words(vector["words"].replace(" ", "")).entropy.hex() == vector["entropy"]
    assert read_words(vector["words"].replace(" ", "\u3000")).entropy.hex() == vector["entropy"]


def test_the_same_entropy_in_chinese_words_is_another_wallet():
    seeds = {language: seed_from_entropy(bytes(range(16)), language) for language in Language}
    assert len(set(seeds.values())) == 3


def test_words_of_both_chinese_lists_mean_the_same_in_both():
    words = "的 " * 11 + "在"
    assert {words_from_entropy(bytes(16), language) for language in Language} == {"abandon " * 11 + "about", words}
    assert seed_from_words(words) == seed_from_entropy(bytes(16), Language.CHINESE_TRADITIONAL)


def test_a_wrong_chinese_word_is_named_by_its_place():
    words = CHINESE[0]["words"].split()
    with pytest.raises(MnemonicInvalid, match=r"word 3 isn't in the Chinese") as caught:
        read_words(" ".join([*words[:2], "龘", *words[3:]]))
    assert not any(word in caught.value.message for word in (*words, "龘"))


def test_what_words_mean_is_not_in_their_repr():
    assert repr(read_words(CHINESE[0]["words"])) == "ReadWords(chinese_simplified)"


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
