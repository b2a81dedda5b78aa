"""An approver's key file: opens for its owner alone, is never written over, and hides nothing that was changed."""

import stat
from pathlib import Path

import pytest

from base.entropy import SystemEntropy
from custody import approver_keys
from custody.approvals import Person, proven
from custody.errors import KeyFileExists, KeyFileLocked, KeyFileMissing, KeyFileUnsafe
from custody.policy_file import parse
from tests.custody.samples import PEOPLE, people_text, policy_text
from tests.support.approvers import LIGHT, PASSPHRASE, approver_files


def make(path: Path, name: str = "ada") -> approver_keys.ApproverKeyHeader:
    return approver_keys.create(path, name, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)


def test_what_it_signs_is_verified_by_what_the_policy_says_of_it(tmp_path: Path):
    header = make(tmp_path / "ada.approver")
    key = approver_keys.open_key(tmp_path / "ada.approver", passphrase=PASSPHRASE)
    entry = approver_keys.people_entry(header.person)
    policy = parse(policy_text().replace("version = 1\n", f"version = 1\nthreshold = 1\n{entry}\n"))
    assert policy.people == (Person("ada", header.public_key),)
    assert proven(b"statement", [key.sign(b"statement")], policy.people) == frozenset({"ada"})
    assert key.sign(b"statement", name="ada of the board").by == "ada of the board"


def test_only_its_owner_can_read_it_and_nobody_writes_over_it(tmp_path: Path):
    path = tmp_path / "ada.approver"
    make(path)
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyFileExists):
        make(path)
    assert path.read_bytes() == before
    path.chmod(0o640)
    with pytest.raises(KeyFileUnsafe, match="chmod 600"):
        approver_keys.open_key(path, passphrase=PASSPHRASE)


def test_every_changed_byte_and_every_other_passphrase_is_refused(tmp_path: Path):
    path = tmp_path / "ada.approver"
    make(path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(KeyFileLocked):
            approver_keys.open_key(path, passphrase=PASSPHRASE)
    for cut in (b"", content[:10], content[:-1], content + b"\0", content * 40):
        path.write_bytes(cut)
        with pytest.raises(KeyFileLocked):
            approver_keys.open_key(path, passphrase=PASSPHRASE)
    path.write_bytes(content)
    with pytest.raises(KeyFileLocked, match="wrong passphrase"):
        approver_keys.open_key(path, passphrase=PASSPHRASE + b"x")
    with pytest.raises(KeyFileMissing):
        approver_keys.read_header(tmp_path / "nobody.approver")


def test_the_secret_stands_nowhere_in_the_open(tmp_path: Path):
    files = approver_files(tmp_path)
    for name, path in files.items():
        assert PEOPLE[name].private_bytes_raw() not in path.read_bytes()
        key = approver_keys.open_key(path, passphrase=PASSPHRASE)
        assert PEOPLE[name].private_bytes_raw().hex() not in repr(key)
        assert key.person.key.hex() in people_text()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\u202eb"])
def test_a_name_that_could_mislead_is_refused(tmp_path: Path, name: str):
    with pytest.raises(KeyFileUnsafe):
        make(tmp_path / "x.approver", name)
    assert not (tmp_path / "x.approver").exists()
