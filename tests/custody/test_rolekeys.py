"""Signatures and addresses of a role's keys: held against the second derivation and against recovery."""

import random

import pytest
from coincurve import PrivateKey, PublicKey

from custody.derivation import AccountKeys, AddressSource, Role, address_of, fingerprint
from custody.errors import IntentInvalid, TokenRefused, XpubInvalid
from custody.rolekeys import ORDER, HdKeys, Signature, SingleAddress, address_source, recoverable, single
from tests.custody import reference
from tests.custody.reference import HARD

SEED = bytes(range(64))


def recovered(signature: Signature, digest: bytes) -> bytes:
    """The address that a signature leads back to."""
    compact = signature.r.to_bytes(32, "big") + signature.s.to_bytes(32, "big") + bytes([signature.y_parity])
    return address_of(PublicKey.from_signature_and_message(compact, digest, hasher=None).format(compressed=False))


def test_signatures_of_hd_keys_are_low_s_and_lead_to_the_address():
    keys = HdKeys(AccountKeys(Role.HOT, SEED))
    account = reference.master(SEED).path(44 + HARD, 60 + HARD, 1 + HARD, 0)
    draw = random.Random(3)
    for index in (0, 1, 17, 2**31 - 1):
        digest = draw.randbytes(32)
        signature = keys.sign(index, digest)
        assert signature.s <= ORDER // 2
        assert recovered(signature, digest) == keys.address(index) == account.child(index).address()


class TwoAccounts(AccountKeys):
    """Keys of one seed under the xpub of another: what a fault in either derivation looks like."""

    def private_key(self, index: int) -> bytes:
        return AccountKeys(self.role, SEED[::-1]).private_key(index)


def test_a_key_that_does_not_lie_at_its_address_signs_nothing():
    with pytest.raises(AssertionError, match="different addresses"):
        HdKeys(TwoAccounts(Role.HOT, SEED)).sign(0, bytes(32))


def test_a_signature_that_a_fault_spoilt_is_not_given_away(monkeypatch: pytest.MonkeyPatch):
    keys, honest = HdKeys(AccountKeys(Role.HOT, SEED)), PrivateKey.sign_recoverable

    def spoilt(key: PrivateKey, digest: bytes, hasher: None) -> bytes:
        signature = bytearray(honest(key, digest, hasher=hasher))
        signature[40] ^= 1
        return bytes(signature)

    assert keys.sign(0, bytes(range(32)))
    monkeypatch.setattr(PrivateKey, "sign_recoverable", spoilt)
    with pytest.raises(AssertionError, match="lead back"):
        keys.sign(0, bytes(range(32)))


def test_hd_keys_name_themselves_by_their_xpub():
    account = AccountKeys(Role.GAS, SEED)
    keys = HdKeys(account, generation=3)
    assert (keys.role, keys.generation, keys.public) == (Role.GAS, 3, account.xpub)
    assert keys.fingerprint == fingerprint(account.xpub)
    assert repr(keys) == "HdKeys(gas, generation 3)"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_only_a_hash_is_signed(size: int):
    with pytest.raises(IntentInvalid, match="32 bytes"):
        HdKeys(AccountKeys(Role.HOT, SEED)).sign(0, bytes(size))


def test_a_foreign_high_s_is_brought_low_and_its_parity_found():
    draw = random.Random(5)
    for _ in range(50):
        key = PrivateKey(draw.randbytes(32))
        digest = draw.randbytes(32)
        told = key.sign_recoverable(digest, hasher=None)
        r, low, parity = int.from_bytes(told[:32], "big"), int.from_bytes(told[32:64], "big"), told[64]
        public = key.public_key.format(compressed=False)
        for s in (low, ORDER - low):
            assert recoverable(r, s, digest=digest, public_key=public) == Signature(r, low, parity)


def test_a_signature_by_another_key_is_refused():
    one, other = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
    told = one.sign_recoverable(b"\3" * 32, hasher=None)
    r, s = int.from_bytes(told[:32], "big"), int.from_bytes(told[32:64], "big")
    with pytest.raises(TokenRefused, match="another key"):
        recoverable(r, s, digest=b"\3" * 32, public_key=other.public_key.format(compressed=False))
    for r, s in ((0, 1), (1, 0), (ORDER, 1), (1, ORDER)):
        with pytest.raises(TokenRefused, match="no signature"):
            recoverable(r, s, digest=b"\3" * 32, public_key=one.public_key.format(compressed=False))


def test_a_single_key_has_index_zero_alone():
    key = PrivateKey(b"\1" * 32)
    found = single(key.public_key.format(compressed=False))
    assert found.address(0) == address_of(key.public_key.format(compressed=False))
    assert found.fingerprint == fingerprint(found.public)
    again = address_source(found.public)
    assert isinstance(again, SingleAddress)
    assert again.checksummed(0) == found.checksummed(0)
    for index in (-1, 1, 2**31):
        with pytest.raises(IntentInvalid) as caught:
            found.address(index)
        assert caught.value.code == "index_not_on_token"


@pytest.mark.parametrize("text", ["secp256k1:", "secp256k1:02" + "00" * 32, "secp256k1:" + "ff" * 33, "secp256k1:04"])
def test_a_public_text_that_names_no_key_is_refused(text: str):
    with pytest.raises(XpubInvalid):
        address_source(text)


def test_an_xpub_gives_the_addresses_of_its_account():
    account = AccountKeys(Role.DEPOSIT, SEED)
    source = address_source(account.xpub)
    assert isinstance(source, AddressSource)
    assert source.address(4) == HdKeys(account).address(4)
