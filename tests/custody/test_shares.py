"""SLIP-39: the official vectors, real splits put together in every way, and what is said about a bad card."""

import itertools
import json
import random
from pathlib import Path

import pytest
from shamir_mnemonic import shamir
from shamir_mnemonic.wordlist import WORDLIST

from base.entropy import SeededEntropy, SystemEntropy
from custody.ceremony import DrawnKey, store_keys
from custody.derivation import Role
from custody.errors import SharesInvalid
from custody.keystore import PassphraseWrap, open_key
from custody.shares import Card, ReadShare, Scheme, gather, missing, read_share, restore, split
from tests.support.signer import LIGHT, PASSPHRASE

VECTORS = json.loads((Path(__file__).parent / "vectors" / "slip39.json").read_text(encoding="utf-8"))["vectors"]
SECRET = bytes(range(32))


def read(cards: list[Card]) -> list[ReadShare]:
    return [read_share(" ".join(card.words), place) for place, card in enumerate(cards, 1)]


def refusal(words: list[str]) -> SharesInvalid:
    """What is said about shares that are none; no two of their words stand in it."""
    with pytest.raises(SharesInvalid) as caught:
        restore([read_share(each, place) for place, each in enumerate(words, 1)])
    assert caught.value.__cause__ is None
    for each in words:
        assert not any(
            f"{one} {next_one}" in caught.value.message for one, next_one in itertools.pairwise(each.split())
        )
    return caught.value


@pytest.mark.parametrize(("title", "mnemonics", "secret"), VECTORS, ids=[title.split(".")[0] for title, *_ in VECTORS])
def test_official_vectors_hold(title: str, mnemonics: list[str], secret: str):
    if not secret:
        refusal(mnemonics)
        return
    shares = [read_share(words, place) for place, words in enumerate(mnemonics, 1)]
    assert gather(shares).decrypt(b"TREZOR").hex() == secret
    assert missing(shares) is None


@pytest.mark.parametrize("size", [16, 20, 24, 28, 32])
def test_any_enough_shares_give_the_secret_back(size: int):
    secret = SystemEntropy().draw(size)
    cards = list(split(secret, Scheme.parse("3of5"), SystemEntropy()))
    assert len(cards) == 5
    for chosen in itertools.permutations(cards, 3):
        assert restore(read(list(chosen))) == secret
    assert restore(read(cards)) == secret, "more than needed is fine while they agree"
    for too_few in itertools.combinations(cards, 2):
        with pytest.raises(SharesInvalid, match="1 more of group 1"):
            restore(read(list(too_few)))


def test_groups_are_put_together_and_what_is_missing_is_said():
    cards = list(split(SECRET, Scheme.parse("1of1,2of3,3of5", groups_needed=2), SystemEntropy()))
    one, three, five = cards[:1], cards[1:4], cards[4:]
    assert restore(read([*one, *three[1:]])) == restore(read([*five[:3], *three[:2]])) == SECRET
    assert missing(read(three[:1])) == "still needed: 1 more of group 2 and 1 more group"
    assert missing(read([*three[:1], *five[:1]])) == "still needed: 1 more of group 2 and 2 more of group 3"
    assert restore(read([*one, *three[:2], *five[:1]])) == SECRET, "a group that isn't complete does no harm"
    assert five[1].title == "group 3 of 3 (2 needed), share 2 of 5, 3 needed"


def test_a_split_draws_from_the_given_entropy_alone():
    before = shamir.RANDOM_BYTES
    first, again = (split(SECRET, Scheme.parse("2of3"), SeededEntropy(7)) for _ in range(2))
    assert first == again
    assert first[0].set_id == again[0].set_id != split(SECRET, Scheme.parse("2of3"), SeededEntropy(8))[0].set_id
    assert shamir.RANDOM_BYTES is before


