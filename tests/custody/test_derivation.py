"""BIP-32/44 and EIP-55: published vectors, and a second derivation on hundreds of paths."""

import random

import pytest

from custody.derivation import MAX_INDEX, AccountKeys, AddressSource, Role, checksummed, fingerprint
from custody.errors import IntentInvalid, XpubInvalid
from custody.seeds import seed_from_words
from tests.custody import reference
from tests.custody.reference import HARD

HARDHAT = "test test test test test test test test test test test junk"
ACCOUNT = {Role.DEPOSIT: 0, Role.HOT: 1, Role.GAS: 2}


def test_second_opinion_agrees_with_the_published_bip32_vectors():
    one = reference.master(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))
    assert one.xprv() == (
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi"
    )
    last = one.path(HARD, 1, 2 + HARD, 2, 1_000_000_000)
    assert last.xpub() == (
        "xpub6H1LXWLaKsWFhvm6RVpEL9P4KfRZSW7abD2ttkWP3SSQvnyA8FSVqNTEcYFgJS2UaFcxupHiYkro49S8yGasTvXEYBVPamhGW6cFJodrTHy"
    )
    two = reference.master(
        bytes.fromhex(
            "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c69666360"
            "5d5a5754514e4b484542"
        )
    )
    assert two.path(0, 2_147_483_647 + HARD, 1, 2_147_483_646 + HARD, 2).xprv() == (
        "xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j"
    )


def test_known_wallet_gives_its_known_bip44_addresses():
    source = AddressSource(AccountKeys(Role.DEPOSIT, seed_from_words(HARDHAT)).xpub)
    assert [source.checksummed(index) for index in range(3)] == [
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    ]


@pytest.mark.parametrize("role", Role)
def test_every_derivation_agrees_with_the_second_opinion(role: Role):
    seed = seed_from_words(HARDHAT)
    account = reference.master(seed).path(44 + HARD, 60 + HARD, ACCOUNT[role] + HARD)
    keys = AccountKeys(role, seed)
    source = AddressSource(keys.xpub)
    assert keys.xpub == account.xpub()
    draw = random.Random(role.value)
    for index in (0, 1, MAX_INDEX, *(draw.randrange(MAX_INDEX) for _ in range(150))):
        node = account.path(0, index)
        assert keys.private_key(index) == node.key
        assert source.address(index) == node.address()


@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_eip55_vectors_hold(address: str):
    assert checksummed(bytes.fromhex(address[2:])) == address


def test_only_an_account_level_public_key_is_taken():
    account = reference.master(bytes(32)).path(44 + HARD, 60 + HARD, HARD)
    for wrong in (account.xprv(), account.child(0).xpub(), reference.master(bytes(32)).xpub(), "xpub", ""):
        with pytest.raises(XpubInvalid):
            AddressSource(wrong)


def test_hardened_and_negative_indexes_are_refused():
    keys = AccountKeys(Role.HOT, bytes(64))
    for index in (-1, MAX_INDEX + 1):
        with pytest.raises(IntentInvalid):
            keys.private_key(index)
        with pytest.raises(IntentInvalid):
            AddressSource(keys.xpub).address(index)


def test_f51_same_words_give_the_same_fingerprint_and_addresses():
    first, again = (AccountKeys(Role.HOT, seed_from_words(HARDHAT)) for _ in range(2))
    assert fingerprint(first.xpub) == fingerprint(again.xpub)
    assert AddressSource(first.xpub).address(7) == AddressSource(again.xpub).address(7)
    assert "prv" not in repr(first)
