"""Key files at rest: what opens them, what doesn't, and that nothing is ever made anew silently."""

from pathlib import Path

import pytest

from base.entropy import SeededEntropy, SystemEntropy
from custody import keystore
from custody.ceremony import create_keys, restore_keys
from custody.derivation import Role
from custody.errors import KeyFileExists, KeyFileLocked, KeyFileMissing, KeyFileUnsafe
from custody.keystore import Argon2Cost, copy_path, key_path, open_key
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
