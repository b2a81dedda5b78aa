"""Key files at rest: what opens them, what doesn't, and that nothing is ever made anew silently."""

from pathlib import Path

import pytest

from base.entropy import SeededEntropy, SystemEntropy
from base.files import write_atomically
from custody import keystore
from custody.ceremony import create_keys, restore_keys
from custody.derivation import Role
from custody.errors import KeyFileExists, KeyFileLocked, KeyFileMissing, KeyFileUnsafe
from custody.keystore import Argon2Cost, copy_path, key_path, open_key
from custody.seeds import Language
from tests.custody import reference
from tests.support.signer import LIGHT, PASSPHRASE

SECRET = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keystore.create(tmp_path, Role.HOT, SECRET, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    return tmp_path


def test_a_key_file_opens_to_what_was_put_in(folder: Path):
    opened = open_key(folder, Role.HOT, passphrase=PASSPHRASE)
    assert opened.secret == SECRET
    assert opened.failed is None
    assert opened.fingerprint == keystore.read_header(key_path(folder, Role.HOT)).fingerprint
    assert SECRET.hex() not in repr(opened)
    assert repr(SECRET) not in repr(opened)


def test_the_shipped_cost_is_strong_and_stands_in_the_header(tmp_path: Path):
    header = keystore.create(tmp_path, Role.GAS, SECRET, passphrase=PASSPHRASE, entropy=SystemEntropy())
    assert header.cost == Argon2Cost(memory_kib=65_536, passes=3, lanes=4)
    assert open_key(tmp_path, Role.GAS, passphrase=PASSPHRASE).secret == SECRET


def test_f49_wrong_passphrase_has_one_constant_message(folder: Path):
    messages = set()
    for wrong in (b"wrong", PASSPHRASE + b" ", b""):
        with pytest.raises(KeyFileLocked) as caught:
            open_key(folder, Role.HOT, passphrase=wrong)
        messages.add(caught.value.message)
    key_path(folder, Role.HOT).write_bytes(b"")
    copy_path(key_path(folder, Role.HOT)).write_bytes(b"rubbish")
    with pytest.raises(KeyFileLocked) as caught:
        open_key(folder, Role.HOT, passphrase=PASSPHRASE)
    assert messages == {caught.value.message}


def test_f50_no_truncated_file_opens_and_the_copy_does(folder: Path):
    path = key_path(folder, Role.HOT)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        opened = open_key(folder, Role.HOT, passphrase=PASSPHRASE)
        assert (opened.secret, opened.failed) == (SECRET, path)
        assert path.read_bytes() == whole[:length], "never repaired by itself"


def test_f50_no_file_with_a_flipped_bit_opens(folder: Path):
    path = key_path(folder, Role.HOT)
    whole = path.read_bytes()
    copy_path(path).unlink()
    for place in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(KeyFileLocked):
            open_key(folder, Role.HOT, passphrase=PASSPHRASE)


def test_f50_a_missing_main_file_is_served_by_the_copy_and_reported(folder: Path):
    key_path(folder, Role.HOT).unlink()
    assert open_key(folder, Role.HOT, passphrase=PASSPHRASE).failed == key_path(folder, Role.HOT)
    assert not key_path(folder, Role.HOT).exists()
    copy_path(key_path(folder, Role.HOT)).unlink()
    with pytest.raises(KeyFileMissing):
        open_key(folder, Role.HOT, passphrase=PASSPHRASE)
    assert list(folder.iterdir()) == [], "never made anew"


def test_f50_no_copy_with_a_flipped_byte_opens_either_and_nothing_is_written(folder: Path):
    """Every byte of both files at once, so that neither serves for the other."""
    path = key_path(folder, Role.HOT)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        path.write_bytes(flipped)
        copy_path(path).write_bytes(flipped)
        with pytest.raises(KeyFileLocked) as caught:
            open_key(folder, Role.HOT, passphrase=PASSPHRASE)
        assert caught.value.message == keystore.LOCKED
        assert path.read_bytes() == copy_path(path).read_bytes() == bytes(flipped)
        assert len(list(folder.iterdir())) == 2


def test_f50_a_flipped_byte_in_the_main_file_leaves_the_copy_to_serve(folder: Path):
    path = key_path(folder, Role.HOT)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        opened = open_key(folder, Role.HOT, passphrase=PASSPHRASE)
        assert (opened.secret, opened.failed) == (SECRET, path)


VERSION_1 = (
    "6f6e65626f6f6b206b65792066696c6500a6aa636b6466686172676f6e32696464726f6c6563686f746473616c7450f5b165224a58b791df6af1"
    "d8303e61cd656c616e657301656e6f6e63654cc4bb86c3d1c427103c344c41666369706865726b6165732d3235362d67636d6670617373657301"
    "6776657273696f6e016a6d656d6f72795f6b696218406b66696e6765727072696e745820282ce89b369ed5edf8cef06be51b4acd2a615d1dd876"
    "0d281154be59c8c86d407ddd144de75e9e7ca4bb8ef23a74a8bc20d9714ee0e52f7a86fce1d839a5226a496f4c56bfe66e90d5e3a302ae41dd13"
)
"""A key file of SECRET as it was written before there were generations and languages."""


def test_a_file_of_the_first_version_still_opens(tmp_path: Path):
    write_atomically(key_path(tmp_path, Role.HOT), bytes.fromhex(VERSION_1))
    opened = open_key(tmp_path, Role.HOT, passphrase=PASSPHRASE)
    assert opened.secret == SECRET
    assert (opened.generation, opened.language) == (1, Language.ENGLISH)
    assert opened.weak, "its cost is that of tests"
    assert opened.keys().fingerprint == opened.fingerprint


def test_a_cheaper_cost_than_todays_is_said(folder: Path, tmp_path: Path):
    assert open_key(folder, Role.HOT, passphrase=PASSPHRASE).weak
    keystore.create(tmp_path, Role.GAS, SECRET, passphrase=PASSPHRASE, entropy=SystemEntropy())
    assert not open_key(tmp_path, Role.GAS, passphrase=PASSPHRASE).weak
    for cheaper in (Argon2Cost(memory_kib=65_535), Argon2Cost(passes=2), LIGHT):
        assert cheaper.weaker_than(Argon2Cost())
    for no_cheaper in (Argon2Cost(), Argon2Cost(memory_kib=131_072), Argon2Cost(passes=4)):
        assert not no_cheaper.weaker_than(Argon2Cost())


def test_a_key_of_chinese_words_keeps_its_language(tmp_path: Path):
    words = "犯 宝 亭 术 圈 斯 度 鸭 允 但 荒 兼"
    restored = restore_keys(tmp_path, {Role.HOT: words}, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    opened = open_key(tmp_path, Role.HOT, passphrase=PASSPHRASE)
    seed = reference.seed_of(words)
    account = reference.master(seed).path(44 + reference.HARD, 60 + reference.HARD, 1 + reference.HARD)
    assert opened.account().xpub == restored[Role.HOT].xpub == account.xpub()
    assert opened.language is Language.CHINESE_SIMPLIFIED


def test_a_file_of_another_generation_does_not_open_in_its_place(folder: Path):
    key_path(folder, Role.HOT).rename(key_path(folder, Role.HOT, 2))
    with pytest.raises(KeyFileLocked):
        open_key(folder, Role.HOT, passphrase=PASSPHRASE, generation=2)


def test_a_file_of_another_role_does_not_open_in_its_place(folder: Path):
    key_path(folder, Role.HOT).rename(key_path(folder, Role.GAS))
    with pytest.raises(KeyFileLocked):
        open_key(folder, Role.GAS, passphrase=PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_reach_is_refused(folder: Path, mode: int):
    copy_path(key_path(folder, Role.HOT)).chmod(mode)
    with pytest.raises(KeyFileUnsafe, match="chmod 600"):
        open_key(folder, Role.HOT, passphrase=PASSPHRASE)


def test_a_key_file_is_never_written_over(folder: Path):
    key_path(folder, Role.HOT).unlink()
    before = copy_path(key_path(folder, Role.HOT)).read_bytes()
    with pytest.raises(KeyFileExists):
        create_keys(folder, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    assert [path.name for path in folder.iterdir()] == ["hot.key.copy"], "nothing else was begun"
    assert copy_path(key_path(folder, Role.HOT)).read_bytes() == before


def test_an_absurd_cost_in_a_damaged_header_is_not_obeyed(folder: Path):
    header = keystore.read_header(key_path(folder, Role.HOT))
    greedy = keystore.KeyFileHeader(
        header.role, header.fingerprint, Argon2Cost(memory_kib=2**40, passes=1, lanes=1), header.salt, header.nonce
    )
    for path in (key_path(folder, Role.HOT), copy_path(key_path(folder, Role.HOT))):
        path.write_bytes(greedy.encode() + bytes(48))
    with pytest.raises(KeyFileLocked):
        open_key(folder, Role.HOT, passphrase=PASSPHRASE)


def test_f51_keys_restored_from_their_words_are_the_same_keys(tmp_path: Path):
    created = create_keys(tmp_path / "first", passphrase=PASSPHRASE, entropy=SeededEntropy(1), cost=LIGHT)
    words = {role: key.words for role, key in created.items()}
    assert len(set(words.values())) == 3, "a separate seed per role"
    restored = restore_keys(tmp_path / "second", words, passphrase=b"other", entropy=SystemEntropy(), cost=LIGHT)
    for role, key in created.items():
        opened = open_key(tmp_path / "second", role, passphrase=b"other")
        assert restored[role].fingerprint == key.fingerprint == opened.fingerprint
        assert opened.account().xpub == key.xpub
        assert key.words not in repr(key)
