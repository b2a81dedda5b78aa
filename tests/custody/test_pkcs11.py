"""Keys in a token (SoftHSM2): they sign like ours, never come out, and look to the signer like keys in files."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.exceptions import AttributeSensitive
from pkcs11.util.ec import encode_named_curve_parameters

from base.entropy import SystemEntropy
from custody import keystore, pkcs11, rolekeys
from custody.ceremony import draw_keys, store_keys
from custody.derivation import Role
from custody.errors import (
    FingerprintDiffers,
    IntentInvalid,
    KeyFileExists,
    KeyFileLocked,
    KeyFileMissing,
    KeyNeeded,
    TokenRefused,
    TokenUnavailable,
)
from custody.keystore import copy_path, key_path
from custody.pkcs11 import Token
from custody.rolekeys import ORDER, RoleKeys
from custody.stores import open_store
from tests.custody.test_rolekeys import recovered
from tests.support import hsm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hsm.softhsm()
    return hsm.make_configuration(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture
def label(configuration: Path, request: pytest.FixtureRequest) -> str:
    """A new token's label."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    hsm.make_token(configuration, name)
    hsm.use(hsm.softhsm(), configuration)
    return name


@pytest.fixture
def token(label: str) -> Iterator[Token]:
    with Token.open(hsm.softhsm(), label, hsm.PIN, writable=True) as opened:
        yield opened


def test_a_token_key_signs_low_s_and_leads_to_its_address(token: Token):
    keys = token.generate(Role.HOT)
    draw = random.Random(1)
    parities, high = set(), 0
    for _ in range(200):
        digest = draw.randbytes(32)
        signature = keys.sign(0, digest)
        assert signature.s <= ORDER // 2
        assert recovered(signature, digest) == keys.address(0)
        parities.add(signature.y_parity)
        raw = keys._key.sign(digest, mechanism=pkcs11.Mechanisms.ECDSA)  # type: ignore[attr-defined]
        high += int.from_bytes(raw[32:], "big") > ORDER // 2
    assert parities == {0, 1}
    assert high, "the token itself gives high s at times, so that bringing it low was needed"


def test_a_token_key_cannot_be_read(token: Token):
    keys = token.generate(Role.GAS)
    token.generate_wrap_key()
    with pytest.raises(AttributeSensitive):
        keys._key[Attribute.VALUE]
    with pytest.raises(AttributeSensitive):
        token.wrap()._key[Attribute.VALUE]
    with pytest.raises(AttributeError):
        keys.private_key(0)  # type: ignore[attr-defined]
    assert repr(keys) == "TokenKeys(gas, generation 1)"


def test_a_role_on_a_token_has_index_zero_alone(token: Token):
    keys: RoleKeys = token.generate(Role.HOT)
    for call in (keys.address, lambda index: keys.sign(index, bytes(32))):
        with pytest.raises(IntentInvalid, match="index 0 alone, not 1") as caught:
            call(1)
        assert caught.value.code == "index_not_on_token"
    with pytest.raises(IntentInvalid, match="32 bytes"):
        keys.sign(0, bytes(31))


def test_the_deposit_role_cannot_live_in_a_token(token: Token):
    with pytest.raises(TokenRefused, match="derives none"):
        token.generate(Role.DEPOSIT)


def test_a_key_in_a_token_is_found_again_and_never_made_over(label: str):
    with Token.open(hsm.softhsm(), label, hsm.PIN, writable=True) as token:
        first = token.generate(Role.HOT)
        second = token.generate(Role.HOT, 2)
        with pytest.raises(KeyFileExists):
            token.generate(Role.HOT)
        assert token.present() == [(Role.HOT, 1), (Role.HOT, 2)]
    with Token.open(hsm.softhsm(), label, hsm.PIN) as token:
        again = token.keys(Role.HOT)
        assert (again.public, again.fingerprint) == (first.public, first.fingerprint)
        assert token.keys(Role.HOT, 2).fingerprint == second.fingerprint != first.fingerprint
        with pytest.raises(KeyFileMissing, match="onebook gas 1"):
            token.keys(Role.GAS)


def test_a_destroyed_token_key_is_gone(token: Token):
    mark = token.generate(Role.HOT).fingerprint.hex()
    with pytest.raises(FingerprintDiffers):
        token.destroy(Role.HOT, 1, typed="0" * 64, force=True)
    with pytest.raises(KeyNeeded, match="only hot key"):
        token.destroy(Role.HOT, 1, typed=mark)
    token.destroy(Role.HOT, 1, typed=mark, force=True)
    assert token.present() == []
    with pytest.raises(KeyFileMissing):
        token.destroy(Role.HOT, 1, typed=mark, force=True)