@pytest.mark.parametrize("seed", range(20))
def test_a_mistyped_share_is_named_by_its_place(seed: int):
    draw = random.Random(seed)
    cards = list(split(SECRET, Scheme.parse("2of3"), SeededEntropy(seed)))
    words = list(cards[1].words)
    place = draw.randrange(len(words))
    words[place] = draw.choice([word for word in WORDLIST if word != words[place]])
    problem = refusal([" ".join(cards[0].words), " ".join(words)])
    assert problem.message.startswith("share 2 ")
    assert problem.code == "share_checksum"


def test_a_word_outside_the_list_is_named_by_its_place():
    words = list(split(SECRET, Scheme.parse("1of1"), SystemEntropy())[0].words)
    problem = refusal([" ".join([*words[:4], "xyzzy", *words[5:]])])
    assert problem.message == "share 1: word 5 isn't in the SLIP-39 list: check its spelling"
    assert refusal([" ".join(words[:12])]).code == "share_length"


def test_a_share_twice_and_one_of_another_set_are_told_apart():
    ours, others = (list(split(SECRET, Scheme.parse("2of3"), SeededEntropy(seed))) for seed in (1, 2))
    twice = refusal([" ".join(ours[0].words)] * 2)
    assert twice.message == "share 2 is share 1 once more: take another card"
    foreign = refusal([" ".join(ours[0].words), " ".join(others[1].words)])
    assert foreign.code == "share_of_another_set"
    assert ours[0].set_id in foreign.message
    assert others[0].set_id in foreign.message


def forged(card: Card, secret: bytes) -> Card:
    """A card of the same set, place and group, made of another secret."""
    other = split(secret, Scheme.parse("2of4"), _SameIdentifier())
    return other[card.member - 1]


class _SameIdentifier(SystemEntropy):
    """Every set gets the id 0000; the shares themselves are random."""

    def draw(self, count: int) -> bytes:
        return bytes(2) if count == 2 else super().draw(count)


def test_a_share_that_contradicts_the_others_is_named_where_there_are_more_than_needed():
    cards = list(split(SECRET, Scheme.parse("2of4"), _SameIdentifier()))
    bad = forged(cards[2], bytes(32))
    assert bad.set_id == cards[2].set_id
    assert refusal([" ".join(card.words) for card in (cards[0], bad)]).code == "shares_disagree"
    for order in itertools.permutations([cards[0], cards[1], bad]):
        problem = refusal([" ".join(card.words) for card in order])
        assert problem.message == f"share {order.index(bad) + 1} contradicts the others: leave it out"
    same_place = refusal([" ".join(card.words) for card in (cards[2], bad)])
    assert same_place.code == "share_contradicts"


@pytest.mark.parametrize("text", ["", "2", "0of3", "3of2", "1of3", "2of17", "2of3;2of3", "two of three"])
def test_a_scheme_that_is_none_is_refused(text: str):
    with pytest.raises(SharesInvalid):
        Scheme.parse(text)


def test_more_groups_than_there_are_cannot_be_needed():
    with pytest.raises(SharesInvalid):
        Scheme.parse("2of3,2of3", groups_needed=3)


def test_nothing_of_a_card_is_in_its_repr():
    card = split(SECRET, Scheme.parse("2of3"), SystemEntropy())[0]
    for text in (repr(card), repr(read([card])[0])):
        assert not set(card.words) & set(text.replace("'", " ").split())


def test_f51_shares_bring_back_the_same_key_file(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    wrap = PassphraseWrap(PASSPHRASE, LIGHT)
    drawn = DrawnKey(Role.DEPOSIT, SystemEntropy().draw(32))
    store_keys(first, [drawn], wrap=wrap, entropy=SystemEntropy())
    cards = split(drawn.secret, Scheme.parse("2of3"), SystemEntropy())
    again = DrawnKey(Role.DEPOSIT, restore(read([cards[2], cards[0]])))
    store_keys(second, [again], wrap=wrap, entropy=SystemEntropy())
    one, two = (open_key(folder, Role.DEPOSIT, passphrase=PASSPHRASE) for folder in (first, second))
    assert one.fingerprint == two.fingerprint == drawn.public().fingerprint
    assert [one.keys().address(index) for index in range(5)] == [two.keys().address(index) for index in range(5)]
    assert again.public().addresses == drawn.public().addresses
