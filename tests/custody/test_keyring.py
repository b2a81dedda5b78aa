"""What is done to all key files: rotated, given another passphrase while being killed, destroyed. Real files."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from base.entropy import SystemEntropy
from custody import keyring, keystore
from custody.ceremony import create_keys, draw_keys, store_keys
from custody.derivation import Role
from custody.errors import FingerprintDiffers, KeyFileLocked, KeyFileMissing, KeyNeeded
from custody.keystore import PassphraseWrap, copy_path, key_path, open_key
from custody.stores import FileStore, open_store
from tests.support.signer import LIGHT, PASSPHRASE, PROJECT

NEW = b"another passphrase"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_keys(tmp_path, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    return tmp_path


def rotate(folder: Path, role: Role) -> int:
    generation = keyring.next_generation(folder, role, wrap=PassphraseWrap(PASSPHRASE))
    drawn = draw_keys(SystemEntropy(), [role], generation=generation)
    store_keys(folder, drawn, wrap=PassphraseWrap(PASSPHRASE, LIGHT), entropy=SystemEntropy())
    return generation


def opens(folder: Path, role: Role, passphrase: bytes) -> bool:
    try:
        open_key(folder, role, passphrase=passphrase)
    except KeyFileLocked:
        return False
    return True


def test_after_a_rotation_both_keys_open_and_their_fingerprints_tell_them_apart(folder: Path):
    assert rotate(folder, Role.DEPOSIT) == 2
    assert rotate(folder, Role.DEPOSIT) == 3
    store = open_store(folder, PASSPHRASE)
    first, second, third = store.open(Role.DEPOSIT)
    assert [keys.generation for keys in (first, second, third)] == [1, 2, 3]
    assert len({keys.fingerprint for keys in (first, second, third)}) == 3
    assert len({keys.address(0) for keys in (first, second, third)}) == 3
    for keys in (first, second, third):
        found = store.find(Role.DEPOSIT, keys.fingerprint)
        assert (found.generation, found.address(7)) == (keys.generation, keys.address(7))
    assert [path.name for path in sorted(folder.glob("deposit*.key"))] == [
        "deposit.2.key",
        "deposit.3.key",
        "deposit.key",
    ]


def test_a_rotation_wants_the_passphrase_of_the_key_before_it(folder: Path):
    with pytest.raises(KeyFileLocked):
        keyring.next_generation(folder, Role.HOT, wrap=PassphraseWrap(NEW))
    with pytest.raises(KeyFileMissing, match="onebook keys ceremony"):
        keyring.next_generation(folder / "elsewhere", Role.HOT, wrap=PassphraseWrap(PASSPHRASE))


def test_a_store_opens_no_other_generation_than_the_one_looked_for(folder: Path):
    rotate(folder, Role.HOT)
    key_path(folder, Role.HOT).write_bytes(b"damaged")
    copy_path(key_path(folder, Role.HOT)).write_bytes(b"damaged")
    mark = keystore.read_header(key_path(folder, Role.HOT, 2)).fingerprint
    assert open_store(folder, PASSPHRASE).find(Role.HOT, mark).generation == 2
    with pytest.raises(KeyFileMissing, match="has the fingerprint"):
        open_store(folder, PASSPHRASE).find(Role.HOT, bytes(32))


def test_a_store_warns_of_a_damaged_file_and_of_a_cheap_passphrase(folder: Path):
    key_path(folder, Role.GAS).write_bytes(b"damaged")
    warnings: list[str] = []
    FileStore(folder, PASSPHRASE, warnings.append).open(Role.GAS)
    assert len(warnings) == 2
    assert "gas.key is damaged" in warnings[0]
    assert "onebook keys passphrase" in warnings[1]
    assert PASSPHRASE.decode() not in repr(FileStore(folder, PASSPHRASE))


def test_the_list_tells_what_headers_say_and_what_to_do(folder: Path):
    rotate(folder, Role.DEPOSIT)
    key_path(folder, Role.HOT).unlink()
    copy_path(key_path(folder, Role.GAS)).write_bytes(b"x")
    for path in (key_path(folder, Role.DEPOSIT), copy_path(key_path(folder, Role.DEPOSIT))):
        path.write_bytes(b"")
    listed = {(key.role, key.generation): key for key in keyring.list_keys(folder)}
    assert list(listed) == [(Role.DEPOSIT, 1), (Role.DEPOSIT, 2), (Role.HOT, 1), (Role.GAS, 1)]
    assert listed[Role.DEPOSIT, 1].header is None
    assert "from its backup" in str(listed[Role.DEPOSIT, 1].problem)
    assert "raises the cost" in str(listed[Role.DEPOSIT, 2].problem)
    assert "hot.key is missing" in str(listed[Role.HOT, 1].problem)
    assert "gas.key.copy is missing or damaged" in str(listed[Role.GAS, 1].problem)


def test_a_new_passphrase_opens_all_files_and_the_old_one_none(folder: Path):
    rotate(folder, Role.DEPOSIT)
    before = {
        key: open_key(folder, key[0], passphrase=PASSPHRASE, generation=key[1]) for key in keystore.present(folder)
    }
    names = sorted(path.name for path in folder.iterdir())
    keyring.change_passphrase(folder, old=PASSPHRASE, new=NEW, entropy=SystemEntropy(), cost=LIGHT)
    for (role, generation), key in before.items():
        for missing in (None, key_path(folder, role, generation)):
            content = missing.read_bytes() if missing else b""
            if missing:
                missing.unlink()
            opened = open_key(folder, role, passphrase=NEW, generation=generation)
            assert (opened.secret, opened.fingerprint) == (key.secret, key.fingerprint)
            with pytest.raises(KeyFileLocked):
                open_key(folder, role, passphrase=PASSPHRASE, generation=generation)
            if missing:
                missing.write_bytes(content)
                missing.chmod(0o600)
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_wrong_passphrase_changes_no_file(folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyFileLocked):
        keyring.change_passphrase(folder, old=b"wrong", new=NEW, entropy=SystemEntropy(), cost=LIGHT)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_same_passphrase_again_raises_the_cost(tmp_path: Path):
    create_keys(tmp_path, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT, roles=[Role.HOT])
    assert keyring.list_keys(tmp_path)[0].problem is not None
    keyring.change_passphrase(tmp_path, old=PASSPHRASE, new=PASSPHRASE, entropy=SystemEntropy())
    assert keyring.list_keys(tmp_path)[0].problem is None
    assert not open_key(tmp_path, Role.HOT, passphrase=PASSPHRASE).weak


KILLED = """
import os, signal, sys
from pathlib import Path
from base.entropy import SystemEntropy
from custody import keyring
from custody.keystore import Argon2Cost