def test_a_key_that_could_leave_the_token_is_refused(token: Token):
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256k1")}
    token._session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
        store=True,
        label="onebook hot 1",
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True},
    )
    with pytest.raises(TokenRefused, match="could have been read outside"):
        token.keys(Role.HOT)


def test_a_key_that_came_from_outside_is_refused(token: Token):
    token._session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: pkcs11.WRAP_LABEL,
            Attribute.VALUE: bytes(32),
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.TOKEN: True,
        }
    )
    with pytest.raises(TokenRefused, match="LOCAL"):
        token.wrap()


def test_another_curve_under_our_label_is_refused(token: Token):
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    token._session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
        store=True,
        label="onebook hot 1",
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    with pytest.raises(TokenRefused):
        token.keys(Role.HOT)


def test_a_deposit_seed_wrapped_by_the_token_opens_with_it_alone(token: Token, tmp_path: Path):
    token.generate_wrap_key()
    drawn = draw_keys(SystemEntropy(), [Role.DEPOSIT])
    store_keys(tmp_path, drawn, wrap=token.wrap(), entropy=SystemEntropy())
    opened = keystore.open_wrapped(tmp_path, Role.DEPOSIT, wrap=token.wrap())
    assert opened.secret == drawn[0].secret
    assert opened.fingerprint == drawn[0].public().fingerprint
    assert not opened.weak
    assert drawn[0].secret not in key_path(tmp_path, Role.DEPOSIT).read_bytes()
    with pytest.raises(KeyFileLocked):
        keystore.open_key(tmp_path, Role.DEPOSIT, passphrase=hsm.PIN)


def test_f50_no_file_that_a_token_wraps_opens_when_a_byte_is_flipped_or_missing(token: Token, tmp_path: Path):
    token.generate_wrap_key()
    drawn = draw_keys(SystemEntropy(), [Role.DEPOSIT])
    store_keys(tmp_path, drawn, wrap=token.wrap(), entropy=SystemEntropy())
    path = key_path(tmp_path, Role.DEPOSIT)
    whole = path.read_bytes()
    copy_path(path).unlink()
    damaged = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole))]
    for content in (*damaged, *(whole[:length] for length in range(len(whole)))):
        path.write_bytes(content)
        with pytest.raises(KeyFileLocked):
            keystore.open_wrapped(tmp_path, Role.DEPOSIT, wrap=token.wrap())
    path.write_bytes(whole)
    assert keystore.open_wrapped(tmp_path, Role.DEPOSIT, wrap=token.wrap()).secret == drawn[0].secret


def test_f49_a_wrong_pin_sounds_like_a_wrong_passphrase(label: str):
    with pytest.raises(KeyFileLocked) as caught:
        Token.open(hsm.softhsm(), label, b"wrong")
    assert caught.value.message == keystore.LOCKED
    assert caught.value.__cause__ is None


def test_a_token_or_module_that_is_not_there_is_said(label: str):
    with pytest.raises(TokenUnavailable, match="no such token"):
        Token.open(hsm.softhsm(), label + "x", hsm.PIN)
    with pytest.raises(TokenUnavailable, match=r"/nonexistent/module\.so isn't there: install"):
        Token.open(Path("/nonexistent/module.so"), label, hsm.PIN)
    with pytest.raises(TokenUnavailable, match=r"test_pkcs11\.py can't be loaded \(.+\): install"):
        Token.open(Path(__file__), label, hsm.PIN)
    with Token.open(hsm.softhsm(), label, hsm.PIN), pytest.raises(TokenUnavailable, match="open already"):
        Token.open(hsm.softhsm(), label, hsm.PIN)


def test_a_store_with_a_token_answers_like_one_of_files(label: str, tmp_path: Path):
    with Token.open(hsm.softhsm(), label, hsm.PIN, writable=True) as token:
        token.generate_wrap_key()
        made = {role: token.generate(role).fingerprint for role in (Role.HOT, Role.GAS)}
        token.generate(Role.HOT, 2)
        drawn = draw_keys(SystemEntropy(), [Role.DEPOSIT])
        store_keys(tmp_path, drawn, wrap=token.wrap(), entropy=SystemEntropy())
    made[Role.DEPOSIT] = drawn[0].public().fingerprint
    store = open_store(tmp_path, hsm.PIN, module=hsm.softhsm(), token=label)
    for role, mark in made.items():
        keys = store.find(role, mark)
        digest = SystemEntropy().draw(32)
        assert recovered(keys.sign(0, digest), digest) == keys.address(0)
        assert rolekeys.address_source(keys.public).address(0) == keys.address(0)
        assert store.open(role)[0].fingerprint == mark
    assert [keys.generation for keys in store.open(Role.HOT)] == [1, 2]
    assert store.find(Role.DEPOSIT, made[Role.DEPOSIT]).address(4_000_000)
    with pytest.raises(KeyFileMissing):
        store.find(Role.HOT, bytes(32))
    store.close()
