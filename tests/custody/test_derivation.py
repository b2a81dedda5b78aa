"""BIP-32/44: bip-utils and a derivation of our own on thousands of paths. Published vectors are in test_vectors.py."""

import random
import secrets

import pytest
from bip_utils import Bip32Slip10Secp256k1
from coincurve import PrivateKey, PublicKey
from eth_utils import keccak as reference_keccak  # type: ignore[attr-defined]
from eth_utils.address import to_checksum_address

from custody.derivation import (
    MAX_INDEX,
    AccountKeys,
    AddressSource,
    Children,
    Role,
    account_path,
    address_of,
    checksummed,
    child_point,
    child_secret,
    fingerprint,
)
from custody.errors import IntentInvalid, NoKeyAtIndex, XpubInvalid
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


@pytest.mark.slow
def test_ten_thousand_random_paths_agree_with_bip_utils():
    """Accounts and chains of change drawn at random; each child from the public and from the private side."""
    draw = random.Random(seed := secrets.randbits(64))
    print(f"seed: {seed}")
    for _ in range(50):
        account = Bip32Slip10Secp256k1.FromSeed(draw.randbytes(64)).DerivePath(
            f"m/44'/60'/{draw.choice([0, 1, 2, MAX_INDEX, draw.randrange(MAX_INDEX)])}'"
        )
        change = draw.choice([0, 1, MAX_INDEX, draw.randrange(MAX_INDEX)])
        private = account.ChildKey(change)
        public = Bip32Slip10Secp256k1.FromExtendedKey(account.PublicKey().ToExtended()).ChildKey(change)
        secret, point = private.PrivateKey().Raw().ToBytes(), public.PublicKey().RawCompressed().ToBytes()
        children = Children(point, public.ChainCode().ToBytes())
        edges = [0, 1, MAX_INDEX - 1, MAX_INDEX]
        for index in edges + [draw.randrange(2 ** draw.randrange(1, 32)) for _ in range(200 - len(edges))]:
            tweak = children.tweak(index)
            expected = public.ChildKey(index).PublicKey().RawUncompressed().ToBytes()
            ours, ours_secret = child_point(PublicKey(point), tweak), child_secret(PrivateKey(secret), tweak)
            assert ours == expected == PrivateKey(ours_secret).public_key.format(compressed=False), (change, index)
            assert address_of(ours) == reference_keccak(expected[1:])[-20:]
            assert checksummed(address_of(ours)) == to_checksum_address(address_of(ours))


@pytest.mark.parametrize("role", Role)
def test_addresses_and_keys_of_a_role_agree_with_bip_utils(role: Role):
    draw = random.Random(seed := secrets.randbits(64))
    print(f"seed: {seed}")
    master = draw.randbytes(64)
    keys = AccountKeys(role, master)
    source = AddressSource(keys.xpub)
    account = Bip32Slip10Secp256k1.FromSeed(master).DerivePath(account_path(role))
    assert keys.xpub == account.PublicKey().ToExtended()
    for index in (0, 1, MAX_INDEX, *(draw.randrange(MAX_INDEX) for _ in range(100))):
        child = account.ChildKey(0).ChildKey(index)
        assert keys.private_key(index) == child.PrivateKey().Raw().ToBytes()
        assert source.address(index) == reference_keccak(child.PublicKey().RawUncompressed().ToBytes()[1:])[-20:]


def test_a_tweak_that_gives_no_key_is_named_on_both_sides():
    """I_L of n or more, and a sum of zero: nobody ever met an index that has them, so they are handed in."""
    order = reference.ORDER
    secret = PrivateKey(bytes(31) + b"\x05")
    for tweak in (order, order + 1, 2**256 - 1, order - 5):
        with pytest.raises(NoKeyAtIndex):
            child_secret(secret, tweak.to_bytes(32, "big"))
        with pytest.raises(NoKeyAtIndex):
            child_point(secret.public_key, tweak.to_bytes(32, "big"))
    for tweak, sum_ in ((0, 5), (order - 1, 4), (order - 4, 1)):
        assert child_secret(secret, tweak.to_bytes(32, "big")) == sum_.to_bytes(32, "big")
        expected = PrivateKey(sum_.to_bytes(32, "big")).public_key.format(compressed=False)
        assert child_point(secret.public_key, tweak.to_bytes(32, "big")) == expected


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