left = int(sys.argv[2])

def step(_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

keyring.change_passphrase(
    Path(sys.argv[1]), old=sys.argv[3].encode(), new=sys.argv[4].encode(), entropy=SystemEntropy(),
    cost=Argon2Cost(memory_kib=64, passes=1, lanes=1), report=step,
)
"""
STEPS = 2 * 2 * len(Role)
"""Each role's file and copy are written, then replaced."""


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_killed_at_any_step_of_a_change_every_key_opens_and_doing_it_again_finishes(folder: Path, step: int):
    secrets = {role: open_key(folder, role, passphrase=PASSPHRASE).secret for role in Role}
    arguments = [str(folder), str(step), PASSPHRASE.decode(), NEW.decode()]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=PROJECT, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    for role, secret in secrets.items():
        by_either = [word for word in (PASSPHRASE, NEW) if opens(folder, role, word)]
        assert by_either, f"{role} is lost after step {step}"
        assert all(open_key(folder, role, passphrase=word).secret == secret for word in by_either)
    keyring.change_passphrase(folder, old=PASSPHRASE, new=NEW, entropy=SystemEntropy(), cost=LIGHT)
    for role, secret in secrets.items():
        assert open_key(folder, role, passphrase=NEW).secret == secret
        assert not opens(folder, role, PASSPHRASE)
    assert len(list(folder.iterdir())) == 2 * len(Role), "nothing is left lying about"


def test_a_change_of_passphrase_has_the_steps_that_are_killed(folder: Path):
    steps: list[str] = []
    keyring.change_passphrase(folder, old=PASSPHRASE, new=NEW, entropy=SystemEntropy(), cost=LIGHT, report=steps.append)
    assert len(steps) == STEPS
    assert all(step.startswith("wrote") for step in steps[: STEPS // 2]), "all are on disk before one is replaced"
    for passphrase, step in itertools.product((PASSPHRASE, NEW), steps):
        assert passphrase.decode() not in step


def test_a_destroyed_key_is_overwritten_and_both_its_files_are_gone(folder: Path):
    rotate(folder, Role.HOT)
    path = key_path(folder, Role.HOT)
    before = path.read_bytes()
    kept = folder / "kept"
    os.link(path, kept)  # another name of the same bytes on disk
    typed = keystore.read_header(path).fingerprint.hex()[:16]
    removed = keyring.destroy(folder, Role.HOT, 1, typed=typed, entropy=SystemEntropy())
    assert removed == [path, copy_path(path)]
    assert not path.exists()
    assert not copy_path(path).exists()
    assert len(kept.read_bytes()) == len(before)
    assert not any(before[start : start + 8] in kept.read_bytes() for start in range(len(before) - 8))
    assert keyring.generations(folder, Role.HOT) == [2]


def test_the_only_key_of_a_role_is_destroyed_by_force_alone(folder: Path):
    typed = " ".join(
        keystore.read_header(key_path(folder, Role.GAS)).fingerprint.hex()[place : place + 4]
        for place in range(0, 64, 4)
    )
    with pytest.raises(KeyNeeded, match="only gas key"):
        keyring.destroy(folder, Role.GAS, 1, typed=typed, entropy=SystemEntropy())
    assert opens(folder, Role.GAS, PASSPHRASE)
    keyring.destroy(folder, Role.GAS, 1, typed=typed, entropy=SystemEntropy(), force=True)
    assert keyring.generations(folder, Role.GAS) == []


@pytest.mark.parametrize("typed", ["", "00", "00" * 8, "00" * 32])
def test_a_key_is_not_destroyed_under_another_fingerprint(folder: Path, typed: str):
    rotate(folder, Role.HOT)
    with pytest.raises(FingerprintDiffers):
        keyring.destroy(folder, Role.HOT, 1, typed=typed, entropy=SystemEntropy(), force=True)
    assert opens(folder, Role.HOT, PASSPHRASE)


def test_a_fingerprint_that_is_longer_must_be_right_to_its_end(folder: Path):
    mark = keystore.read_header(key_path(folder, Role.HOT)).fingerprint
    keyring.compare_fingerprint("0x" + mark.hex().upper(), mark)
    with pytest.raises(FingerprintDiffers):
        keyring.compare_fingerprint(mark.hex()[:20] + ("0" if mark.hex()[20] != "0" else "1"), mark)
